"""Estimates what a sweep would do: which runs, how long, on how much disk. Trains and writes nothing."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from s3bench import record
from s3bench.console import duration, patient_console, say
from s3bench.errors import UserError, printable
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep.plan import Plan, plan_sweep
from s3bench.run.sweep.workers import devices

BYTES_PER_STEP = 40  # of a record of which no similar one was measured: five columns
BYTES_PER_RUN = 5_500  # of any record, whatever its steps; measured: a record of 5 steps has 5.6 kB
SIZED = 100  # at most this many records are looked at to learn their size

Kind = tuple[str, str, int]  # task, optimizer, horizon
Row = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a run of one kind costs, measured on other runs."""

    seconds: float
    bytes: float
    source: str  # the results folder where it was measured


def show(overrides: list[str], max_runs: float = math.inf, zipped: Sequence[Sequence[str]] = ()) -> None:
    """Print what `s3bench sweep` would train with these overrides. Raises UserError as it does."""
    console = patient_console()
    plan = plan_sweep(overrides, max_runs, zipped)
    console.print(_table(plan))
    steps = sum(config.horizon for config in plan.todo)
    say(f"{plan.summary}: {len(plan.todo):,} to run, {steps:,} steps", console=console)
    if plan.todo:
        say(*_cost_lines(plan.todo), console=console)


def _table(plan: Plan) -> Table:
    """Return the numbers of runs and steps by task and optimizer."""
    runs, left = (Counter(_kind(config)[:2] for config in configs) for configs in (plan.configs, plan.todo))
    steps: Counter[tuple[str, str]] = Counter()
    for config in plan.todo:
        steps[_kind(config)[:2]] += config.horizon
    table = Table("task", "optimizer", "runs", "over", "to run", "steps", box=None, pad_edge=False)
    for group, count in runs.items():
        names = (Text(printable(name)) for name in group)
        table.add_row(*names, *(f"{number:,}" for number in (count, count - left[group], left[group], steps[group])))
    return table


def _kind(config: RunConfig) -> Kind:
    return config.names.task, config.names.optimizer, config.horizon


def _cost_lines(todo: Sequence[RunConfig]) -> list[str]:
    """Return how long the runs take and how much disk, and where that was measured."""
    sources, runs = _Sources(todo), Counter(map(_kind, todo))
    costs = {kind: cost for kind in runs if (cost := sources.cost(kind))}
    others = {kind: count for kind, count in runs.items() if kind not in costs}
    unknown = ", ".join(sorted({task for task, _, _ in others}))
    seconds = sum(cost.seconds * runs[kind] for kind, cost in costs.items())
    size = sum(cost.bytes * runs[kind] for kind, cost in costs.items())
    size += sum((BYTES_PER_STEP * kind[2] + BYTES_PER_RUN) * count for kind, count in others.items())
    measured = "measured in " + ", ".join(sorted({cost.source for cost in costs.values()}))
    lines = []
    if costs and "hydra_launcher" in todo[0].launcher:
        lines.append(f"time: about {duration(seconds)} for all runs together, {measured}")
    elif costs:
        at_once = max(1, min(len(devices(todo, _gpus(todo[0].device))), len(todo)))
        lines.append(f"time: about {duration(seconds / at_once)} with {at_once} runs at a time, {measured}")
    if unknown:
        lines.append(f"time: unknown for {unknown} (no finished run of it here or in a sibling folder)")
    assumed = f"; for {unknown} an estimate, {BYTES_PER_STEP} bytes per step" if unknown else ""
    lines.append(f"disk: about {decimal(round(size))}, {measured if costs else 'not measured'}{assumed}")
    return lines


class _Sources:
    """Collects the runs that are over in the results folders of a sweep, and in the folders beside them."""

    def __init__(self, todo: Sequence[RunConfig]) -> None:
        self._own = [Path(results_dir) for results_dir in dict.fromkeys(config.results_dir for config in todo)]
        self._read: dict[Path, list[Row]] = {}

    def cost(self, kind: Kind) -> Cost | None:
        """Return the cost by the task's runs that are most similar; None if the task has no runs.

        Runs of the same optimizer are preferred, then the nearest horizon, then the order of the folders.
        """
        task, optimizer, horizon = kind

        def distance(row: Row) -> tuple[bool, float]:
            return row["optimizer"] != optimizer, abs(math.log(row["horizon"] / horizon))

        similar, least, source = list[Row](), (True, math.inf), ""
        for folder in self._folders():
            rows = self._rows(folder, task)
            nearest = min(map(distance, rows), default=least)
            if nearest < least:
                similar, least, source = [row for row in rows if distance(row) == nearest], nearest, str(folder)
            if least == (False, 0.0):  # no folder can have more similar ones
                break
        return _cost(similar, horizon, source) if similar else None

    def _rows(self, folder: Path, task: str) -> list[Row]:
        if folder not in self._read:
            self._read[folder] = _runs_over(folder)
        return [row for row in self._read[folder] if row["task"] == task]

    def _folders(self) -> Iterator[Path]:
        yield from self._own
        seen = {folder.absolute() for folder in self._own}
        for parent in dict.fromkeys(folder.parent for folder in self._own):
            siblings = parent.iterdir() if parent.is_dir() else ()
            yield from sorted(folder for folder in siblings if folder.is_dir() and folder.absolute() not in seen)


def _cost(rows: Sequence[Row], horizon: int, source: str) -> Cost:
    """Return the cost of a run of that horizon: what a run takes whatever its steps, and what its steps take."""
    steps, training = (sum(row[key] for row in rows) for key in ("steps", "train_seconds"))
    start = (sum(row["seconds"] for row in rows) - training) / len(rows)
    sized = rows[:: math.ceil(len(rows) / SIZED)]
    bytes_of_steps = sum(max(0, record.size(row["folder"]) - BYTES_PER_RUN) for row in sized)
    size = BYTES_PER_RUN + horizon * bytes_of_steps / sum(row["steps"] for row in sized)
    return Cost(seconds=start + horizon * training / steps, bytes=size, source=source)


def _runs_over(folder: Path) -> list[Row]:
    try:
        rows = record.load_rows(folder)
    except UserError:  # not a results folder, or one that a report could not use either
        return []
    return [row for row in rows if row["state"] in record.OVER and row["steps"] and row["train_seconds"]]


def _gpus(device: str) -> int:
    """Return how many GPUs a sweep would find."""
    if device == "cpu":
        return 0
    import torch  # takes a second

    return torch.cuda.device_count()
