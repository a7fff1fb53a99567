"""Tells rows of a run that was resumed from those of several runs, and keeps one of what a resume repeats."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files.names import OF_PARTS, OF_QUALIFIER, PROCESS_NAMES, RUN_NAMES, listed, normal
from s3bench.curve_files.rows import RANGE
from s3bench.curve_files.table import Table
from s3bench.errors import UserError

RESUMES = ("keep-last", "keep-first")
FEWEST_EPOCHS, FEWEST_ROWS = 3, 3  # that begin with one step each; rows of one
ROWS_PER_RESUME = 10  # at least: steps that go back more often are not a counter of steps
FEW_BEFORE = 10  # rows of a run at least for each row of the starts before it that were given up
APART = 3  # times the move of a loss from epoch to epoch: another is no later value of it
MOST_RUNS = 100
SHOWN_RUNS = 12  # of which a message tells the rows

Steps = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class SeveralRuns(UserError):
    """Raised for the rows of several runs, of which no more rows make one."""


@dataclass(frozen=True)
class Order:
    """What the rows of a run rise in.

    Attributes:
        name: the column that it is taken from.
        values: shape (rows of the table,).
        hint: what else can be passed, for messages.
        is_counted: whether the values are not the steps: rows are counted.
        may_repeat: whether a run's rows may have the same value, as an epoch's do.
    """

    name: str
    values: Steps
    hint: str
    is_counted: bool = False
    may_repeat: bool = False

    def back(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return before which rows but the first the order goes back, shape (rows - 1,)."""
        apart = np.diff(self.values[rows])
        return np.asarray(apart < 0 if self.may_repeat else apart <= 0)


def resumed(file: str, table: Table, order: Order, rows: Rows, resume: str | None) -> tuple[Rows, str]:
    """Return the rows of one run, which was resumed, and a note on those it repeats.

    Raises:
        UserError: they are those of several runs, and `resume` does not say to take them as one.
    """
    back = order.back(rows)
    if resume is None and not parts(table) and (begin := _begins_at(order.values[rows], back)):
        what = f"rows before {order.name!r} begins again for the last time, as of starts that were given up, left out"
        return rows[begin:], f"{what}: {begin}"
    if resume is None:
        _refuse_several_runs(file, table, order, rows)
    kept = rows[_kept(order.values[rows], back, resume or RESUMES[0])]
    count = int(back.sum())
    times = f"{count} time{'s' * (count > 1)}, taken as a resumed run ({resume or RESUMES[0]})"
    return kept, f"steps of {order.name!r} go back {times}: repeated rows, left out: {len(rows) - len(kept)}"


def are_curves(losses: Steps) -> bool:
    """Return whether losses, shape (epochs, rows), lie further apart in each epoch than each moves, in one order."""
    if not np.isfinite(losses).all():
        return False
    apart, moves = losses[:, 1:] - losses[:, :1], np.abs(np.diff(losses, axis=0))
    is_above = (apart > 0).all(axis=0) | (apart < 0).all(axis=0)
    return bool((is_above & (np.median(np.abs(apart), axis=0) > APART * np.median(moves))).any())


def of_one_run(table: Table, order: Order, rows: Rows, loss: Steps) -> str:
    """Return a note where steps begin again and again, but the loss goes on from where it was: epochs of a run; or "".

    A run of its own begins with the loss that the first began with.
    """
    begins = np.flatnonzero(order.back(rows)) + 1
    values, losses = order.values[rows], loss[rows]
    parts_of_loss = [part for part in np.split(losses, begins) if len(part) >= FEWEST_ROWS]
    if (
        parts(table)
        or len(begins) < FEWEST_EPOCHS - 1
        or len(parts_of_loss) <= len(begins)
        or (values[begins] > values[1]).any()
    ):
        return ""
    few = [1 + min(len(part), 20) // 10 for part in parts_of_loss]
    first = np.array([np.median(part[:count]) for part, count in zip(parts_of_loss, few, strict=True)])
    last = np.array([np.median(part[-count:]) for part, count in zip(parts_of_loss, few, strict=True)])
    goes_on = 2 * np.abs(first[1:] - last[:-1]) < first[0] - first[1:]
    what = f"{order.name!r} begins again {len(begins)} times, where the loss goes on: taken as epochs of one run"
    return f"{what}, rows are counted" if goes_on.all() else ""


def _begins_at(values: Steps, back: npt.NDArray[np.bool_]) -> int:
    """Return where the last run begins if it is nearly all there is, begins as the first, and goes beyond all; or 0."""
    last = int(np.flatnonzero(back)[-1]) + 1
    is_all = last * FEW_BEFORE <= len(values) - last
    return last if is_all and values[last] <= values[0] and values[-1] > values[:last].max() else 0


def _kept(values: Steps, back: npt.NDArray[np.bool_], resume: str) -> npt.NDArray[np.bool_]:
    """Return which rows to keep: those before every step past a later resume, or past every step before an earlier."""
    part = np.append(0, np.cumsum(back))
    begins = np.append(0, np.flatnonzero(back) + 1)
    if resume == RESUMES[1]:
        highest = np.maximum.accumulate(np.maximum.reduceat(values, begins))
        return np.asarray(values > np.append(-np.inf, highest[:-1])[part])
    lowest = np.minimum.accumulate(np.minimum.reduceat(values, begins)[::-1])[::-1]
    return np.asarray(values < np.append(lowest[1:], np.inf)[part])


def _refuse_several_runs(file: str, table: Table, order: Order, rows: Rows) -> None:
    """Raise UserError unless the steps go back as those of one resumed run do: seldom, and not to its beginning."""
    kept = order.values[rows]
    back = np.flatnonzero(order.back(rows)) + 1
    forward = np.diff(kept)
    near = kept[0] + 2 * float(np.median(forward[forward > 0])) if (forward > 0).any() else np.inf
    begins = back[kept[back] <= near]
    is_often = len(back) * ROWS_PER_RESUME > len(kept)
    if not (parts(table) or len(begins) or is_often):
        return
    at = int(back[0])
    before, row = (int(table.cells.index[rows[place]]) + 1 for place in (at - 1, at))
    earlier, later = map(_written, table.cells[order.name].iloc[rows[[at - 1, at]]].tolist())
    what = f"row {row}: {_what(order)} {later} comes after {earlier}"
    if kept[at - 1] == kept[at]:
        what = f"rows {before} and {row}: {_what(order)} {later} appears twice"
        choice = f"--resume {RESUMES[0]} takes the last row of each, {RESUMES[1]} the first"
    elif not is_often or len(back) == 1:
        choice = f"choose one with --where {RANGE}: {_ranges(table, rows, back)}"
    else:
        choice = ""
    if names := parts(table):
        values = list(dict.fromkeys(_values(table, names[0])))
        choice = f"choose one with --where {names[0]}=VALUE: {listed(values)}"
    raise SeveralRuns(f"{file}, {what}, as in several runs; {'; or '.join(filter(None, [choice, order.hint]))}")


def _ranges(table: Table, rows: Rows, begins: Rows) -> str:
    """Return the rows of the longest runs, for a message, by where all but the first begin."""
    ends = [*begins - 1, len(rows) - 1]
    runs = sorted(zip([0, *begins], ends, strict=True), key=lambda run: run[0] - run[1])[:SHOWN_RUNS]
    places = table.cells.index.to_numpy()[rows] + 1
    shorter = f" and {len(ends) - len(runs)} shorter" if len(ends) > len(runs) else ""
    return ", ".join(f"{places[begin]}-{places[end]}" for begin, end in sorted(runs) if end > begin) + shorter


def _what(order: Order) -> str:
    return order.name if order.may_repeat else "step"


def parts(table: Table) -> list[str]:
    """Return the columns that name runs, several of them: by words or whole numbers, as losses do not."""
    return [
        name
        for name in table.names
        if (normal(name) in RUN_NAMES + PROCESS_NAMES or name.startswith(OF_QUALIFIER))
        and _are_names(table, name)
        and 1 < _kinds(table, name) <= MOST_RUNS
    ]


def joined(file: str, table: Table, *, rises: bool, hint: str) -> list[str]:
    """Return a note where the rows, in their order, are said to be of several runs, one after the other.

    Raises:
        UserError: they take turns, or no steps say that one run continues another.
    """
    for name in parts(table):
        values = _values(table, name)
        runs = list(dict.fromkeys(values))
        if normal(name) in PROCESS_NAMES or 2 * len(runs) > len(values):
            continue
        changes = sum(value != before for before, value in pairwise(values))
        if rises and (changes < len(runs) or normal(name) in OF_PARTS):
            return [f"{name!r} has {len(runs)} values, taken as one run, as the steps rise through all of them"]
        choice = f"choose one with --where {name}=VALUE: {listed(runs)}"
        raise SeveralRuns(f"{file}: column {name!r} names several runs; {choice}; or {hint}")
    return []


def _are_names(table: Table, name: str) -> bool:
    cells = table.cells[name][~table.empty[name]]
    return cells.dtype.kind != "f" or bool((cells == np.floor(cells)).all())


def _kinds(table: Table, name: str) -> int:
    cells = table.cells[name]
    return cells[~table.empty[name]].nunique() if cells.dtype.kind in "iuf" else len(set(_values(table, name)))


def _values(table: Table, name: str) -> list[str]:
    """Return a column's cells as they are written, but for empty ones."""
    return list(map(_written, table.cells[name][~table.empty[name]].tolist()))


def _written(cell: object) -> str:
    return f"{cell:.0f}" if isinstance(cell, float) and pd.notna(cell) and cell == np.floor(cell) else str(cell)
