"""How far a run is: its state, and the rows that it has written so far."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3bench.record import lease
from s3bench.record.files import (
    ERROR,
    EVALS,
    FAILED,
    MISSING,
    OVER,
    RUNNING,
    STEPS,
    SUMMARY,
    damaged_record,
    first_line,
    lease_place,
    row_files,
)

LONGEST_ROW = 4096  # bytes of a row of steps, at most


@dataclass(frozen=True)
class Progress:
    """How far a run under way is."""

    steps: int = 0  # steps written
    first_step: int = 0  # the step from which its last process trained
    began: float | None = None  # when that process began, in seconds since the epoch


def has_rows(folder: Path, step: int, evals: int) -> bool:
    """Tell whether the rows of all steps before `step` and of `evals` evaluations exist, so that a run can resume."""
    steps, evaluations = rows_before(folder, step)
    return [row.get("step") for row in steps] == list(range(step)) and len(evaluations) == evals


def rows_before(folder: Path, step: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of a run under way before a step, those of steps and those of evaluations.

    Both are empty if the files are damaged.
    """
    try:
        steps, evals = (read_rows(folder, name, step) for name in (STEPS, EVALS))
        return steps, evals
    except (ValueError, OSError):
        return [], []


def failed_at(folder: Path) -> int | None:
    """Return a number that tells one failure of a run from the next; None if the run has not failed."""
    try:
        return (folder / ERROR).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def state(folder: Path) -> str:
    """Return the state of a record, one of STATES; missing also if there is no record.

    Raises:
        UserError: summary.json is damaged.
    """
    if not (folder / SUMMARY).exists() and lease.is_held(lease_place(folder)):
        return RUNNING
    if (folder / SUMMARY).exists():  # asked again: it may have been written in between
        return str(read_summary(folder)["state"])
    return FAILED if (folder / ERROR).exists() else MISSING


def has_result(folder: Path) -> bool:
    """Tell whether a run is over, finished or diverged."""
    return (folder / SUMMARY).exists()


def outcome(folder: Path) -> str:
    """Return the state of a record on one line, with the cause if it failed.

    Raises:
        UserError: summary.json is damaged.
    """
    reached = state(folder)
    return f"{reached}: {first_line(folder / ERROR)}" if reached == FAILED else reached


def steps_so_far(folder: Path) -> int:
    """Return how many steps of a run under way are written."""
    return read_progress(folder).steps


def read_progress(folder: Path) -> Progress:
    """Return how far a run under way is, from the beginning and the end of its newest file of steps."""
    files = [file for file in row_files(folder) if file.name.startswith(f"{STEPS}.")]
    if not files:
        return Progress()
    try:
        with files[-1].open("rb") as file:
            start = json.loads(file.readline())
            file.seek(max(0, files[-1].stat().st_size - LONGEST_ROW))
            lines = file.read().split(b"\n")[:-1]
        last = json.loads(lines[-1]) if lines else start
        steps = last["step"] + 1 if "step" in last else start["from"]
        return Progress(steps=steps, first_step=start["from"], began=start["began"])
    except (OSError, ValueError, TypeError, KeyError):
        return Progress()


def resumed(folder: Path) -> list[int]:
    """Return the steps from which later processes resumed a run under way, as far as their rows still count."""
    starts: list[int] = []
    for file in row_files(folder):
        if file.name.startswith(f"{STEPS}."):
            try:
                with file.open("rb") as lines:
                    start = json.loads(lines.readline())["from"]
            except (ValueError, KeyError, TypeError):
                continue
            starts = [*(step for step in starts if step < start), start]
    return [step for step in starts if step > 0]


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of summary.json.

    Raises:
        UserError: it is damaged, or does not exist.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if summary["state"] not in OVER or not isinstance(summary["steps"], int):
            raise ValueError(f"state {summary['state']!r}, steps {summary['steps']!r}")
        if not {f"{name}.parquet" for name in (STEPS, EVALS)} <= set(summary["crc32"]):
            raise ValueError("a table has no CRC-32")
        return dict(summary)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise damaged_record(folder, SUMMARY, error) from error


def read_rows(folder: Path, name: str, end: float = math.inf) -> list[dict[str, Any]]:
    """Return the rows of a run under way that count, of steps before `end`.

    The last line of a file is left out unless it is complete: a killed process may leave half of one.

    Raises:
        ValueError, KeyError: a line is damaged.
        OSError: a file cannot be read.
    """
    rows: list[dict[str, Any]] = []
    for file in row_files(folder):
        if file.name.startswith(f"{name}."):
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
            if lines:
                rows = [row for row in rows if row["step"] < lines[0]["from"]] + lines[1:]
    return [row for row in rows if row["step"] < end]
