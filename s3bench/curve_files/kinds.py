"""Tells what kind of file it is by what it holds, and reads it."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3bench.curve_files import tensorboard_file, wandb_file
from s3bench.curve_files.boxes import read_boxes
from s3bench.curve_files.console_file import read_console, read_pattern
from s3bench.curve_files.delimited import read_table
from s3bench.curve_files.json_file import outputs_in, read_history, read_json, texts_in
from s3bench.curve_files.names import ALL_STEPS, listed, losses_among, steps_among
from s3bench.curve_files.table import Table, from_rows
from s3bench.curve_files.text import (
    GZ,
    LONGEST_HOLE,
    LOSS,
    decoded,
    is_text,
    joined_files,
    tells_losses,
    unpacked,
    without_holes,
)
from s3bench.curve_files.untidy import of_lists
from s3bench.errors import UserError, one_line

FORMATS = "a table (CSV, any separator), Parquet, JSON, a console's lines with 'loss: 2.5' or 'loss=2.5', a wandb run, "
FORMATS += "TensorBoard events"
STDIN = "-"
HEAD = 64  # bytes that show a file's kind
SAMPLE = 4096  # bytes that show whether it is text
MOST_GB = 2  # of a file of text, which is read at once
CELL = "cell"  # the column that says which cell of a notebook printed a row
PARQUET, WANDB, EVENTS = b"PAR1", b":W&B", b"brain.Event:"


def load(file: str | Path, pattern: str | None = None, *, whole_lines: bool = False) -> Table:
    """Read a file, a folder of a wandb run or of TensorBoard events, or stdin ("-").

    Args:
        file: where to read.
        pattern: a regular expression that reads a text's lines.
        whole_lines: leave out what follows the last end of a line, as it is still being written.

    Raises:
        UserError: it is not there, damaged, or of no known kind.
    """
    if str(file) == STDIN:
        return _of_bytes("stdin", sys.stdin.buffer.read(), pattern)
    file = Path(file)
    if not file.exists():
        raise UserError(f"there is no file {file}")
    files = _of_folder(file) if file.is_dir() else [file]
    try:
        if not any(_has_bytes(one) for one in files):
            raise UserError(f"{files[0]} is empty; it needs one row per step")
        with files[0].open("rb") as opened:
            head = opened.read(SAMPLE)
            if head.startswith(GZ) or not _is_binary(files[0], head[:HEAD]):
                head += b"" if head.strip(b"\0") else opened.read(LONGEST_HOLE)
                _check_text(str(files[0]), head)
                _check_size(files[0])
                data = head + opened.read()
                data = data[: 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))] if whole_lines else data
                if whole_lines and not data:
                    raise UserError(f"{files[0]} has no whole line yet")
                return _of_bytes(str(files[0]), data, pattern, suffix=files[0].suffix.lower())
    except OSError as error:
        raise UserError(f"{files[0]} cannot be read: {error.strerror or one_line(error)}") from error
    return _of_binary(files, head[:HEAD])


def _check_text(name: str, head: bytes) -> None:
    """Raise UserError where a file that begins like this is no text."""
    head = head if head.startswith(GZ) else without_holes(head)[0][:SAMPLE] or head[:SAMPLE]
    if not head.startswith(GZ) and not is_text(head):
        raise UserError(f"{name} is binary, but none of these: {FORMATS}")


def _check_size(file: Path) -> None:
    """Raise UserError where a text would fill the memory."""
    size = file.stat().st_size / 1e9
    if size > MOST_GB:
        less = "keep the columns and rows that are needed, as with cut -d, -f1,2 FILE | s3bench spikes -"
        raise UserError(f"{file} has {size:.1f} GB of text, and at most {MOST_GB} GB are read; {less}")


def _has_bytes(file: Path) -> bool:
    return not file.is_file() or file.stat().st_size > 0  # a pipe has no size


def _is_binary(file: Path, head: bytes) -> bool:
    return head.startswith((PARQUET, WANDB)) or EVENTS in head or "tfevents" in file.name or file.suffix == ".wandb"


def _of_binary(files: list[Path], head: bytes) -> Table:
    file = files[0]
    if head.startswith(PARQUET):
        return _read_parquet(file)
    if head.startswith(WANDB) or file.suffix == ".wandb":
        rows, notes = wandb_file.read_history(file)
        kind = "wandb run"
    else:
        rows, notes = tensorboard_file.read_scalars(files)
        kind = "TensorBoard events"
    if not rows:
        raise UserError(f"{file} has no rows; it needs one row per step")
    return from_rows(kind, rows, notes)


def _of_bytes(name: str, data: bytes, pattern: str | None, suffix: str = "") -> Table:
    """Return the table in a file's bytes."""
    data = unpacked(name, data)
    if not data:
        raise UserError(f"{name} is empty; it needs one row per step")
    if _is_binary(Path("none"), data[:HEAD]):
        with tempfile.NamedTemporaryFile(suffix=".tfevents" if EVENTS in data[:HEAD] else ".wandb") as copy:
            copy.write(data)
            copy.flush()
            return _of_binary([Path(copy.name)], data[:HEAD])
    data, holes = without_holes(data)
    _check_text(name, data[:SAMPLE])
    table = _of_text(name, decoded(data), pattern, is_csv=suffix in (".csv", ".tsv"))
    table.notes[:0] = [f"blocks of NUL bytes, as a crash leaves them, left out: {holes}"] * bool(holes)
    return table


def _of_text(name: str, text: str, pattern: str | None, *, is_csv: bool) -> Table:
    if pattern is not None:
        return read_pattern(name, text, pattern)
    if len(joined := joined_files(text)) > 1:
        raise UserError(f"{name} joins the lines of several files; pass these instead: {listed(joined)}")
    if (printed := outputs_in(text)) is not None:
        return _of_notebook(name, printed)
    table = read_json(name, text) or read_boxes(text)
    if table is not None and not _has_losses(table) and (told := texts_in(table)) is not None:
        beside = read_console(told[0])
        if beside is not None and _has_losses(beside):
            beside.notes.insert(0, told[1])
            return beside
    table = table or _of_lines(name, text)
    if table is None or not _has_losses(table):
        table = _of_what_was_printed(name, text) or table
    table = table or (read_table(name, text, is_csv=True) if is_csv and text.strip() else None)
    if table is not None:
        return table
    if not text.strip():
        raise UserError(f"{name} has no rows; it needs one row per step")
    raise UserError(f"{name} is none of these: {FORMATS}; --pattern REGEX reads other lines")


def _of_lines(name: str, text: str) -> Table | None:
    """Return the table that a text is, or the lines of a console, where these have losses and the table has none."""
    table = read_table(name, text, is_csv=False)
    has_none = table is not None and not _has_losses(table) and LOSS.search(text) is not None
    if table is None or (has_none and tells_losses(text.split("\n"))):
        told = read_console(text)
        return told if table is None or (told is not None and _has_losses(told)) else table
    return table


def _of_notebook(name: str, printed: dict[int, str]) -> Table:
    """Return the table of what cells printed, with a column that names the cell if several printed losses."""
    if not any(map(str.strip, printed.values())):
        raise UserError(f"{name} is a notebook whose cells have printed nothing")
    inner = _of_text(name, "\n".join(printed.values()), None, is_csv=False)
    if inner.kind == "console" and sum(LOSS.search(text) is not None for text in printed.values()) > 1:
        told = "".join(f"{CELL}: {cell}\n{text}\n" for cell, text in printed.items())
        inner = _without_evaluations(read_console(told) or inner)
    inner.notes.insert(0, "a notebook: what its cells printed")
    return inner


def _without_evaluations(table: Table) -> Table:
    """Return the table without the losses of cells that evaluate: without a step, or one, if others have more."""
    if CELL not in table.names:
        return table
    steps, losses = steps_among(table.names, tuple(ALL_STEPS)), losses_among(table.names)
    has_step = ~table.empty[steps].all(axis=1)
    has_loss = ~table.empty[losses].all(axis=1)
    cells = table.cells[CELL]
    counts = cells[has_loss].value_counts()
    trained = set(cells[has_step & has_loss]) or set(counts[counts > 1].index)
    others = has_loss & ~cells.isin(trained)
    if not 0 < others.sum() < (has_loss & ~others).sum():
        return table
    kept = table.where(~others.to_numpy())
    kept.notes.append(f"losses of cells without steps, or of one each, left out: {int(others.sum())}")
    return kept


def _has_losses(table: Table) -> bool:
    """Return whether a column that is named like a loss has more than one value."""
    return any(int((~table.empty[name]).sum()) > 1 for name in losses_among(table.names))


def _of_what_was_printed(name: str, text: str) -> Table | None:
    """Return the lists of numbers that a program printed; None if there are none."""
    if (lists := of_lists(text)) is None:
        return read_history(text)
    table = read_table(name, lists[0], is_csv=True)
    if table is not None:
        table.notes += lists[1]
    return table


def _of_folder(folder: Path) -> list[Path]:
    """Return the file of the run, or the event files, in a folder."""
    runs = sorted(folder.glob("*.wandb"))
    if len(runs) > 1:
        raise UserError(f"{folder} holds several runs; name one: {', '.join(run.name for run in runs)}")
    files = runs or sorted(folder.glob("*tfevents*"))
    if files:
        return files
    below = sorted({str(f.parent) for name in ("*.wandb", "*tfevents*") for f in folder.glob(f"*/{name}")})
    hint = f"; these folders do: {', '.join(below)}" if below else ""
    raise UserError(f"{folder} does not contain a .wandb or events.out.tfevents.* file{hint}")


def _read_parquet(file: Path) -> Table:
    """Return the cells, and which of them are null; a NaN is not null."""
    try:
        table: Any = pq.read_table(file)
        names = pd.Index(table.column_names)
        if not names.is_unique:
            raise UserError(f"{file} has two columns named {names[names.duplicated()][0]!r}")
        empty = pd.DataFrame({name: table[name].is_null().to_numpy() for name in names})
        return Table("Parquet", table.to_pandas(ignore_metadata=True), empty)
    except (ValueError, OSError, pa.ArrowException) as error:  # what pyarrow and the disk raise
        raise UserError(f"{file} cannot be read as Parquet ({one_line(error)})") from error
