"""Kills sweeps with their workers, and reports, at hundreds of moments: nothing is lost, doubled or different.

S3BENCH_TEST_KILLS has another number of kills in all.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3bench import record
from s3bench.run.checkpoint import newest
from tests.conftest import until
from tests.s3bench.nursery import Nursery, killings

CLI = Path(sys.executable).with_name("s3bench")
KILLS = int(os.environ.get("S3BENCH_TEST_KILLS", "500"))
GRIDS = [  # what is swept; each gets its share of the kills
    ["task=quadratic", "horizon=300"],
    ["task=quadratic", "horizon=200", "keep_before_spikes=1", "shock={kind: gradient, step: 150, dose: 1000}"],
    ["task=digits_mlp", "horizon=60"],
    ["task=regression", "horizon=150", "clip=adagc"],
    ["task=nonconvex", "horizon=200", "measure_every=1"],
]
ALL = ["optimizer=s3,adamw", "eval_every=20", "checkpoint_every=0.05", "results_dir=r", "--jobs", "2"]
RUNS = 2  # of a sweep
SWEEP = {"r/": 120, "checkpoint": 24, ".jsonl": 12, "lease": 10, "config.yaml": 8, "parquet": 8, "summary": 4}
REPORT = {"r/": 100, "r/report": 3, "index.html": 1, ".report-": 90}
REPORTS = 5  # kills of reports per sweep
TIMES = {"seconds", "train_seconds", "resumed"}  # of a summary: what may differ


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as it:
        yield it


def content(folder):
    """Return what all files below a folder hold, by their paths."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def reached(results):
    """Return how far each run is, by its name; see `reached_by`."""
    return {file.parent.name: reached_by(file.parent) for file in results.glob("*/config.yaml")}


def reached_by(folder):
    """Return at which step a run would resume or, if it is over, when its result was written.

    What is there must be in order: the run does not seem to be under way, and each row that counts is there once.
    """
    if record.has_result(folder):
        assert record.state(folder) == "finished"
        return 1, (folder / "summary.json").stat().st_mtime_ns
    until(lambda: record.state(folder) == "missing", 10, every=0.01)  # a killed process takes a moment to be gone
    steps = record.load_steps(folder)
    assert steps.empty or steps.step.tolist() == list(range(len(steps)))
    checkpoint = newest(folder)
    return 0, checkpoint["step"] if checkpoint else 0


def killed_as_a_user(folder, grid, seconds):
    """Start the console script as a user does, and kill it and all its processes; return whether it was killed."""
    process = subprocess.Popen(
        [CLI, "sweep", *grid], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_sweeps(nursery, folder, grid, most, longest, seed):
    """Sweep and be killed until the sweep is over, or has been killed so often; return how often."""
    moments, kills, before = killings(seed, longest, SWEEP), 0, {}
    if seed % 100 == 0:  # the others are forked, which is much faster
        kills += killed_as_a_user(folder, grid, random.Random(seed).uniform(3, 12))
    while kills < most:
        done = nursery.run(folder, "sweep", *grid, killing=next(moments))
        after = reached(folder / "r")
        assert all(after[name] >= known if known[0] == 0 else after[name] == known for name, known in before.items())
        before = after
        if not done.killed:
            assert done.code == 0, done.said
            break
        kills += 1
    done = nursery.run(folder, "sweep", *grid)
    assert done.code == 0, done.said
    assert f"{RUNS} runs: {RUNS} finished" in done.said
    return kills


def kill_reports(nursery, folder, most, longest, seed):
    """Write reports and be killed a number of times, or a few less, and then write one; return how often."""
    moments = killings(seed, longest, REPORT)
    kills = sum(nursery.run(folder, "report", "r", killing=next(moments)).killed for _ in range(most))
    done = nursery.run(folder, "report", "r")
    assert done.code == 0, done.said
    return kills


def assert_same_records(one, other):
    """Two results folders hold the same runs, each in the same files, which differ in times alone."""
    assert sorted(folder.name for folder in one.iterdir()) == sorted(folder.name for folder in other.iterdir())
    for folder in record.folders(one):
        ours, theirs = content(folder), content(other / folder.name)
        assert ours.keys() == theirs.keys()
        summaries = [json.loads(files.pop("summary.json")) for files in (ours, theirs)]
        assert len({json.dumps({**summary, **dict.fromkeys(TIMES)}) for summary in summaries}) == 1
        assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GRIDS)))
def test_a_sweep_and_a_report_killed_a_hundred_times_end_as_undisturbed_ones_do(nursery, tmp_path, number):
    left = KILLS // len(GRIDS)
    for seed in itertools.count():
        place = tmp_path / str(seed)
        whole, cut, calm = (place / name for name in ("whole", "cut", "calm"))
        for folder in (whole, cut):
            folder.mkdir(parents=True)
        grid = [*GRIDS[number], *ALL, f"seed={seed}"]
        undisturbed = nursery.run(whole, "sweep", *grid)
        assert undisturbed.code == 0, undisturbed.said
        left -= kill_sweeps(nursery, cut, grid, left, undisturbed.seconds * 0.7, 100 * number + seed)
        assert_same_records(whole / "r", cut / "r")
        shutil.copytree(cut / "r", calm / "r")
        undisturbed = nursery.run(calm, "report", "r")
        assert undisturbed.code == 0, undisturbed.said
        left -= kill_reports(nursery, cut, min(left, REPORTS), undisturbed.seconds, 100 * number + seed)
        assert content(cut / "r") == content(calm / "r")
        shutil.rmtree(place)
        if not left:
            break
