"""How far a run is: its state, and the rows that it has written so far."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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
    refuse_other_kinds,
    row_files,
)
from s3bench.record.opening import check_plain, opened, parsed, read_text

LONGEST_ROW = 2**16  # bytes of a row, at most
LARGEST_STEP = 2**53
LONGEST_TIME = 1e12  # seconds
SHOWN = 60  # characters of a damaged line that a message quotes
NUMBER = int | float
KINDS: dict[str, Any] = {"seconds": NUMBER, "train_seconds": NUMBER, "parameters": int, "spikes": int}
KINDS |= {
    "fingerprint": str,
    "device": str,
    "commit": str,
    "versions": dict,
    "resumed": list,
}  # where they are not null
UNKNOWN: dict[str, Any] = {"device": "unknown", "commit": None, "versions": {}}  # what a summary without them says


@dataclass(frozen=True)
class Progress:
    """How far a run under way is."""

    steps: int = 0  # steps written
    first_step: int = 0  # the step from which its last process trained
    began: float | None = None  # when that process began, in seconds since the epoch


def has_rows(folder: Path, step: int, evals: int | None) -> bool:
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
        return (folder / ERROR).lstat().st_mtime_ns
    except FileNotFoundError:
        return None


def state(folder: Path) -> str:
    """Return the state of a record, one of STATES; missing also if there is no record.

    Raises:
        UserError: summary.json is damaged, or something that is no file has the name of a file of the record.
    """
    if not has_result(folder):
        refuse_other_kinds(folder)
        if lease.is_held(lease_place(folder)):
            return RUNNING
    if has_result(folder):  # asked again: it may have been written in between
        return str(read_summary(folder)["state"])
    return FAILED if (folder / ERROR).exists() else MISSING


def has_result(folder: Path) -> bool:
    """Tell whether a run is over, finished or diverged."""
    return os.path.lexists(folder / SUMMARY)


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
        with opened(files[-1]) as file:
            start = _checked_start(file.readline(LONGEST_ROW))
            file.seek(max(0, files[-1].stat().st_size - LONGEST_ROW))
            lines = file.read(LONGEST_ROW).split(b"\n")[:-1]
        steps = _checked_row(lines[-1])["step"] + 1 if lines and b'"step"' in lines[-1] else start["from"]
        return Progress(steps=steps, first_step=start["from"], began=start["began"])
    except (OSError, ValueError):
        return Progress()


def resumed(folder: Path) -> list[int]:
    """Return the steps from which later processes resumed a run under way, as far as their rows still count."""
    starts: list[int] = []
    for file in row_files(folder):
        if file.name.startswith(f"{STEPS}."):
            try:
                with opened(file) as lines:
                    start = _checked_start(lines.readline(LONGEST_ROW))["from"]
            except (OSError, ValueError):
                continue
            starts = [*(step for step in starts if step < start), start]
    return [step for step in starts if step > 0]


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of summary.json, without what is null there; what is not known is UNKNOWN.

    Raises:
        UserError: it is damaged, or does not exist.
    """
    try:
        summary = parsed(read_text(folder / SUMMARY))
        check_plain(summary)
        if summary["state"] not in OVER or not _is_step(summary["steps"]):
            raise ValueError(f"state {summary['state']!r}, steps {summary['steps']!r}")
        if not {f"{name}.parquet" for name in (STEPS, EVALS)} <= set(summary["crc32"]):
            raise ValueError("a table has no CRC-32")
        for key, kind in KINDS.items():
            if not isinstance(summary.get(key), kind | None):
                raise ValueError(f"{key} {summary[key]!r}")
        for key in ("seconds", "train_seconds"):
            if not 0 <= (summary.get(key) or 0) < LONGEST_TIME:
                raise ValueError(f"{key} {summary[key]!r}")
        for name, version in (summary.get("versions") or {}).items():
            if not isinstance(version, str):
                raise ValueError(f"the version of {name} is {version!r}")
        for resumed in summary.get("resumed") or ():
            if not (_is_step(resumed["step"]) and isinstance(resumed["exact"], bool)):
                raise ValueError(f"resumed {resumed!r}")
        return UNKNOWN | {key: value for key, value in summary.items() if value is not None}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise damaged_record(folder, SUMMARY, error) from error


def read_rows(folder: Path, name: str, end: float = math.inf) -> list[dict[str, Any]]:
    """Return the rows of a run under way that count, of steps before `end`.

    The last line of a file is left out unless it is complete: a killed process may leave half of one. A file is not
    read if none of its rows count, as where a later process began anew because it is damaged.

    Raises:
        ValueError: a line is damaged; the message names the file.
        OSError: a file cannot be read.
    """
    parts: list[list[dict[str, Any]]] = []
    for file in reversed(row_files(folder)):
        if file.name.startswith(f"{name}.") and end > 0:
            try:
                with opened(file) as content:
                    lines = _whole_lines(content)
                    first = next(lines, None)
                    if first is None:
                        continue
                    start = _checked_start(first)["from"]
                    rows = map(_checked_row, lines)
                    parts.append([row for row in rows if row["step"] < end])
                    end = min(end, start)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from error
    return [row for part in reversed(parts) for row in part]


def _whole_lines(content: BinaryIO) -> Iterator[bytes]:
    """Yield the complete lines of a file of rows. Raises ValueError for one that is longer than any row."""
    while line := content.readline(LONGEST_ROW):
        if line.endswith(b"\n"):
            yield line
        elif len(line) == LONGEST_ROW:
            raise ValueError(f"a line has more than {LONGEST_ROW:,} bytes")


def _checked_start(line: bytes) -> dict[str, Any]:
    """Return the first line of a file of rows. Raises ValueError if it is damaged."""
    start: dict[str, Any] = parsed(line)
    known = isinstance(start, dict) and _is_step(start.get("from")) and _is_number(start.get("began"))
    if not (known and 0 <= start["began"] < LONGEST_TIME):
        raise ValueError(f"{str(start)[:SHOWN]} says not from which step on, and when")
    return start


def _checked_row(line: bytes) -> dict[str, Any]:
    """Return a row. Raises ValueError if it is damaged: it must hold numbers alone, a step and a loss among them."""
    row: dict[str, Any] = parsed(line)
    known = isinstance(row, dict) and _is_step(row.get("step")) and "loss" in row
    if not (known and all(map(_is_number, row.values()))):
        raise ValueError(f"{str(row)[:SHOWN]} is not a row of numbers")
    return row


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_STEP


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
