"""Finds the steps of a table's rows: merges doubled rows, tells a resume from several runs, or counts the rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files.names import (
    EPOCH_NAMES,
    NO_STEPS,
    PROCESS_NAMES,
    RUN_NAMES,
    WANDB_STEP,
    WITHIN_EPOCH,
    listed,
    normal,
    steps_among,
)
from s3bench.curve_files.table import Table, number, numbers
from s3bench.errors import UserError, unknown

LARGEST_STEP = 2**53  # up to here, every whole number is a float
RESUMES = ("keep-last", "keep-first")
SAME = 0.01  # of a loss: two processes that log one step differ by less
ROWS_PER_RESUME = 10  # at least: steps that go back more often are not a counter of steps
MOST_RUNS = 100

Steps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placed:
    """Where the rows lie.

    Attributes:
        column: the column of the steps; None if rows are counted.
        steps: shape (n,), strictly rising.
        rows: shape (n,), the rows that the steps are of, as indices.
        notes: sentences on rows that were merged or left out.
    """

    column: str | None
    steps: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()


def place(file: str, table: Table, loss: Steps, named: str | None, resume: str | None) -> Placed:
    """Return the steps of the rows, as far as they are kept.

    Args:
        file: its name, for messages.
        table: the rows with a loss.
        loss: shape (rows,).
        named: the column of steps; None to find it, "none" to count rows.
        resume: which rows to keep where steps go back, "keep-last" or "keep-first"; None for the last where a run was
            resumed, and a refusal where several were logged.

    Raises:
        UserError: the steps are not whole numbers, or go back as those of several runs do.
    """
    name = _find_step(file, table, named)
    if name is None:
        if named is None:
            _refuse_epochs_that_go_back(file, table)
        return _counted(len(loss))
    steps = numbers(file, table.cells[name], table.empty[name])
    hint = f"(--step NAME takes another column than {name!r}; --step {NO_STEPS} counts rows)"
    _check_whole(file, table, name, steps, hint)
    if (np.diff(steps) > 0).all():
        return _kept(name, steps, np.arange(len(steps)), [])
    if named is None and resume is None and _begins_again_in_epochs(table, steps):
        return _counted(len(loss), f"rows are counted, for {name!r} begins again in every epoch")
    is_one = resume is not None or not set(map(normal, _parts(table))) - set(PROCESS_NAMES)
    rows, notes = _merged(steps, loss) if is_one else (np.arange(len(steps)), [])
    if (np.diff(steps[rows]) > 0).all():
        return _kept(name, steps, rows, notes)
    if resume is None:
        _refuse_several_runs(file, table, steps, rows, hint)
    after = _resumed(steps[rows], resume or RESUMES[0])
    back = int((np.diff(steps[rows]) <= 0).sum())
    notes.append(
        f"steps of {name!r} go back {back} time{'s' * (back > 1)}, taken as a resumed run ({resume or RESUMES[0]}): "
        f"repeated rows, left out: {len(rows) - len(after)}"
    )
    return _kept(name, steps, rows[after], notes)


def _counted(count: int, *notes: str) -> Placed:
    return Placed(None, np.arange(count, dtype=np.int64), np.arange(count), notes)


def _kept(name: str, steps: Steps, rows: npt.NDArray[np.int64], notes: list[str]) -> Placed:
    return Placed(name, steps[rows].astype(np.int64), rows, tuple(notes))


def _check_whole(file: str, table: Table, name: str, steps: Steps, hint: str) -> None:
    broken = ~(np.abs(steps) <= LARGEST_STEP) | (steps != np.floor(steps))
    if broken.any():
        at = int(broken.argmax())
        what = "the step is missing" if table.empty[name].iloc[at] else f"step {steps[at]:g} is not a whole number"
        raise UserError(f"{file}, row {table.cells.index[at] + 1}: {what} {hint}")


def _find_step(file: str, table: Table, named: str | None) -> str | None:
    """Return the column of steps; None to count rows.

    It is the first of those that all rows with a loss have, and of these one that rises if there is any; an epoch, or a
    batch of one, only if it rises.
    """
    if named == NO_STEPS:
        return None
    if named is not None:
        if named not in table.names:
            raise unknown(f"column of {file}", named, table.names)
        return named
    own = [name for name in steps_among(table.names) if not table.empty[name].all()]
    whole = [name for name in own if not table.empty[name].any()]
    moving = [name for name in whole if _moves(table.cells[name])] or whole
    weak = [name for known in (EPOCH_NAMES, WITHIN_EPOCH) for name in steps_among(table.names, known)]
    rising = [name for name in [*moving, *weak] if _rises(table, name)]
    if rising and (rising[0] in own or not moving):
        return rising[0]
    if moving:
        return moving[0]
    if WANDB_STEP in table.names and not (own and table.empty[WANDB_STEP].any()):
        return WANDB_STEP
    return own[0] if own else None


def _moves(cells: "pd.Series[Any]") -> bool:
    """Return whether a column has more than one value."""
    if cells.dtype.kind in "iuf":  # without a table of millions of them
        values = cells.dropna().to_numpy()
        return bool((values[1:] != values[:-1]).any())
    return cells.nunique() > 1


def _rises(table: Table, name: str) -> bool:
    values = _plain(table, name)
    return values is not None and bool((np.diff(values) > 0).all() and (values == np.floor(values)).all())


def _plain(table: Table, name: str) -> Steps | None:
    """Return a column as numbers, all of them finite; None if it has anything else."""
    cells = table.cells[name]
    if cells.dtype.kind in "iuf":
        values = cells.to_numpy(dtype=np.float64)
    else:
        values = np.array([np.nan if (value := number(cell)) is None else value for cell in cells.tolist()])
    return values if np.isfinite(values).all() else None


def _refuse_epochs_that_go_back(file: str, table: Table) -> None:
    """Raise UserError where rows would be counted though their epochs show several runs."""
    for name in steps_among(table.names, EPOCH_NAMES):
        epochs = _plain(table, name)
        if epochs is None:
            continue
        back = np.diff(epochs) < 0
        if back.any():
            at = int(back.argmax())
            row = table.cells.index[at + 1] + 1
            what = f"{name} {epochs[at + 1]:g} comes after {epochs[at]:g}, as in several runs"
            raise UserError(f"{file}, row {row}: {what}; {_choices(table, at + 1)}--step {NO_STEPS} counts all rows")


def _begins_again_in_epochs(table: Table, steps: Steps) -> bool:
    """Return whether the steps go back exactly where a new epoch begins, and nowhere else."""
    back = np.diff(steps) <= 0
    for name in steps_among(table.names, EPOCH_NAMES):
        epochs = _plain(table, name)
        if epochs is not None and back.any() and (np.diff(epochs)[back] > 0).all() and (np.diff(epochs) >= 0).all():
            return True
    return False


def _merged(steps: Steps, loss: Steps) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the rows without those that say a step's loss again, as several processes write, and a note on them.

    Where all rows of a step agree, they are sorted; otherwise only neighbours are merged.
    """
    order = np.argsort(steps, kind="stable")
    _, first = np.unique(steps[order], return_index=True)
    groups = _groups(len(steps), first)
    if 2 * len(groups) >= len(first) and all(_agree(loss[order[part]]) for part in groups):
        rows = order[first]
        return rows, [f"rows that repeat a step's loss, merged: {len(steps) - len(rows)} of {len(steps)}"]
    same = np.zeros(len(steps), dtype=np.bool_)
    for at in np.flatnonzero(np.diff(steps) == 0):
        same[at + 1] = _agree(loss[at : at + 2])
    rows = np.flatnonzero(~same)
    return rows, [f"rows that repeat a step's loss, merged: {int(same.sum())} of {len(steps)}"] * bool(same.any())


def _groups(count: int, first: npt.NDArray[np.int64]) -> list[slice]:
    ends = [*first[1:].tolist(), count]
    return [slice(begin, end) for begin, end in zip(first.tolist(), ends, strict=True) if end > begin + 1]


def _agree(losses: Steps) -> bool:
    """Return whether losses are one, but for what two processes' rounding makes of it."""
    finite = losses[np.isfinite(losses)]
    if len(finite) < len(losses):
        return len(finite) == 0
    return bool(np.ptp(finite) <= SAME * np.abs(finite).max())


def _refuse_several_runs(file: str, table: Table, steps: Steps, rows: npt.NDArray[np.int64], hint: str) -> None:
    """Raise UserError unless the steps go back as those of one resumed run do: seldom, and not to its beginning."""
    kept = steps[rows]
    back = np.flatnonzero(np.diff(kept) <= 0)
    at = int(back[0])
    forward = np.diff(kept)
    near = kept[0] + 2 * float(np.median(forward[forward > 0])) if (forward > 0).any() else np.inf
    from_start = kept[back + 1] <= near
    parts = _parts(table)
    if not (parts or from_start.any() or len(back) * ROWS_PER_RESUME > len(kept)):
        return
    before, row = (int(table.cells.index[rows[place]]) + 1 for place in (at, at + 1))
    what = f"row {row}: step {kept[at + 1]:.0f} comes after {kept[at]:.0f}"
    if kept[at] == kept[at + 1]:
        what = f"rows {before} and {row}: step {kept[at]:.0f} appears twice"
    raise UserError(f"{file}, {what}, as in several runs; {_choices(table, int(rows[at + 1]))}or {hint}")


def _parts(table: Table) -> list[str]:
    """Return the columns that name runs, several of them."""
    return [
        name
        for name in table.names
        if normal(name) in RUN_NAMES + PROCESS_NAMES and 1 < _kinds(table, name) <= MOST_RUNS
    ]


def _kinds(table: Table, name: str) -> int:
    return len(set(map(str, table.cells[name].tolist())))


def _choices(table: Table, row: int) -> str:
    """Return what takes one of several runs, for a message: a column's value, or the rows before or from this one."""
    parts = _parts(table)
    if parts:
        values = list(dict.fromkeys(_written(cell) for cell in table.cells[parts[0]].tolist()))
        return f"choose one with --where {parts[0]}=VALUE: {listed(values)}; "
    return f"--resume keep-last takes the rows from {table.cells.index[row] + 1} on, keep-first those before; "


def _written(cell: object) -> str:
    return f"{cell:.0f}" if isinstance(cell, float) and pd.notna(cell) and cell == np.floor(cell) else str(cell)


def _resumed(steps: Steps, resume: str) -> npt.NDArray[np.int64]:
    """Return the rows to keep: those before every later row's step, or those past every earlier row's."""
    if resume == "keep-first":
        highest = np.maximum.accumulate(np.append(-np.inf, steps[:-1]))
        return np.flatnonzero(steps > highest)
    lowest = np.minimum.accumulate(np.append(steps[1:], np.inf)[::-1])[::-1]
    return np.flatnonzero(steps < lowest)
