"""Measures how much faster one process loads batches than one thread trains on them.

Prints one line per task whose data need no download: batches per second of one loader process over steps per second of
a bare loop with AdamW, as the median of interleaved pairs with the extremes. Exits with 1 if a median is below the
target.
"""

import argparse
import itertools
import statistics
import sys
import time

import torch

from s3bench import catalog
from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from tasks.data.loading import PREFETCH

TARGET = 1.5


def loading_rate(name: str, seconds: float) -> float:
    """Return how many batches per second one loader process makes while nothing else waits for it."""
    batches = build_parts(run_config([f"task={name}", "workers=1"])).task.batches(0)
    for _ in range(2 * PREFETCH):  # past the start of the process and the batches that it made ahead
        next(batches)
    began = time.perf_counter()
    for count in itertools.count(1):
        next(batches)
        if (passed := time.perf_counter() - began) > seconds:
            return count / passed
    raise AssertionError("itertools.count does not end")


def training_rate(name: str, seconds: float) -> float:
    """Return how many steps per second a bare loop makes on one batch that is in memory already."""
    config = run_config([f"task={name}", "optimizer=adamw"])
    parts = build_parts(config)
    task = parts.task
    torch.manual_seed(0)
    model, batch = task.model(), next(task.batches(0))
    optimizer = parts.optimizer(model.parameters(), lr=config.task.lr)
    began = time.perf_counter()
    for count in itertools.count():  # the first step is not counted
        if count == 1:
            began = time.perf_counter()
        optimizer.zero_grad()
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if count > 1 and (passed := time.perf_counter() - began) > seconds:
            return count / passed
    raise AssertionError("itertools.count does not end")


def main() -> None:
    """Measure and print each task, and exit with 1 if one is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="minimum length of each measurement")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    slow = False
    for name in sorted(catalog.choices("task")):
        try:
            build_parts(run_config([f"task={name}"]))
        except UserError as error:
            print(f"not measured: {error}")
            continue
        pairs = [(loading_rate(name, chosen.seconds), training_rate(name, chosen.seconds)) for _ in range(chosen.pairs)]
        ratios = [loading / training for loading, training in pairs]
        median = statistics.median(ratios)
        slow |= median < TARGET
        print(
            f"loading / training, {name}: {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {chosen.pairs} pairs; "
            f"{statistics.median(pair[0] for pair in pairs):.0f} batches/s from one process, "
            f"{statistics.median(pair[1] for pair in pairs):.1f} steps/s){'' if median >= TARGET else ': too slow'}",
            flush=True,
        )
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
