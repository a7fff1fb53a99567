"""The files of a run: their names, and how they are written. No other code knows them.

    results/<experiment>/<run_id>/
        config.yaml     the resolved config; a folder that has one is a record; its first line is a comment with the
                        names and axes of the run, for code that looks at many runs
        steps.parquet   one row per step: step, loss, lr, grad_norm and, on measured steps, update_rms, update_max,
                        update_above_1 and param_max
        evals.parquet   one row per evaluation: step, loss and the task's metrics
        summary.json    state, steps, versions, ...; written last and atomically: where it exists, the run is over
        error.txt       of a failed run: the cause on the first line, then the traceback
        log.txt         what the run printed, if it printed anything
        before_spike.ONSET.STEP.pt   checkpoints kept from before spikes, if the run was asked to, see run/ring.py

While a run is under way:

        lease.N              the process that trains it, see lease.py; N counts the processes that have done so
        steps.N.jsonl, evals.N.jsonl   the rows of the Nth process; the first line holds the step from which it trained
        checkpoint.STEP.pt   the last two, see s3bench/run/checkpoint.py; .unfit: did not fit the model or optimizer

Rows are only ever appended, by each process to files of its own. Where a later process resumed from an earlier step,
the rows of the processes before it count up to that step.

Records come from anywhere. They are read through `opened` alone, which opens nothing but regular files of a sane size,
and what is in them through `parsed` and `check_plain`. Whatever is wrong with a file is an OSError or a ValueError.
"""

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from s3bench.errors import UserError, one_line
from s3bench.record import identity
from s3bench.record.lease import check_held
from s3bench.record.opening import NUMBER, opened

CONFIG, SUMMARY, ERROR, LOG, LEASE = "config.yaml", "summary.json", "error.txt", "log.txt", "lease"
STEPS, EVALS, ROWS = "steps", "evals", ".jsonl"
KEPT = "before_spike"

MISSING, RUNNING, FINISHED, DIVERGED, FAILED = "missing", "running", "finished", "diverged", "failed"
STATES = (FINISHED, DIVERGED, FAILED, RUNNING, MISSING)
OVER = (FINISHED, DIVERGED)  # the states that have a result

ERROR_LENGTH = 200  # characters of a library's error in a message of one line
CAUSE_LENGTH = 2000  # characters of the cause of a failed run that are read
ROW_FILE = re.compile(rf"({STEPS}|{EVALS})\.{NUMBER}\{ROWS}")
UNDER_WAY = rf"{LEASE}\.{NUMBER}|{ROW_FILE.pattern}|checkpoint\..*"  # files of a run that is not over
ONLY_UNDER_WAY = re.compile(rf"{ERROR}|{UNDER_WAY}|\..*\.draft")
OURS = re.compile(rf"{CONFIG}|{SUMMARY}|{ERROR}|{LOG}|{UNDER_WAY}|({STEPS}|{EVALS})\.parquet|{KEPT}\..*")


def folder_of(config: dict[str, Any]) -> Path:
    """Return the folder of a run's record, whether it exists or not."""
    return Path(config["results_dir"], config["run_id"])


def refuse_other_version(results_dirs: Iterable[Path]) -> None:
    """Raise UserError if a results folder has a record of another version of s3bench, as its name shows."""
    for results_dir in results_dirs:
        for name in folder_names(results_dir):
            if identity.WITHOUT_CODE.fullmatch(name) and os.path.lexists(results_dir / name / CONFIG):
                raise other_version(results_dir / name)


def other_version(folder: Path) -> UserError:
    """Return the error for a record of another version of s3bench."""
    return UserError(
        f"the record {folder} was made by another version of s3bench and cannot be used beside new ones; "
        "sweep into another results_dir, or move it away"
    )


def lease_place(folder: Path) -> Path:
    """Return the path of the leases on a record without their number, as lease.py wants it."""
    return folder / LEASE


def size(folder: Path) -> int:
    """Return how many bytes a record's files have in all."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def folder_names(results_dir: Path) -> list[str]:
    """Return the names of the folders in a results folder; none if it does not exist."""
    try:
        with os.scandir(results_dir) as entries:
            return [entry.name for entry in entries if _is(entry.is_dir)]
    except FileNotFoundError:
        return []


def _is(kind: Callable[[], bool]) -> bool:
    """Return whether an entry of a folder is of a kind; a link that leads in a circle is of none."""
    try:
        return kind()
    except OSError:
        return False


def refuse_other_kinds(folder: Path) -> None:
    """Raise UserError if something that is no regular file has the name of a file of a record."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if OURS.fullmatch(entry.name) and not _is(entry.is_file):
                try:
                    opened(Path(entry.path)).close()
                except FileNotFoundError:  # it has gone meanwhile, or is a link to nothing
                    if entry.is_symlink():
                        raise damaged_record(folder, entry.name, OSError("it is a link to nothing")) from None
                except OSError as error:
                    raise damaged_record(folder, entry.name, error) from error


def rows_file(folder: Path, name: str, number: int) -> Path:
    """Return the file of the rows of one table that the process of that number writes."""
    return folder / f"{name}.{number}{ROWS}"


def row_files(folder: Path) -> list[Path]:
    """Return the files of rows of a run under way, those of one table in the order of the processes that wrote them."""
    found = (ROW_FILE.fullmatch(file.name) for file in folder.glob(f"*{ROWS}"))
    kept = sorted((match[1], int(match[2])) for match in found if match)
    return [rows_file(folder, name, number) for name, number in kept]


def last_number(folder: Path) -> int:
    """Return the highest number of a process that has written rows; -1 if there is none."""
    return max((int(file.name.split(".")[1]) for file in row_files(folder)), default=-1)


def damaged_record(folder: Path, name: str, error: Exception) -> UserError:
    """Return the error for a record one of whose files cannot be read."""
    what = one_line(error)[:ERROR_LENGTH]
    return UserError(f"the record {folder} is damaged, in {name} ({what}); delete that folder and sweep again")


def first_line(file: Path) -> str:
    """Return the first line of a text file, as much of it as a cause may be long. Raises OSError as `opened`."""
    with opened(file) as content:
        return content.readline(CAUSE_LENGTH).decode(errors="replace").removesuffix("\n")


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at the end of the block, whole and on the disk, or not at all.

    Raises Busy, and the file does not appear, if this process was asleep and another has taken its record over.
    """
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.draft")
    try:
        with draft.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        check_held(lease_place(file.parent))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def drafts(folder: Path) -> list[Path]:
    """Return what processes that were killed have left of files that they wrote."""
    return list(folder.glob(".*.draft"))


def only_under_way(folder: Path) -> list[Path]:
    """Return the files in a record that it has no longer once its run is over; an empty log is one of them."""
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path) for entry in entries if ONLY_UNDER_WAY.fullmatch(entry.name) or _is_empty_log(entry)
            ]
    except FileNotFoundError:
        return []


def _is_empty_log(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.name == LOG and not entry.stat().st_size
    except OSError:
        return False


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(file) as out:
        out.write(text.encode())
