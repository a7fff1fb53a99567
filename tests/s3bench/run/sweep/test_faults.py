"""Tests real faults: killed processes, full disks, too little memory, sweeps that race."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from s3bench import record
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.one_run import run
from s3bench.run.sweep.workers import Workers
from tests.conftest import small_disk, until
from tests.s3bench.run.interrupted import configs, same

CLI = Path(sys.executable).with_name("s3bench")

COUNTING = """\
from tasks.quadratic import Quadratic

class Counting(Quadratic):
    def model(self):
        with open("trained.txt", "a") as file:
            print(self.seed, file=file)
        return super().model()
"""
FLAKY = """\
from pathlib import Path
from tasks.quadratic import Quadratic

class Flaky(Quadratic):
    def loss(self, model, batch):
        tries = Path(f"tries{self.seed}")
        if self.seed == 1 and (not tries.exists() or len(tries.read_text()) < 2):
            with tries.open("a") as file:
                file.write("x")
            raise RuntimeError("not yet")
        return super().loss(model, batch)
"""
HUNGRY = """\
import torch
from tasks.quadratic import Quadratic

class Hungry(Quadratic):
    def loss(self, model, batch):
        if self.seed == 1:
            self.eaten = torch.ones(2**30)
        return super().loss(model, batch)
"""


@pytest.mark.slow
def test_a_failed_run_is_retried_as_often_as_asked(s3bench, tmp_path):
    (tmp_path / "flaky.py").write_text(FLAKY)
    grid = ["sweep", "task=quadratic", "task.build._target_=flaky.Flaky", "seed=0,1", "results_dir=r", "horizon=20"]
    result = s3bench(*grid, "retries=1")
    assert result.returncode == 1
    assert result.stdout.count("RuntimeError: not yet") == 3  # after each try, and at the end
    assert "try 2 follows" in result.stdout
    assert "2 runs: 1 finished, 1 failed" in result.stdout
    assert "2 runs: 2 finished" in s3bench(*grid, "retries=1").stdout


def test_a_sweep_can_end_at_its_first_failure(s3bench, tmp_path):
    (tmp_path / "flaky.py").write_text(FLAKY)
    grid = ["sweep", "task=quadratic", "task.build._target_=flaky.Flaky", "seed=1,0", "results_dir=r", "--jobs", "1"]
    result = s3bench(*grid, "fail_fast=true")
    assert result.returncode == 1
    assert "2 runs: 1 failed, 1 missing" in result.stdout


def sweep(tmp_path, *overrides):
    command = [str(CLI), "sweep", "results_dir=r", *overrides]
    return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_sweeps_at_once_train_each_run_once(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    grid = ["task=quadratic", "task.build._target_=counting.Counting", "horizon=600", "seed=0,1,2,3,4,5", "--jobs", "2"]
    processes = [sweep(tmp_path, *grid) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all("6 runs: 6 finished" in text for text in said)
    trained = Counter((tmp_path / "trained.txt").read_text().split())
    assert trained == {str(seed): 1 for seed in range(6)}


@pytest.mark.slow
def test_an_interrupted_sweep_resumes_bit_for_bit(tmp_path):
    whole, _, there, _ = configs(tmp_path, "task=digits_vit", "optimizer=s3", "horizon=400")
    run(whole)
    grid = ["task=digits_vit", "optimizer=s3", "horizon=400"]
    process = sweep(tmp_path, *grid)
    until(lambda: any(map(record.steps_so_far, tmp_path.glob("r/*"))), 120, every=0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again to resume" in said
    (here,) = record.folders(tmp_path / "r")
    assert record.state(here) == "missing"
    assert record.checkpoints(here)
    process = sweep(tmp_path, *grid)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert same(there, here)
    assert '"exact": true' in (here / "summary.json").read_text()


def killed_at(process, seconds):
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    return False


def interrupted_until_over(tmp_path, task, most, seconds):
    """Train a run in workers that are killed at random; return how often, and the folders of a whole run and of it."""
    whole, cut, there, here = configs(tmp_path, *task)
    run(whole)
    record.plan(as_dict(cut))
    workers, moments, kills = Workers([cut]), random.Random(0), 0
    for _ in range(most):
        kills += killed_at(workers.start(cut, here, "cpu", None), moments.uniform(*seconds))
        if record.has_result(here):
            break
        assert record.state(here) == "missing"
        steps = record.load_steps(here)
        assert steps.empty or steps.step.tolist() == list(range(len(steps)))
    else:
        workers.start(cut, here, "cpu", None).join()
    return kills, there, here


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one_does(tmp_path):
    task = ["task=digits_vit", "optimizer=s3", "horizon=700", "eval_every=50", "checkpoint_every=0.1"]
    kills, there, here = interrupted_until_over(tmp_path, task, 8, (0.2, 1.0))
    assert kills >= 3
    assert same(there, here)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_runs_killed_a_hundred_times_end_as_undisturbed_ones_do(tmp_path, number):
    task, optimizer = list(itertools.product(("digits_vit", "source_gpt"), ("s3", "adamw")))[number]
    overrides = [f"task={task}", f"optimizer={optimizer}", "horizon=400", "eval_every=50", "checkpoint_every=0.1"]
    left = 25  # of 4 × 25
    for seed in itertools.count():
        kills, there, here = interrupted_until_over(tmp_path, [*overrides, f"seed={seed}"], left, (0.0, 0.9))
        assert same(there, here)
        left -= kills
        if not left:
            break


@pytest.mark.slow
def test_a_worker_killed_by_the_kernel_for_memory_is_one_failed_run(tmp_path):
    group = Path("/sys/fs/cgroup/memory", f"s3bench{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this system lets nobody limit memory by a control group")
    try:
        (group / "memory.limit_in_bytes").write_text(str(2 * 2**30))
        (tmp_path / "hungry.py").write_text(HUNGRY)
        grid = "task=quadratic task.build._target_=hungry.Hungry seed=0,1,2 results_dir=r horizon=50"
        line = f"echo $$ > {group}/cgroup.procs; exec {CLI} sweep {grid}"
        result = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "3 runs: 2 finished, 1 failed" in result.stdout
        assert "killed by SIGKILL; the system may have run out of memory" in result.stdout
        assert result.returncode == 1
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def test_a_disk_too_full_for_a_checkpoint_does_not_end_the_run(tmp_path):
    with small_disk(tmp_path / "cut", "200k"):
        task = ["task=digits_vit", "optimizer=s3", "horizon=40", "eval_every=10", "checkpoint_every=0.01"]
        whole, cut, there, here = configs(tmp_path, *task)
        run(whole)
        assert run(cut) == "finished"
        assert same(there, here)


def test_a_failed_run_keeps_its_rows_and_is_tried_again_from_its_checkpoint(tmp_path):
    config = run_config(
        ["task=quadratic", "horizon=300", "eval_every=50", "checkpoint_every=0.01", f"results_dir={tmp_path}"]
    )
    folder = tmp_path / config.run_id

    def say(line):
        if line.startswith("step 150/"):
            raise OSError("the screen is broken")

    assert run(config, say) == "failed"
    assert len(record.load_steps(folder)) == 150
    assert record.outcome(folder) == "failed: OSError: the screen is broken"
    assert run(config) == "finished"
    assert 0 < json.loads((folder / "summary.json").read_text())["resumed"][0]["step"] <= 150
    assert not (folder / "error.txt").exists()
