"""Reads the loss curve out of a file of anyone's: CSV, Parquet, JSON lines, wandb, TensorBoard."""

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
# Words of a column's name, beside "loss": of the training loss; of what is no training loss
OF_TRAINING = {"train", "training", "trainer", "step", "batch"}
OF_OTHERS = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "best"}
OF_OTHERS |= {"min", "max", "std", "var", "scale", "scaler", "weight", "coef", "epoch"}
LARGEST_STEP = 2**53  # up to it every whole number is a float


@dataclass(frozen=True)
class Curve:
    """A loss as it was logged: `steps`, strictly rising, and `loss`, both of shape (n,), n at least 2; the `column` it
    was found in; `notes`, sentences on what the file leaves open.
    """

    column: str
    steps: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def is_consecutive(self) -> bool:
        """Whether every step was logged."""
        return bool((np.diff(self.steps) == 1).all())

    def spacing(self) -> str:
        """How far apart the steps are, in words."""
        apart = np.diff(self.steps)
        every = f"every {apart[0]}" if (apart == apart[0]).all() else f"{apart.min()} to {apart.max()} apart"
        return f"{every}, from {self.steps[0]} to {self.steps[-1]}"

    def in_steps(self, spike: Spike) -> Spike:
        """The spike with the file's steps for indices; an end past the last step lies one typical distance past it."""
        past = self.steps[-1] + round(float(np.median(np.diff(self.steps))))
        end = past if spike.end == len(self.steps) else self.steps[spike.end]
        onset, peak = self.steps[spike.onset], self.steps[spike.peak]
        return dataclasses.replace(spike, onset=int(onset), peak=int(peak), end=int(end))


def read_curve(file: str | Path, column: str | None = None, step: str | None = None) -> Curve:
    """The loss curve of a file, or of a folder that holds a wandb run or TensorBoard events.

    Args:
        file: of a format that its suffix says.
        column: the loss; None to find it: "loss", or the one column that is named like a training loss.
        step: the column of steps; None to find it among STEP_NAMES, or to count rows where there is none; "none" to
            count rows in any case.

    Raises:
        UserError: the file cannot be read, has no such column, text where numbers should be, steps out of order or
            doubled, or fewer than two losses.
    """
    file = Path(file)
    cells, empty, column, notes = _load(file, column)
    if cells.empty:
        raise UserError(f"{file} has no rows; needed is one row per step")
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
        raise UserError(f"{file} has one row with a loss; a curve needs two at least")
    loss = _numbers(file, cells[column], empty[column])
    return Curve(column, _steps(file, cells, empty, step), loss, tuple(notes))


def _load(file: Path, column: str | None) -> tuple[pd.DataFrame, pd.DataFrame, str, list[str]]:
    """The cells, which of them are empty, the loss's column, and notes. The index counts the file's rows from 0."""
    if not file.exists():
        raise UserError(f"there is no file {file}")
    files = _of_folder(file) if file.is_dir() else [file]
    if not any(one.stat().st_size for one in files):
        raise UserError(f"{files[0]} is empty; needed is one row per step")
    file, suffix, notes = files[0], files[0].suffix.lower(), list[str]()
    try:
        if suffix == ".csv":
            cells, notes = _read_csv(file)
            return cells, cells.isna(), _find_loss(file, column, cells.columns), notes
        if suffix == ".parquet":
            cells, empty = _read_parquet(file)
            return cells, empty, _find_loss(file, column, cells.columns), notes
    # Of pandas and csv, the disk, pyarrow
    except (ValueError, csv.Error, pd.errors.ParserWarning, OSError, pa.ArrowException) as error:
        kind = "CSV" if suffix == ".csv" else "Parquet"
        raise UserError(f"{file} is no {kind} file that can be read ({one_line(error)})") from error
    if suffix in (".jsonl", ".ndjson"):
        rows = _read_json_lines(file)
    elif suffix == ".wandb":
        rows, notes = wandb_file.read_history(file)
    elif "tfevents" in file.name:
        rows, notes = tensorboard_file.read_scalars(files)
    else:
        raise UserError(f"{file}: its suffix {file.suffix!r} is none of {FORMATS}")
    if not rows:
        raise UserError(f"{file} has no rows; needed is one row per step")
    column = _find_loss(file, column, dict.fromkeys(name for row in rows for name in row))
    places = [place for place, row in enumerate(rows) if column in row]  # the others log something else
    cells = pd.DataFrame([rows[place] for place in places], index=places)
    return cells, cells.isna(), column, notes


def _of_folder(folder: Path) -> list[Path]:
    """The run's file, or the event files, of a folder."""
    runs = sorted(folder.glob("*.wandb"))
    if len(runs) > 1:
        raise UserError(f"{folder} holds several runs; name one: {', '.join(run.name for run in runs)}")
    files = runs or sorted(folder.glob("*tfevents*"))
    if files:
        return files
    below = sorted({str(f.parent) for name in ("*.wandb", "*tfevents*") for f in folder.glob(f"*/{name}")})
    there = f"; there is in: {', '.join(below)}" if below else ""
    raise UserError(f"{folder} is a folder without a .wandb or events.out.tfevents.* file{there}")


def _read_csv(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """The cells, and notes; blank lines are left out, and counted by the index."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        rows = csv.reader((line.strip(" \t\n") for line in lines), skipinitialspace=True)
        names = [name.strip() for name in next(filter(None, rows), [])]
        places = np.flatnonzero([bool(row) for row in rows])
    _without_doubles(file, [name for name in names if name])  # pandas would give the second another name
    options: dict[str, Any] = {"keep_default_na": False, "na_values": EMPTY_CELLS, "low_memory": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows longer than the first, which it would cut
        cells: pd.DataFrame = pd.read_csv(file, skipinitialspace=True, index_col=False, **options)
    cells.index = pd.Index(places)
    cells.columns = _without_doubles(file, [name.strip() for name in cells.columns])
    if all(_number(name) is not None for name in cells.columns):
        raise UserError(f"{file}: its first line names no columns")
    blank = int(places.max(initial=-1)) + 1 - len(places)
    return cells, [f"blank lines, left out: {blank}"] * bool(blank)


def _read_parquet(file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells, and which are null; a NaN is none."""
    table: Any = pq.read_table(file)
    names = _without_doubles(file, table.column_names)
    empty = pd.DataFrame({name: table[name].is_null().to_numpy() for name in names})
    cells: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return cells, empty


def _without_doubles(file: Path, names: list[str]) -> "pd.Index[str]":
    index = pd.Index(names)
    if not index.is_unique:
        raise UserError(f"{file} has two columns named {index[index.duplicated()][0]!r}")
    return index


def _read_json_lines(file: Path) -> list[dict[str, Any]]:
    decode = json.JSONDecoder(parse_constant=str).decode  # NaN stays text: an empty cell is something else
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    rows.append(decode(line))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}, line {number} is no JSON ({one_line(error)})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f'{file} is no JSON lines: a line is no object, such as {{"step": 1, "loss": 2.5}}')
    return rows


def _find_loss(file: Path, named: str | None, columns: Any) -> str:
    """The loss's column: the named one, also without the run's name of a wandb export; or the one named like one."""
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
        raise UserError(f"{file}: no column is named like a training loss; --column takes one of: {', '.join(names)}")
    if len(found) > 1:
        raise UserError(f"{file}: several columns may be the loss; --column takes one of: {', '.join(found)}")
    return found[0]


def _words(name: str) -> set[str]:
    """The words of a column's name, in lower case; of a wandb export's "run - key" those of the key."""
    key = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.rsplit(" - ", 1)[-1])
    words = re.findall(r"[a-z]+", key.lower())
    return {part for word in words for part in re.split(r"(?<=.)(?=loss$)", word)}


def _logged(empty: pd.DataFrame, column: str, steps: Collection[str | None]) -> npt.NDArray[np.bool_]:
    """The rows that are of the loss, an empty cell among them being a non-finite loss (pandas writes NaN so).

    A row with an empty loss is another row, such as a validation's, if it has a value where no row with a loss has one,
    or lacks one where all have one. Nor is it of the loss where only every n-th row has one. A row that has nothing but
    its step is of the loss.
    """
    missing = empty[column].to_numpy(dtype=np.bool_)
    if not missing.any() or missing.all():
        return ~missing
    filled = ~empty[[name for name in empty if name != column and name not in steps]].to_numpy(dtype=np.bool_)
    with_loss = filled[~missing]
    never, always = ~with_loss.any(axis=0), with_loss.all(axis=0)
    alike = np.asarray(~filled[:, never].any(axis=1) & filled[:, always].all(axis=1))
    places = np.flatnonzero(~missing[alike])
    every_nth = filled.shape[1] and len(places) > 1 and np.median(np.diff(places)) > 1
    return ~missing if every_nth else alike


def _numbers(file: Path, cells: "pd.Series[Any]", empty: "pd.Series[bool]") -> npt.NDArray[np.float64]:
    """A column's cells as numbers, empty ones NaN. Raises UserError for text."""
    if cells.dtype.kind in "fiu":
        return cells.to_numpy(dtype=np.float64)
    blank = empty.to_numpy(dtype=np.bool_)
    numbers = np.full(len(cells), np.nan)
    if isinstance(
        cells.dtype, pd.StringDtype
    ):  # text, most of it numbers: those at once, the others, such as nan, below
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    values = cells.tolist()
    for place in np.flatnonzero(np.isnan(numbers) & ~blank).tolist():
        number = _number(values[place])
        if number is None:
            text = str(values[place])[:40]
            raise UserError(f"{file}, row {cells.index[place] + 1}: {text!r} is no number (column {cells.name!r})")
        numbers[place] = number
    return numbers


def _number(cell: object) -> float | None:
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, int | float | str | Decimal | np.number):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _steps(file: Path, cells: pd.DataFrame, empty: pd.DataFrame, named: str | None) -> npt.NDArray[np.int64]:
    """The steps of the rows: whole numbers that rise. Raises UserError."""
    name = _find_step(file, cells, empty, named)
    if name is None:
        return np.arange(len(cells), dtype=np.int64)
    steps = _numbers(file, cells[name], empty[name])
    hint = f"(--step names another column than {name!r}; --step {NO_STEPS} counts rows)"
    rows = cells.index.to_numpy() + 1
    broken = ~(np.abs(steps) <= LARGEST_STEP) | (steps != np.floor(steps))
    if broken.any():
        at = int(broken.argmax())
        what = "there is no step" if empty[name].iloc[at] else f"step {steps[at]:g} is no whole number"
        raise UserError(f"{file}, row {rows[at]}: {what} {hint}")
    back = np.diff(steps) <= 0
    if back.any():
        at = int(back.argmax())
        if steps[at] == steps[at + 1]:
            raise UserError(f"{file}, rows {rows[at]} and {rows[at + 1]}: step {steps[at]:.0f} is there twice {hint}")
        raise UserError(f"{file}, row {rows[at + 1]}: step {steps[at + 1]:.0f} comes after {steps[at]:.0f} {hint}")
    return steps.astype(np.int64)


def _find_step(file: Path, cells: pd.DataFrame, empty: pd.DataFrame, named: str | None) -> str | None:
    """The column of steps; None to count rows. Of those found, the first that all rows with a loss have."""
    if named == NO_STEPS:
        return None
    if named is not None:
        if named not in cells:
            raise unknown(f"column of {file}", named, map(str, cells.columns))
        return named
    found = [name for name in STEP_NAMES if name in cells]
    return next((name for name in found if not empty[name].any()), found[0] if found else None)
