"""Measures whole commands on `--runs` records: status, status of failures, a sweep that is over, and a dry run.

Prints the seconds of each command, with Python's start and imports, and the largest resident memory so far. The records
are written directly, with tables of one step, because none of the commands reads the tables.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from s3bench import record
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import as_dict

CLI = str(Path(sys.executable).with_name("s3bench"))
MULTIPLIERS = 50
SUMMARY: dict[str, Any] = {"state": record.FINISHED, "steps": 200, "seconds": 1.0, "train_seconds": 0.9, "spikes": 1}
SUMMARY |= {"parameters": 32, "fingerprint": "f", "device": "cpu", "versions": {"torch": "2"}, "commit": None}
ROWS: dict[str, list[Any]] = {"step": [0], "loss": [1.0], "lr": [1.0], "grad_norm": [1.0]}


def grid(runs: int) -> list[str]:
    """Return the overrides of a grid with this many runs, a multiple of a hundred."""
    multipliers = ",".join(str(1 + index / MULTIPLIERS) for index in range(MULTIPLIERS))
    axes = ["optimizer=s3,adamw", f"lr_multiplier={multipliers}", f"seed=range(0,{runs // (2 * MULTIPLIERS)})"]
    return ["task=quadratic", *axes]


def write(overrides: list[str], *, failed: bool) -> None:
    """Write the records of a grid's runs, all of them finished or all failed."""
    for folder in record.plan_all([as_dict(config) for config in run_configs(overrides)]):
        if failed:
            record.write_error(folder, "RuntimeError: made to fail", "Traceback")
        else:
            record.write_result(folder, ROWS, ROWS, SUMMARY)


def measure(*arguments: str) -> str:
    """Run a command to its end; return its seconds and the largest memory of any command so far."""
    load, began = os.getloadavg()[0], time.perf_counter()
    subprocess.run([CLI, *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return f"{seconds:.1f} s, at most {mib:.0f} MiB; load {load:.1f} before"


def main() -> None:
    """Write the records, measure the commands and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    chosen = parser.parse_args()
    memory = Path("/dev/shm")  # if it exists: a disk takes minutes to write this many files safely
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        over, failed = f"{folder}/over", f"{folder}/failed"
        overrides = grid(chosen.runs)
        write([*overrides, f"results_dir={over}"], failed=False)
        write([*overrides, f"results_dir={failed}"], failed=True)
        print(f"status of {chosen.runs:,} runs: {measure('status', over)}")
        print(f"status, all of them failed: {measure('status', failed)}")
        planned = measure("sweep", "--yes", *overrides, f"results_dir={over}")
        print(f"sweep, all of them over: {planned}")
        print(f"sweep --dry-run: {measure('sweep', '--yes', '--dry-run', *overrides, f'results_dir={failed}')}")


if __name__ == "__main__":
    main()
