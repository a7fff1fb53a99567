"""Tracking over a network, against a small server that keeps what it receives and fails the way networks fail."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb

from s3bench import record
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.one_run import run
from s3bench.run.tracking import WandbTracker
from tests.conftest import ROOT
from tests.s3bench.run.fake_wandb import FAULTS, KEY, FakeWandb
from tests.s3bench.run.test_tracking import SPIKES, STEPS, check_whole, history, killed, mirror

__all__ = ["killed"]  # a fixture
TIMEOUT = 2  # seconds
SLACK = 20  # seconds that everything else may take on a busy machine
OFTEN = ("401", "garbage")  # tested by default; each of the others takes as long


def faults():
    return [fault if fault in OFTEN else pytest.param(fault, marks=pytest.mark.slow) for fault in ["refused", *FAULTS]]


def short_run(results, tracker):
    """Train a run of 60 steps; return its config and how long it took, in seconds."""
    online = ["tracker.mode=online", f"tracker.timeout={TIMEOUT}"] if tracker == "wandb" else []
    config = run_config([f"tracker={tracker}", *online, "horizon=60", f"results_dir={results}"])
    began = time.monotonic()
    assert run(config) == "finished"
    return config, time.monotonic() - began


def check_record_unaffected(config, tmp_path):
    """Check that a run's rows are those of the run without a tracker, and that its key is nowhere in its results."""
    alone, _ = short_run(tmp_path / "alone", "none")
    mirrored, bare = (record.folder_of(as_dict(one)) for one in (config, alone))
    assert record.load_steps(mirrored).equals(record.load_steps(bare))
    assert record.load_evals(mirrored).equals(record.load_evals(bare))
    for file in mirrored.parent.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


@pytest.mark.parametrize("fault", faults())
def test_a_network_that_fails_from_the_start_costs_the_timeout_and_one_warning(connect, tmp_path, capfd, caplog, fault):
    with FakeWandb(fault) as server:
        connect(server)
        if fault == "refused":
            server.stop()
        config, seconds = short_run(tmp_path / "results", "wandb")
        assert seconds < TIMEOUT + SLACK
        asked = server.requests
        short_run(tmp_path / "again", "wandb")
        assert server.requests == asked  # the process remembers that there is no network
    check_record_unaffected(config, tmp_path)
    (warning,) = [entry.getMessage() for entry in caplog.records if entry.name == "s3bench.run.tracking"]
    assert (
        "runs of this process are mirrored offline (upload them with `wandb sync`); the record is not affected"
        in warning
    )
    assert "user is not logged in" in warning or fault not in ("401", "403")
    assert "\n" not in warning
    assert "wandb: " not in capfd.readouterr().err
    for results in ("results", "again"):
        trained = [row["step"] for row in history(tmp_path / results) if "train/loss" in row]
        assert trained == list(range(9, 60, 10))


@pytest.mark.parametrize("fault", faults())
def test_a_network_that_fails_during_the_run_costs_the_timeout(connect, tmp_path, capfd, fault):
    with FakeWandb(fault, mid_run=True) as server:
        connect(server)
        config, seconds = short_run(tmp_path / "results", "wandb")
        assert seconds < TIMEOUT + SLACK
        assert server.runs
    check_record_unaffected(config, tmp_path)
    said = capfd.readouterr().err
    assert "Traceback" not in said
    if fault not in ("garbage", "cut"):  # these answer 200, so that wandb is satisfied if it was done in time
        assert "Use `wandb sync`" in said
    with FakeWandb() as server:  # nothing is lost
        sync(server, tmp_path / "results", "wandb sync --include-online")
        (uploaded,) = server.runs.values()
        assert [row["step"] for row in uploaded["rows"] if "train/loss" in row] == list(range(9, 60, 10))


@pytest.fixture
def connect(monkeypatch, tmp_path):
    """Return a function that lets wandb talk to a server from then on, as a user with a key."""

    def to(server):
        wandb.teardown()  # forgets the previous servers
        monkeypatch.setattr(WandbTracker, "_is_cut_off", False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)

    yield to
    wandb.teardown()


def unset():
    """Return the environment without what wandb has set in this process."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}


def sync(server, folder, words="wandb sync"):
    """Run the command of docs/tracking.md that begins with `words` on a results folder, and return its output."""
    page = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"{words} results/quickstart/wandb", page)
    user = folder / "user"
    (user / "results").mkdir(parents=True, exist_ok=True)
    if not (user / "results" / "quickstart").exists():
        (user / "results" / "quickstart").symlink_to(folder)
    wandb_command = Path(sys.executable).with_name("wandb")
    result = subprocess.run(
        [str(wandb_command), *command.split()[1:]],
        cwd=user,
        env=unset() | server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_a_paused_online_run_is_preempted_and_resumes_as_the_same_run(killed, connect):
    config, folder = killed
    with FakeWandb() as server:
        connect(server)
        mirror(config, folder, range(62), "pause", mode="online")
        (uploaded,) = server.runs.values()
        assert uploaded["preempting"]
        assert uploaded["exit_code"] == 1  # wandb shows a run that ends like this as "preempted"
        mirror(config, folder, range(50, STEPS), "finish", mode="online")
    assert list(server.runs) == [folder.name]
    check_whole(uploaded["rows"])
    assert uploaded["group"] == "adhoc"
    assert uploaded["exit_code"] == 0
    assert uploaded["summary"]["spikes"] == len(SPIKES)


@pytest.mark.slow
def test_offline_runs_of_several_processes_are_synced_by_one_command(killed):
    config, folder = killed
    mirror(config, folder, range(62), "pause")
    mirror(config, folder, range(62, 110), "fail")
    mirror(config, folder, range(100, STEPS), "finish")
    with FakeWandb() as server:
        said = sync(server, folder.parent)
        assert "Finished syncing" in said
        (uploaded,) = server.runs.values()
        check_whole(uploaded["rows"])
        assert uploaded["exit_code"] == 0
        assert uploaded["summary"]["spikes"] == len(SPIKES)
        assert "No runs to sync" in sync(server, folder.parent)


@pytest.mark.parametrize("lost", [0, 30, 1_000_000], ids=["nothing", "half a record", "all"])
def test_what_a_killed_process_left_is_synced_together_with_what_follows(killed, lost):
    config, folder = killed
    mirror(config, folder, range(137), "fail")
    (file,) = folder.parent.glob("wandb/offline-run-*/*.wandb")
    os.truncate(file, max(7, file.stat().st_size - lost))  # a killed process leaves at least the header
    mirror(config, folder, range(100, STEPS), "finish")
    with FakeWandb() as server:
        said = sync(server, folder.parent)
    assert len(server.runs) == 1, said
    (uploaded,) = server.runs.values()
    assert "ERROR" not in said
    if lost < 1000:
        check_whole(uploaded["rows"])
    else:
        assert uploaded["rows"][0]["step"] == 100
    assert uploaded["exit_code"] == 0


@pytest.mark.slow
def test_a_killed_process_has_logged_all_but_the_last_second(killed):
    config, folder = killed
    code = f"""
import os, pathlib, signal, time
from tests.s3bench.run.test_tracking import WandbTracker, rows_of
tracker = WandbTracker(mode="offline", project="p", entity=None, timeout=20)
tracker.start({config!r}, pathlib.Path({str(folder)!r}), first_step=0)
tracker.log_steps(list(rows_of(range(137))))
time.sleep(2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=unset(), check=False).returncode == -9
    assert [row["step"] for row in history(folder.parent) if "train/loss" in row] == list(range(9, 137, 10))
