"""A report's folder appears whole or not at all, and what killed processes leave of theirs goes away."""

import os
import signal
import subprocess
import sys

import pytest

from s3bench.report.draft import draft_of
from tests.conftest import ROOT

WRITER = """\
import sys
from pathlib import Path
from s3bench.report.draft import draft_of
with draft_of(Path("report")) as draft:
    (draft / "page").write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def start(folder):
    """Start a process that has begun to write a report, and ends when it reads a line."""
    command = [sys.executable, "-c", WRITER]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
    assert process.stdout.readline() == "writing\n"
    return process


def write(folder, text):
    with draft_of(folder / "report") as draft:
        (draft / "page").write_text(text)


def content(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_a_draft_takes_the_place_of_what_was_there(tmp_path):
    write(tmp_path, "one")
    (tmp_path / "report" / "old").touch()
    write(tmp_path, "two")
    assert content(tmp_path) == {"report/page": "two"}
    assert [file.name for file in tmp_path.iterdir()] == ["report"]


def test_a_draft_that_fails_leaves_what_was_there(tmp_path):
    write(tmp_path, "one")
    with pytest.raises(OSError, match="full"), draft_of(tmp_path / "report"):
        raise OSError("full")
    assert content(tmp_path) == {"report/page": "one"}


def test_what_is_no_folder_is_not_replaced(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(NotADirectoryError):
        write(tmp_path, "one")
    assert content(tmp_path) == {"report": "mine"}


def test_the_draft_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_not(tmp_path):
    killed, living = start(tmp_path), start(tmp_path)
    assert len(list(tmp_path.glob(".report-*"))) == 2
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    write(tmp_path, "one")
    assert len(list(tmp_path.glob(".report-*"))) == 1
    assert (tmp_path / "report" / "page").read_text() == "one"
    living.communicate("\n", timeout=60)
    assert living.returncode == 0
    assert content(tmp_path) == {"report/page": "half"}
    assert [file.name for file in tmp_path.iterdir()] == ["report"]


def test_where_a_file_system_has_no_locks_drafts_are_left_and_a_report_is_written(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    (tmp_path / ".report-left").mkdir()
    monkeypatch.setattr("fcntl.flock", refuse)
    write(tmp_path, "one")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".report-left", "report"]
