"""Shows how far a sweep is: the states of its runs, progress, speed, time left, spikes and failures."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from s3bench import record
from s3bench.console import duration, patient_console, seconds_left
from s3bench.record import identity
from s3bench.spikes import find_spikes

LISTED_BY_WATCH = 20  # running runs, and failures, at most in one snapshot of --watch

Row = dict[str, Any]  # of record.load_rows


def show(results_dir: str | Path) -> None:
    """Print the states by task and optimizer, steps, speed, time left, spikes and the causes of failures.

    Raises:
        UserError: as `snapshot`.
    """
    console = patient_console()
    status = snapshot(results_dir)
    console.print(_table(status))
    print("\n".join(_lines(status)))  # rich would take seconds for thousands of failures


def clean(results_dir: str | Path, *, remove: bool) -> None:
    """List the records without a result that runs of other code replace, and remove them if that is asked.

    A sweep removes nothing: another sweep may still want what it planned.

    Raises:
        UserError: as `snapshot`.
    """
    record.folders(results_dir)
    found = record.superseded(results_dir)
    for folder in found:
        if remove:
            record.remove(folder)
        print(f"{'removed' if remove else 'to be removed'}: {folder}")
    if not found:
        print("nothing to remove: no record without a result has a twin of other code that has one")
    elif not remove:
        print("s3bench clean --yes removes them; a sweep that still waits for them would fail")


def show_json(results_dir: str | Path) -> None:
    """Print what `snapshot` returns as one JSON object.

    Raises:
        UserError: as `snapshot`.
    """
    print(json.dumps(snapshot(results_dir)))


def watch(results_dir: str | Path, seconds: float) -> None:
    """Show the same again and again until Ctrl-C; without a terminal, append each snapshot.

    Args:
        results_dir: the results folder.
        seconds: the time between two snapshots.

    Raises:
        UserError: as `snapshot`.
    """
    console = patient_console()
    try:
        while not console.is_terminal:
            with console.capture() as shown:
                console.print(_short(snapshot(results_dir)))
            print(shown.get(), flush=True)
            time.sleep(seconds)
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(_short(snapshot(results_dir)), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _short(status: Mapping[str, Any]) -> Group:
    """Return what --watch shows of a snapshot."""
    return Group(_table(status), *(Text(line) for line in _lines(status, LISTED_BY_WATCH)))


def snapshot(results_dir: str | Path) -> dict[str, Any]:
    """Return how far the runs of a results folder are, as JSON-ready numbers, texts and lists.

    Returns:
        A dict whose keys docs/sweeps.md describes.

    Raises:
        UserError: there is no such folder, no record in it, or a damaged one, or its records are arms of replays.
    """
    rows = record.load_rows(results_dir)
    record.refuse_arm(rows[0]["folder"], record.load_config(rows[0]["folder"]))
    running = [_running(row) for row in rows if row["state"] == record.RUNNING]
    cell = itemgetter("task", "optimizer")
    names = {row["run_id"] for row in rows}  # the copy of a record has the same
    same_but_for_code = Counter(map(identity.without_code, names))
    return {
        "results": str(results_dir),
        "runs": len(rows),
        "states": _states(rows),
        "steps": sum(row["steps"] for row in rows),
        "horizon": sum(row["horizon"] for row in rows),
        "seconds_left": _seconds_left(rows, len(running)),
        "groups": [
            _group(list(group), [run for run in running if cell(run) == key])
            for key, group in groupby(sorted(rows, key=cell), cell)
        ],
        "running": running,
        "failed": [{"run_id": row["run_id"], "cause": row["cause"]} for row in rows if row["state"] == record.FAILED],
        "made_with_other_code": sum(count - 1 for count in same_but_for_code.values()),
    }


def _group(rows: Sequence[Row], running: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a snapshot about the runs of one task and optimizer."""
    of_finished = sum(row["summary"].get("spikes") or 0 for row in rows)
    return {
        "task": rows[0]["task"],
        "optimizer": rows[0]["optimizer"],
        "states": _states(rows),
        "steps": sum(row["steps"] for row in rows),
        "horizon": sum(row["horizon"] for row in rows),
        "steps_per_second": _speed(rows),
        "spikes": of_finished + sum(run["spikes"] for run in running),
    }


def _states(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many runs are in each state."""
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in record.STATES}


def _running(row: Row) -> dict[str, Any]:
    """Return the part of a snapshot about one running run."""
    losses = record.load_steps(row["folder"])
    parameters = record.load_config(row["folder"])["task"]["spikes"]
    spikes = [] if losses.empty else find_spikes(losses.loss, **parameters)
    return {
        **{key: row[key] for key in ("run_id", "task", "optimizer", "steps", "horizon")},
        "steps_per_second": _speed([row]),
        "spikes": len(spikes),
        "last_spike": spikes[-1].onset if spikes else None,
    }


def _spent(row: Row) -> tuple[float, int]:
    """Return the seconds that a run has taken and the steps trained in them; zeros where that is unknown."""
    if row["state"] in record.OVER:
        return row["seconds"] or 0.0, row["steps"]
    if row["state"] == record.RUNNING and row["began"] is not None:
        return max(0.0, time.time() - row["began"]), row["steps"] - row["first_step"]
    return 0.0, 0


def _speed(rows: Sequence[Row]) -> float | None:
    """Return the steps per second of one run, averaged over these; None while unknown."""
    spent = [_spent(row) for row in rows]
    seconds, steps = sum(s for s, _ in spent), sum(n for _, n in spent)
    return steps / seconds if seconds > 0 and steps > 0 else None


def _seconds_left(rows: Sequence[Row], at_once: int) -> float | None:
    """Estimate the time left with `at_once` runs at a time; None if nothing is running, or no speed is known."""
    if not at_once:
        return None
    known = [(row["task"], *_spent(row)) for row in rows]
    waiting = [row for row in rows if row["state"] in (record.RUNNING, record.MISSING)]
    return seconds_left(known, [(row["task"], row["horizon"] - row["steps"]) for row in waiting], at_once)


def _table(status: Mapping[str, Any]) -> Table:
    table = Table("task", "optimizer", *record.STATES, "steps", "steps/s", "spikes", box=None, pad_edge=False)
    for group in status["groups"]:
        speed = group["steps_per_second"]
        table.add_row(
            *(group["task"], group["optimizer"]),
            *(str(count or "") for count in group["states"].values()),
            f"{group['steps']:,}/{group['horizon']:,}",
            "" if speed is None else f"{speed:,.3g}",
            str(group["spikes"] or ""),
        )
    return table


def _lines(status: Mapping[str, Any], most: int | None = None) -> list[str]:
    """Return the lines below the table; of running runs and of failures only the first `most`."""
    running, failed = status["running"], status["failed"]
    totals = ", ".join(f"{count} {state}" for state, count in status["states"].items() if count)
    lines = [f"{status['runs']} runs: {totals}"]
    for run in running[:most]:
        spikes = f"; spikes so far: {run['spikes']}, the last from step {run['last_spike']:,}" if run["spikes"] else ""
        lines.append(f"running: {run['run_id']}, step {run['steps']:,} of {run['horizon']:,}{spikes}")
    lines += [f"failed: {run['run_id']}: {run['cause']}" for run in failed[:most]]
    if most is not None:
        hidden = {record.RUNNING: len(running[most:]), record.FAILED: len(failed[most:])}
        if any(hidden.values()):
            lines.append("... and " + ", ".join(f"{count} more {state}" for state, count in hidden.items() if count))
    if count := status["made_with_other_code"]:
        lines.append(f"runs that also exist with different code: {count}; s3bench clean lists those that never got far")
    if running:
        lines.append(f"{duration(status['seconds_left'])} left, {len(running)} runs at a time")
    return lines
