"""Tests the estimates of a dry run, made from the runs that are over, and what status counts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3bench import record
from s3bench.report.status import snapshot
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.sweep import dry_run


@pytest.fixture
def over(tmp_path, monkeypatch):
    """Return a function that makes a finished run: over(results_dir, steps=..., seconds=..., train_seconds=...)."""
    monkeypatch.chdir(tmp_path)
    rows = {"step": [0], "loss": [1.0], "lr": [1.0], "grad_norm": [1.0]}

    def make(results_dir, *, steps, seconds, train_seconds, optimizer="s3", seed=0):
        given = [f"horizon={steps}", f"optimizer={optimizer}", f"seed={seed}", f"results_dir={results_dir}"]
        folder = record.plan(as_dict(run_config(given)))
        summary = {"state": "finished", "steps": steps, "seconds": seconds, "train_seconds": train_seconds}
        summary |= {"spikes": 0, "versions": {}, "commit": None}
        record.write_result(folder, rows, rows, summary)
        return folder

    return make


def said(capsys, *overrides, jobs=1):
    dry_run.show(["optimizer=s3", "device=cpu", f"launcher.jobs={jobs}", *overrides])
    return capsys.readouterr().out


def test_the_start_of_a_run_does_not_count_as_a_cost_of_its_steps(over, capsys):
    folder = over("r", steps=5, seconds=3.0, train_seconds=0.5)
    sized = record.size(folder)
    (folder / "log.txt").write_text(" " * (dry_run.BYTES_PER_RUN + 5 * 100 - sized))  # 100 bytes per step
    shown = said(capsys, "horizon=1000", "seed=0,1", "results_dir=r")
    assert "time: about 3 min 25 s with 1 runs at a time, measured in r" in shown  # 2 × (2.5 s + 1,000 × 0.1 s)
    assert f"disk: about {2 * (dry_run.BYTES_PER_RUN + 1000 * 100) / 1000:.1f} kB, measured in r" in shown


def test_costs_are_measured_on_the_most_similar_runs(over, capsys):
    asked = ("horizon=100", "seed=7", "results_dir=r")
    over("r", steps=100, seconds=100.0, train_seconds=100.0, optimizer="adamw")
    assert "time: about 1 min 40 s with 1 runs at a time, measured in r\n" in said(capsys, *asked)
    over("r", steps=5, seconds=10.0, train_seconds=5.0)
    assert "time: about 1 min 45 s with 1 runs at a time, measured in r\n" in said(capsys, *asked)
    over("q", steps=50, seconds=10.0, train_seconds=5.0)
    assert "time: about 15 s with 1 runs at a time, measured in q\n" in said(capsys, *asked)
    over("p", steps=50, seconds=20.0, train_seconds=10.0)
    assert "time: about 30 s with 1 runs at a time, measured in p\n" in said(
        capsys, *asked
    )  # its horizon is as near as q's
    over("r", steps=100, seconds=7.0, train_seconds=6.0)
    over("r", steps=100, seconds=9.0, train_seconds=8.0, seed=1)
    assert "time: about 8 s with 1 runs at a time, measured in r\n" in said(capsys, *asked)


def test_a_single_run_uses_a_single_device(over, capsys):
    over("r", steps=100, seconds=7.0, train_seconds=6.0)
    assert "about 7 s with 1 runs at a time" in said(capsys, "horizon=100", "seed=7", "results_dir=r", jobs=2)


def test_a_copied_record_is_not_made_with_other_code(over, tmp_path):
    folder = over("r", steps=100, seconds=7.0, train_seconds=6.0)
    shutil.copytree(folder, tmp_path / "r" / "copy")
    assert (snapshot("r")["runs"], snapshot("r")["made_with_other_code"]) == (2, 0)
    text = (folder / "config.yaml").read_text()
    other = folder.with_name(f"{folder.name[:-6]}000000")
    shutil.copytree(folder, other)
    (other / "config.yaml").write_text(text.replace(folder.name, other.name))
    assert (snapshot("r")["runs"], snapshot("r")["made_with_other_code"]) == (3, 1)


def test_a_watch_without_a_terminal_prints_each_snapshot(over):
    over("r", steps=100, seconds=7.0, train_seconds=6.0)
    command = [str(Path(sys.executable).with_name("s3bench")), "status", "r", "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [
                process.stdout.readline() for _ in range(8)
            ]  # two snapshots: a table of two lines, a line, an empty one
        finally:
            process.stdout.close()  # as head does
        assert lines == [*lines[:2], "1 runs: 1 finished\n", "\n"] * 2
        assert (process.wait(30), process.stderr.read()) == (0, "")
