"""A sweep: the runs of a grid that are not over yet, trained by a launcher; then what became of all of them."""

import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from s3bench import record, workers
from s3bench.config import RunConfig, as_dict, run_configs
from s3bench.status import duration, patient_console


def sweep(overrides: list[str]) -> int:
    """Train every run of the grid that is not over yet; returns the exit code: 1 if a run failed.

    Before the first run starts, every task and optimizer of the grid is built once: a mistake shows at once, and data
    are prepared once. Raises UserError.
    """
    console = patient_console()
    configs = run_configs(overrides)
    folders = [record.folder_of(as_dict(config)) for config in configs]
    todo = [config for config, folder in zip(configs, folders, strict=True) if record.state(folder) not in record.OVER]
    places = ", ".join(sorted({config.results_dir for config in configs}))
    began = time.monotonic()
    unwritten: dict[Path, str] = {}
    if todo:
        runs = [(config, record.plan(as_dict(config))) for config in todo]
        console.print(f"{len(configs)} runs in {places}, {len(configs) - len(todo)} of them over already", markup=False)
        unwritten = _train_all(runs, console)
    return _closing(console, folders, unwritten, time.monotonic() - began)


def _train_all(runs: list[tuple[RunConfig, Path]], console: Console) -> dict[Path, str]:
    """Train the runs where their launcher says: here, or on a cluster through one of Hydra's launchers."""
    if "hydra_launcher" not in runs[0][0].launcher:
        return workers.train_all(runs, console)
    from s3bench import cluster

    return cluster.train_all(runs, console)


def _closing(console: Console, folders: list[Path], unwritten: dict[Path, str], seconds: float) -> int:
    """Print how the sweep ended and what failed; returns the exit code."""
    states = Counter(record.FAILED if folder in unwritten else record.state(folder) for folder in folders)
    counts = ", ".join(f"{states[state]} {state}" for state in record.STATES if states[state])
    console.print(f"{len(folders)} runs: {counts}; {duration(seconds)}")
    failed = [folder for folder in folders if folder in unwritten or record.state(folder) == record.FAILED]
    for folder in failed:
        console.print(f"{folder.name} {unwritten.get(folder) or record.outcome(folder)}", markup=False)
    if failed:
        console.print("Start the same sweep again to retry what failed; the traceback is in the run's error.txt")
    if states[record.MISSING]:
        console.print("Start the same sweep again to train what is missing")
    return 1 if failed or states[record.MISSING] else 0
