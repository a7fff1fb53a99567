"""Where a sweep stands: the states of its runs, progress, time left, failures."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from s3bench import record
from s3bench.spikes import find_spikes


def show(results_dir: str | Path) -> None:
    """Print states by task and optimizer, steps, time left and the causes of failures. Raises UserError."""
    runs = record.load_records(results_dir)
    console = patient_console()
    table = Table("task", "optimizer", *record.STATES, "steps", box=None, pad_edge=False)
    for (task, optimizer), group in runs.groupby(["task", "optimizer"]):
        counts = [str((group.state == state).sum() or "") for state in record.STATES]
        table.add_row(str(task), str(optimizer), *counts, f"{group.steps.sum():,}/{group.horizon.sum():,}")
    console.print(table)
    totals = ", ".join(f"{count} {state}" for state in record.STATES if (count := (runs.state == state).sum()))
    console.print(f"{len(runs)} runs: {totals}")
    running = runs[runs.state == record.RUNNING]
    for run in running.itertuples():
        console.print(
            f"running: {run.run_id}, step {run.steps:,} of {run.horizon:,}{_spikes_so_far(run)}", markup=False
        )
    for run in runs[runs.state == record.FAILED].itertuples():
        console.print(f"failed: {run.run_id}: {run.cause}", markup=False)
    if len(running):
        over = runs[runs.state.isin(record.OVER)]
        known = list(zip(over.task, over.seconds, over.steps, strict=True))
        known += list(zip(running.task, time.time() - running.began, running.steps - running.first_step, strict=True))
        waiting = runs[runs.state.isin([record.RUNNING, record.MISSING])]
        left = list(zip(waiting.task, waiting.horizon - waiting.steps, strict=True))
        console.print(f"{duration(seconds_left(known, left, len(running)))} left, {len(running)} runs at a time")


def _spikes_so_far(run: Any) -> str:
    """Of a run under way, a row of the records: how many, and where the last began."""
    steps = record.load_steps(run.folder)
    spikes = [] if steps.empty else find_spikes(steps.loss, **run.config["task"]["spikes"])
    return f"; spikes so far: {len(spikes)}, the last from step {spikes[-1].onset:,}" if spikes else ""


class _PatientConsole(Console):
    """A console whose reader may leave, as head does, without ending the program."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def patient_console() -> Console:
    """For lines and tables of any width, also into a pipe."""
    return _PatientConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)


def seconds_left(
    known: Sequence[tuple[str, float, int]], left: Sequence[tuple[str, int]], at_once: int
) -> float | None:
    """The seconds that the steps left will take; None while nothing is known.

    `known` has (task, seconds, steps) of what was done, `left` (task, steps) of each run that is not over. A task's
    seconds per step are its own, or those of all tasks together while it has none.
    """
    seconds = 0.0
    for task in {task for task, _ in left}:
        own = [entry for entry in known if entry[0] == task]
        measured = own if any(steps for _, _, steps in own) else known
        done = sum(steps for _, _, steps in measured)
        if not done:
            return None
        rate = sum(spent for _, spent, _ in measured) / done
        seconds += rate * sum(steps for name, steps in left if name == task)
    return seconds / max(1, at_once)


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
