"""How long a report on many records takes, and its memory: `--runs` synthetic records of `--steps` steps.

Prints seconds and the largest resident memory of reading and scoring (all cores), of the tables and of the page; and
the shares of find_spikes and of the published definitions, measured on one core. Four optimizers, five multipliers, two
tasks, the rest of the runs are seeds.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from s3bench import record
from s3bench.report.analysis.results import gather
from s3bench.report.analysis.results_folder import MANY, read_runs
from s3bench.report.analysis.tables import make_tables
from s3bench.report.write import write_report
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.spikes import find_spikes, published

OPTIMIZERS = ("s3", "adamw", "adam", "signum")
MULTIPLIERS = (0.1, 0.3, 1.0, 3.0, 10.0)
WARMUPS = (0.02, 0.1)  # two settings of one task: two tasks to the report


def configs(runs: int, steps: int, folder: str) -> list[dict[str, Any]]:
    """The config of each record."""
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
    """A record of a run whose loss falls as a power of the step, with noise and two spikes."""
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
    """The records, by one process per core."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(write, configs(runs, steps, folder), chunksize=16))


def largest_mib(processes: int) -> float:
    """What all processes together held at most: this one's largest so far, and the largest of its children for each."""
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + processes * child) / 1024


def cpu_seconds() -> float:
    """Seconds of a core that this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it takes, and the load of the machine: other processes make it longer."""
    began, used, load = time.perf_counter(), cpu_seconds(), os.getloadavg()[0]
    yield
    seconds, used = time.perf_counter() - began, cpu_seconds() - used
    print(f"{what}: {seconds:.1f} s, {used:.1f} s of one core; load {load:.1f} before", flush=True)


def milliseconds(function: Callable[[], Any], times: int) -> float:
    """Milliseconds of one core per call."""
    used = time.process_time()
    for _ in range(times):
        function()
    return 1e3 * (time.process_time() - used) / times


def measure(folder: str) -> None:
    """Read, score, tabulate, and write the page."""
    with timed("read and scored"):
        runs = read_runs(folder)
    processes = (os.cpu_count() or 1) if len(runs) >= MANY else 0
    print(f"{len(runs)} runs by {max(1, processes)} processes; at most {largest_mib(processes):.0f} MiB in all so far")
    with timed("tables"):
        make_tables(gather(runs))
    some = [record.step_arrays(run.folder, ["loss", "grad_norm"]) for run in runs[:20]]
    for name, function in (
        ("find_spikes", lambda: [find_spikes(one["loss"]) for one in some]),
        ("published definitions", lambda: [published.counts(one["loss"], one["grad_norm"]) for one in some]),
    ):
        print(f"{name}: {milliseconds(function, 3) / len(some):.1f} ms a run on one core")
    del runs
    with timed("the whole report, read again"):
        page = write_report(folder)
    print(f"the page: {page.stat().st_size / 1e6:.1f} MB")
    print(f"at most {largest_mib(processes):.0f} MiB in all processes")


def main() -> None:
    """Write records, or take those of an earlier call, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--folder", help="where the records are written, and stay; found there, they are only read")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or temporary
        if not (Path(folder).is_dir() and any(Path(folder).iterdir())):
            with timed("records written"):
                write_all(chosen.runs, chosen.steps, folder)
        measure(folder)


if __name__ == "__main__":
    main()
