"""Trains the runs of a grid that are not over yet, here or on a cluster, and reports how all of them ended."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from s3bench import record
from s3bench.console import duration, patient_console, say
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.sweep import cluster
from s3bench.run.sweep.local import Launcher
from s3bench.run.sweep.plan import plan_sweep
from s3bench.run.sweep.workers import Workers


def sweep(overrides: list[str], max_runs: float = math.inf, zipped: Sequence[Sequence[str]] = ()) -> int:
    """Train every run of the grid that is not over yet, and return the exit code: 1 if a run failed or is missing.

    Every task and optimizer of the grid is built once before the first run starts, so that a mistake shows at once and
    data are prepared once.

    Raises:
        UserError: a mistake, or more than `max_runs` runs.
    """
    console = patient_console()
    plan = plan_sweep(overrides, max_runs, zipped)
    record.tidy(plan.folders)
    began = time.monotonic()
    unwritten = train(plan.todo, console, plan.summary) if plan.todo else {}
    states = {folder: _state(folder, plan.over, unwritten) for folder in plan.folders}
    return _close(console, states, unwritten, time.monotonic() - began)


def _state(folder: Path, over: Mapping[Path, str], unwritten: Mapping[Path, str]) -> str:
    """Return how a run ended, without reading again what was over before."""
    return record.FAILED if folder in unwritten else over.get(folder) or record.state(folder)


def train(todo: list[RunConfig], console: Console, summary: str = "") -> dict[Path, str]:
    """Train runs, at least one, after a line that says how many.

    Returns the causes of failures that could not be written, by the record's folder.

    Raises UserError if a task or an optimizer cannot be built.
    """
    on_cluster = "hydra_launcher" in todo[0].launcher
    if on_cluster:
        cluster.check(todo[0].launcher)
    workers = Workers([replace(config, device="cpu") for config in todo] if on_cluster else todo)
    runs = list(zip(todo, record.plan_all([as_dict(config) for config in todo]), strict=True))
    if summary:
        say(summary, console=console)
    if on_cluster:
        cluster.train_all(runs, console)
        return {}
    return Launcher(workers, console, runs).launch()


def _close(console: Console, states_of: Mapping[Path, str], unwritten: Mapping[Path, str], seconds: float) -> int:
    """Print how the sweep ended and which runs failed; return the exit code."""
    states = Counter(states_of.values())
    counts = ", ".join(f"{states[state]} {state}" for state in record.STATES if states[state])
    say(f"{len(states_of)} runs: {counts}; {duration(seconds)}", console=console)
    failed = [folder for folder, state in states_of.items() if state == record.FAILED]
    for folder in failed:
        say(f"{folder.name} {unwritten.get(folder) or record.outcome(folder)}", console=console)
    if failed:
        again = "Run the same command again to retry the failed runs; error.txt in a run's folder has its traceback"
        say(again, console=console)
    if states[record.MISSING]:
        say("Run the same command again to train the missing runs", console=console)
    return 1 if failed or states[record.MISSING] else 0
