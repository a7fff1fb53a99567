"""One run: a config becomes a record."""

import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from s3bench import record
from s3bench.errors import one_line
from s3bench.run.build import Parts, build_parts, find_device
from s3bench.run.checkpoint import Checkpoints, newest, restore
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.distributed import Processes, joined, of_torchrun
from s3bench.run.divergence import End
from s3bench.run.environment import environment, numerics
from s3bench.run.learner import Learner, check_rows
from s3bench.run.loop import train
from s3bench.run.recorder import Recorder
from s3bench.run.shock import Shock
from s3bench.run.signals import Stop, Stopped
from s3bench.run.weight_decay import parameter_groups


class Setup(NamedTuple):
    """What a run is trained with, the same in all its processes."""

    config: RunConfig
    parts: Parts
    device: torch.device
    processes: Processes
    stop: Stop
    began: float  # time.monotonic()


def run(
    config: RunConfig,
    say: Callable[[str], None] = lambda _: None,
    stop: Stop | None = None,
    dead: int | None = None,
) -> str:
    """Train and write the record; returns the state: finished, diverged or failed.

    A run that is over already is left as it is; one that was interrupted goes on from its last checkpoint. `say` takes
    a line at each evaluation, and where a spike begins or ends. Of several processes that torchrun started the first
    one keeps the record. Raises UserError for a mistake that shows before training, record.Busy if another process is
    at the run (`dead`: the number of a lease known to be dead), and Stopped if `stop` asked for it.
    """
    began = time.monotonic()
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # saturated softmaxes make denormals, with which a step takes half as long again
    sys.setswitchinterval(1e-4)  # or a thread that pins batches for a GPU keeps this one waiting, up to 5 ms each time
    processes, stop = of_torchrun(), stop or Stop()
    device = find_device(config.device, processes.local_rank)
    parts = build_parts(config)
    check_rows(parts.task, config.names.task, processes, config.accumulate)
    setup = Setup(config, parts, device, processes, stop, began)
    with joined(processes, device):
        if processes.rank > 0:
            if not processes.from_first(None):
                with stop.deferred():
                    stop.raise_if_asked()
                    _train(setup)
            return record.FINISHED
        folder = record.plan(as_dict(config))
        with record.leased(folder, dead) as lease, stop.deferred():
            if processes.from_first(record.has_result(folder)):
                return record.state(folder)
            saved = newest(folder)
            first_step = saved["step"] if saved else 0
            stop.raise_if_asked()
            with record.Writer(folder, as_dict(config), lease.number, first_step) as writer:
                rows = Recorder(config, parts.tracker, writer, lease, say, first_step)
                return _recorded(setup, saved, rows)


def _recorded(setup: Setup, saved: dict[str, Any] | None, rows: Recorder) -> str:
    """Train, from a checkpoint if there is one, and close the record in one way or another."""
    config, parts = setup.config, setup.parts
    try:
        parts.tracker.start(as_dict(config), rows.folder, saved["step"] if saved else 0)
        result, ended_early = _train(setup, saved, rows)
        summary = {
            "state": record.DIVERGED if ended_early or rows.has_diverged() else record.FINISHED,
            **result,
            "fingerprint": parts.task.fingerprint(),
            "processes": setup.processes.size,
            **environment(setup.device, [config.task.build["_target_"], config.optimizer["_target_"]]),
        }
        rows.finish(summary)
        return str(summary["state"])
    except (Stopped, record.Busy):  # to be gone on with, or by another process
        parts.tracker.pause()
        raise
    except Exception as error:  # whatever went wrong with this run, it is reported and the sweep goes on
        rows.fail(one_line(error), traceback.format_exc())
        parts.tracker.fail()
        if setup.processes.size > 1:  # torchrun then ends the others, which wait for this one
            raise
        return record.FAILED


def _train(
    setup: Setup, saved: dict[str, Any] | None = None, rows: Recorder | None = None
) -> tuple[dict[str, Any], bool]:
    """Train the task's model; returns what the summary says of it, and whether a loss was the last (see block.End).

    Only the first process has rows.
    """
    config, parts, device, processes, stop, began = setup
    torch.manual_seed(config.seed)
    learner = _learner(setup)

    def lr(step: int) -> float:
        return float(config.task.lr * config.lr_multiplier * parts.schedule(step, horizon=config.horizon))

    optimizer = parts.optimizer(parameter_groups(learner.model, config.decay), lr=lr(0))
    before: dict[str, Any] = {"step": 0, "resumed": [], "seconds": 0.0, "train_seconds": 0.0, "end": None} | (
        saved or {}
    )
    folder = rows.folder if rows else None
    first_step, end_state = processes.from_first((before["step"], before["end"]))
    if first_step:
        restore(folder, saved, learner, optimizer)
        before["resumed"] = [
            *before["resumed"],
            {"step": first_step, "exact": before.get("numerics") == numerics(device)},
        ]
    training = time.monotonic()
    end = End(config.stop_diverged, end_state)

    def so_far() -> dict[str, Any]:
        now = time.monotonic()
        seconds, train_seconds = before["seconds"] + now - began, before["train_seconds"] + now - training
        return {"seconds": seconds, "train_seconds": train_seconds, "resumed": before["resumed"]}

    def saved_with_it() -> dict[str, Any]:
        return {**so_far(), "end": end.state, "numerics": numerics(device), **(rows.state() if rows else {})}

    steps = train(
        learner,
        optimizer,
        lr,
        first_step=first_step,
        horizon=config.horizon,
        eval_every=config.eval_every,
        measure_every=config.measure_every,
        clip_norm=config.clip_norm,
        end=end,
        checkpoints=Checkpoints(
            folder,
            learner,
            optimizer,
            every=config.checkpoint_every,
            stop=stop,
            extra=saved_with_it,
        ),
        on_steps=rows.add_steps if rows else lambda _: None,
        on_eval=rows.add_eval if rows else lambda _: None,
        shock=Shock(config.shock, parts.task, config.seed, processes.rank),
    )
    return {"steps": steps, **so_far(), "parameters": sum(p.numel() for p in learner.params)}, end.is_over


def _learner(setup: Setup) -> Learner:
    """The task's model on its device, in the training options of the config."""
    config, task = setup.config, setup.parts.task
    return Learner(
        task,
        task.model().to(setup.device),
        accumulate=config.accumulate,
        precision=config.precision,
        compile=config.compile,
        channels_last=config.channels_last,
        checkpointing=config.checkpointing,
        processes=setup.processes,
        parallel=config.parallel,
    )
