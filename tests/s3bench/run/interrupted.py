"""Helpers for tests of interrupted runs: make them, and compare their records."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s3bench import record
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig
from s3bench.run.one_run import run
from s3bench.run.signals import Stop, Stopped


def stopped_at(config: RunConfig, evaluation: int | None) -> str:
    """Train a run, ask it to stop at this evaluation, and return its state, or "stopped" if it stopped."""
    stop, count = Stop(), itertools.count(1)

    def log(line: str) -> None:
        if line.startswith("step") and "/" in line and next(count) == evaluation:
            stop.number = 15

    try:
        return run(config, log, stop)
    except Stopped:
        return "stopped"


def same(one: Path, other: Path) -> bool:
    """Return whether two records hold the same steps and evaluations, bit for bit."""
    frames = [(record.load_steps(folder), record.load_evals(folder)) for folder in (one, other)]
    return all(a.equals(b) for a, b in zip(*frames, strict=True))


def configs(tmp_path: Path, *overrides: str) -> tuple[RunConfig, RunConfig, Path, Path]:
    """Return the config of a run in two results folders, and the folders of the two records."""
    one, other = (run_config([*overrides, f"results_dir={tmp_path / name}"]) for name in ("whole", "cut"))
    return one, other, tmp_path / "whole" / one.run_id, tmp_path / "cut" / other.run_id


class Dropping:
    """A task whose model drops activations at random: resuming must restore torch's random numbers."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def model(self) -> torch.nn.Module:
        """Return a small network with dropout."""
        return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Dropout(0.5), torch.nn.Linear(32, 1))

    def batches(self, start_step: int) -> Any:
        """Yield batches of normal noise."""
        for step in itertools.count(start_step):
            yield (torch.tensor(np.random.default_rng([self.seed, step]).normal(size=(4, 8)), dtype=torch.float32),)

    def loss(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean squared distance to the sums of the rows."""
        return (model(batch[0])[:, 0] - batch[0].sum(1)).square().mean()

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Return the loss on one fixed batch."""
        with torch.no_grad():
            return {"loss": self.loss(model, next(self.batches(10**6))).item()}

    def fingerprint(self) -> str:
        """Return a fixed text: there are no data."""
        return "dropping"
