"""Tells which rows of a table belong to its loss: the training's, and of empty ones those that are not finite."""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files.names import (
    ALL_STEPS,
    EPOCH_NAMES,
    KIND_NAMES,
    OF_EVALUATION,
    OF_OTHERS,
    OF_SIDES,
    OF_TRAINING,
    WANDB_STEP,
    listed,
    normal,
    steps_among,
    words,
)
from s3bench.curve_files.table import Table, number
from s3bench.errors import UserError, unknown

Mask = npt.NDArray[np.bool_]
RANGE = "rows=FIRST-LAST"  # instead of NAME=VALUE
TRAINING_FLAGS = ("is_train", "is_training", "training")  # columns of yes and no
YES, NO = ("true", "1", "yes"), ("false", "0", "no")
MOST_TORN = 0.02  # of the rows that may lack a step
MOST_FOOTER = 3  # rows at a table's end that are no rows of it
FEWEST = 2  # rows of a kind
MOST_KINDS = 20  # values of a column that may tell kinds of rows apart


def chosen(file: str, table: Table, where: str | None) -> Table:
    """Return the rows in which a column has a value, written as NAME=VALUE, or as rows=FIRST-LAST; all rows for None.

    Raises:
        UserError: there is no such column, no such value in it, or there are no such rows.
    """
    if where is None:
        return table
    name, equals, value = where.rpartition("=")
    if not equals:
        raise UserError(f"--where {where!r} must be NAME=VALUE, such as split=train, or {RANGE}, such as rows=1-500")
    if is_range(where):
        return _of_range(file, table, value)
    if name not in table.names:
        raise unknown(f"column of {file}", name, table.names)
    cells = _as_text(table.cells[name])
    mask = (cells == value).to_numpy(dtype=np.bool_) & ~table.empty[name].to_numpy(dtype=np.bool_)
    if not mask.any():
        there = sorted(set(cells[~table.empty[name]]))
        raise unknown(f"value of column {name!r}", value, there[:MOST_KINDS])
    kept = table.where(mask)
    kept.notes.append(f"rows in which {name} is not {value}, left out: {int((~mask).sum())} of {len(mask)}")
    return kept


def is_range(where: str | None) -> bool:
    """Return whether rows are chosen by their places, as messages count them."""
    return re.fullmatch(r"rows=\d+-\d+", where or "") is not None


def _of_range(file: str, table: Table, value: str) -> Table:
    first, last = map(int, value.split("-"))
    mask = table.cells.index.to_series().between(first - 1, last - 1).to_numpy(dtype=np.bool_)
    if not mask.any():
        raise UserError(f"{file} has the rows 1-{table.cells.index[-1] + 1}, and not {value}")
    kept = table.where(mask)
    kept.notes.append(f"rows but {value}, left out: {int((~mask).sum())} of {len(mask)}")
    return kept


def of_training(file: str, table: Table, column: str) -> Table:
    """Return the rows with a loss without those of a validation or a test, where a column or a column's presence tells.

    Raises:
        UserError: a column tells kinds of rows apart, but not which is the training's.
    """
    for name in table.names:
        if name != column:
            table = _of_kind(file, table, column, name)
    return _without_evaluations(table, column)


def _of_kind(file: str, table: Table, column: str, name: str) -> Table:
    """Return the rows of the training by one column."""
    cells = table.cells[name]
    has_flag = bool(words(name) & OF_EVALUATION) and not words(name) - OF_EVALUATION - {"is", "in"}
    is_named = normal(name) in KIND_NAMES
    is_training = normal(name) in TRAINING_FLAGS
    is_flag = is_training or normal(name) == "split" or (has_flag and "is" in words(name))
    if cells.dtype.kind in "iuf" and not (is_flag and set(cells.dropna().unique().tolist()) == {0, 1}):
        return table
    filled = ~(table.empty[column] | table.empty[name]).to_numpy(dtype=np.bool_)
    kinds = list(dict.fromkeys(_as_text(cells[filled]).tolist())) if filled.any() else []
    if not 1 < len(kinds) <= MOST_KINDS:
        return table
    evaluations = {kind for kind in kinds if words(kind) & OF_EVALUATION}
    is_training = is_training and {kind.lower() for kind in kinds} <= {*YES, *NO}
    if has_flag or is_training:
        evaluations = {kind for kind in kinds if (kind.lower() in YES) == has_flag}
    left = [kind for kind in kinds if kind not in evaluations]
    trained = [kind for kind in left if words(kind) & OF_TRAINING]
    left = trained if len(trained) == 1 and (is_named or evaluations) else left
    if not (is_named or evaluations):
        table.notes += _kinds_without_steps(table, name, cells[filled])
        return table
    if len(left) != 1:
        if not is_named and left:
            return table  # a text such as a checkpoint's name
        if not evaluations and _follow_each_other(table, cells[filled], kinds):
            shown = f"{len(kinds)} values one after the other, taken as one run: {listed(kinds)}"
            table.notes.append(f"{name!r} has {shown}")
            return table
        choice = f"choose one with --where {name}=VALUE"
        raise UserError(f"{file}: column {name!r} tells kinds of rows apart; {choice}: {listed(kinds)}")
    out = filled & (_as_text(cells) != left[0]).to_numpy(dtype=np.bool_)
    kept = table.where(~out)
    kept.notes.append(f"rows in which {name} is not {left[0]}, left out: {int(out.sum())} of {len(out)}")
    return kept


def _kinds_without_steps(table: Table, name: str, cells: "pd.Series[Any]") -> list[str]:
    """Return a note where no step, but a text that recurs between most rows' tells of another kind of rows."""
    if steps_among(table.names, tuple(ALL_STEPS)) or cells.dtype.kind == "b":
        return []
    counts = cells.map(str).value_counts()
    if 2 * counts.iloc[0] < len(cells) or counts.iloc[-1] < FEWEST or number(counts.index[0]) is not None:
        return []
    told = f"{name!r} has {len(counts)} values, of which rows may be of other kinds: {listed(list(counts.index))}"
    return [f"{told}; --where {name}=VALUE takes those of one"]


def _follow_each_other(table: Table, cells: "pd.Series[Any]", kinds: list[str]) -> bool:
    """Return whether each kind's rows lie one below another, in a table with steps: phases of a run."""
    values = _as_text(cells).to_numpy()
    is_in_turn = int((values[1:] != values[:-1]).sum()) == len(kinds) - 1
    return is_in_turn and bool(steps_among(table.names, tuple(ALL_STEPS)))


def _without_evaluations(table: Table, column: str) -> Table:
    """Return the table without the few rows that have an evaluation's cells, and lack what all others have.

    A row that also has cells of the training, beside its step, is none of these.
    """
    has_loss = ~table.empty[column].to_numpy(dtype=np.bool_)
    others = [name for name in table.names if name != column]
    marks = [name for name in others if words(name) & OF_EVALUATION]
    if not marks or not has_loss.any():
        return table
    filled = ~table.empty
    marked = filled[marks].any(axis=1).to_numpy(dtype=np.bool_) & has_loss
    if not 0 < marked.sum() <= has_loss.sum() / 2:
        return table
    always = filled[others][has_loss & ~marked].all(axis=0).to_numpy(dtype=np.bool_)
    lacks = ~filled[others].to_numpy(dtype=np.bool_)[:, always].all(axis=1)
    trained = [name for name in table.names if words(name) & {"train", "training"} and normal(name) not in ALL_STEPS]
    out = np.asarray(marked & lacks) & ~filled[trained].any(axis=1).to_numpy(dtype=np.bool_)
    if not out.any():
        return table
    kept = table.where(~out)
    kept.notes.append(f"rows of an evaluation, left out: {int(out.sum())} of {len(out)}")
    return kept


def _as_text(cells: "pd.Series[Any]") -> "pd.Series[str]":
    """Return cells as they are written; whole numbers without a point."""
    if cells.dtype.kind == "f":
        return cells.map(lambda cell: f"{cell:.0f}" if cell == np.floor(cell) else repr(cell))
    return cells.map(lambda cell: cell if isinstance(cell, str) else str(cell))


def with_loss(file: str, table: Table, column: str) -> Table:
    """Return the rows of the loss, and note how many others there are.

    Raises:
        UserError: no row has a loss, or only one has.
    """
    if table.cells.empty:
        raise UserError(f"{file} has no rows; it needs one row per step")
    count = len(table.cells)
    table = table.where(table.named(column))
    steps = {WANDB_STEP, *steps_among(table.names), *steps_among(table.names, EPOCH_NAMES)}
    ended = _ended(table, column)
    logged = np.asarray(_logged(table.empty, column, steps) & ~ended)
    if not logged.any():
        raise UserError(f"{file}: column {column!r} is empty")
    without = count - int(logged.sum()) - int(ended.sum())
    if without and table.kind != "TensorBoard events":
        table.notes.append(f"rows without a loss, left out: {without} of {count}")
    if ended.any():
        table.notes.append(f"rows before {column!r} begins or after it ends, left out: {int(ended.sum())} of {count}")
    non_finite = int((logged & table.empty[column].to_numpy()).sum())
    if non_finite:
        table.notes.append(f"empty cells of {column!r} taken as non-finite losses: {non_finite}")
    table = table.where(logged)
    if len(table.cells) < 2:
        raise UserError(f"{file} has one row with a loss; a curve needs at least two")
    return table


def without_torn(table: Table) -> Table:
    """Return the rows with a loss without the few that lack the step which all others have, as torn ones do."""
    names = steps_among(table.names)
    lacking = {name: table.empty[name].to_numpy(dtype=np.bool_) for name in names}
    torn = next((out for out in lacking.values() if 0 < out.sum() <= MOST_TORN * len(out)), None)
    if torn is None or not all(out.any() for out in lacking.values()):
        return table
    kept = table.where(~torn)
    kept.notes.append(f"rows with a loss but no step, left out: {int(torn.sum())} of {len(torn)}")
    return kept


def without_footer(table: Table) -> Table:
    """Return the table without a few rows at its end that have no number where all others have their step.

    So "mean,1.23", which a spreadsheet has below, is no row of the loss.
    """
    names = [*steps_among(table.names), *steps_among(table.names, EPOCH_NAMES)]
    last = table.cells[names].iloc[-MOST_FOOTER - 1 :].to_numpy(dtype=object).tolist()
    has_step = [any(number(cell) == number(cell) is not None for cell in row) for row in last]
    for name in names:
        cells = table.cells[name]
        count = len(has_step) - 1 - max((at for at, has in enumerate(has_step) if has), default=-1)
        if 0 < count <= MOST_FOOTER < len(cells) and pd.to_numeric(cells[:-count], errors="coerce").notna().all():
            shown = table.cells.iloc[-count].tolist()
            first = next((str(cell) for cell in shown if isinstance(cell, str) and number(cell) is None), "")
            such = f", such as {first!r}" * bool(first)
            kept = table.where(np.arange(len(cells)) < len(cells) - count)
            kept.notes.append(f"rows at the end without a step{such}, left out: {count}")
            return kept
    return table


def _ended(table: Table, column: str) -> Mask:
    """Return the rows before the first and after the last loss where another run's loss of the same table goes on.

    Such a table has a column per run; "loss" itself is no run's.
    """
    filled = ~table.empty[column].to_numpy(dtype=np.bool_)
    out = np.zeros(len(filled), dtype=np.bool_)
    others = [name for name in table.names if name != column and "loss" in words(name)]
    others = [name for name in others if not words(name) & (OF_OTHERS | OF_SIDES)]
    if not filled.any() or column.lower() == "loss" or not others:
        return out
    first, last = int(filled.argmax()), len(filled) - int(filled[::-1].argmax())
    goes_on = (~table.empty[others]).all(axis=1).to_numpy(dtype=np.bool_)
    for part in (slice(0, first), slice(last, len(filled))):
        if goes_on[part].all():
            out[part] = True
    return out


def _logged(empty: pd.DataFrame, column: str, steps: Collection[str]) -> Mask:
    """Return which rows belong to the loss, shape (rows,).

    A row with a loss does. A row whose loss is empty does, too, as a non-finite loss (pandas writes NaN like this),
    unless it is a row of something else, such as a validation: it has a value where no row with a loss has one, or
    lacks one where all rows with a loss have one. Rows at the end that have nothing but a step belong, too, if there
    are several. Empty losses do not belong, either, where only every n-th row has a loss. If the only other column is
    the step, every row belongs.
    """
    missing = empty[column].to_numpy(dtype=np.bool_)
    if not missing.any() or missing.all():
        return ~missing
    filled = ~empty[[name for name in empty if name != column and name not in steps]].to_numpy(dtype=np.bool_)
    has_loss = filled[~missing]
    never, always = ~has_loss.any(axis=0), has_loss.all(axis=0)
    alike = np.asarray(~filled[:, never].any(axis=1) & filled[:, always].all(axis=1))
    bare_at_end = np.cumsum((~missing | filled.any(axis=1))[::-1])[::-1] == 0
    alike |= bare_at_end & (bare_at_end.sum() > 1)
    with_values = np.flatnonzero(~missing[alike])
    every_nth = filled.shape[1] and len(with_values) > 1 and np.median(np.diff(with_values)) > 1
    return ~missing if every_nth else alike
