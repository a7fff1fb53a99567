"""Writes the fake records that the tests read: their losses, evaluations and summaries are known exactly."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate

from s3bench import record
from s3bench.record import identity
from s3bench.report.analysis.replays import FOLDER
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.tables import make_tables
from s3bench.report.write import write_report
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict

TARGETS = "task.targets=[{metric: loss, at_most: 0.05}, {metric: loss, at_most: 0.5}]"
EVALS = (0, 50, 90, 100)
GRADIENT = "shock={kind: gradient, step: 100, dose: 30}"
SHOCKED_HORIZON = 260


def config(results: Path, *overrides: str) -> dict[str, Any]:
    """Return the resolved config of a run in a results folder."""
    return as_dict(run_config([f"results_dir={results}", *overrides]))


def summary(state: str, steps: int, **more: Any) -> dict[str, Any]:
    """Return the summary of a run of one second that is over."""
    made = {"state": state, "steps": steps, "seconds": 1.0, "train_seconds": 1.0, "parameters": 32}
    return {**made, "fingerprint": "f", "device": "cpu", "versions": {"torch": "2"}, "commit": None, **more}


SUMMARY = summary("finished", 3, train_seconds=0.5, parameters=7, versions={})


def rows(start: int, stop: int) -> list[dict[str, Any]]:
    """Return rows of steps.parquet with a loss of 1/(t + 3) and no gradient norm."""
    return [{"step": t, "loss": 1 / (t + 3), "lr": 0.1, "grad_norm": float("nan")} for t in range(start, stop)]


def write(results: Path, *overrides: str) -> Path:
    """Write a finished record of three steps and one evaluation; only the last step has update sizes."""
    settings = config(results, *overrides)
    folder = record.plan(settings)
    with record.leased(folder) as lease, record.Writer(folder, settings, lease.number) as writer:
        writer.add_steps(rows(0, 2))
        writer.add_eval({"step": 0, "loss": 2.0, "accuracy": 0.5})
        writer.add_steps([{**row, "update_rms": 0.25, "update_max": 0.5} for row in rows(2, 3)])
        writer.finish(SUMMARY)
    return folder


def make(
    results: Path,
    optimizer: str = "s3",
    multiplier: float = 1,
    seed: int = 0,
    final: float = 0.01,
    state: str = "finished",
    spikes: Sequence[int] = (),
    overrides: Sequence[str] = (),
    horizon: int = 100,
) -> Path:
    """Write a record whose loss falls from 1 to `final`, with spikes of height 1 at some steps."""
    axes = [f"optimizer={optimizer}", f"lr_multiplier={multiplier}", f"seed={seed}", f"horizon={horizon}"]
    if not any(override.startswith("task.targets") for override in overrides):
        axes.append(TARGETS)
    settings = config(results, *axes, *overrides)
    folder = record.plan(settings)
    if state == "missing":
        return folder
    loss = np.geomspace(1, final, horizon + 1)
    loss[list(spikes)] += 1
    with record.Writer(folder, settings) as writer:
        if state == "failed":
            writer.fail("RuntimeError: <b>boom</b>", "Traceback")
            return folder
        stop = 60 if state == "diverged" else horizon
        steps = [{"step": t, "loss": loss[t], "lr": 0.1, "grad_norm": 1.0, "update_max": 0.5} for t in range(stop)]
        if state == "diverged":
            steps[-1]["loss"] = math.nan
        writer.add_steps(steps)
        for t in (*EVALS[:-1], horizon) if horizon >= 100 else (0, horizon):
            if t <= stop:
                writer.add_eval({"step": t, "loss": loss[t], "distance": 2.0})
        writer.finish(summary(state, stop))
    return folder


def make_shocked(
    results: Path,
    shock: str | None = None,
    optimizer: str = "s3",
    seed: int = 0,
    excess: Sequence[float] = (),
    state: str = "finished",
    final: float = 0.5,
    overrides: Sequence[str] = (),
) -> Path:
    """Write a record whose loss falls from 1 to 0.5, above it by the excess from step 101 on."""
    axes = [f"optimizer={optimizer}", f"seed={seed}", f"horizon={SHOCKED_HORIZON}", "task.spikes={k: 6.0, delta: 0.1}"]
    settings = config(results, *axes, *([shock] if shock else []), *overrides)
    folder = record.plan(settings)
    if state == "missing":
        return folder
    loss = np.linspace(1, 0.5, SHOCKED_HORIZON)
    loss[101 : 101 + len(excess)] += excess
    with record.Writer(folder, settings) as writer:
        if state == "failed":
            writer.fail("RuntimeError: boom", "Traceback")
            return folder
        stop = 150 if state == "diverged" else SHOCKED_HORIZON
        steps = [{"step": t, "loss": loss[t], "lr": 0.1, "grad_norm": 1.0} for t in range(stop)]
        for t in range(0, stop, 10):
            steps[t]["update_max"] = 3.0 if t == 100 and shock else 0.5
        if state == "diverged":
            steps[-1]["loss"] = math.nan
        writer.add_steps(steps)
        for t in (0, SHOCKED_HORIZON):
            if t <= stop:
                writer.add_eval({"step": t, "loss": final if t else 1.0, "distance": 2.0})
        writer.finish(summary(state, stop))
    return folder


RAMP_HORIZON = 600


def make_ramp(
    results: Path,
    optimizer: str = "s3",
    seed: int = 0,
    left_at: int | None = 300,
    overrides: Sequence[str] = (),
    state: str = "finished",
) -> Path:
    """Write a ramp from ×0.3 to ×3000 whose loss comes down from 2 to 1 within the calm steps, and leaves to 3."""
    axes = ["schedule=ramp", "lr_multiplier=3000", f"optimizer={optimizer}", f"seed={seed}", *overrides]
    return _write_course(config(results, f"horizon={RAMP_HORIZON}", "task.targets=[]", *axes), left_at, state)


def make_fixed(
    results: Path,
    optimizer: str = "s3",
    multiplier: float = 10,
    seed: int = 0,
    left_at: int | None = None,
    overrides: Sequence[str] = (),
    warmup: float = 0.0833,
    horizon: int = RAMP_HORIZON,
) -> Path:
    """Write the same at a fixed rate, after a warm-up that is by default as long as the ramp is calm."""
    axes = [f"optimizer={optimizer}", f"lr_multiplier={multiplier}", f"seed={seed}", "schedule=constant"]
    axes += [f"schedule.warmup={warmup}", f"horizon={horizon}", "task.targets=[]", *overrides]
    return _write_course(config(results, *axes), left_at, "finished")


def _write_course(settings: dict[str, Any], left_at: int | None, state: str) -> Path:
    folder = record.plan(settings)
    if state == "missing":
        return folder
    horizon = settings["horizon"]
    loss = np.ones(horizon)
    loss[:40] = np.linspace(2, 1, 40)
    if left_at is not None:
        loss[left_at:] = 3
    schedule = instantiate(settings["schedule"])
    factors = [schedule(step, horizon=horizon) for step in range(horizon)]
    lr = settings["task"]["lr"] * settings["lr_multiplier"] * np.array(factors)
    columns = {"step": np.arange(horizon), "loss": loss, "lr": lr, "grad_norm": np.ones(horizon)}
    evals = {"step": np.array([0, horizon]), "loss": loss[[0, -1]], "distance": np.ones(2)}
    record.write_result(folder, columns, evals, summary(state, horizon))
    return folder


REPLAYED = {"onset": 150, "step": 130, "until": 290}
REPLAY_HORIZON = 300


def make_replayed(
    results: Path,
    optimizer: str = "adamw",
    seed: int = 0,
    height: float = 4.0,
    others: Mapping[int, float] = MappingProxyType({}),
    resumed: Sequence[dict[str, Any]] = (),
) -> str:
    """Write a record of constant loss 1 with a spike at step 150 and others by step, and return its run_id."""
    axes = [f"optimizer={optimizer}", f"seed={seed}", f"horizon={REPLAY_HORIZON}", "task.spikes={k: 6.0, delta: 0.1}"]
    settings = config(results, *axes, "measure_every=10")
    _write_spiky(settings, {REPLAYED["onset"]: height, **others}, REPLAY_HORIZON, every=10, resumed=resumed)
    return str(settings["run_id"])


def make_arm(
    results: Path,
    run: str,
    arm: str,
    spikes: Mapping[int, float] = MappingProxyType({}),
    state: str = "finished",
    optimizer: str = "adamw",
) -> Path:
    """Write an arm of a replay of the run that make_replayed wrote, with spikes of these heights at their steps."""
    settings = record.load_config(results / run)
    settings |= {"results_dir": str(results / FOLDER), "measure_every": 1}
    settings["replay"] = settings["replay"] | REPLAYED | {"run": run, "arm": arm}
    settings["run_id"] = identity.run_id(settings, settings["names"]["task"], optimizer)
    if state == "missing":
        return record.plan(settings)
    return _write_spiky(settings, spikes, REPLAYED["until"], every=1, state=state)


def _write_spiky(
    settings: dict[str, Any],
    spikes: Mapping[int, float],
    steps: int,
    *,
    every: int,
    state: str = "finished",
    resumed: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write a record of constant loss 1 with spikes of ten steps; a diverged one ends within its last spike."""
    loss = np.ones(steps)
    for step, height in spikes.items():
        loss[step : step + 10] += height
    stop = max(spikes) + 5 if state == "diverged" else steps
    if state == "diverged":
        loss[stop - 1] = math.nan
    size = np.where(np.arange(steps) % every, math.nan, 0.2 * loss)
    columns = {"step": np.arange(steps), "loss": loss, "lr": np.full(steps, 0.1), "grad_norm": np.ones(steps)}
    columns |= {"update_rms": size, "update_max": 4 * size}
    evals = {"step": np.array([0, stop]), "loss": np.ones(2), "distance": np.ones(2)}
    folder = record.plan(settings)
    ended = summary(state, stop, resumed=list(resumed))
    record.write_result(folder, {key: values[:stop] for key, values in columns.items()}, evals, ended)
    return folder


def tables(results: Path) -> dict[str, pd.DataFrame]:
    """Return all tables of the report on a results folder; no file is written."""
    return make_tables(read_results(results))


def written(results: Path) -> tuple[str, dict[str, pd.DataFrame]]:
    """Write the report on a results folder; return the page, and the tables as they are read back."""
    page = write_report(results)
    read = {file.stem: pd.read_csv(file) for file in (page.parent / "tables").glob("*.csv")}
    return page.read_text(encoding="utf-8"), read
