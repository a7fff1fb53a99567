"""Compares source_gpt's training speed with a bare loop over transformers' GPT-2 of the same size.

Prints the ratio of tokens per second (above 1: source_gpt is faster), as the median over interleaved pairs with the
extremes. Also prints how long a process takes to import and build the task once its text is prepared. Exits with 1 if a
median misses its target.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from s3bench.run.build import Task, build_parts
from s3bench.run.config.compose import run_config
from tasks.models.gpt2 import GPT2

TARGET = 1.0  # ratio, at least
SET_UP_TARGET = 3.0  # seconds, at most
SET_UP = "import sys; from tasks.source_gpt import SourceGPT; SourceGPT(0, data_dir=sys.argv[1]).model()"


def task_seconds(task: Task, model: nn.Module, steps: int) -> float:
    """Return the seconds that steps with the task's own batches, loss and gradient take, with AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = task.batches(0)
    began = time.perf_counter()
    for _ in range(steps):
        loss = task.loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - began


def bare_seconds(model: nn.Module, windows: torch.Tensor, steps: int) -> float:
    """Return the seconds that the same steps take on windows that are in memory already."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    for step in range(steps):
        batch = windows[step % len(windows)]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - began


def set_up_seconds(data_dir: str) -> float:
    """Return the seconds that a process takes to import and build the task and its model."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", SET_UP, data_dir], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, and exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    config = run_config(["task=source_gpt"])
    task = build_parts(config).task
    build = config.task.build
    shape = {key: build[key] for key in ("vocab_size", "context", "width", "depth", "heads")}
    batches = task.batches(0)
    windows = torch.stack([next(batches)[0] for _ in range(50)])
    ours, theirs = task.model(), GPT2(**shape)
    task_seconds(task, ours, 10), bare_seconds(theirs, windows, 10)  # warm
    ratios, speeds = [], []
    for pair in range(chosen.pairs):
        if pair % 2:
            own, other = task_seconds(task, ours, chosen.steps), bare_seconds(theirs, windows, chosen.steps)
        else:
            other, own = bare_seconds(theirs, windows, chosen.steps), task_seconds(task, ours, chosen.steps)
        ratios.append(other / own)
        speeds.append(chosen.steps * build["batch"] * build["context"] / own)
    print(
        f"source_gpt / transformers' GPT-2, tokens per second: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {chosen.pairs} pairs of {chosen.steps} steps; source_gpt: "
        f"{statistics.median(speeds):,.0f} a second)"
    )
    times = [set_up_seconds(config.data_dir) for _ in range(5)]
    print(
        f"source_gpt, import and set-up: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}, n = 5)"
    )
    sys.exit(1 if statistics.median(ratios) < TARGET or statistics.median(times) > SET_UP_TARGET else 0)


if __name__ == "__main__":
    main()
