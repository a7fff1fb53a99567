"""Helpers for tests of replays: runs, spikes that are said to be in them, and the arms from there."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from s3bench import record
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.one_run import run
from s3bench.run.replay.arms import arm_config, find_arms
from s3bench.run.replay.departure import Arm, depart
from s3bench.run.replay.source import Episode, Source
from s3bench.spikes import Spike

FAST = ["task=quadratic", "optimizer=sgd", "shock={kind: gradient, step: 150, dose: 300}", "horizon=320"]  # spikes once
LATE = ["task=quadratic", "optimizer=sgd", "shock={kind: gradient, step: 350, dose: 300}", "horizon=520"]


def trained(results: Path, *overrides: str) -> tuple[RunConfig, Path]:
    """Train a run; return its config and its record."""
    config = run_config([*overrides, f"results_dir={results}"])
    assert run(config) in ("finished", "diverged")
    return config, Path(results, config.run_id)


def source(config: RunConfig, folder: Path, *onsets: int, after: int = 15) -> Source:
    """Return a run whose spikes are said to begin at these steps, whatever its loss is."""
    spikes = [Spike(onset=onset, peak=onset, end=onset + 1, height=1.0, kind="blip") for onset in onsets]
    episodes = [
        Episode(number=number, spike=spike, until=min(spike.onset + after, config.horizon))
        for number, spike in enumerate(spikes, start=1)
    ]
    steps = record.step_arrays(folder, ["loss", "grad_norm", "update_rms"])
    return Source(folder=folder, config=config, steps=steps, episodes=episodes)


def arms_of(origin: Source, *names: str) -> list[Arm]:
    """Return the arms of these names, of all episodes, planned."""
    configs = [
        arm_config(origin, one, name, file) for one in origin.episodes for name, file in find_arms(list(names)).items()
    ]
    return [Arm(config=config, folder=record.plan(as_dict(config))) for config in configs]


def departed(origin: Source, *names: str) -> list[Arm]:
    """Return the arms of these names, of all episodes, each with its first state."""
    arms = arms_of(origin, *names)
    depart(origin, arms)
    return arms


def first_state(arm: Arm) -> dict[str, Any]:
    """Return the checkpoint that an arm starts from."""
    (file,) = record.checkpoints(arm.folder)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def is_exact(arm: Arm, folder: Path) -> bool:
    """Train an arm, and return whether its steps and evaluations are those of the run, bit for bit."""
    run(arm.config)
    until = arm.config.replay.until
    columns = ["step", "loss", "lr", "grad_norm"]
    mine, own = (record.load_steps(place)[columns] for place in (arm.folder, folder))
    # one more evaluation follows the arm's last step
    evals = [found[found.step < until] for found in map(record.load_evals, (arm.folder, folder))]
    return mine.equals(own.iloc[:until]) and evals[0].equals(evals[1])


def own_arm(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, content: Any) -> None:
    """Write a YAML file of an arm into ./configs of a folder, which becomes the current one."""
    file = Path(folder, "configs", "arm", f"{name}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    monkeypatch.chdir(folder)
