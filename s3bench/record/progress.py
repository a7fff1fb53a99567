"""Tells how far a run is: its state, and the rows that it has written so far."""

import json
import math
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


def has_rows(folder: Path, step: int, evals: int) -> bool:
    """Whether the rows of all steps before `step`, and of that many evaluations, are there to go on from."""
    steps, evaluations = rows_before(folder, step)
    return [row.get("step") for row in steps] == list(range(step)) and len(evaluations) == evals


def rows_before(folder: Path, step: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of steps and evaluations of a run under way that lie before a step; none where they are damaged."""
    try:
        steps, evals = (read_rows(folder, name, step) for name in (STEPS, EVALS))
        return steps, evals
    except (ValueError, OSError):
        return [], []


def failed_at(folder: Path) -> int | None:
    """What tells one failure of a run from the next; None if it has none."""
    try:
        return (folder / ERROR).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def state(folder: Path) -> str:
    """The state of a record; missing also where there is none."""
    if not (folder / SUMMARY).exists() and lease.is_held(lease_place(folder)):
        return RUNNING
    if (folder / SUMMARY).exists():  # perhaps only now
        return str(read_summary(folder)["state"])
    return FAILED if (folder / ERROR).exists() else MISSING


def has_result(folder: Path) -> bool:
    """Whether the run is over, finished or diverged."""
    return (folder / SUMMARY).exists()


def outcome(folder: Path) -> str:
    """The state of a record and, of a failed run, the cause, on one line."""
    now = state(folder)
    return f"{now}: {first_line(folder / ERROR)}" if now == FAILED else now


def steps_so_far(folder: Path) -> int:
    """How many steps of a run under way are written."""
    return progress(folder)[0]


def progress(folder: Path) -> tuple[int, int, float | None]:
    """Of a run under way: the steps written, from which its last process went on, and when that began (in s)."""
    files = [file for file in row_files(folder) if file.name.startswith(f"{STEPS}.")]
    if not files:
        return 0, 0, None
    try:
        with files[-1].open("rb") as file:
            start = json.loads(file.readline())
            file.seek(max(0, files[-1].stat().st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
        last = json.loads(lines[-1]) if lines else start
        return (last["step"] + 1 if "step" in last else start["from"]), start["from"], start["began"]
    except (OSError, ValueError, TypeError, KeyError):
        return 0, 0, None


def resumed(folder: Path) -> list[int]:
    """The steps at which a later process went on with a run under way, and which still count."""
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
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if summary["state"] not in OVER or not isinstance(summary["steps"], int):
            raise ValueError(f"state {summary['state']!r}, steps {summary['steps']!r}")
        if not {f"{name}.parquet" for name in (STEPS, EVALS)} <= set(summary["crc32"]):
            raise ValueError("a file without its CRC-32")
        return dict(summary)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise damaged_record(folder, SUMMARY, error) from error


def read_rows(folder: Path, name: str, end: float = math.inf) -> list[dict[str, Any]]:
    """The rows of a run under way that count, of steps before `end`; a killed run may leave half a row in a file."""
    rows: list[dict[str, Any]] = []
    for file in row_files(folder):
        if file.name.startswith(f"{name}."):
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
            if lines:
                rows = [row for row in rows if row["step"] < lines[0]["from"]] + lines[1:]
    return [row for row in rows if row["step"] < end]
