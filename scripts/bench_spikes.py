"""Measures the detector's time per step, offline and online, next to pandas' rolling median of 100 steps."""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from s3bench.spikes import SpikeMonitor, find_spikes


def curve(steps: int) -> np.ndarray:
    """Draw a fall with noise, and a spike of ten steps in every hundred thousand or so."""
    random = np.random.default_rng(0)
    loss = 2 + 3 / np.sqrt(10 + np.arange(steps)) + 0.05 * random.standard_normal(steps)
    for onset in random.integers(100, steps - 100, 1 + steps // 100_000):
        loss[onset : onset + 10] += 1
    return loss


def seconds(action: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    """Print the medians of interleaved repeats, and time and memory of one call on a long curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=1_000_000, help="length of the one long curve (default: a million)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats (default: 7)")
    asked = parser.parse_args()
    loss = curve(100_000)
    ways: dict[str, Callable[[], object]] = {
        "pandas' rolling median": lambda: pd.Series(loss).rolling(100).median(),
        "find_spikes": lambda: find_spikes(loss),
        "SpikeMonitor.add": lambda: _online(loss),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.repeats):
        for name, way in ways.items():
            times[name].append(seconds(way))
    base = np.array(times["pandas' rolling median"])
    print(f"{len(loss):,} steps, medians of {asked.repeats} interleaved repeats\n")
    print("| | µs per step | / rolling median |\n| --- | ---: | ---: |")
    for name, of_one in times.items():
        print(f"| {name} | {1e6 * np.median(of_one) / len(loss):.2f} | {np.median(np.array(of_one) / base):.1f} |")
    long = curve(asked.steps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = seconds(lambda: find_spikes(long))
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\nfind_spikes over {asked.steps:,} steps: {spent:.1f} s, {more:.0f} MiB in addition to the curve")


def _online(loss: np.ndarray) -> None:
    monitor = SpikeMonitor()
    for value in loss.tolist():
        monitor.add(value)


if __name__ == "__main__":
    main()
