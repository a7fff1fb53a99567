"""Tests on which devices the runs of a sweep are trained, and of the processes that train them."""

import os
import signal
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sweep", "optimizer=s3,mine"], "2 runs: 2 finished"),
        pytest.param(["run", "optimizer=mine"], "finished; the record is r/", marks=pytest.mark.slow),
    ],
)
def test_nothing_of_the_users_folder_runs_but_what_a_target_names(s3bench, tmp_path, command, said):
    ran = f"import os\nos.close(os.open({str(tmp_path)!r} + '/ran-' + __name__, os.O_CREAT))\n"
    for name in ("types", "random", "copy", "torch", "yaml", "optimizers", "tasks", "hydra_plugins/plugin", "mine"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(ran)
    with (tmp_path / "mine.py").open("a") as mine:
        mine.write("from torch.optim import SGD\nclass Mine(SGD): pass\n")
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    (tmp_path / "configs" / "optimizer" / "mine.yaml").write_text("# mine\n_target_: mine.Mine\n_partial_: true\n")
    done = s3bench(*command, "task=quadratic", "horizon=10", "results_dir=r", process=True)
    assert said in done.stdout, done.stderr
    assert [file.name for file in tmp_path.glob("ran-*")] == ["ran-mine"]


def test_a_worker_that_is_stopped_as_it_begins_says_nothing(tmp_path):
    """The sweep's signal may come while the worker still blocks it, as the process that forked it does."""
    code = (
        "import os, pathlib, signal; from s3bench.run.sweep.workers import _work; "
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.kill(os.getpid(), signal.SIGTERM); "
        "_work(None, pathlib.Path(), None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert list(tmp_path.iterdir()) == []  # its log was empty
