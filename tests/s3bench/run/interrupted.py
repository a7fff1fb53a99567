"""Runs that are interrupted, for the tests: what was asked for, and whether two records are the same."""

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
    """The state of a run that is asked to stop when that many evaluations have been made; "stopped" if it did."""
    stop, count = Stop(), itertools.count(1)

    def say(line: str) -> None:
        if line.startswith("step") and "/" in line and next(count) == evaluation:
            stop.number = 15

    try:
        return run(config, say, stop)
    except Stopped:
        return "stopped"


def same(one: Path, other: Path) -> bool:
    """Whether two records hold the same losses, evaluations and all else, bit for bit."""
    frames = [(record.load_steps(folder), record.load_evals(folder)) for folder in (one, other)]
    return all(a.equals(b) for a, b in zip(*frames, strict=True))


def configs(tmp_path: Path, *overrides: str) -> tuple[RunConfig, RunConfig, Path, Path]:
    """The same run in two places, and the folders of its records."""
    one, other = (run_config([*overrides, f"results_dir={tmp_path / name}"]) for name in ("whole", "cut"))
    return one, other, tmp_path / "whole" / one.run_id, tmp_path / "cut" / other.run_id


class Dropping:
    """A task whose model drops activations at random: it needs torch's random numbers to go on where they were."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def model(self) -> torch.nn.Module:
        """Some layers."""
        return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Dropout(0.5), torch.nn.Linear(32, 1))

    def batches(self, start_step: int) -> Any:
        """Random rows."""
        for step in itertools.count(start_step):
            yield (torch.tensor(np.random.default_rng([self.seed, step]).normal(size=(4, 8)), dtype=torch.float32),)

    def loss(self, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """How far it is from the rows' sums."""
        return (model(batch[0])[:, 0] - batch[0].sum(1)).square().mean()

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """The same on one fixed batch."""
        with torch.no_grad():
            return {"loss": self.loss(model, next(self.batches(10**6))).item()}

    def fingerprint(self) -> str:
        """Of nothing."""
        return "dropping"
