"""Runs one config: trains its task with its optimizer, and writes the record."""

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from s3bench import record
from s3bench.errors import UserError, one_line
from s3bench.run.build import Parts, build_parts, find_device
from s3bench.run.checkpoint import Checkpoints, History, newest, restore
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.distributed import ALONE, Processes, joined, of_torchrun
from s3bench.run.divergence import EarlyStop
from s3bench.run.environment import environment
from s3bench.run.learner import Learner, check_clip, check_rows
from s3bench.run.loop import train
from s3bench.run.recorder import Recorder
from s3bench.run.ring import Ring
from s3bench.run.shock import Shock, check_processes
from s3bench.run.signals import Stop, Stopped
from s3bench.run.weight_decay import parameter_groups


@dataclass(frozen=True)
class Setup:
    """What a run is trained with, the same in all its processes."""

    config: RunConfig
    parts: Parts
    device: torch.device
    processes: Processes
    stop: Stop
    began: float  # time.monotonic()


def run(
    config: RunConfig,
    log: Callable[[str], None] = lambda _: None,
    stop: Stop | None = None,
    dead_lease: int | None = None,
) -> str:
    """Train the run of a config, write its record, and return its state: finished, diverged or failed.

    A run that is already over is left as it is; an interrupted one resumes from its last checkpoint. If torchrun
    started several processes, only the first writes the record.

    Args:
        log: takes a line at each evaluation, and when a spike begins or ends.
        stop: may ask the run to stop, after a checkpoint.
        dead_lease: the number of a lease on the record whose owner is known to be dead.

    Raises:
        UserError: a mistake that shows before training.
        record.Busy: another process trains this run.
        Stopped: `stop` asked for it.
    """
    began = time.monotonic()
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # saturated softmaxes make denormals, with which a step takes half as long again
    sys.setswitchinterval(1e-4)  # or a thread that pins batches for a GPU keeps this one waiting, up to 5 ms each time
    processes, stop = of_torchrun(), stop or Stop()
    device = find_device(config.device, processes.local_rank)
    parts = build_parts(config)
    check_rows(parts.task, config.names.task, processes, config.accumulate)
    check_clip(parts.clip, config, processes)
    check_processes(config, processes)
    setup = Setup(config=config, parts=parts, device=device, processes=processes, stop=stop, began=began)
    with joined(processes, device):
        if processes.rank > 0:
            if not processes.from_first(None):
                with stop.deferred():
                    stop.raise_if_asked()
                    _train(setup)
            return record.FINISHED
        folder = record.plan(as_dict(config))
        record.tidy([folder])
        with record.leased(folder, dead_lease) as lease, stop.deferred():
            if processes.from_first(record.has_result(folder)):
                return record.state(folder)
            saved = newest(folder)
            first_step = saved["step"] if saved else 0
            record.set_checkpoints_aside(folder, first_step if saved else -1)  # newer ones, which are not intact
            if first_step < config.replay.step:  # from step 0 on it would be another run, and not fail
                raise UserError(f"the arm {folder} has no intact first state; run the same s3bench replay again")
            stop.raise_if_asked()
            with record.Writer(folder, as_dict(config), lease.number, first_step) as writer:
                recorder = Recorder(config, parts.tracker, writer, lease=lease, log=log, first_step=first_step)
                return _train_and_record(setup, saved, recorder)


def _train_and_record(setup: Setup, saved: dict[str, Any] | None, recorder: Recorder) -> str:
    """Train, from a checkpoint if there is one, close the record whatever happens, and return the state of the run."""
    config, parts = setup.config, setup.parts
    try:
        parts.tracker.start(as_dict(config), recorder.folder, saved["step"] if saved else 0)
        result, ended_early = _train(setup, saved, recorder)
        state = record.DIVERGED if ended_early or recorder.has_diverged() else record.FINISHED
        summary = {
            "state": state,
            **result,
            "fingerprint": parts.task.fingerprint(),
            "processes": setup.processes.size,
            **environment(setup.device, [config.task.build, config.optimizer, config.clip]),
        }
        recorder.finish(summary)
        return state
    except (Stopped, record.Busy):  # to be resumed later, or by another process
        parts.tracker.pause()
        raise
    except Exception as error:  # whatever went wrong with this run, it is reported and the sweep continues
        recorder.fail(one_line(error), traceback.format_exc())
        parts.tracker.fail()
        if setup.processes.size > 1:  # torchrun then ends the others, which wait for this one
            raise
        return record.FAILED


def first_state(
    config: RunConfig, parts: Parts, device: torch.device, processes: Processes = ALONE
) -> tuple[Learner, torch.optim.Optimizer, Callable[[int], float]]:
    """Return what a run starts with: its learner and optimizer before step 0, and its learning rate at each step."""
    torch.manual_seed(config.seed)
    learner = Learner.from_config(config, parts.task, device, processes)

    def lr(step: int) -> float:
        return float(config.task.lr * config.lr_multiplier * parts.schedule(step, horizon=config.horizon))

    return learner, parts.optimizer(parameter_groups(learner.model, config.decay), lr=lr(0)), lr


def _train(
    setup: Setup, saved: dict[str, Any] | None = None, recorder: Recorder | None = None
) -> tuple[dict[str, Any], bool]:
    """Train the task's model, and return fields of the summary and whether the run ended early (see EarlyStop).

    Only the first process has a checkpoint and a recorder.
    """
    config, parts, processes = setup.config, setup.parts, setup.processes
    learner, optimizer, lr = first_state(config, parts, setup.device, processes)
    folder = recorder.folder if recorder else None
    states = (saved["step"], saved.get("end"), saved.get("shock")) if saved else (0, None, None)
    first_step, early_stop_state, kept = processes.from_first(states)
    shock = Shock(config.shock, parts.task, config.seed, processes.rank)
    shock.begin(optimizer, kept)
    if first_step:
        restore(folder, saved, learner, optimizer, parts.clip)
    history = History(setup.device, setup.began, first_step, saved)
    early_stop = EarlyStop(config.stop_diverged, early_stop_state)
    recorded = recorder.state if recorder else dict
    ring = Ring(folder, config.keep_before_spikes, first_step) if config.keep_before_spikes else None
    if recorder and ring:
        recorder.on_onset = ring.keep
    steps = train(
        learner,
        optimizer,
        lr,
        first_step=first_step,
        horizon=config.replay.until or config.horizon,
        eval_every=config.eval_every,
        measure_every=config.measure_every,
        clip=parts.clip,
        early_stop=early_stop,
        checkpoints=Checkpoints(
            folder,
            learner,
            optimizer,
            parts.clip,
            every=config.checkpoint_every,
            stop=setup.stop,
            extra=lambda: {**history.state(), "end": early_stop.state, "shock": shock.kept, **recorded()},
            ring=ring,
        ),
        on_steps=recorder.add_steps if recorder else lambda _: None,
        on_eval=recorder.add_eval if recorder else lambda _: None,
        shock=shock,
    )
    parameters = sum(param.numel() for param in learner.params)
    return {"steps": steps, **history.summary(), "parameters": parameters}, early_stop.stopped
