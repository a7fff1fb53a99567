"""Measures how commands grow with the number of records, with the length of one record, and with the optimizers.

Prints for each command its wall seconds, Python's start and imports included, the seconds of one core that it used, and
the largest memory of its processes together: `status`, `sweep` and `report` on a quarter of `--runs` records and on all
of them, every run being over, with the exponent of the growth (1 is linear, 2 quadratic); `status`, `spikes` and
`report` on one record of `--steps` steps; and a report on `--optimizers` optimizers. For reports it prints the size of
the page. The exponent is that of the seconds of one core, which other processes change little.
"""

import argparse
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from s3bench import record
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import as_dict
from scripts import bench_report

SHORT, USUAL = 200, 1_000  # steps of a run where there are many runs, and where there are many optimizers
CELLS = "optimizer=s3,adamw,adam,signum", "lr_multiplier=0.1,0.3,1,3,10"
PER_OPTIMIZER = "lr_multiplier=0.1,0.3,1,3,10", "seed=0,1"
COMMAND = "import sys; from s3bench.cli import main; sys.exit(main())"
LOOK_EVERY = 0.05  # seconds between two looks at the memory


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    core_seconds: float
    mib: float  # the largest sum over its processes, in which memory that several share counts several times
    load: float  # of the machine before: other processes make it longer

    def __str__(self) -> str:
        """Return the numbers as the end of a line."""
        return f"{self.seconds:7.1f} s {self.core_seconds:7.1f} s of one core {self.mib:6.0f} MiB; load {self.load:.1f}"


def cost(*arguments: str) -> Cost:
    """Run a command of s3bench to its end and measure it. Raises CalledProcessError if it fails."""
    load, began, used = os.getloadavg()[0], time.perf_counter(), _core_seconds()
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.DEVNULL) as process:
        most = 0
        while process.poll() is None:
            most = max(most, _memory(process.pid))
            time.sleep(LOOK_EVERY)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return Cost(seconds, _core_seconds() - used, most / 2**20, load)


def _core_seconds() -> float:
    """Return the seconds of one core that all ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory(pid: int) -> int:
    """Return the bytes that a process and those below it have in memory."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        command = psutil.Process(pid)
        for process in (command, *command.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def write(overrides: list[str]) -> None:
    """Write a record for each run of a grid, with one process per core."""
    configs = [as_dict(config) for config in run_configs(overrides)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(bench_report.write, configs, chunksize=16))


@contextmanager
def folder() -> Iterator[str]:
    """Give a folder that is removed at the end, in memory if it can be: a disk takes minutes to write many files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield place


def page_size(results: str) -> str:
    """Return the size of the page of a report."""
    return f"page of {Path(results, 'report', 'index.html').stat().st_size / 1e6:.1f} MB"


def many_runs(runs: int) -> dict[str, Cost]:
    """Measure commands on a folder of finished short runs, print and return their costs."""
    with folder() as results:
        grid = ["task=quadratic", f"horizon={SHORT}", *CELLS, f"seed=range(0,{runs // 20})", f"results_dir={results}"]
        write(grid)
        costs = {}
        for name, arguments in {
            "status": ["status", results],
            "sweep": ["sweep", "--yes", *grid],
            "report": ["report", results],
        }.items():
            costs[name] = cost(*arguments)
            print(f"{name:7} {runs:9,} runs {costs[name]}", flush=True)
        print(page_size(results), flush=True)
    return costs


def long_run(steps: int) -> None:
    """Measure commands on a folder with one long record."""
    with folder() as results:
        write(["task=quadratic", f"horizon={steps}", f"results_dir={results}"])
        losses = record.folders(results)[0] / "steps.parquet"
        print(f"steps.parquet of {losses.stat().st_size / 1e6:.0f} MB")
        for name, arguments in {
            "status": ["status", results],
            "spikes": ["spikes", str(losses), "--json"],
            "report": ["report", results],
        }.items():
            print(f"{name:7} {steps:9,} steps {cost(*arguments)}", flush=True)
        print(page_size(results), flush=True)


def many_optimizers(optimizers: int) -> None:
    """Measure a report on many optimizers: one rule with as many settings."""
    with folder() as results:
        settings = ",".join(f"{1 + index / 100:g}" for index in range(optimizers))
        grid = ["task=quadratic", f"horizon={USUAL}", f"optimizer.p={settings}", *PER_OPTIMIZER]
        write([*grid, f"results_dir={results}"])
        print(f"report  {optimizers:9,} optimizers  {cost('report', results)}")
        print(page_size(results), flush=True)


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4_000, help="a multiple of 80; 0: skip")
    parser.add_argument("--steps", type=int, default=5_000_000, help="0: skip")
    parser.add_argument("--optimizers", type=int, default=300, help="0: skip")
    chosen = parser.parse_args()
    if chosen.runs:
        few, all_of_them = many_runs(chosen.runs // 4), many_runs(chosen.runs)
        for name in few:
            ratio = all_of_them[name].core_seconds / few[name].core_seconds
            print(f"{name}: {ratio:.2f} times as much for 4 times the runs: exponent {math.log(ratio, 4):.2f}")
    if chosen.steps:
        long_run(chosen.steps)
    if chosen.optimizers:
        many_optimizers(chosen.optimizers)


if __name__ == "__main__":
    main()
