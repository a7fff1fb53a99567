"""Measures what the offline wandb mirror costs a run: the share of the training loop's time spent in the tracker.

Prints one line per task: the median over runs, with the extremes. Time in wandb's own process is not counted.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from s3bench import record
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from s3bench.run.tracking import WandbTracker

LOGS = ("log_steps", "log_eval", "log_spike")


class Clock:
    """Adds up the seconds spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return the function with its time added up."""

        def call(*arguments: Any) -> None:
            began = time.perf_counter()
            function(*arguments)
            self.seconds += time.perf_counter() - began

        return call


def share(task: str, steps: int) -> tuple[float, float]:
    """Return the tracker's share of the loop's seconds (evaluations and recording included), and those seconds."""
    clock = Clock()
    originals = {name: getattr(WandbTracker, name) for name in LOGS}
    for name, function in originals.items():
        setattr(WandbTracker, name, clock.timed(function))
    with tempfile.TemporaryDirectory() as folder:
        run(run_config([f"task={task}", "tracker=wandb", f"horizon={steps}", f"results_dir={folder}"]))
        seconds = float(record.load_records(folder).train_seconds[0])
    for name, function in originals.items():
        setattr(WandbTracker, name, function)
    return clock.seconds / seconds, seconds


def main() -> None:
    """Measure and print each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    chosen = parser.parse_args()
    for task in ("digits_vit", "source_gpt"):
        share(task, chosen.steps)  # warm
        shares, seconds = zip(*(share(task, chosen.steps) for _ in range(chosen.runs)), strict=True)
        print(
            f"wandb's share of the loop, {task}, {chosen.steps} steps: {100 * statistics.median(shares):.2f}% "
            f"({100 * min(shares):.2f} to {100 * max(shares):.2f}%, {chosen.runs} runs; "
            f"{1e3 * statistics.median(seconds) / chosen.steps:.2f} ms a step)"
        )


if __name__ == "__main__":
    main()
