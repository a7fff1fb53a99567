"""Writes records: plans them, appends rows while a run trains, and closes the record at its end."""

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.record.config_file import config_text
from s3bench.record.files import (
    CONFIG,
    ERROR,
    EVALS,
    FAILED,
    MISSING,
    STEPS,
    SUMMARY,
    draft_of,
    folder_names,
    folder_of,
    last_number,
    lease_place,
    row_files,
    rows_file,
    write_whole,
)
from s3bench.record.lease import Busy, Lease
from s3bench.record.progress import has_result, read_rows, state

PLANNED_AT_ONCE = 16


def plan(config: dict[str, Any]) -> Path:
    """The folder of a run, made with its config if it is not there: from now on the run is known to be missing."""
    folder = folder_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            write_whole(folder / CONFIG, config_text(config))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def plan_all(configs: Sequence[dict[str, Any]]) -> list[Path]:
    """`plan` for many runs: the disk writes several at once faster than one after the other."""
    with ThreadPoolExecutor(PLANNED_AT_ONCE) as pool:
        return list(pool.map(plan, configs))


def superseded(folders: Iterable[Path]) -> list[Path]:
    """Records without result or checkpoint, made with other code than planned runs which are the same but for it.

    A run_id ends with the digest of the code, so that nothing has to be read but the names of the folders.
    """
    planned = {(folder.parent, folder.name) for folder in folders}
    cells = {(place, identity.without_code(name)) for place, name in planned}
    there = [(place, name) for place in {place for place, _ in planned} for name in folder_names(place)]
    return [
        Path(place, name)
        for place, name in there
        if (place, name) not in planned and (place, identity.without_code(name)) in cells and _may_go(Path(place, name))
    ]


def _may_go(folder: Path) -> bool:
    kept = has_result(folder) or checkpoints(folder)
    return (folder / CONFIG).exists() and not kept and state(folder) in (FAILED, MISSING)


def remove(folder: Path) -> None:
    """Remove the record of a run."""
    shutil.rmtree(folder)


@contextmanager
def leased(folder: Path, dead: int | None = None) -> Iterator[Lease]:
    """Hold the lease on a record. Raises Busy if another process has it; `dead`: the number of one that has died."""
    held = Lease(lease_place(folder), 1 + last_number(folder), dead)
    try:
        yield held
    finally:
        held.release()


class Writer:
    """Writes one record: rows as they come, the rest at the end. For a process that holds its lease.

    Args:
        folder: the record's.
        config: the run's.
        number: of the lease.
        first_step: from which step on this process trains; the rows before it are those that are there.

    Raises Busy where another process has used the number.
    """

    def __init__(self, folder: Path, config: dict[str, Any], number: int = 0, first_step: int = 0) -> None:
        self.folder = folder
        write_whole(folder / CONFIG, config_text(config))
        for name in (SUMMARY, ERROR, f"{STEPS}.parquet", f"{EVALS}.parquet"):
            (folder / name).unlink(missing_ok=True)
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
        """See to it that the rows so far outlast the machine."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the record of a finished or diverged run."""
        for file in self._files.values():
            file.close()
        steps, evals = (_by_column(read_rows(self.folder, name)) for name in (STEPS, EVALS))
        write_result(self.folder, steps, evals, summary)
        (self.folder / ERROR).unlink(missing_ok=True)  # of another process's try
        for done in [*self.folder.glob("checkpoint.*"), *row_files(self.folder)]:
            done.unlink(missing_ok=True)

    def fail(self, cause: str, traceback: str) -> None:
        """Close the record of a failed run; its rows so far stay."""
        write_error(self.folder, cause, traceback)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        file = self._files[name]
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()


def write_checkpoint(folder: Path, step: int, write: Callable[[BinaryIO], None]) -> None:
    """Have the checkpoint before a step written, whole or not at all, and keep the one before it."""
    file = folder / f"checkpoint.{step:012d}.pt"
    draft = draft_of(file)
    try:
        with draft.open("wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    for old in checkpoints(folder)[2:]:
        old.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("checkpoint.*.pt"), reverse=True)


def set_checkpoints_aside(folder: Path) -> None:
    """Have a run go on from none of its checkpoints; they are kept until it is over."""
    for file in checkpoints(folder):
        file.replace(file.with_suffix(".unfit"))


def write_result(
    folder: Path, steps: Mapping[str, Sequence[Any]], evals: Mapping[str, Sequence[Any]], summary: dict[str, Any]
) -> None:
    """Write what makes a planned record that of a run that is over: the columns of both tables, then the summary."""
    sums = {}
    for name, columns in ((STEPS, steps), (EVALS, evals)):
        types = {key: pa.int64() if key == "step" else pa.float64() for key in columns}
        table = pa.table({key: pa.array(values, types[key]) for key, values in columns.items()})
        file = folder / f"{name}.parquet"
        pq.write_table(table, file, compression="zstd", use_dictionary=False)
        sums[file.name] = zlib.crc32(file.read_bytes())
    write_whole(folder / SUMMARY, json.dumps({**summary, "crc32": sums}, indent=1))


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, None where a row lacks one."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}


def write_error(folder: Path, cause: str, details: str = "") -> None:
    """Mark a run as failed."""
    write_whole(folder / ERROR, f"{cause}\n\n{details}")
