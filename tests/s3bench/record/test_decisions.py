"""Tests the log of decisions: nothing is lost, and a line that a kill left unfinished is not read."""

import subprocess
import sys

import pytest

from s3bench.errors import UserError
from s3bench.record import decisions


def test_entries_come_back_in_order(tmp_path):
    for seed in range(3):
        decisions.append(tmp_path, decisions.BLOCK, seed=seed, why="β")
    assert [entry["seed"] for entry in decisions.read(tmp_path)] == [0, 1, 2]
    assert decisions.read(tmp_path / "elsewhere") == []


def test_an_unfinished_line_is_left_out_and_overwritten(tmp_path):
    decisions.append(tmp_path, decisions.BLOCK, seed=0)
    with (tmp_path / decisions.FILE).open("a") as file:
        file.write('{"event": "block", "se')
    assert len(decisions.read(tmp_path)) == 1
    decisions.append(tmp_path, decisions.BLOCK, seed=1)
    assert [entry["seed"] for entry in decisions.read(tmp_path)] == [0, 1]


@pytest.mark.parametrize("line", ["null", "[1]", "{}", '{"event": 3}', "no JSON", "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    decisions.append(tmp_path, decisions.BLOCK, seed=0)
    with (tmp_path / decisions.FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"decisions.jsonl is damaged in line 2"):
        decisions.read(tmp_path)


def test_one_process_at_a_time_decides(tmp_path):
    hold = (
        "from pathlib import Path; from s3bench.record import decisions\n"
        f"with decisions.held(Path({str(tmp_path)!r})): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another s3bench decide is at work"), decisions.held(tmp_path):
            pass
        other.kill()
    with decisions.held(tmp_path):
        pass  # a dead process holds nothing
