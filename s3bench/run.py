"""One run: a config becomes a record."""

import math
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

from s3bench import record
from s3bench.build import Parts, build_parts, find_device
from s3bench.config import RunConfig, as_dict
from s3bench.environment import environment
from s3bench.errors import one_line, unknown
from s3bench.groups import parameter_groups
from s3bench.spikes import find_spikes, has_diverged
from s3bench.train import train

Watch = Callable[[dict[str, Any]], None]


def run(config: RunConfig, watch: Watch | None = None) -> str:
    """Train and write the record; returns the state: finished, diverged or failed.

    A run that is over already is left as it is. `watch` sees each evaluation. Raises UserError for a mistake that shows
    before training, and record.Busy if another process is at the run.
    """
    began = time.monotonic()
    torch.set_num_threads(config.threads)
    # Saturated softmaxes, at large learning rates, make denormals, and a CPU takes half as long again for such a step.
    torch.set_flush_denormal(True)
    device = find_device(config.device)
    parts = build_parts(config)
    folder = record.plan(as_dict(config))
    with record.locked(folder):
        if record.has_result(folder):
            return record.state(folder)
        with record.Writer(folder, as_dict(config)) as writer:
            try:
                parts.tracker.start(as_dict(config), folder)
                return _train(config, parts, device, writer, watch, began)
            except Exception as error:  # whatever went wrong with this run, it is reported and the sweep goes on
                writer.fail(one_line(error), traceback.format_exc())
                parts.tracker.fail()
                return record.FAILED


def _train(
    config: RunConfig, parts: Parts, device: torch.device, writer: record.Writer, watch: Watch | None, began: float
) -> str:
    torch.manual_seed(config.seed)
    model = parts.task.model().to(device)
    losses: list[float] = []
    evaluated: list[float] = []  # held-out losses

    def lr(step: int) -> float:
        return float(config.task.lr * config.lr_multiplier * parts.schedule(step, horizon=config.horizon))

    def on_steps(rows: list[dict[str, Any]]) -> None:
        writer.add_steps(rows)
        parts.tracker.log_steps(rows)
        losses.extend(row["loss"] for row in rows)

    def on_eval(row: dict[str, Any]) -> None:
        for target in config.task.targets:
            if target["metric"] not in row:
                raise unknown("metric in task.targets", target["metric"], set(row) - {"step"})
        evaluated.append(row["loss"])
        writer.add_eval(row)
        parts.tracker.log_eval(row)
        if watch:
            watch(row)

    training_began = time.monotonic()
    steps = train(
        parts.task,
        model,
        parts.optimizer(parameter_groups(model, config.decay), lr=lr(0)),
        lr,
        horizon=config.horizon,
        eval_every=config.eval_every,
        measure_every=config.measure_every,
        clip_norm=config.clip_norm,
        on_steps=on_steps,
        on_eval=on_eval,
    )
    now = time.monotonic()
    summary = {
        "state": record.DIVERGED if has_diverged(losses) or not math.isfinite(evaluated[-1]) else record.FINISHED,
        "steps": steps,
        "seconds": now - began,
        "train_seconds": now - training_began,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "fingerprint": parts.task.fingerprint(),
        **environment(device, [config.task.build["_target_"], config.optimizer["_target_"]]),
    }
    writer.finish(summary)
    parts.tracker.finish(summary, find_spikes(losses, **config.task.spikes))
    return str(summary["state"])
