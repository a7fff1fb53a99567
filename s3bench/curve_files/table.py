"""Holds what every kind of file is read into: rows with named cells."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.errors import UserError

EMPTY_CELLS = ["", "NA", "N/A", "<NA>", "null", "None"]
BEGINS = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?\s+\S", re.IGNORECASE)  # a cell that only begins with a number
UNDERSCORES = re.compile(r"[-+]?\d{1,3}(?:_\d{3})+(?:\.\d*)?")  # of thousands
MOST_CELLS = 50_000_000  # of a table most of whose cells are empty
MOST_EMPTY = 10  # cells for each that is filled
SHOWN = 40  # characters of a wrong cell that a message quotes


@dataclass
class Table:
    """The rows of a file.

    Attributes:
        kind: the kind of file, as a person calls it.
        cells: the rows; the index counts the file's rows from 0.
        empty: which cells are empty.
        absent: which cells a row does not even name, as in JSON; None where every row has every column.
        notes: sentences on what was left out on the way.
        strays: of some columns, a sentence on lines that are of another kind than most.
    """

    kind: str
    cells: pd.DataFrame
    empty: pd.DataFrame
    absent: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)
    strays: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the columns' names."""
        return [str(name) for name in self.cells.columns]

    def where(self, mask: npt.NDArray[np.bool_]) -> "Table":
        """Return the table of some of the rows."""
        if mask.all():
            return self
        absent = None if self.absent is None else self.absent[mask]
        return Table(self.kind, self.cells[mask], self.empty[mask], absent, self.notes, self.strays)

    def named(self, column: str) -> npt.NDArray[np.bool_]:
        """Return which rows name a column, be its cell empty or not."""
        if self.absent is None:
            return np.ones(len(self.cells), dtype=np.bool_)
        return ~self.absent[column].to_numpy(dtype=np.bool_)


def check_size(kind: str, rows: int, names: int, filled: int) -> None:
    """Raise UserError where there are more cells than memory is for, and most of them are empty."""
    if rows * names > max(MOST_CELLS, MOST_EMPTY * filled):
        what = f"{kind}: {rows} rows with {names} names, of which few are in a row, are more than {MOST_CELLS:,} cells"
        raise UserError(f"{what}; --pattern REGEX reads only what it names")


def from_rows(kind: str, rows: list[dict[str, Any]], notes: Iterable[str] = ()) -> Table:
    """Return the table of rows that may each have other columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if names and all(len(row) == len(names) for row in rows):
        cells = pd.DataFrame({name: pd.Series([row[name] for row in rows]) for name in names})
        return Table(kind, cells, cells.isna(), None, list(notes))
    check_size(kind, len(rows), len(names), sum(map(len, rows)))
    missing = object()
    lists = {name: [row.get(name, missing) for row in rows] for name in names}
    absent = pd.DataFrame({name: [cell is missing for cell in cells] for name, cells in lists.items()})
    columns = {name: pd.Series([None if c is missing else c for c in cells]) for name, cells in lists.items()}
    cells = pd.DataFrame(columns)
    return Table(kind, cells, cells.isna(), absent, list(notes))


def numbers(file: str | Path, cells: "pd.Series[Any]", empty: "pd.Series[bool]") -> npt.NDArray[np.float64]:
    """Return a column's cells as numbers, empty ones as NaN; raise UserError for text."""
    if cells.dtype.kind in "fiu":
        return cells.to_numpy(dtype=np.float64)
    blank = empty.to_numpy(dtype=np.bool_)
    found = np.full(len(cells), np.nan)
    if isinstance(cells.dtype, pd.StringDtype):  # mostly numbers as text: these at once, the rest, such as nan, below
        found = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    values = cells.tolist()
    for index in np.flatnonzero(np.isnan(found) & ~blank).tolist():
        value = number(values[index])
        if value is None:
            text = str(values[index])[:SHOWN]
            what = f"{text!r} is not a number (column {cells.name!r})"
            hint = ""
            if BEGINS.match(text):
                hint = r"; --pattern reads what is about it, as in '^\d+,(?P<loss>\S+)'"
            elif 2 * np.isfinite(found).sum() > len(found):
                hint = "; --where rows=FIRST-LAST takes some of the rows"
            raise UserError(f"{file}, row {cells.index[index] + 1}: {what}{hint}")
        found[index] = value
    return found


def number(cell: object) -> float | None:
    """Return a cell as a number; None if it is none."""
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, int | float | str | Decimal | np.number):
        return None
    if isinstance(cell, str) and "_" in cell and UNDERSCORES.fullmatch(cell.strip()) is None:
        return None  # "1_2.5" is two
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def moves(cells: "pd.Series[Any]") -> bool:
    """Return whether a column has more than one value."""
    if cells.dtype.kind in "iuf":  # without a table of millions of them
        values = cells.dropna().to_numpy()
        return bool((values[1:] != values[:-1]).any())
    return cells.nunique() > 1
