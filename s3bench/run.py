"""One run: a config becomes a record."""

import math
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from s3bench import record
from s3bench.build import Parts, build_parts, find_device
from s3bench.config import RunConfig, as_dict
from s3bench.environment import environment
from s3bench.errors import one_line, unknown
from s3bench.groups import parameter_groups
from s3bench.learner import Learner, check_rows
from s3bench.processes import Processes, joined, of_torchrun
from s3bench.spikes import Spike, SpikeMonitor, has_diverged
from s3bench.train import train


def run(config: RunConfig, say: Callable[[str], None] = lambda _: None) -> str:
    """Train and write the record; returns the state: finished, diverged or failed.

    A run that is over already is left as it is. `say` takes a line at each evaluation, and where a spike begins or
    ends. Of several processes that torchrun started the first one keeps the record. Raises UserError for a mistake
    that shows before training, and record.Busy if another process is at the run.
    """
    began = time.monotonic()
    torch.set_num_threads(config.threads)
    # Saturated softmaxes, at large learning rates, make denormals, and a CPU takes half as long again for such a step.
    torch.set_flush_denormal(True)
    processes = of_torchrun()
    device = find_device(config.device, processes.local_rank)
    parts = build_parts(config)
    check_rows(parts.task, config.names.task, processes, config.accumulate)
    with joined(processes, device):
        if processes.rank > 0:
            if not processes.from_first(None):
                _train(config, parts, device, processes, on_steps=lambda _: None, on_eval=lambda _: None)
            return record.FINISHED
        folder = record.plan(as_dict(config))
        with record.locked(folder):
            if processes.from_first(record.has_result(folder)):
                return record.state(folder)
            with record.Writer(folder, as_dict(config)) as writer:
                return _recorded(config, parts, device, processes, writer, say, began)


def _recorded(
    config: RunConfig,
    parts: Parts,
    device: torch.device,
    processes: Processes,
    writer: record.Writer,
    say: Callable[[str], None],
    began: float,
) -> str:
    rows = Rows(config, parts.tracker, writer, say)
    try:
        parts.tracker.start(as_dict(config), writer.folder, first_step=0)
        result = _train(config, parts, device, processes, on_steps=rows.add_steps, on_eval=rows.add_eval)
        summary = {
            "state": record.DIVERGED if rows.has_diverged() else record.FINISHED,
            "seconds": time.monotonic() - began,
            **result,
            "fingerprint": parts.task.fingerprint(),
            "processes": processes.size,
            **environment(device, [config.task.build["_target_"], config.optimizer["_target_"]]),
        }
        rows.finish(summary)
        return str(summary["state"])
    except Exception as error:  # whatever went wrong with this run, it is reported and the sweep goes on
        writer.fail(one_line(error), traceback.format_exc())
        parts.tracker.fail()
        if processes.size > 1:  # torchrun then ends the others, which wait for this one
            raise
        return record.FAILED


def _train(
    config: RunConfig,
    parts: Parts,
    device: torch.device,
    processes: Processes,
    *,
    on_steps: Callable[[list[dict[str, Any]]], None],
    on_eval: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Train the task's model; returns its number of parameters, the steps done, and the seconds that they took."""
    torch.manual_seed(config.seed)
    learner = Learner(
        parts.task,
        parts.task.model().to(device),
        accumulate=config.accumulate,
        precision=config.precision,
        compile=config.compile,
        channels_last=config.channels_last,
        checkpointing=config.checkpointing,
        processes=processes,
        parallel=config.parallel,
    )

    def lr(step: int) -> float:
        return float(config.task.lr * config.lr_multiplier * parts.schedule(step, horizon=config.horizon))

    began = time.monotonic()
    steps = train(
        learner,
        parts.optimizer(parameter_groups(learner.model, config.decay), lr=lr(0)),
        lr,
        horizon=config.horizon,
        eval_every=config.eval_every,
        measure_every=config.measure_every,
        clip_norm=config.clip_norm,
        on_steps=on_steps,
        on_eval=on_eval,
    )
    seconds = time.monotonic() - began
    return {"steps": steps, "train_seconds": seconds, "parameters": sum(p.numel() for p in learner.params)}


class Rows:
    """Takes the rows of a run as they come: into the record, to the tracker, and to the detector."""

    def __init__(self, config: RunConfig, tracker: Any, writer: record.Writer, say: Callable[[str], None]) -> None:
        self._config, self._tracker, self._writer, self._say = config, tracker, writer, say
        self._losses: list[float] = []
        self._held_out: list[float] = []
        self._monitor = SpikeMonitor(**config.task.spikes)
        self._onset: int | None = None  # of the last spike said to have begun

    def add_steps(self, rows: list[dict[str, Any]]) -> None:
        """Rows of steps.parquet."""
        self._writer.add_steps(rows)
        self._tracker.log_steps(rows)
        losses = [row["loss"] for row in rows]
        self._losses += losses
        for spike in self._monitor.extend(np.array(losses)):
            self._add_spike(spike)
        onset = self._monitor.onset
        if onset is not None and onset != self._onset:
            self._say(f"step {onset}: the training loss spikes")
            self._onset = onset

    def _add_spike(self, spike: Spike) -> None:
        self._tracker.log_spike(spike)
        height = f"+{spike.height:.3g}" if math.isfinite(spike.height) else "not finite"
        self._say(f"step {spike.onset} to {spike.end}: a spike, {height}, {spike.kind}")

    def add_eval(self, row: dict[str, Any]) -> None:
        """A row of evals.parquet. Raises UserError for a target of a metric that it lacks."""
        for target in self._config.task.targets:
            if target["metric"] not in row:
                raise unknown("metric in task.targets", target["metric"], set(row) - {"step"})
        self._held_out.append(row["loss"])
        self._writer.add_eval(row)
        self._tracker.log_eval(row)
        values = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "step")
        self._say(f"step {row['step']}/{self._config.horizon}  {values}")

    def has_diverged(self) -> bool:
        """Whether the run diverged, its last evaluation included."""
        return has_diverged(self._losses) or not math.isfinite(self._held_out[-1])

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is over."""
        if last := self._monitor.unfinished():
            self._add_spike(last)
        self._writer.finish(summary)
        self._tracker.finish(summary)
