"""Measures the harness's own cost: a run's training time over that of a bare loop.

Prints one line per task and optimizer: the median over interleaved pairs of (harness seconds / bare seconds), with the
extremes. The bare loop is written by hand, for the same task, optimizer and steps: it trains, reads the loss of each
step, and evaluates as often as the harness. It records nothing.

Then one line per task: the same of the harness with keep_before_spikes=1 over the harness without.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from s3bench import record
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig
from s3bench.run.one_run import run

MILLIONS = "task.build.width=256 task.build.depth=4 task.build.batch=2"  # a GPT of 3.3 million parameters
Seconds = Callable[[RunConfig], float]


def bare_seconds(config: RunConfig) -> float:
    """Return the seconds that a hand-written loop takes."""
    parts = build_parts(config)
    task = parts.task
    torch.manual_seed(config.seed)
    model = task.model()
    optimizer = parts.optimizer(model.parameters(), lr=config.task.lr)
    batches = task.batches(0)
    losses = []
    began = time.perf_counter()
    for step in range(config.horizon):
        if step % config.eval_every == 0:
            task.evaluate(model)
        for group in optimizer.param_groups:
            group["lr"] = config.task.lr * config.lr_multiplier * parts.schedule(step, horizon=config.horizon)
        loss = task.loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    task.evaluate(model)
    return time.perf_counter() - began


def harness_seconds(config: RunConfig) -> float:
    """Return the seconds that the harness's loop takes, with all that it records, up to the last evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        config.results_dir = folder
        run(config)
        return float(record.load_records(folder).train_seconds[0])


def keeping_seconds(config: RunConfig) -> float:
    """Return the seconds that the harness's loop takes if it keeps a checkpoint from before a spike."""
    return harness_seconds(replace(config, keep_before_spikes=1))


def show(what: str, config: RunConfig, above: Seconds, below: Seconds, pairs: int) -> None:
    """Measure a ratio of seconds over interleaved pairs, and print it."""
    above(config), below(config)  # warm
    ratios, seconds = [], []
    for pair in range(pairs):
        times = {measure: measure(config) for measure in ((above, below) if pair % 2 else (below, above))}
        ratios.append(times[above] / times[below])
        seconds.append(times[below])
    print(
        f"{what}, {config.horizon} steps: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}, {pairs} pairs; below the line: "
        f"{1e3 * statistics.median(seconds) / config.horizon:.2f} ms a step)",
        flush=True,
    )


def main() -> None:
    """Measure and print each task and optimizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for task in ("digits_vit", "source_gpt"):
        for optimizer in ("adamw", "s3"):
            config = run_config([f"task={task}", f"optimizer={optimizer}", f"horizon={chosen.steps}"])
            show(f"harness / bare loop, {task}, {optimizer}", config, harness_seconds, bare_seconds, chosen.pairs)
    for task, steps in {"digits_deep": 10 * chosen.steps, f"source_gpt {MILLIONS}": chosen.steps}.items():
        overrides = [one if "=" in one else f"task={one}" for one in task.split()]
        config = run_config([*overrides, "optimizer=adamw", f"horizon={steps}", f"eval_every={steps}"])
        show(f"keep_before_spikes=1 / 0, {task}, adamw", config, keeping_seconds, harness_seconds, chosen.pairs)


if __name__ == "__main__":
    main()
