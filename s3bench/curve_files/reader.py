"""Reads a loss curve from anyone's file: CSV, Parquet, JSON lines, wandb, TensorBoard."""

import csv
import dataclasses
import json
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3bench.curve_files import tensorboard_file, wandb_file
from s3bench.errors import UserError, one_line, unknown
from s3bench.spikes import Spike

FORMATS = "CSV (.csv), Parquet (.parquet), JSON lines (.jsonl, .ndjson), a wandb run (.wandb or its folder), "
FORMATS += "TensorBoard events (events.out.tfevents.* or their folder)"
EMPTY_CELLS = ["", "NA", "N/A", "<NA>", "null", "None"]
STEP_NAMES = ("step", "_step", "Step", "global_step", "trainer/global_step", "iteration", "iter")
NO_STEPS = "none"
# The words beside "loss" in a column's name: those of a training loss, and those of anything else
OF_TRAINING = {"train", "training", "trainer", "step", "batch"}
OF_OTHERS = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "best"}
OF_OTHERS |= {"min", "max", "std", "var", "scale", "scaler", "weight", "coef", "epoch"}
LARGEST_STEP = 2**53  # up to here, every whole number is a float
SHOWN = 40  # characters of a wrong cell that a message quotes


@dataclass(frozen=True)
class LoggedCurve:
    """A loss as it was logged.

    Attributes:
        column: the column that the loss was found in.
        steps: shape (n,), strictly rising; n is at least 2.
        loss: shape (n,).
        notes: sentences on what the file leaves open.
    """

    column: str
    steps: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def is_consecutive(self) -> bool:
        """Return whether every step was logged."""
        return bool((np.diff(self.steps) == 1).all())

    def spacing(self) -> str:
        """Return how far apart the steps are, in words."""
        apart = np.diff(self.steps)
        every = f"every {apart[0]}" if (apart == apart[0]).all() else f"{apart.min()} to {apart.max()} apart"
        return f"{every}, from {self.steps[0]} to {self.steps[-1]}"

    def in_steps(self, spike: Spike) -> Spike:
        """Return the spike with the file's steps instead of indices.

        An end past the last step is the last step plus the median distance between steps.
        """
        past = self.steps[-1] + round(float(np.median(np.diff(self.steps))))
        end = past if spike.end == len(self.steps) else self.steps[spike.end]
        onset, peak = self.steps[spike.onset], self.steps[spike.peak]
        return dataclasses.replace(spike, onset=int(onset), peak=int(peak), end=int(end))


def read_curve(file: str | Path, column: str | None = None, step: str | None = None) -> LoggedCurve:
    """Read the loss curve of a file, or of a folder that holds a wandb run or TensorBoard events.

    Args:
        file: a file whose suffix states its format, or a folder.
        column: the loss; None to find it: "loss", or the only column that is named like a training loss.
        step: the column of steps; None to find it among STEP_NAMES, or to count rows if there is none; "none" to count
            rows in any case.

    Returns:
        The steps and losses of the rows with a loss, and notes on the other rows.

    Raises:
        UserError: the file cannot be read, does not have the column, has text where numbers should be, steps that do
            not rise, or fewer than two losses.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("step,loss\\n0,3.0\\n10,2.5\\n")
        ...     file.flush()
        ...     curve = read_curve(file.name)
        >>> curve.steps.tolist(), curve.loss.tolist()
        ([0, 10], [3.0, 2.5])
    """
    file = Path(file)
    cells, empty, column, notes = _load(file, column)
    if cells.empty:
        raise UserError(f"{file} has no rows; it needs one row per step")
    logged = _logged(empty, column, {step, *STEP_NAMES})
    if not logged.any():
        raise UserError(f"{file}: column {column!r} is empty")
    if not logged.all():
        notes.append(f"rows without a loss, left out: {int((~logged).sum())} of {len(logged)}")
    non_finite = int((logged & empty[column].to_numpy()).sum())
    if non_finite:
        notes.append(f"empty cells of {column!r} taken as non-finite losses: {non_finite}")
    cells, empty = cells[logged], empty[logged]
    if len(cells) < 2:
        raise UserError(f"{file} has one row with a loss; a curve needs at least two")
    loss = _numbers(file, cells[column], empty[column])
    return LoggedCurve(column=column, steps=_steps(file, cells, empty, step), loss=loss, notes=tuple(notes))


def _load(file: Path, column: str | None) -> tuple[pd.DataFrame, pd.DataFrame, str, list[str]]:
    """Return the cells, which of them are empty, the loss's column, and notes.

    The index of the cells counts the file's rows from 0.
    """
    if not file.exists():
        raise UserError(f"there is no file {file}")
    files = _of_folder(file) if file.is_dir() else [file]
    if not any(one.stat().st_size for one in files):
        raise UserError(f"{files[0]} is empty; it needs one row per step")
    file, suffix, notes = files[0], files[0].suffix.lower(), list[str]()
    try:
        if suffix == ".csv":
            cells, notes = _read_csv(file)
            return cells, cells.isna(), _find_loss(file, column, cells.columns), notes
        if suffix == ".parquet":
            cells, empty = _read_parquet(file)
            return cells, empty, _find_loss(file, column, cells.columns), notes
    # What pandas and csv, the disk and pyarrow raise
    except (ValueError, csv.Error, pd.errors.ParserWarning, OSError, pa.ArrowException) as error:
        kind = "CSV" if suffix == ".csv" else "Parquet"
        raise UserError(f"{file} cannot be read as {kind} ({one_line(error)})") from error
    if suffix in (".jsonl", ".ndjson"):
        rows = _read_json_lines(file)
    elif suffix == ".wandb":
        rows, notes = wandb_file.read_history(file)
    elif "tfevents" in file.name:
        rows, notes = tensorboard_file.read_scalars(files)
    else:
        raise UserError(f"{file}: suffix {file.suffix!r} is not supported; choose from: {FORMATS}")
    if not rows:
        raise UserError(f"{file} has no rows; it needs one row per step")
    column = _find_loss(file, column, dict.fromkeys(name for row in rows for name in row))
    with_loss = {index: row for index, row in enumerate(rows) if column in row}  # the others log something else
    cells = pd.DataFrame(list(with_loss.values()), index=list(with_loss))
    return cells, cells.isna(), column, notes


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


def _read_csv(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the cells, and notes; blank lines are left out, but count in the index."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        rows = csv.reader((line.strip(" \t\n") for line in lines), skipinitialspace=True)
        names = [name.strip() for name in next(filter(None, rows), [])]
        filled = np.flatnonzero([bool(row) for row in rows])  # the rows that are not blank
    _without_doubles(file, [name for name in names if name])  # pandas would give the second another name
    options: dict[str, Any] = {"keep_default_na": False, "na_values": EMPTY_CELLS, "low_memory": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the first would be cut
        cells: pd.DataFrame = pd.read_csv(file, skipinitialspace=True, index_col=False, **options)
    cells.index = pd.Index(filled)
    cells.columns = _without_doubles(file, [name.strip() for name in cells.columns])
    if all(_number(name) is not None for name in cells.columns):
        raise UserError(f"{file}: its first line must name the columns")
    blank = int(filled.max(initial=-1)) + 1 - len(filled)
    return cells, [f"blank lines, left out: {blank}"] * bool(blank)


def _read_parquet(file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells, and which of them are null; a NaN is not null."""
    table: Any = pq.read_table(file)
    names = _without_doubles(file, table.column_names)
    empty = pd.DataFrame({name: table[name].is_null().to_numpy() for name in names})
    cells: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return cells, empty


def _without_doubles(file: Path, names: list[str]) -> "pd.Index[str]":
    """Return the columns' names; raise UserError where two are the same."""
    index = pd.Index(names)
    if not index.is_unique:
        raise UserError(f"{file} has two columns named {index[index.duplicated()][0]!r}")
    return index


def _read_json_lines(file: Path) -> list[dict[str, Any]]:
    decode = json.JSONDecoder(parse_constant=str).decode  # NaN stays text: it is not an empty cell
    rows: list[dict[str, Any]] = []
    has_halves = False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    rows.append(decode(line))
                    has_halves |= "\\ud" in line or "\\uD" in line
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}, line {number} is not JSON ({one_line(error)})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f'{file} is not JSON lines: each line must be an object, such as {{"step": 1, "loss": 2.5}}')
    return [{_whole(name): _whole(cell) for name, cell in row.items()} for row in rows] if has_halves else rows


def _whole(cell: Any) -> Any:
    """Return a cell or a name without halves of characters, such as \\ud800, which no table can hold."""
    return cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(cell, str) else cell


def _find_loss(file: Path, named: str | None, columns: Any) -> str:
    """Return the loss's column: the named one, or the only one that is named like a training loss.

    In a wandb export, a column may be named without its run: "train/loss" is "calm-sun-1 - train/loss".
    """
    names = [str(name) for name in columns]
    if named is not None:
        if named in names:
            return named
        found = [name for name in names if name.endswith(f" - {named}")]
        if not found:
            raise unknown(f"column of {file}", named, names)
    else:
        losses = {name: _words(name) for name in names if not name.startswith("_")}
        losses = {name: words for name, words in losses.items() if "loss" in words and not words & OF_OTHERS}
        plain = [name for name, words in losses.items() if not words - OF_TRAINING - {"loss"}]
        found = ["loss"] if "loss" in names else plain or list(losses)
    if not found:
        raise UserError(
            f"{file}: no column is named like a training loss; choose one with --column: {', '.join(names)}"
        )
    if len(found) > 1:
        raise UserError(f"{file}: several columns may be the loss; choose one with --column: {', '.join(found)}")
    return found[0]


def _words(name: str) -> set[str]:
    """Return the words of a column's name, in lower case; for a wandb export's "run - key", those of the key."""
    key = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.rsplit(" - ", 1)[-1])
    words = re.findall(r"[a-z]+", key.lower())
    return {part for word in words for part in re.split(r"(?<=.)(?=loss$)", word)}


def _logged(empty: pd.DataFrame, column: str, steps: Collection[str | None]) -> npt.NDArray[np.bool_]:
    """Return which rows belong to the loss, shape (rows,).

    A row with a loss does. A row whose loss is empty does, too, as a non-finite loss (pandas writes NaN like this),
    unless it is a row of something else, such as a validation: it has a value where no row with a loss has one, or
    lacks one where all rows with a loss have one. Empty losses do not belong, either, where only every n-th row has a
    loss. If the only other column is the step, every row belongs.
    """
    missing = empty[column].to_numpy(dtype=np.bool_)
    if not missing.any() or missing.all():
        return ~missing
    filled = ~empty[[name for name in empty if name != column and name not in steps]].to_numpy(dtype=np.bool_)
    with_loss = filled[~missing]
    never, always = ~with_loss.any(axis=0), with_loss.all(axis=0)
    alike = np.asarray(~filled[:, never].any(axis=1) & filled[:, always].all(axis=1))
    with_values = np.flatnonzero(~missing[alike])
    every_nth = filled.shape[1] and len(with_values) > 1 and np.median(np.diff(with_values)) > 1
    return ~missing if every_nth else alike


def _numbers(file: Path, cells: "pd.Series[Any]", empty: "pd.Series[bool]") -> npt.NDArray[np.float64]:
    """Return a column's cells as numbers, empty ones as NaN; raise UserError for text."""
    if cells.dtype.kind in "fiu":
        return cells.to_numpy(dtype=np.float64)
    blank = empty.to_numpy(dtype=np.bool_)
    numbers = np.full(len(cells), np.nan)
    if isinstance(cells.dtype, pd.StringDtype):  # mostly numbers as text: these at once, the rest, such as nan, below
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    values = cells.tolist()
    for index in np.flatnonzero(np.isnan(numbers) & ~blank).tolist():
        number = _number(values[index])
        if number is None:
            text = str(values[index])[:SHOWN]
            raise UserError(f"{file}, row {cells.index[index] + 1}: {text!r} is not a number (column {cells.name!r})")
        numbers[index] = number
    return numbers


def _number(cell: object) -> float | None:
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, int | float | str | Decimal | np.number):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _steps(file: Path, cells: pd.DataFrame, empty: pd.DataFrame, named: str | None) -> npt.NDArray[np.int64]:
    """Return the steps of the rows; raise UserError unless they are whole numbers that rise."""
    name = _find_step(file, cells, empty, named)
    if name is None:
        return np.arange(len(cells), dtype=np.int64)
    steps = _numbers(file, cells[name], empty[name])
    hint = f"(--step NAME takes another column than {name!r}; --step {NO_STEPS} counts rows)"
    rows = cells.index.to_numpy() + 1
    broken = ~(np.abs(steps) <= LARGEST_STEP) | (steps != np.floor(steps))
    if broken.any():
        at = int(broken.argmax())
        what = "the step is missing" if empty[name].iloc[at] else f"step {steps[at]:g} is not a whole number"
        raise UserError(f"{file}, row {rows[at]}: {what} {hint}")
    back = np.diff(steps) <= 0
    if back.any():
        at = int(back.argmax())
        if steps[at] == steps[at + 1]:
            raise UserError(f"{file}, rows {rows[at]} and {rows[at + 1]}: step {steps[at]:.0f} appears twice {hint}")
        raise UserError(f"{file}, row {rows[at + 1]}: step {steps[at + 1]:.0f} comes after {steps[at]:.0f} {hint}")
    return steps.astype(np.int64)


def _find_step(file: Path, cells: pd.DataFrame, empty: pd.DataFrame, named: str | None) -> str | None:
    """Return the column of steps; None to count rows. Of several, the first that all rows with a loss have."""
    if named == NO_STEPS:
        return None
    if named is not None:
        if named not in cells:
            raise unknown(f"column of {file}", named, map(str, cells.columns))
        return named
    found = [name for name in STEP_NAMES if name in cells]
    return next((name for name in found if not empty[name].any()), found[0] if found else None)
