"""Reads a loss curve from anyone's file: tables, JSON, consoles, Parquet, wandb, TensorBoard."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files import kinds, names, rows
from s3bench.curve_files.runs import RESUMES
from s3bench.curve_files.steps import place, with_plain_steps
from s3bench.curve_files.sums import sum_of
from s3bench.curve_files.table import Table, numbers
from s3bench.errors import UserError, unknown
from s3bench.spikes import Spike

OF_SUMMARY = "train_runtime"  # which Hugging Face's trainer writes at the end
MUCH_FULLER = 10  # times the values: a column with so few may be the mean of each epoch
COUNTING = 0.9  # of the rows in which a counter rises, or nearly all: a run that was resumed
FEW_VALUES = 20  # different ones, each in as many rows in the mean


@dataclass(frozen=True)
class LoggedCurve:
    """A loss as it was logged.

    Attributes:
        column: the column that the loss was found in.
        steps: shape (n,), strictly rising; n is at least 2.
        loss: shape (n,).
        notes: sentences on what was left out, and on what the file leaves open.
        step_column: the column that the steps were found in; None if rows were counted.
        kind: the kind of file, such as "CSV".
    """

    column: str
    steps: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]
    notes: tuple[str, ...] = ()
    step_column: str | None = None
    kind: str = "CSV"

    def how_read(self) -> str:
        """Return in one line what was read: the kind of file, the columns, and the notes."""
        steps = "rows counted from 0" if self.step_column is None else f"column {self.step_column!r}"
        return "; ".join([f"{self.kind}: loss from column {self.column!r}, steps: {steps}", *self.notes])

    def is_consecutive(self) -> bool:
        """Return whether every step was logged."""
        return self._distances[0]

    @cached_property
    def _distances(self) -> tuple[bool, int]:
        """Return whether all steps are one apart, and how far they are in the median."""
        apart = np.diff(self.steps)
        return bool((apart == 1).all()), round(float(np.median(apart)))

    def counted(self) -> str:
        """Return what there is one loss of: rows, where these were counted; steps, epochs; values, where some lack."""
        if self.step_column is None:
            return "rows"
        if not self.is_consecutive():
            return "values"
        return "epochs" if names.steps_among([self.step_column], names.EPOCH_NAMES) else "steps"

    def spacing(self) -> str:
        """Return how far apart the steps are, in words."""
        apart = np.diff(self.steps)
        every = f"every {apart[0]}" if (apart == apart[0]).all() else f"{apart.min()} to {apart.max()} apart"
        return f"{every}, from {self.steps[0]} to {self.steps[-1]}"

    def in_steps(self, spike: Spike) -> Spike:
        """Return the spike with the file's steps instead of indices.

        An end past the last step is the last step plus the median distance between steps.
        """
        past = self.steps[-1] + self._distances[1]
        end = past if spike.end == len(self.steps) else self.steps[spike.end]
        onset, peak = self.steps[spike.onset], self.steps[spike.peak]
        return dataclasses.replace(spike, onset=int(onset), peak=int(peak), end=int(end))


def read_curve(
    file: str | Path,
    column: str | None = None,
    step: str | None = None,
    *,
    where: str | None = None,
    resume: str | None = None,
    pattern: str | None = None,
) -> LoggedCurve:
    """Read the loss curve of a file, or of a folder that holds a wandb run or TensorBoard events.

    Args:
        file: a file, whose kind is told by what it holds, a folder, or "-" for stdin.
        column: the loss; None to find it: "loss", or the only column that is named like a training loss.
        step: the column of steps; None to find it by its name, or to count rows if there is none; "none" to count rows
            in any case.
        where: NAME=VALUE takes the rows in which this column has this value; rows=FIRST-LAST these rows.
        resume: where steps go back, "keep-last" or "keep-first" of the rows that overlap; None keeps the last where one
            run was resumed.
        pattern: a regular expression; its named groups are the columns, and each match is a row.

    Returns:
        The steps and losses of the rows with a loss, and notes on the other rows.

    Raises:
        UserError: the file cannot be read, does not have the column, has text where numbers should be, steps of several
            runs, or fewer than two losses.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("step,loss\\n0,3.0\\n10,2.5\\n")
        ...     file.flush()
        ...     curve = read_curve(file.name)
        >>> curve.steps.tolist(), curve.loss.tolist()
        ([0, 10], [3.0, 2.5])
    """
    if resume is not None and resume not in RESUMES:
        raise unknown("way to resume", resume, RESUMES)
    return _curve(_said(file), kinds.load(file, pattern), column, step, where=where, resume=resume)


def read_whole_lines(file: str | Path, *, pattern: str | None = None, **reading: str | None) -> LoggedCurve:
    """Read the curve of a text that is being written, without its last line as long as that is not ended.

    Arguments and errors are those of read_curve.
    """
    return _curve(_said(file), kinds.load(file, pattern, whole_lines=True), **reading)


def _said(file: str | Path) -> str:
    return "stdin" if str(file) == kinds.STDIN else str(file)


def _curve(
    said: str,
    table: Table,
    column: str | None = None,
    step: str | None = None,
    *,
    where: str | None = None,
    resume: str | None = None,
) -> LoggedCurve:
    """Return the curve of a table."""
    if table.cells.empty:
        raise UserError(f"{said} has no rows; it needs one row per step")
    table = rows.chosen(said, with_plain_steps(table), where)
    found, note = _find_loss(said, table, column)
    table.notes += [table.strays[found]] if found in table.strays else []
    table.notes += _sums_between(table, found)
    table = rows.of_training(said, table, found) if where is None or rows.is_range(where) else table
    table = rows.with_loss(said, rows.without_footer(table), found)
    table = rows.without_torn(table) if step is None else table
    loss = numbers(said, table.cells[found], table.empty[found])
    loss, hidden = _with_hidden(table, loss)
    placed = place(said, table, found, loss, step, resume)
    if len(placed.rows) < 2:
        raise UserError(f"{said} has one step with a loss; a curve needs at least two")
    return LoggedCurve(
        column=found,
        steps=placed.steps,
        loss=loss[placed.rows],
        notes=(
            *table.notes,
            *note,
            *placed.notes,
            *_first_of_two(table, found, placed.column),
            *hidden,
            *_few_values(loss[placed.rows]),
        ),
        step_column=placed.column,
        kind=table.kind,
    )


def _sums_between(table: Table, loss: str) -> list[str]:
    """Return a note where rows that sum up a whole training are the curve, or lie between its rows."""
    if OF_SUMMARY not in table.names:
        return []
    sums = ~table.empty[OF_SUMMARY].to_numpy(dtype=np.bool_)
    trained = np.flatnonzero(~table.empty[loss].to_numpy(dtype=np.bool_) & ~sums)
    if not len(trained):
        return [f"each row sums up a training, as {OF_SUMMARY!r} in it says"]
    between = int(sums[trained[0] : trained[-1]].sum())
    return [f"several trainings may be joined: sums of a whole one lie between the rows: {between}"] * bool(between)


def _with_hidden(table: Table, loss: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the losses with NaN for a 0 beside a gradient's norm that is not finite, and a note on them.

    Hugging Face's Trainer writes 0 where a loss is not finite, unless logging_nan_inf_filter is False.
    """
    for name in table.names:
        if names.words(name) >= {"grad", "norm"}:
            norms = pd.to_numeric(table.cells[name], errors="coerce").to_numpy(dtype=np.float64)
            hidden = (loss == 0) & ~np.isfinite(norms) & ~table.empty[name].to_numpy(dtype=np.bool_)
            if hidden.any():
                what = f"losses of 0 beside a {name!r} that is not finite, taken as not finite, too"
                return np.where(hidden, np.nan, loss), [f"{what}: {int(hidden.sum())}"]
    return loss, []


def _first_of_two(table: Table, loss: str, step: str | None) -> list[str]:
    """Return notes where a line has two values with an arrow between, as in "loss: 10.0 -> 9.0"."""
    options = {"--column": loss, "--step": step or ""}
    return [
        f"{name!r} is what stands before an arrow, {option} {name + names.AFTER!r} what follows it"
        for option, name in options.items()
        if name + names.AFTER in table.names
    ]


def _few_values(loss: npt.NDArray[np.float64]) -> list[str]:
    """Return a note where all values are one, or a few again and again: the loss stands still, or rows repeat."""
    if (loss == loss[0]).all():
        return [f"all losses are {loss[0]:g}"]
    if loss.size <= FEW_VALUES**2 or len(np.unique(loss[: FEW_VALUES**2])) > FEW_VALUES:
        return []  # without a sort of millions
    few = len(np.unique(loss))
    return [f"{loss.size:,} rows have only {few} different values"] * (few <= FEW_VALUES)


def _find_loss(file: str, table: Table, named: str | None) -> tuple[str, list[str]]:
    """Return the loss's column, and a note where its name leaves something open.

    Of several, it is the one that is the sum of the others.

    Raises:
        UserError: the columns do not tell which is the loss.
    """
    hint = "; --pattern REGEX reads other lines" if table.kind == "console" else ""
    by_place = None if named or names.likely_losses(table.names) else _unnamed(table)
    column, found = names.find_loss(file, named or by_place, table.names, hint)
    losses = names.losses_among(table.names)
    if len(found) > 1:
        kinds_of_sum = {name: sum_of(table, name, [other for other in found if other != name]) for name in found}
        sums = [name for name in found if kinds_of_sum[name]]
        by_step = [] if sums else [name for name in found if _is_of_steps(table, name, found)]
        if len(sums) + len(by_step) != 1:
            others = [name for name in losses if name not in found]
            choice = f"choose one with --column: {names.listed(found + others)}"
            raise UserError(f"{file}: several columns may be the loss; {choice}")
        (column,) = sums or by_step
        rest = names.listed([name for name in found if name != column])
        of_steps = f"is of steps, and {rest} of epochs or the like, by what rows have"
        notes = [f"{column!r} " + (f"is {kinds_of_sum[column]} of {rest}" if sums else of_steps)]
    else:
        others = [name for name in losses if name not in (column, column + names.AFTER)]
        sides = [name for name in others if names.words(name) & names.OF_SIDES and not names.is_whole(column)]
        notes = [f"without the side terms {names.listed(sides)}"] * bool(sides)
        others = [name for name in others if name not in sides]
        rivals = [*others, *names.by_other_words(table.names)] if named is None else []
        if fuller := [name for name in rivals if name != column and _is_much_fuller(table, name, column)]:
            choice = f"choose one with --column: {names.listed([column, *fuller])}"
            raise UserError(f"{file}: {column!r} has a tenth of the values of others, or fewer; {choice}")
        notes += [f"not taken, though named like losses: {names.listed(others)}"] * bool(others)
    of_file = names.words(Path(file).stem)
    if named is None and "loss" not in names.words(column) and ("loss" not in of_file or of_file & names.OF_EVALUATION):
        notes.append(f"no column is named loss: {column!r} is taken for it")
    if "loss" not in names.words(column) and names.words(column) & names.OF_SCORES:
        return column, [f"{column!r} is read as a loss: a rise counts as bad, and a fall is not seen"]
    if named is None and names.is_mean(column):
        what = "an epoch" if "epoch" in names.words(column) else "several steps"
        notes.append(f"{column!r} is named like a mean over {what}, which hides short spikes")
    return column, notes * (named is None)


def _unnamed(table: Table) -> str | None:
    """Return the column of numbers that is a loss by its place or another word for it; None if there isn't one.

    Its place is beside a counter, as in "0,2.5", or beside an evaluation's, as in {"train": [2.5], "val": [2.7]}, or
    alone beside steps. There it may also be called a cost or an error.
    """
    if table.names in (["1", "2"], ["Unnamed: 0", "0"]):  # those of pandas
        counter, column = table.names
        cells = table.cells[counter]
        counts = cells.dtype.kind in "iu" and bool(np.mean(np.diff(cells.to_numpy()) > 0) > COUNTING)
        return column if counts and table.cells[column].dtype.kind in "iuf" else None
    if len(table.names) == 1 and names.words(table.names[0]) & {*names.OTHER_WORDS}:
        return table.names[0]
    totals = [name for name in table.names if names.normal(name) == "total"]
    terms = [name for name in table.names if names.words(name) and names.words(name) <= names.OF_TERMS]
    if len(totals) == 1 and sum_of(table, totals[0], terms):
        return totals[0]
    has_losses = any(
        "loss" in found and not found & (names.OF_EVALUATION | names.OF_CHANGES)
        for found in map(names.words, table.names)
    )
    if names.steps_among(table.names, tuple(names.ALL_STEPS)) and not has_losses:
        for word in names.OTHER_WORDS:
            called = [name for name in table.names if names.words(name) - names.OF_TRAINING - names.OF_MEANS == {word}]
            if called and table.cells[called[0]].dtype.kind == "f":
                return called[0] if len(called) == 1 else None
        if [name for name in table.names if name.startswith("l_")] == [names.PIXELS]:
            return names.PIXELS
    trained = [name for name in table.names if name.startswith(("training's ", "train's "))]  # LightGBM's
    if len(trained) == 1:
        return trained[0]
    trained = [name for name in table.names if names.words(name) in ({"train"}, {"training"})]
    others = {*table.names} - {*trained, *names.steps_among(table.names, tuple(names.ALL_STEPS))}
    is_beside = not others or any(names.words(name) & names.OF_EVALUATION for name in others)
    if len(trained) != 1 or not is_beside or table.cells[trained[0]].dtype.kind != "f":
        return None
    values = table.cells[trained[0]].dropna()
    return None if (values == np.floor(values)).all() else trained[0]


def _is_much_fuller(table: Table, name: str, column: str) -> bool:
    """Return whether a column has at least ten times the values of another."""
    counts = (~table.empty[[name, column]]).sum()
    return bool(counts[name] >= MUCH_FULLER * counts[column])


def _is_of_steps(table: Table, name: str, found: list[str]) -> bool:
    """Return whether a column is of steps and all others of epochs: those have no step, or a tenth of the values."""
    has_step = (~table.empty[names.steps_among(table.names)]).any(axis=1)
    filled = ~table.empty[found]
    is_of_steps = bool(has_step[filled[name]].all())
    without = {other for other in found if is_of_steps and not has_step[filled[other]].any()}
    return all(other == name or other in without or _is_much_fuller(table, name, other) for other in found)
