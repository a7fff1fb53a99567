"""A sweep: the runs of a grid that are not over yet, trained by a launcher; then what became of all of them."""

import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from s3bench import record
from s3bench.console import duration, patient_console
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import as_dict
from s3bench.run.sweep import cluster
from s3bench.run.sweep.local import Launcher
from s3bench.run.sweep.workers import Workers


def sweep(overrides: list[str], max_runs: float = math.inf) -> int:
    """Train every run of the grid that is not over yet; returns the exit code: 1 if a run failed or is missing.

    Before the first run starts, every task and optimizer of the grid is built once: a mistake shows at once, and data
    are prepared once. Raises UserError, also for a grid of more than `max_runs` runs.
    """
    console = patient_console()
    configs = run_configs(overrides, max_runs)
    folders = [record.folder_of(vars(config)) for config in configs]
    record.refuse_other_version({folder.parent for folder in folders})
    todo = [config for config, folder in zip(configs, folders, strict=True) if record.state(folder) not in record.OVER]
    places = ", ".join(sorted({config.results_dir for config in configs}))
    began = time.monotonic()
    unwritten: dict[Path, str] = {}
    if todo:
        on_cluster = "hydra_launcher" in todo[0].launcher
        if on_cluster:
            cluster.check(todo[0].launcher)
        workers = Workers([replace(config, device="cpu") for config in todo] if on_cluster else todo)
        for folder in record.superseded(map(record.folder_of, map(vars, todo))):
            record.remove(folder)
        runs = list(zip(todo, record.plan_all([as_dict(config) for config in todo]), strict=True))
        console.print(f"{len(configs)} runs in {places}, {len(configs) - len(todo)} of them over already", markup=False)
        if on_cluster:
            cluster.train_all(runs, console)
        else:
            unwritten = Launcher(workers, console, runs).launch()
    return _closing(console, folders, unwritten, time.monotonic() - began)


def _closing(console: Console, folders: list[Path], unwritten: dict[Path, str], seconds: float) -> int:
    """Print how the sweep ended and what failed; returns the exit code."""
    states_of = {folder: record.FAILED if folder in unwritten else record.state(folder) for folder in folders}
    states = Counter(states_of.values())
    counts = ", ".join(f"{states[state]} {state}" for state in record.STATES if states[state])
    console.print(f"{len(folders)} runs: {counts}; {duration(seconds)}")
    failed = [folder for folder, state in states_of.items() if state == record.FAILED]
    for folder in failed:
        console.print(f"{folder.name} {unwritten.get(folder) or record.outcome(folder)}", markup=False)
    if failed:
        console.print("Start the same sweep again to retry what failed; the traceback is in the run's error.txt")
    if states[record.MISSING]:
        console.print("Start the same sweep again to train what is missing")
    return 1 if failed or states[record.MISSING] else 0
