"""Several processes replay the same runs at once: no arm is lost, doubled or half written, and progress is true."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from s3bench import record
from s3bench.run.one_run import run
from s3bench.run.replay.departure import depart
from s3bench.run.sweep.local import Launcher
from s3bench.run.sweep.workers import Workers
from tests.conftest import ROOT, flip
from tests.s3bench.run.interrupted import same, stopped_at
from tests.s3bench.run.replay.arms import FAST, arms_of, departed, source, trained

ARMS = ("same", "placebo", "half_lr", "s3_watched")
OVER = {"config.yaml", "steps.parquet", "evals.parquet", "summary.json"}  # files of a record that is over
KILLED = """\
import os, sys
from pathlib import Path
from s3bench import record
with record.leased(Path(sys.argv[1])):
    os._exit(0)
"""
CLI = Path(sys.executable).with_name("s3bench")


def files(*folders):
    """Return the files in folders, with their sizes and the times at which they were written."""
    there = [file for folder in folders for file in Path(folder).rglob("*") if file.is_file()]
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in there}


def test_a_departure_leaves_alone_what_another_process_has_done_meanwhile(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    origin = source(config, folder, 151, after=40)
    over, under_way, trains, missing = arms = arms_of(origin, *ARMS)
    depart(origin, arms[:3])
    run(over.config)
    assert stopped_at(under_way.config, 1) == "stopped"  # after its departure
    flip(record.checkpoints(trains.folder)[0])
    before = files(*(arm.folder for arm in arms[:3]))
    with record.leased(trains.folder):
        depart(origin, arms)
    assert files(*(arm.folder for arm in arms[:3])) == before
    assert record.checkpoints(missing.folder)
    depart(origin, arms)  # nobody trains it any more
    assert [run(arm.config) for arm in arms] == ["finished"] * 4
    assert all({file.name for file in arm.folder.iterdir()} == OVER for arm in arms)


def test_a_departure_that_was_killed_is_made_again(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    origin = source(config, folder, 151, after=40)
    (arm,) = arms_of(origin, "same")
    subprocess.run([sys.executable, "-c", KILLED, arm.folder], cwd=ROOT, check=True)
    assert list(arm.folder.glob("lease.*"))
    depart(origin, [arm])
    assert run(arm.config) == "finished"
    assert {file.name for file in arm.folder.iterdir()} == OVER


@pytest.mark.slow
def test_two_commands_at_once_train_each_arm_once_as_one_command_does(tmp_path):
    config, folder = trained(tmp_path / "r", *FAST)
    command = [CLI, "replay", "r", f"arm={','.join(ARMS)}", "--jobs", "1"]
    started = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, out + errors
        assert not errors
        assert "[4/4]" in out
        for arm in ARMS:
            assert re.search(rf"^quadratic +sgd +{arm} +1 ", out, re.MULTILINE), out
    alone, origin = tmp_path / "alone", source(config, folder, 151, after=150)
    assert record.folders(tmp_path / "r" / "replays") == sorted(arm.folder for arm in arms_of(origin, *ARMS))
    there = {file.relative_to(tmp_path / "r" / "replays").parts[1:] for file in files(tmp_path / "r" / "replays")}
    assert there == {(name,) for name in OVER}
    (tmp_path / "r" / "replays").rename(alone)
    for arm in departed(origin, *ARMS):
        run(arm.config)
        assert same(arm.folder, alone / arm.folder.name)


@pytest.mark.slow
def test_progress_counts_the_steps_from_the_departure_on(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    arms = departed(source(config, folder, 151, after=150), "same", "half_lr")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    Launcher(Workers([arm.config for arm in arms]), console, [(arm.config, arm.folder) for arm in arms]).launch()
    counts = [tuple(map(int, found)) for found in re.findall(r"(\d+)/(\d+) steps", screen.getvalue())]
    assert {total for _, total in counts} == {2 * 170}
    assert counts[-1][0] == 340
    assert counts == sorted(counts)
