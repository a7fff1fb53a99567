"""Writes records: plans them, appends rows while a run trains, and closes them when it ends."""

import io
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from s3bench.errors import UserError
from s3bench.record.config_file import config_text
from s3bench.record.files import (
    CONFIG,
    ERROR,
    EVALS,
    KEPT,
    LEASE,
    LOG,
    STEPS,
    SUMMARY,
    drafts,
    folder_of,
    last_number,
    lease_place,
    only_under_way,
    refuse_other_kinds,
    rows_file,
    whole,
    write_text,
)
from s3bench.record.lease import Busy, Lease
from s3bench.record.progress import has_result, read_rows

PLANNED_AT_ONCE = 16  # records


def plan(config: dict[str, Any]) -> Path:
    """Create the record of a run with its config unless it exists, so that the run counts as missing from now on.

    Returns:
        The folder of the record.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = folder_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            write_text(folder / CONFIG, config_text(config))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def plan_all(configs: Sequence[dict[str, Any]]) -> list[Path]:
    """Call `plan` for many runs; the disk writes several records at once faster than one after the other."""
    with ThreadPoolExecutor(PLANNED_AT_ONCE) as pool:
        return list(pool.map(plan, configs))


@contextmanager
def leased(folder: Path, dead: int | None = None) -> Iterator[Lease]:
    """Hold the lease on a record in the block.

    Args:
        folder: the record.
        dead: the number of a lease whose owner has died.

    Raises:
        Busy: another process holds the lease.
        UserError: something that is no file has the name of a file of the record.
    """
    refuse_other_kinds(folder)
    held = Lease(lease_place(folder), 1 + last_number(folder), dead)
    try:
        yield held
    finally:
        held.release()


class Writer:
    """Writes one record, for the process that holds its lease: the rows as they come, everything else at the end.

    Args:
        folder: the record.
        config: the resolved config of the run.
        number: the number of the lease.
        first_step: the step from which this process trains; the rows before it must exist already.

    Raises:
        Busy: another process has written rows under this number.
    """

    def __init__(self, folder: Path, config: dict[str, Any], number: int = 0, first_step: int = 0) -> None:
        self.folder = folder
        write_text(folder / CONFIG, config_text(config))
        _remove_outcome(folder)
        try:
            self._files = {n: rows_file(folder, n, number).open("x", encoding="utf-8") for n in (STEPS, EVALS)}
        except FileExistsError as error:
            raise Busy(folder) from error
        for name in self._files:
            self._append(name, [{"from": first_step, "began": time.time()}])

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add_steps(self, rows: list[dict[str, Any]]) -> None:
        """Append rows of steps.parquet."""
        self._append(STEPS, rows)

    def add_eval(self, row: dict[str, Any]) -> None:
        """Append a row of evals.parquet."""
        self._append(EVALS, [row])

    def sync(self) -> None:
        """Make sure that the rows so far are on the disk, and outlast the machine."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the record of a run that has finished or diverged."""
        for file in self._files.values():
            file.close()
        steps, evals = (_by_column(read_rows(self.folder, name)) for name in (STEPS, EVALS))
        write_result(self.folder, steps, evals, summary)
        (self.folder / ERROR).unlink(missing_ok=True)  # another process may have failed at this run meanwhile
        _remove([file for file in only_under_way(self.folder) if not file.name.startswith((LEASE, LOG))])

    def fail(self, cause: str, traceback: str) -> None:
        """Close the record of a failed run; its rows so far are kept."""
        write_error(self.folder, cause, traceback)
        for draft in drafts(self.folder):
            draft.unlink(missing_ok=True)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        file = self._files[name]
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()


def _remove_outcome(folder: Path) -> None:
    """Remove what an earlier try of a run left: its result or its error, but not its rows and checkpoints."""
    for name in (SUMMARY, ERROR, f"{STEPS}.parquet", f"{EVALS}.parquet"):
        (folder / name).unlink(missing_ok=True)


def write_checkpoint(folder: Path, step: int, write: Callable[[BinaryIO], None]) -> None:
    """Write the checkpoint before a step, whole or not at all, and keep only the one before it beside it.

    Args:
        folder: the record.
        step: the step from which a run resumes with this checkpoint.
        write: writes the checkpoint to an open file.
    """
    with whole(folder / f"checkpoint.{step:012d}.pt") as out:
        write(out)
    for old in checkpoints(folder)[2:]:
        old.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    named = [file for file in folder.glob("checkpoint.*.pt") if file.name.split(".")[1].isdecimal()]
    return sorted(named, reverse=True)


def write_kept(folder: Path, onset: int, step: int, write: Callable[[BinaryIO], None]) -> None:
    """Write a checkpoint from before a spike, whole or not at all; it is kept when the run is over.

    Args:
        folder: the record.
        onset: the step at which the spike begins.
        step: the step that the state precedes.
        write: writes the checkpoint to an open file.
    """
    with whole(folder / f"{KEPT}.{onset:012d}.{step:012d}.pt") as out:
        write(out)


def kept(folder: Path) -> dict[int, Path]:
    """Return the checkpoints that were kept from before spikes, by the onset."""
    named = {file: file.name.split(".") for file in sorted(folder.glob(f"{KEPT}.*.*.pt"))}
    return {int(onset): file for file, (_, onset, *_) in named.items() if onset.isdecimal()}


def write_start(
    folder: Path,
    step: int,
    steps: Sequence[Mapping[str, Any]],
    evals: Sequence[Mapping[str, Any]],
    write: Callable[[BinaryIO], None],
) -> None:
    """Give a planned record the rows of the steps before `step` and a checkpoint, from which its run then resumes.

    Args:
        folder: the record.
        step: the step that the checkpoint precedes.
        steps, evals: the rows before it.
        write: writes the checkpoint to an open file.
    """
    for name, rows in ((STEPS, steps), (EVALS, evals)):
        lines = [{"from": 0, "began": time.time()}, *rows]
        write_text(rows_file(folder, name, 0), "".join(json.dumps(line) + "\n" for line in lines))
    write_checkpoint(folder, step, write)


def set_checkpoints_aside(folder: Path, after: int = -1) -> None:
    """Rename the checkpoints from after a step so that a run resumes from none of them; they are kept until it is over.

    Among the last two they would otherwise crowd out those of an attempt that begins at an earlier step.
    """
    for file in checkpoints(folder):
        if int(file.name.split(".")[1]) > after:
            file.replace(file.with_suffix(".unfit"))


def write_result(
    folder: Path, steps: Mapping[str, Sequence[Any]], evals: Mapping[str, Sequence[Any]], summary: dict[str, Any]
) -> None:
    """Turn a planned record into that of a run that is over: write both tables, then the summary.

    Args:
        folder: the record.
        steps: the columns of steps.parquet.
        evals: the columns of evals.parquet.
        summary: the content of summary.json, to which the CRC-32 of both tables is added.
    """
    sums = {}
    for name, columns in ((STEPS, steps), (EVALS, evals)):
        types = {key: pa.int64() if key == "step" else pa.float64() for key in columns}
        table = pa.table({key: pa.array(values, types[key]) for key, values in columns.items()})
        file, written = folder / f"{name}.parquet", io.BytesIO()
        pq.write_table(table, written, compression="zstd", use_dictionary=False)
        with whole(file) as out:
            out.write(written.getbuffer())
        sums[file.name] = zlib.crc32(written.getbuffer())
    write_text(folder / SUMMARY, json.dumps({**summary, "crc32": sums}, indent=1))


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as columns, with None where a row lacks one."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}


def tidy(folders: Iterable[Path]) -> None:
    """Remove from the records of runs that are over what a process has left there that was killed at its very end.

    A run that is under way, or has no record, is left alone.
    """
    for folder in folders:
        if has_result(folder):
            _remove(only_under_way(folder))


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(OSError):  # the run is over, whatever is left in its folder
            file.unlink()


def write_error(folder: Path, cause: str, details: str = "") -> None:
    """Mark a run as failed.

    Args:
        folder: the record.
        cause: one line.
        details: such as a traceback.
    """
    write_text(folder / ERROR, f"{cause}\n\n{details}")
