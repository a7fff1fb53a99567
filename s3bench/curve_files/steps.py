"""Finds the steps of a table's rows, merges doubled rows, or counts the rows."""

import re
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files.names import (
    ALL_STEPS,
    EPOCH_NAMES,
    NO_STEPS,
    PROCESS_NAMES,
    RUN_NAMES,
    WANDB_STEP,
    WITHIN_EPOCH,
    normal,
    steps_among,
    words,
)
from s3bench.curve_files.runs import RESUMES, Order, Rows, Steps, are_curves, joined, of_one_run, parts, resumed
from s3bench.curve_files.table import Table, moves, number, numbers
from s3bench.errors import UserError, unknown

OF_HOW_MANY = re.compile(r"\s*\[?(?:[a-z]+[ _:]*)?(?P<at>\d{1,15})(?:\s*(?:/|of)\s*\d+)?\]?\s*", re.IGNORECASE)
LARGEST_STEP = 2**53  # up to here, every whole number is a float
SAME = 0.01  # of a loss: two processes that log one step differ by less
DISORDER = 5  # of so many rows more than one goes back: no runs one below another
MOST_TURNS = 4  # rows of an epoch that may be those of as many curves
FEWEST_GROUPS = 5  # of rows that show how many rows each has
NEARLY_EACH = 0.95  # of the rows with a name of their own
ROUND = 1000  # "1K": steps from here on may be rounded to multiples of it
DIGITS = 3  # of steps that OpenAI's loggers write
RISING = 0.5  # of the rows: a first column without a name that rises as often counts something


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
    rows: Rows
    notes: tuple[str, ...] = ()


def place(file: str, table: Table, column: str, loss: Steps, named: str | None, resume: str | None) -> Placed:
    """Return the steps of the rows, as far as they are kept.

    Args:
        file: its name, for messages.
        table: the rows with a loss.
        column: that of the loss.
        loss: shape (rows,).
        named: the column of steps; None to find it, "none" to count rows.
        resume: which rows to keep where steps go back, "keep-last" or "keep-first"; None for the last where a run was
            resumed, and a refusal where several were logged.

    Raises:
        UserError: the steps are not whole numbers, or go back as those of several runs do.
    """
    name = _find_step(file, table, column, named)
    if name is None and named is None and resume is None and (last := _last_epoch_again(table)) is not None:
        what = f"the last row is of {last!r} again, as an evaluation's is, and was left out"
        return _kept(last, numbers(file, table.cells[last], table.empty[last]), np.arange(len(loss) - 1), [what])
    if name is None:
        return _by_epoch(file, table, loss, resume) if named is None else _as_told(file, table, column)
    steps = numbers(file, table.cells[name], table.empty[name])
    hint = f"--step NAME takes another column than {name!r}, --step {NO_STEPS} counts rows"
    _check_whole(file, table, name, steps, hint)
    if (np.diff(steps) > 0).all():
        hint = f"--resume {RESUMES[0]} takes all as one"
        return _kept(name, steps, np.arange(len(steps)), [] if resume else joined(file, table, rises=True, hint=hint))
    if resume is None and not parts(table) and _are_in_disorder(steps):
        return _kept(name, steps, np.argsort(steps), [f"rows are not in the order of {name!r}, and were sorted by it"])
    if named is None and _are_rounded(steps):
        return _counted(np.arange(len(steps)), f"rows are counted, for {name!r} is rounded")
    order = Order(name, steps, hint)
    if named is None and (within := _in_epochs(table, name, steps)) is not None:
        order = Order(name, within, hint, is_counted=True)
    is_one = resume is not None or not set(map(normal, parts(table))) - set(PROCESS_NAMES)
    rows, notes = _merged(order.values, loss) if is_one else (np.arange(len(steps)), [])
    if order.back(rows)[-1:].all() and (rest := _without_repeated_last(order.values, loss, rows)) is not None:
        rows, notes = rest, [*notes, "a last row that says an earlier one again, left out"]
    if order.is_counted:
        notes = [f"rows are counted, for {name!r} begins again in every epoch", *notes]
    if order.back(rows).any():
        if resume is None and (one := of_one_run(table, order, rows, loss)):
            return _counted(rows, *notes, one)
        kept, said = resumed(file, table, order, rows, resume)
        rows, notes = kept, [*notes, said]
    return _counted(rows, *notes) if order.is_counted else _kept(name, steps, rows, notes)


def with_plain_steps(table: Table) -> Table:
    """Return the table with 3 for a step that is written "3/400" or "epoch 3", where all of a column are."""
    for name in steps_among(table.names, tuple(ALL_STEPS)):
        if table.cells[name].dtype.kind in "iuf":
            continue
        cells = table.cells[name][~table.empty[name]]
        found = list(takewhile(bool, (OF_HOW_MANY.fullmatch(str(cell)) for cell in cells.tolist())))
        if found and len(found) == len(cells):
            table.cells[name] = pd.Series([float(one["at"]) for one in found if one], index=cells.index)
    return table


def _counted(rows: Rows, *notes: str) -> Placed:
    return Placed(None, np.arange(len(rows), dtype=np.int64), rows, notes)


def _kept(name: str, steps: Steps, rows: Rows, notes: list[str]) -> Placed:
    return Placed(name, steps[rows].astype(np.int64), rows, tuple(notes))


def _as_told(file: str, table: Table, column: str) -> Placed:
    """Return all rows counted, and a note where the steps or the epochs that are there go back."""
    notes: list[str] = []
    for name in filter(None, [_find_step(file, table, column, None), *steps_among(table.names, EPOCH_NAMES)]):
        values = _plain(table, name)
        back = 0 if values is None else int((np.diff(values) < 0).sum())
        if back and not notes:
            times = f"{back} time{'s' * (back > 1)}"
            notes = [f"{name!r} goes back {times}: the rows may be those of several runs or epochs"]
    return _counted(np.arange(len(table.cells)), *notes)


def _by_epoch(file: str, table: Table, loss: Steps, resume: str | None) -> Placed:
    """Return the rows counted, where epochs go back those of one run, and where all come twice one of each.

    Raises:
        UserError: they are those of several processes, or of several runs.
    """
    for name in parts(table):
        if normal(name) in PROCESS_NAMES:
            values = sorted(set(table.cells[name].tolist()), key=str)
            choice = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values[:20])
            hint = f"--step {NO_STEPS} counts all rows"
            raise UserError(
                f"{file}: rows of several processes; choose one with --where {name}=VALUE: {choice}; or {hint}"
            )
    rows = np.arange(len(loss))
    if (first := _first_of_each(table)) is not None:
        return _counted(rows[first], f"rows that repeat the row above, merged: {len(rows) - len(first)} of {len(rows)}")
    for name in steps_among(table.names, EPOCH_NAMES):
        epochs = _plain(table, name)
        if epochs is not None and (np.diff(epochs) < 0).any():
            order = Order(name, epochs, f"--step {NO_STEPS} counts all rows", may_repeat=True)
            if resume is None and (one := of_one_run(table, order, rows, loss)):
                return _counted(rows, one)
            kept, said = resumed(file, table, order, rows, resume)
            rises = _are_steps(epochs[kept]).all() and (np.diff(epochs[kept]) > 0).all()
            return _kept(name, epochs, kept, [said]) if rises else _counted(kept, said)
    if resume is None:
        joined(file, table, rises=False, hint=f"--step {NO_STEPS} counts all rows")
    return _counted(rows, *_of_one_run_each(table), *(_in_groups(table) or _in_turns(file, table, loss)))


def _of_one_run_each(table: Table) -> list[str]:
    """Return a note where each row has another name of a run, as a table of runs has."""
    names = [name for name in table.names if normal(name) in RUN_NAMES or normal(name).endswith("_id")]
    for name in names:
        cells = table.cells[name]
        if cells.dtype.kind not in "iuf" and cells.nunique() >= NEARLY_EACH * len(cells) > FEWEST_GROUPS:
            return [f"nearly each row has another {name!r}, so that each may be of a run"]
    return []


def _last_epoch_again(table: Table) -> str | None:
    """Return the column of whole epochs that rises from row to row, but for the last, which says one again."""
    for name in steps_among(table.names, EPOCH_NAMES):
        epochs = _plain(table, name)
        if epochs is not None and len(epochs) > FEWEST_GROUPS and _are_steps(epochs).all():
            apart = np.diff(epochs)
            return name if (apart[:-1] > 0).all() and apart[-1] == 0 else None
    return None


def _first_of_each(table: Table) -> Rows | None:
    """Return the first of as many equal rows each, with more than a loss in them; None if they are not so."""
    if len(table.names) < 2:
        return None
    cells = table.cells
    same = (cells.eq(cells.shift()) | (cells.isna() & cells.shift().isna())).all(axis=1).to_numpy(dtype=np.bool_)
    first = np.flatnonzero(~same)
    counts = np.diff(np.append(first, len(same)))
    return first if len(first) >= FEWEST_GROUPS and counts[0] > 1 and (counts == counts[0]).all() else None


def _in_groups(table: Table) -> list[str]:
    """Return a note where as many rows each have one fraction of an epoch and one learning rate, as of processes."""
    rates = [name for name in table.names if words(name) & {"lr", "rate"}]
    values = [_plain(table, name) for name in (*steps_among(table.names, EPOCH_NAMES)[:1], *rates[:1])]
    if len(values) < 2 or values[0] is None or values[1] is None or (values[0] == np.floor(values[0])).all():
        return []
    moves = np.any([np.diff(column) != 0 for column in values if column is not None], axis=0)
    counts = np.diff(np.flatnonzero(np.concatenate([[True], moves, [True]])))
    if len(counts) < FEWEST_GROUPS or counts[0] < 2 or (counts != counts[0]).any():
        return []
    return [f"each epoch and learning rate has {counts[0]} rows, which may be those of {counts[0]} processes"]


def _in_turns(file: str, table: Table, loss: Steps) -> list[str]:
    """Return a note where each epoch has as many rows, a few, as if several curves took turns.

    Raises:
        UserError: a column of words tells which row is whose, or the losses show that they are of several curves.
    """
    for name in steps_among(table.names, EPOCH_NAMES):
        epochs = _plain(table, name)
        if epochs is None:
            continue
        if within := [one for one in steps_among(table.names, WITHIN_EPOCH) if moves(table.cells[one])]:
            return _begun_again(table, within[0], name, epochs)
        counts = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(epochs) != 0, [True]])))
        if 1 == np.median(counts) < counts.max() and _are_steps(epochs).all():
            fullest = epochs[int(counts[: counts.argmax()].sum())]
            return [
                f"{name} {fullest:g} has {counts.max()} rows, where most have one: they may be those of several runs"
            ]
        count = int(counts[0])
        if len(counts) < FEWEST_GROUPS or not 1 < count <= MOST_TURNS or (counts != count).any():
            continue
        for one in table.names:
            cells = list(map(str, table.cells[one].tolist()))
            first = cells[:count]
            if all(map(str.isalpha, first)) and len(set(first)) == count and cells == first * len(counts):
                choice = f"choose one with --where {one}=VALUE: {', '.join(first)}"
                raise UserError(f"{file}: each {name} has {count} rows, told apart by column {one!r}; {choice}")
        if are_curves(loss.reshape(-1, count)):
            choice = f"--resume {RESUMES[1]} takes the first of each, {RESUMES[0]} the last"
            raise UserError(f"{file}: each {name} has {count} rows, of as many curves; --step {name} {choice}")
        return [f"each {name!r} has {count} rows, which may be those of {count} curves"]
    return []


def _begun_again(table: Table, name: str, epoch: str, epochs: Steps) -> list[str]:
    """Return a note where a counter begins again within an epoch."""
    values = _plain(table, name)
    again = 0 if values is None else int(((np.diff(values) < 0) & (np.diff(epochs) == 0)).sum())
    times = f"{again} time{'s' * (again > 1)}"
    return [f"{name!r} begins again {times} within one {epoch!r}: rows may be an evaluation's"] * bool(again)


def _in_epochs(table: Table, name: str, steps: Steps) -> Steps | None:
    """Return steps that go on where an epoch's steps begin again with the next one; None if they do not."""
    back = np.diff(steps) <= 0
    for other in steps_among(table.names, EPOCH_NAMES):
        epochs = _plain(table, other)
        if other == name or epochs is None or 2 * np.sum(np.diff(epochs)[back] > 0) < back.sum():
            continue
        _, within = np.unique(np.stack([epochs, steps]), axis=1, return_inverse=True)
        return within.reshape(-1).astype(np.float64)
    return None


def _are_in_disorder(steps: Steps) -> bool:
    """Return whether each row has a step of its own, but many go back: a table that is sorted otherwise, or not."""
    back = int((np.diff(steps) < 0).sum())
    return back * DISORDER > len(steps) > DISORDER and len(np.unique(steps)) == len(steps)


def _are_rounded(steps: Steps) -> bool:
    """Return whether steps rise one by one below 1,000, and are rounded from there on.

    That is so of "1K", "1K", "2K", and of three digits, as in "1.01e+04", "1.01e+04", "1.02e+04".
    """
    small, large = steps[steps < ROUND], steps[steps >= ROUND]
    rises = (np.diff(steps) >= 0).all() and (np.diff(small) > 0).all()
    if not rises or len(small) < 2 or not len(large):
        return False
    in_digits = large % 10 ** (np.floor(np.log10(large)) + 1 - DIGITS) == 0
    return bool((large % ROUND == 0).all() or (in_digits.all() and (np.diff(large) == 0).any()))


def _are_steps(values: Steps) -> npt.NDArray[np.bool_]:
    """Return which values are whole numbers, and exact as floats."""
    return np.asarray((np.abs(values) <= LARGEST_STEP) & (values == np.floor(values)))


def _check_whole(file: str, table: Table, name: str, steps: Steps, hint: str) -> None:
    broken = ~_are_steps(steps)
    if broken.any():
        at = int(broken.argmax())
        what = "the step is missing" if table.empty[name].iloc[at] else f"step {steps[at]:g} is not a whole number"
        raise UserError(f"{file}, row {table.cells.index[at] + 1}: {what} ({hint})")


def _find_step(file: str, table: Table, column: str, named: str | None) -> str | None:
    """Return the column of steps; None to count rows.

    It is the first of those that all rows with a loss have, and of these one that rises if there is any; an epoch, or a
    batch of one, only if it rises. One that most rows lack is none of theirs.
    """
    if named == NO_STEPS:
        return None
    if named is not None:
        if named not in table.names:
            raise unknown(f"column of {file}", named, table.names)
        return named
    own = [name for name in steps_among(table.names) if table.empty[name].mean() <= 0.5]
    whole = [name for name in own if not table.empty[name].any()]
    moving = [name for name in whole if moves(table.cells[name])]
    weak = [name for known in (EPOCH_NAMES, WITHIN_EPOCH) for name in steps_among(table.names, known)]
    rising = [name for name in [*moving, *weak] if _rises(table, name)]
    if rising and (rising[0] in own or not moving):
        return rising[0]
    if moving:
        return moving[0]
    if WANDB_STEP in table.names and not (own and table.empty[WANDB_STEP].any()):
        return WANDB_STEP
    lacking = [name for name in own if name not in whole]  # which is refused
    return lacking[0] if lacking else _first_number(table, column)


def _first_number(table: Table, column: str) -> str | None:
    """Return the first column of numbers of a table without names, if it is not the loss, and rises like steps."""
    if not all(map(str.isdigit, table.names)):
        return None
    first = next((name for name in table.names if table.cells[name].dtype.kind in "iuf"), column)
    return first if first != column and _rises(table, first, RISING) else None


def _rises(table: Table, name: str, share: float = 1.0) -> bool:
    """Return whether a column has whole numbers, and rises from row to row, or in this share of the rows."""
    values = _plain(table, name)
    if values is None or not (values == np.floor(values)).all():
        return False
    return bool(np.sum(np.diff(values) > 0) >= share * (len(values) - 1))


def _plain(table: Table, name: str) -> Steps | None:
    """Return a column as numbers, all of them finite; None if it has anything else."""
    cells = table.cells[name]
    if cells.dtype.kind in "iuf":
        values = cells.to_numpy(dtype=np.float64)
    else:
        values = np.array([np.nan if (value := number(cell)) is None else value for cell in cells.tolist()])
    return values if np.isfinite(values).all() else None


def _merged(steps: Steps, loss: Steps) -> tuple[Rows, list[str]]:
    """Return the rows without those that say a step's loss again, as several processes write, and a note on them.

    Where all rows of a step agree, they are sorted; otherwise only neighbours are merged.
    """
    order = np.argsort(steps, kind="stable")
    _, first, counts = np.unique(steps[order], return_index=True, return_counts=True)
    if 2 * np.sum(counts > 1) >= len(first) and _agree(loss[order], first).all():
        rows = order[first]
        return rows, [f"rows that repeat a step's loss, merged: {len(steps) - len(rows)} of {len(steps)}"]
    again = 1 + np.flatnonzero(np.diff(steps) == 0)
    pairs = np.stack([loss[again - 1], loss[again]], axis=1).ravel()
    same = np.zeros(len(steps), dtype=np.bool_)
    same[again] = _agree(pairs, np.arange(0, len(pairs), 2))
    rows = np.flatnonzero(~same)
    return rows, [f"rows that repeat a step's loss, merged: {int(same.sum())} of {len(steps)}"] * bool(same.any())


def _without_repeated_last(steps: Steps, loss: Steps, rows: Rows) -> Rows | None:
    """Return the rows without the last, where it says an earlier step and its loss again: the best one; else None."""
    *earlier, last = rows.tolist()
    again = (steps[earlier] == steps[last]) & (loss[earlier] == loss[last])
    return rows[:-1] if again.any() else None


def _agree(losses: Steps, first: Rows) -> npt.NDArray[np.bool_]:
    """Return of which groups the losses are one, but for what two processes' rounding makes of it, shape (groups,).

    Losses that are not finite agree with such ones alone.
    """
    if not len(first):
        return np.zeros(0, dtype=np.bool_)
    finite = np.isfinite(losses)
    lowest = np.minimum.reduceat(np.where(finite, losses, np.inf), first)
    highest = np.maximum.reduceat(np.where(finite, losses, -np.inf), first)
    is_finite, is_any = (ufunc.reduceat(finite, first) for ufunc in (np.logical_and, np.logical_or))
    with np.errstate(invalid="ignore"):  # of no finite ones
        is_close = highest - lowest <= SAME * np.maximum(np.abs(lowest), np.abs(highest))
    return np.asarray(np.where(is_finite, is_close, ~is_any))
