"""Where a sweep stands: the states of its runs, progress, speed, time left, spikes, failures."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
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

LISTED = 20  # runs under way, and failures, at most in one snapshot of --watch

Row = dict[str, Any]


def show(results_dir: str | Path) -> None:
    """Print states by task and optimizer, steps, speed, time left, spikes and causes of failures. Raises UserError."""
    console = patient_console()
    standing = snapshot(results_dir)
    console.print(_table(standing))
    print("\n".join(_lines(standing)))  # rich would take seconds for thousands of failures


def show_json(results_dir: str | Path) -> None:
    """Print one JSON object, the one that `snapshot` returns."""
    print(json.dumps(snapshot(results_dir)))


def watch(results_dir: str | Path, seconds: float) -> None:
    """Show the same anew every so many seconds, until Ctrl-C; without a terminal each snapshot below the last."""
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


def _short(standing: Mapping[str, Any]) -> Group:
    """What --watch shows of a snapshot."""
    return Group(_table(standing), *(Text(line) for line in _lines(standing, LISTED)))


def snapshot(results_dir: str | Path) -> dict[str, Any]:
    """Where the runs of a results folder stand, as numbers, texts and lists alone; docs/sweeps.md names the keys.

    Raises UserError: no such folder, no record in it, or a damaged one.
    """
    rows = record.load_rows(results_dir)
    under_way = [_under_way(row) for row in rows if row["state"] == record.RUNNING]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["optimizer"]), []).append(row)
    names = {row["run_id"] for row in rows}  # a copied record has the same
    cells = Counter(map(identity.without_code, names))
    return {
        "results": str(results_dir),
        "runs": len(rows),
        "states": _states(rows),
        "steps": sum(row["steps"] for row in rows),
        "horizon": sum(row["horizon"] for row in rows),
        "seconds_left": _seconds_left(rows, len(under_way)),
        "groups": [
            {
                "task": task,
                "optimizer": optimizer,
                "states": _states(group),
                "steps": sum(row["steps"] for row in group),
                "horizon": sum(row["horizon"] for row in group),
                "steps_per_second": _speed(group),
                "spikes": sum(row["summary"].get("spikes") or 0 for row in group)
                + sum(run["spikes"] for run in under_way if (run["task"], run["optimizer"]) == (task, optimizer)),
            }
            for (task, optimizer), group in sorted(groups.items())
        ],
        "running": under_way,
        "failed": [{"run_id": row["run_id"], "cause": row["cause"]} for row in rows if row["state"] == record.FAILED],
        "made_with_other_code": sum(count - 1 for count in cells.values()),
    }


def _states(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in record.STATES}


def _under_way(row: Row) -> dict[str, Any]:
    """What is said of a run that is trained at present."""
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
    """The seconds that a run took so far and the steps that it made in them; none where it is not known."""
    if row["state"] in record.OVER:
        return row["seconds"] or 0.0, row["steps"]
    if row["state"] == record.RUNNING and row["began"] is not None:
        return max(0.0, time.time() - row["began"]), row["steps"] - row["first_step"]
    return 0.0, 0


def _speed(rows: Sequence[Row]) -> float | None:
    """Steps per second of one run, over all of these."""
    spent = [_spent(row) for row in rows]
    seconds, steps = sum(s for s, _ in spent), sum(n for _, n in spent)
    return steps / seconds if seconds > 0 and steps > 0 else None


def _seconds_left(rows: Sequence[Row], at_once: int) -> float | None:
    """At the present number of runs at a time; None if nothing is under way, or nothing is known."""
    if not at_once:
        return None
    known = [(row["task"], *_spent(row)) for row in rows]
    waiting = [row for row in rows if row["state"] in (record.RUNNING, record.MISSING)]
    return seconds_left(known, [(row["task"], row["horizon"] - row["steps"]) for row in waiting], at_once)


def _table(standing: Mapping[str, Any]) -> Table:
    table = Table("task", "optimizer", *record.STATES, "steps", "steps/s", "spikes", box=None, pad_edge=False)
    for group in standing["groups"]:
        counts = [str(count or "") for count in group["states"].values()]
        steps = f"{group['steps']:,}/{group['horizon']:,}"
        table.add_row(
            *(group["task"], group["optimizer"], *counts, steps, _rate(group["steps_per_second"])),
            str(group["spikes"] or ""),
        )
    return table


def _rate(steps_per_second: float | None) -> str:
    return "" if steps_per_second is None else f"{steps_per_second:,.3g}"


def _lines(standing: Mapping[str, Any], most: int | None = None) -> list[str]:
    """What stands below the table; of runs under way and of failures the first `most`."""
    running, failed = standing["running"], standing["failed"]
    totals = ", ".join(f"{count} {state}" for state, count in standing["states"].items() if count)
    lines = [f"{standing['runs']} runs: {totals}"]
    for run in running[:most]:
        spikes = f"; spikes so far: {run['spikes']}, the last from step {run['last_spike']:,}" if run["spikes"] else ""
        lines.append(f"running: {run['run_id']}, step {run['steps']:,} of {run['horizon']:,}{spikes}")
    lines += [f"failed: {run['run_id']}: {run['cause']}" for run in failed[:most]]
    if most is not None and max(len(running), len(failed)) > most:
        lines.append(f"and {len(running[most:])} running, {len(failed[most:])} failed ones more")
    if count := standing["made_with_other_code"]:
        lines.append(f"{count} of these runs are there with other code too; a report refuses to mix them")
    if running:
        lines.append(f"{duration(standing['seconds_left'])} left, {len(running)} runs at a time")
    return lines
