"""Where a sweep stands: the states of its runs, progress, failures."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from s3bench import record


def show(results_dir: str | Path) -> None:
    """Print states by task and optimizer, steps, time left and the causes of failures. Raises UserError."""
    runs = record.load_records(results_dir)
    console = Console(highlight=False)
    table = Table("task", "optimizer", *record.STATES, "steps", box=None, pad_edge=False)
    for (task, optimizer), group in runs.groupby(["task", "optimizer"]):
        counts = [str((group.state == state).sum() or "") for state in record.STATES]
        table.add_row(str(task), str(optimizer), *counts, f"{group.steps.sum():,}/{group.horizon.sum():,}")
    console.print(table)
    totals = ", ".join(f"{count} {state}" for state in record.STATES if (count := (runs.state == state).sum()))
    console.print(f"{len(runs)} runs: {totals}")
    for run in runs[runs.state == record.RUNNING].itertuples():
        console.print(f"running: {run.run_id}, step {run.steps:,} of {run.horizon:,}", markup=False)
    for run in runs[runs.state == record.FAILED].itertuples():
        console.print(f"failed: {run.run_id}: {run.cause}", markup=False)
