"""Tests s3bench clean: what it lists, what it leaves alone, and that it asks."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3bench import record
from s3bench.record import lease
from s3bench.record.cleaning import leftovers
from tests.command_line import SCRIPT
from tests.records import make

HOLD = """\
import sys, time
from pathlib import Path
from s3bench import record
with record.leased(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


@contextlib.contextmanager
def held(folder):
    """Have a process hold the lease on a record; kill it at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def failed(tmp_path):
    """Return a failed run with two checkpoints beside a finished one, in the results folder r."""
    make(tmp_path / "r")
    folder = make(tmp_path / "r", seed=1)
    (folder / "summary.json").unlink()
    for name in ("checkpoint.000000000010.pt", "checkpoint.000000000020.unfit"):
        (folder / name).write_bytes(b"x" * 1500)
    record.write_error(folder, "out of memory")
    return folder


def test_the_checkpoints_of_a_failed_run_are_removed_and_nothing_else(s3bench, failed, tmp_path):
    before = set(tmp_path.rglob("*"))
    listed = s3bench("clean", "r")
    assert listed.returncode == 0
    assert f"the checkpoints of r/{failed.name}, which failed" in listed.stdout
    assert "(3.0 kB)" in listed.stdout
    assert "nothing was removed; s3bench clean --yes removes all of it" in listed.stdout
    assert set(tmp_path.rglob("*")) == before
    assert "removed 1 of 1, 3.0 kB" in s3bench("clean", "r", "--yes").stdout
    assert {file.name for file in before - set(tmp_path.rglob("*"))} == {
        "checkpoint.000000000010.pt",
        "checkpoint.000000000020.unfit",
    }
    assert record.state(failed) == record.FAILED
    assert "nothing to remove" in s3bench("clean", "r").stdout


def test_a_run_that_a_process_trains_again_is_left_alone(s3bench, failed):
    with held(failed) as process:
        assert "nothing to remove" in s3bench("clean", "r", "--yes").stdout
        assert len(list(failed.glob("checkpoint.*"))) == 2
    said = s3bench("clean", "r", "--yes").stdout
    assert f"the lease on r/{failed.name}, whose owner is dead (process {process.pid} on " in said
    assert "removed 2 of 2" in said
    assert not list(failed.glob("lease.*"))
    assert not list(failed.glob("checkpoint.*"))


def test_a_run_that_begins_after_the_list_is_kept(failed):
    (leftover,) = leftovers(failed.parent)
    with held(failed), pytest.raises(record.Busy):
        leftover.remove()
    assert len(list(failed.glob("checkpoint.*"))) == 2


def test_a_lease_of_another_machine_is_removed_once_its_heartbeat_has_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "DEAD_AFTER", 0.5)
    monkeypatch.setattr(lease, "BEAT", 0.1)
    silent, beating = make(tmp_path, seed=1), make(tmp_path, seed=2)
    elsewhere = {"host": "node7", "where": "boot elsewhere", "pid": 7, "started": 1.0}
    for folder in (silent, beating):
        (folder / "lease.3").write_text(json.dumps({**elsewhere, "beats": "0"}))
    beat = f"import time; time.sleep(0.3); open({str(beating / 'lease.3')!r}, 'w').write({json.dumps(elsewhere)!r})"
    with subprocess.Popen([sys.executable, "-c", beat]):
        (found,) = leftovers(tmp_path)
    assert str(silent) in found.what
    assert "process 7 on node7" in found.what
    found.remove()
    assert not list(silent.glob("lease.*"))
    assert list(beating.glob("lease.*"))


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2), (b"\x04", 2)])
def test_in_a_terminal_it_asks(failed, tmp_path, answer, left):
    ours, theirs = os.openpty()
    with subprocess.Popen([SCRIPT, "clean", "r"], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        until = time.monotonic() + 120
        while b"[y/N]" not in said and time.monotonic() < until:
            said += os.read(ours, 1000)
        os.write(ours, answer)
        assert process.wait(120) == 0, said
    os.close(ours)
    assert len(list(failed.glob("checkpoint.*"))) == left


def test_a_folder_that_has_no_records_is_one_line(s3bench, tmp_path):
    Path(tmp_path, "empty").mkdir()
    for folder in ("empty", "nowhere"):
        result = s3bench("clean", folder, "--yes")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
