"""Tests on which devices the runs of a sweep are trained."""

import os

import pytest

from s3bench.run.config.compose import run_config
from s3bench.run.sweep.workers import devices

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("gpus", "overrides", "expected"),
    [
        (0, [], ["auto"] * CORES),
        (0, [f"threads={CORES}"], ["auto"]),
        (0, ["launcher.jobs=3"], ["auto"] * 3),
        (2, ["device=cpu"], ["cpu"] * CORES),
        (2, [], ["cuda:0", "cuda:1"]),
        (2, ["launcher.runs_per_gpu=3"], ["cuda:0", "cuda:1"] * 3),
        (2, ["launcher.runs_per_gpu=3", "device=cuda:1"], ["cuda:1"] * 3),
        (2, ["launcher.jobs=3", "device=cuda"], ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_runs_are_spread_over_cores_or_gpus(gpus, overrides, expected):
    assert devices([run_config(overrides)], gpus) == expected
