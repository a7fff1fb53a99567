"""Shows how far a sweep is: the states of its runs, progress, speed, time left, spikes and failures."""

import json
import sys
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
from s3bench.console import duration, has_reader, patient_console, say, seconds_left
from s3bench.errors import UserError, one_line, printable
from s3bench.record import identity
from s3bench.record.judge import spikes_of

LISTED_BY_WATCH = 20  # running runs, and failures, at most in one snapshot of --watch

Row = dict[str, Any]  # of record.load_rows


def show(results_dir: str | Path, *, as_json: bool = False) -> int:
    """Print the states by task and optimizer, steps, speed, time left, spikes and the causes of failures.

    Args:
        results_dir: the results folder.
        as_json: print what `snapshot` returns as one JSON object.

    Returns:
        The exit code: 1 if a record is damaged.

    Raises:
        UserError: as `snapshot`.
    """
    status = snapshot(results_dir)
    if as_json:
        say(json.dumps(status))
    else:
        patient_console().print(_table(status))
        say(*lines(status))  # rich would take seconds for thousands of failures
    return int(bool(status["damaged"]))


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
        while not console.is_terminal and has_reader():
            console.print(_short(snapshot(results_dir)), "")
            sys.stdout.flush()
            time.sleep(seconds)
        if not console.is_terminal:
            return
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(_short(snapshot(results_dir)), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _short(status: Mapping[str, Any]) -> Group:
    """Return what --watch shows of a snapshot."""
    return Group(_table(status), *(Text(printable(line)) for line in lines(status, LISTED_BY_WATCH)))


def snapshot(results_dir: str | Path) -> dict[str, Any]:
    """Return how far the runs of a results folder are, as JSON-ready numbers, texts and lists.

    Returns:
        A dict whose keys docs/sweeps.md describes.

    Raises:
        UserError: there is no such folder, no record in it, none that is intact, or its records are arms of replays.
    """
    damaged: list[UserError] = []
    rows = record.load_rows(results_dir, damaged)
    rows, running = _with_running(rows, damaged)
    if not rows:
        raise damaged[0]
    cell = itemgetter("task", "optimizer")
    names = {row["run_id"] for row in rows}  # the copy of a record has the same
    same_but_for_code = Counter(map(identity.without_code, names))
    return {
        "results": str(results_dir),
        "runs": len(rows),
        "states": _states(rows),
        "diverged_ramps": _diverged_ramps(rows),
        "steps": sum(row["steps"] for row in rows),
        "horizon": sum(row["horizon"] for row in rows),
        "seconds_left": _seconds_left(rows, len(running)),
        "groups": [
            _group(list(group), [run for run in running if cell(run) == key])
            for key, group in groupby(sorted(rows, key=cell), cell)
        ],
        "running": running,
        "failed": [{"run_id": row["run_id"], "cause": row["cause"]} for row in rows if row["state"] == record.FAILED],
        "damaged": [one_line(error) for error in damaged],
        "made_with_other_code": sum(count - 1 for count in same_but_for_code.values()),
    }


def _group(rows: Sequence[Row], running: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a snapshot about the runs of one task and optimizer."""
    of_finished = sum(row["summary"].get("spikes") or 0 for row in rows)
    return {
        "task": rows[0]["task"],
        "optimizer": rows[0]["optimizer"],
        "states": _states(rows),
        "diverged_ramps": _diverged_ramps(rows),
        "steps": sum(row["steps"] for row in rows),
        "horizon": sum(row["horizon"] for row in rows),
        "steps_per_second": _speed(rows),
        "spikes": of_finished + sum(run["spikes"] for run in running),
    }


def _states(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many runs are in each state."""
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in record.STATES}


def _diverged_ramps(rows: Sequence[Row]) -> int:
    """Return how many of the diverged runs are ramps, which are made to diverge."""
    return sum(row["is_diverged_ramp"] for row in rows)


def _with_running(rows: Sequence[Row], damaged: list[UserError]) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows of intact records, and the part of a snapshot about each that is running.

    The rows then say whether the run is a ramp that diverged. Raises UserError if the records are arms of replays.
    """
    intact, running = list[Row](), []
    for row in rows:
        is_running = row["state"] == record.RUNNING
        try:
            config = record.load_config(row["folder"]) if is_running or not intact else {}
            if is_running:
                running.append(_running({**row, "config": config}))
            row["is_diverged_ramp"] = row["state"] == record.DIVERGED and record.has_ramp(row["folder"])
        except UserError as error:
            damaged.append(error)
            continue
        record.refuse_arm(row["folder"], config)
        intact.append(row)
    return intact, running


def _running(row: Row) -> dict[str, Any]:
    """Return the part of a snapshot about one running run."""
    losses = record.load_steps(row["folder"])
    spikes = [] if losses.empty else spikes_of(row, losses.loss, {})
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


def table_rows(status: Mapping[str, Any]) -> list[list[str]]:
    """Return a snapshot as a table of texts: one row for each task and optimizer, below a header."""
    table = [["task", "optimizer", *record.STATES, "steps", "steps/s", "spikes"]]
    for group in status["groups"]:
        speed = group["steps_per_second"]
        names, counts = [group["task"], group["optimizer"]], [_counted(group, state) for state in record.STATES]
        steps = f"{group['steps']:,}/{group['horizon']:,}"
        spikes = str(group["spikes"]) if group["steps"] else ""
        table.append([*names, *counts, steps, "" if speed is None else f"{speed:,.3g}", spikes])
    return table


def _counted(group: Mapping[str, Any], state: str) -> str:
    """Return how many runs of a group are in a state, and how many of the diverged are ramps; "" for none."""
    ramps = group["diverged_ramps"] if state == record.DIVERGED else 0
    return str(group["states"][state] or "") + (f" ({ramps} ramp{'s' * (ramps > 1)})" if ramps else "")


def _table(status: Mapping[str, Any]) -> Table:
    header, *shown = table_rows(status)
    table = Table(*header, box=None, pad_edge=False)
    for row in shown:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def lines(status: Mapping[str, Any], most: int | None = None) -> list[str]:
    """Return what stands below the table; of running runs and of failures only the first `most`."""
    running, failed = status["running"], status["failed"]
    totals = ", ".join(f"{count} {state}" for state, count in status["states"].items() if count)
    said = [f"{status['runs']} runs: {totals}"]
    if ramps := status["diverged_ramps"]:
        said.append(f"of those that diverged, ramps: {ramps}; a ramp's learning rate grows until its loss leaves")
    for run in running[:most]:
        spikes = f"; spikes so far: {run['spikes']}, the last from step {run['last_spike']:,}" if run["spikes"] else ""
        said.append(f"running: {run['run_id']}, step {run['steps']:,} of {run['horizon']:,}{spikes}")
    said += [f"failed: {run['run_id']}: {run['cause']}" for run in failed[:most]]
    if most is not None:
        hidden = {record.RUNNING: len(running[most:]), record.FAILED: len(failed[most:])}
        hidden["damaged"] = len(status["damaged"][most:])
        if any(hidden.values()):
            said.append("... and " + ", ".join(f"{count} more {state}" for state, count in hidden.items() if count))
    said += [f"damaged: {error}" for error in status["damaged"][:most]]
    if count := status["made_with_other_code"]:
        said.append(f"runs that also exist with different code: {count}; s3bench clean lists those that never got far")
    if running:
        said.append(f"{duration(status['seconds_left'])} left, {len(running)} runs at a time")
    return said
