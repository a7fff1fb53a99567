"""The files of a run: the only code that knows their names, how they are written, and how they are read back.

    results/<experiment>/<run_id>/
        config.yaml     the resolved config; its presence makes the folder a record; its first line is a comment with
                        the names and axes of the run, for those who look at many
        steps.parquet   one row per step: step, loss, lr, grad_norm and, on measured steps, update_rms, update_max,
                        update_above_1 and param_max
        evals.parquet   one row per evaluation: step, loss and the task's metrics
        summary.json    state, steps, versions, ...; written last and atomically: where it is, the run is over
        error.txt       of a failed run: the cause on the first line, then the traceback
        log.txt         what the run printed, if it printed anything

While a run is under way:

        lease.N              who trains it, see lease.py; N counts the processes that have
        steps.N.jsonl, evals.N.jsonl   the rows of the Nth process; the first line says from which step it went on
        checkpoint.STEP.pt   the last two, see checkpoint.py; .unfit those that did not fit the model or optimizer

Rows are only ever appended, each process to files of its own: rows from the step on at which a later process went on
do not count.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s3bench.errors import UserError
from s3bench.record import identity

CONFIG, SUMMARY, ERROR, LOG, LEASE = "config.yaml", "summary.json", "error.txt", "log.txt", "lease"
STEPS, EVALS, ROWS = "steps", "evals", ".jsonl"

MISSING, RUNNING, FINISHED, DIVERGED, FAILED = "missing", "running", "finished", "diverged", "failed"
STATES = (FINISHED, DIVERGED, FAILED, RUNNING, MISSING)
OVER = (FINISHED, DIVERGED)  # states with a result


def folder_of(config: dict[str, Any]) -> Path:
    """Where the record of a run is, or would be."""
    return Path(config["results_dir"], config["run_id"])


def refuse_other_version(places: Iterable[Path]) -> None:
    """Raise UserError if a results folder has a record of another version of s3bench, to be seen by its name."""
    for place in places:
        for name in folder_names(place):
            if identity.WITHOUT_CODE.fullmatch(name) and (place / name / CONFIG).exists():
                raise other_version(place / name)


def other_version(folder: Path) -> UserError:
    return UserError(
        f"the record {folder} is of another version of s3bench and cannot stand beside new ones; "
        "sweep into another results_dir, or move it away"
    )


def lease_place(folder: Path) -> Path:
    """Where the leases on a record lie, for lease.py."""
    return folder / LEASE


def size(folder: Path) -> int:
    """The bytes of a record's files."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def folder_names(place: Path) -> list[str]:
    try:
        with os.scandir(place) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []


def rows_file(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.{number}{ROWS}"


def row_files(folder: Path) -> list[Path]:
    """The files of rows of a run under way, those of one table in the order of the processes that wrote them."""
    parts = (file.name.split(".") for file in folder.glob(f"*{ROWS}"))
    kept = sorted((name, int(number)) for name, number, *_ in parts if name in (STEPS, EVALS) and number.isdigit())
    return [rows_file(folder, name, number) for name, number in kept]


def last_number(folder: Path) -> int:
    """The highest number of a process that has written rows; -1 if there is none."""
    return max((int(file.name.split(".")[1]) for file in row_files(folder)), default=-1)


def damaged_record(folder: Path, name: str, error: Exception) -> UserError:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(f"the record {folder} is damaged, in {name} ({what}); delete that folder and sweep again")


def first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]


def write_whole(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = draft_of(file)
    try:
        with draft.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.{uuid.uuid4().hex}.draft")
