"""Thousands of wrong command lines: each is answered with one line that says what is wrong, and writes nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from s3bench.run.build import build_parts, find_device
from s3bench.run.distributed import ALONE
from s3bench.run.learner import check_rows
from tests.command_line import in_this_process
from tests.records import make
from tests.s3bench.odd_lines import odd_line
from tests.s3bench.record.broken import in_time

FEW, CHUNK, ALL = 150, 50, 2_000  # lines
LONGEST, COMPOSES = 5.0, 30.0  # seconds that a line may take; a right replay or decide composes dozens of configs
MESSAGE = 4_200  # characters of a message
BUILT = 3  # runs of a grid that are built


class Right(BaseException):
    """A line is right: it would train or wait now."""


def _stop(*_: object, **__: object) -> None:
    raise Right


class Builder:
    """Builds what a sweep's workers would, in this process."""

    def __init__(self, configs):
        for config in configs[:BUILT]:
            find_device(config.device)
            check_rows(build_parts(config).task, config.names.task, ALONE, config.accumulate)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a results folder and files that are none."""
    folder = tmp_path_factory.mktemp("lines")
    for optimizer in ("s3", "adamw"):
        make(folder / "r", optimizer, spikes=(60,) if optimizer == "s3" else ())
        make(folder / "r", optimizer, multiplier=0.1)
    losses = np.linspace(3, 2, 200)
    (folder / "curve.csv").write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in enumerate(losses)))
    (folder / "text.txt").write_text("no curve\nat all\n")
    (folder / "config.yaml").write_text("a: [")
    (folder / "folder").mkdir()
    (folder / "empty").touch()
    return folder


@pytest.fixture
def stopped(monkeypatch, undrawn):  # noqa: ARG001
    """Commands that stop where they would train, watch or write a record."""
    monkeypatch.setattr("s3bench.record.plan", _stop)
    monkeypatch.setattr("s3bench.record.plan_all", _stop)
    monkeypatch.setattr("s3bench.report.status.watch", _stop)
    monkeypatch.setattr("s3bench.run.sweep.sweep.Workers", Builder)
    monkeypatch.setattr("s3bench.run.replay.replay.Workers", Builder)
    monkeypatch.setattr("s3bench.run.replay.replay._train", _stop)


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def answer(place: Path, line: list[str]) -> None:
    """A line is right, or its answer is one line on stderr, and nothing is written."""
    before = files_below(place)
    try:
        with in_time(COMPOSES if line[:1] in (["replay"], ["decide"]) else LONGEST):
            done = in_this_process(place, *line)
    except Right:
        return
    finally:
        new = files_below(place) - before
        for name in new:
            path = place / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert all(char.isprintable() or char in "\n\t" for char in done.stdout + done.stderr), (done.stdout, done.stderr)
    if done.returncode:
        said = done.stderr.splitlines()
        assert all(text.startswith("s3bench: ") for text in said), done.stderr
        assert 1 <= len(said) <= (len(line) if line[:1] == ["spikes"] else 1), (
            done.stderr
        )  # of several files a line each
        assert len(done.stderr) < MESSAGE, len(done.stderr)
        assert not new


def check(place: Path, numbers: range) -> None:
    for number in numbers:
        line = odd_line(number)
        try:
            answer(place, line)
        except BaseException as error:
            error.add_note(f"line {number}: {[word[:200] for word in line]}")
            raise


@pytest.mark.usefixtures("stopped")
def test_a_wrong_command_line_is_answered_with_one_line(place):
    check(place, range(FEW))


@pytest.mark.slow
@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("first", range(FEW, ALL, CHUNK))
def test_each_of_two_thousand_wrong_command_lines_is_answered_with_one_line(place, first):
    check(place, range(first, first + CHUNK))
