"""Measures how long a report on many records takes, by phase, and how much memory it needs.

Writes `--runs` synthetic records of `--steps` steps: four optimizers, five multipliers, two tasks, and as many seeds as
that leaves. Then it prints the seconds of each phase, the largest memory and the page's size, and how long find_spikes
and the published definitions take for a run. The report has a process of its own, which does not import the run side.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from s3bench import record
from s3bench.report import write as report
from s3bench.report.analysis.results_folder import MANY
from s3bench.spikes import find_spikes, published

OPTIMIZERS = ("s3", "adamw", "adam", "signum")
MULTIPLIERS = (0.1, 0.3, 1.0, 3.0, 10.0)
WARMUPS = (0.02, 0.1)  # two settings of one task: two tasks to the report
PHASES = {  # functions that write_report calls
    "read_results": "records read and scored",
    "make_tables": "tables",
    "judge": "claims",
    "drawings": "arrays of the figures",
    "_save": "figures drawn and written",
    "page": "page",
}


def configs(runs: int, steps: int, folder: str) -> list[dict[str, Any]]:
    """Return the config of each record."""
    from s3bench.run.config.compose import run_config
    from s3bench.run.config.schema import as_dict

    base = ["task=quadratic", f"horizon={steps}", f"results_dir={folder}"]
    kinds = [
        as_dict(run_config([*base, f"optimizer={optimizer}", f"schedule.warmup={warmup}"]))
        for optimizer, warmup in itertools.product(OPTIMIZERS, WARMUPS)
    ]
    cells = list(itertools.product(kinds, MULTIPLIERS))
    made = []
    for index in range(runs):
        config, multiplier = cells[index % len(cells)]
        axes = {"lr_multiplier": multiplier, "seed": index // len(cells)}
        made.append(config | axes | {"run_id": f"{config['run_id']}-x{multiplier}-s{axes['seed']}"})
    return made


def write(config: dict[str, Any]) -> None:
    """Write the record of a run whose loss falls as a power of the step, with noise and two spikes."""
    random, steps = np.random.default_rng(config["seed"]), config["horizon"]
    loss = 0.02 + 2 / np.sqrt(1 + np.arange(steps)) + random.normal(0, 0.01, steps)
    loss[random.integers(100, steps, 2)] += 1
    measured = np.where(np.arange(steps) % 10, np.nan, 1.0)
    columns = {"step": np.arange(steps), "loss": loss, "lr": np.linspace(0.1, 0, steps)}
    columns |= {"grad_norm": np.exp(random.normal(0, 0.3, steps)), "update_rms": 0.1 * measured}
    at = np.arange(0, steps + 1, max(1, steps // 50))
    evals = {"step": at, "loss": loss[np.minimum(at, steps - 1)], "distance": np.ones(len(at))}
    summary = {"state": record.FINISHED, "steps": steps, "seconds": 1.0, "train_seconds": 1.0, "parameters": 32}
    summary |= {"fingerprint": "f", "device": "cpu", "versions": {"torch": "2"}, "commit": None}
    record.write_result(record.plan(config), columns | {"update_max": 0.5 * measured}, evals, summary)


def write_all(runs: int, steps: int, folder: str) -> None:
    """Write all records, with one process per core."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(write, configs(runs, steps, folder), chunksize=16))


def peak_mib(processes: int) -> float:
    """Return an upper bound of the memory in use at a time: this process's peak, and the largest child's for each."""
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + processes * child) / 1024


def cpu_seconds() -> float:
    """Return the seconds of one core that this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it takes, and the machine's load before: other processes make it longer."""
    began, used, load = time.perf_counter(), cpu_seconds(), os.getloadavg()[0]
    yield
    seconds, used = time.perf_counter() - began, cpu_seconds() - used
    print(f"{what:26} {seconds:6.1f} s, {used:6.1f} s of one core; load {load:.1f} before", flush=True)


def time_phases() -> None:
    """Make every phase of write_report print how long it takes."""
    for function, what in PHASES.items():
        setattr(report, function, timed(what)(getattr(report, function)))


def milliseconds(function: Callable[[], Any], times: int) -> float:
    """Return the milliseconds of one core per call."""
    used = time.process_time()
    for _ in range(times):
        function()
    return 1e3 * (time.process_time() - used) / times


def measure(folder: str) -> None:
    """Write the report on a folder of records, and measure it."""
    records = [path.parent for path in Path(folder).glob("*/summary.json")]
    processes = (os.cpu_count() or 1) if len(records) >= MANY else 0
    time_phases()
    with timed("the whole report"):
        page = report.write_report(folder)
    print(f"{len(records)} runs; at most {peak_mib(processes):.0f} MiB, over {max(1, processes)} process(es)")
    print(f"page of {page.stat().st_size / 1e6:.1f} MB")
    some = [record.step_arrays(path, ["loss", "grad_norm"]) for path in records[:20]]
    for name, function in (
        ("find_spikes", lambda: [find_spikes(one["loss"]) for one in some]),
        ("published definitions", lambda: [published.counts(one["loss"], one["grad_norm"]) for one in some]),
    ):
        print(f"{name}: {milliseconds(function, 3) / len(some):.1f} ms per run on one core")


def main() -> None:
    """Write records and measure their report, or measure the report on the records of an earlier call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--folder", help="where the records are kept; if it has records, only the report is written")
    chosen = parser.parse_args()
    if chosen.folder and any(Path(chosen.folder).glob("*/summary.json")):
        measure(chosen.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or temporary
        with timed("records written"):
            write_all(chosen.runs, chosen.steps, folder)
        subprocess.run([sys.executable, __file__, "--folder", folder], check=True)


if __name__ == "__main__":
    main()
