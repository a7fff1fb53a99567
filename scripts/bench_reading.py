"""Measures how fast curves are read: a CSV, JSON lines and a console, each next to what a library does."""

import argparse
import json
import re
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from s3bench.curve_files.reader import read_curve

PAIR = re.compile(r"([a-z_]+):? ([-+.\de]+)")


def main() -> None:
    """Print CPU seconds per file and as a ratio: medians of interleaved repeats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each file (default: a million)")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats (default: 3)")
    asked = parser.parse_args()
    loss = 2 + 0.05 * np.random.default_rng(0).standard_normal(asked.rows)
    with tempfile.TemporaryDirectory() as folder:
        table, console, rows = (Path(folder, name) for name in ("loss.csv", "output.log", "loss.jsonl"))
        steps = range(asked.rows)
        pd.DataFrame({"step": steps, "loss": loss, "lr": 3e-4}).to_csv(table, index=False, float_format="%.6f")
        lines = (f"iter {at}: loss {one:.4f}, time 120.50ms, mfu 40.10%\n" for at, one in enumerate(loss.tolist()))
        console.write_text("".join(lines))
        objects = ({"step": at, "loss": one, "lr": 3e-4} for at, one in enumerate(loss.tolist()))
        rows.write_text("".join(f"{json.dumps(one)}\n" for one in objects))
        print("| file | MB | CPU s | alternative | ratio |\n| --- | ---: | ---: | --- | ---: |")
        _compare(table, "pandas.read_csv", lambda: pd.read_csv(table), asked.repeats)
        _compare(console, "re.findall on each line", lambda: _by_lines(console), asked.repeats)
        _compare(rows, "json.loads on each line", lambda: _by_objects(rows), asked.repeats)
    print(f"\npeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _compare(file: Path, name: str, alternative: Callable[[], object], repeats: int) -> None:
    times = np.array([[_seconds(way) for way in (lambda: read_curve(file), alternative)] for _ in range(repeats)])
    ratio = np.median(times[:, 0] / times[:, 1])
    print(f"| {file.name} | {file.stat().st_size / 1e6:.0f} | {np.median(times[:, 0]):.2f} | {name} | {ratio:.2f} |")


def _by_lines(file: Path) -> list[dict[str, float]]:
    with file.open() as lines:
        return [{key: float(value) for key, value in PAIR.findall(line)} for line in lines]


def _by_objects(file: Path) -> pd.DataFrame:
    with file.open() as lines:
        return pd.DataFrame([json.loads(line) for line in lines])


def _seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


if __name__ == "__main__":
    main()
