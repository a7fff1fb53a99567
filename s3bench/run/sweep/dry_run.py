"""What a sweep would do: which runs, for how long, on how much disk. Nothing is trained and nothing is written."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.filesize import decimal
from rich.table import Table

from s3bench import record
from s3bench.console import duration, patient_console
from s3bench.errors import UserError
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import RunConfig
from s3bench.run.sweep.workers import places

BYTES_PER_STEP = 40  # of a record whose like was not measured: five columns
BYTES_PER_RUN = 5_500  # of any record, whatever its steps: measured, of 5 steps 5.6 kB
WEIGHED = 100  # records at most whose files are looked at

Kind = tuple[str, str, int]  # task, optimizer, horizon
Row = dict[str, Any]


class Cost(NamedTuple):
    """Of a run of one kind, as measured on others."""

    seconds: float
    bytes: float
    source: str  # where it was measured


def show(overrides: list[str], max_runs: float = math.inf) -> None:
    """Print what `s3bench sweep` with these overrides would run. Raises UserError as it does."""
    console = patient_console()
    configs = run_configs(overrides, max_runs)
    folders = [record.folder_of(vars(config)) for config in configs]
    record.refuse_other_version({folder.parent for folder in folders})
    todo = [config for config, folder in zip(configs, folders, strict=True) if record.state(folder) not in record.OVER]
    all_of, left = (Counter(_kind(config)[:2] for config in some) for some in (configs, todo))
    steps: Counter[tuple[str, str]] = Counter()
    for config in todo:
        steps[_kind(config)[:2]] += config.horizon
    table = Table("task", "optimizer", "runs", "over", "to run", "steps", box=None, pad_edge=False)
    for group, count in all_of.items():
        table.add_row(*group, *(f"{number:,}" for number in (count, count - left[group], left[group], steps[group])))
    console.print(table)
    results = ", ".join(sorted({config.results_dir for config in configs}))
    console.print(
        f"{len(configs):,} runs in {results}, {len(configs) - len(todo):,} of them over already: "
        f"{len(todo):,} to run, {steps.total():,} steps",
        markup=False,
    )
    if todo:
        for line in _costs(todo):
            console.print(line, markup=False)


def _kind(config: RunConfig) -> Kind:
    return config.names.task, config.names.optimizer, config.horizon


def _costs(todo: Sequence[RunConfig]) -> list[str]:
    """How long it takes and how much disk, and where that is known from."""
    sources, runs = _Sources(todo), Counter(map(_kind, todo))
    costs = {kind: cost for kind in runs if (cost := sources.cost(kind))}
    others = {kind: count for kind, count in runs.items() if kind not in costs}
    unknown = sorted({task for task, _, _ in others})
    seconds = sum(cost.seconds * runs[kind] for kind, cost in costs.items())
    size = sum(cost.bytes * runs[kind] for kind, cost in costs.items())
    size += sum((BYTES_PER_STEP * kind[2] + BYTES_PER_RUN) * count for kind, count in others.items())
    measured = "measured in " + ", ".join(sorted({cost.source for cost in costs.values()}))
    lines = []
    if costs and "hydra_launcher" in todo[0].launcher:
        lines.append(f"time: about {duration(seconds)} of all runs together, {measured}")
    elif costs:
        at_once = max(1, min(len(places(todo, _gpus(todo[0].device))), len(todo)))
        lines.append(f"time: about {duration(seconds / at_once)} with {at_once} runs at a time, {measured}")
    if unknown:
        lines.append(f"time: unknown of {', '.join(unknown)}, of which no run is over here or in a folder beside")
    assumed = f"; of {', '.join(unknown)} an estimate, {BYTES_PER_STEP} bytes a step" if unknown else ""
    lines.append(f"disk: about {decimal(round(size))}, {measured if costs else 'not measured'}{assumed}")
    return lines


class _Sources:
    """The runs that are over in the results folders of a sweep, then those in the folders beside them."""

    def __init__(self, todo: Sequence[RunConfig]) -> None:
        self._own = [Path(place) for place in dict.fromkeys(config.results_dir for config in todo)]
        self._read: dict[Path, list[Row]] = {}

    def cost(self, kind: Kind) -> Cost | None:
        """From the runs of the task that are most like it; None if there are none.

        Those of the same optimizer come first, then those of the nearest horizon, then the order of the folders.
        """
        task, optimizer, horizon = kind

        def apart(row: Row) -> tuple[bool, float]:
            return row["optimizer"] != optimizer, abs(math.log(row["horizon"] / horizon))

        alike, least, source = list[Row](), (True, math.inf), ""
        for place in self._places():
            rows = self._rows(place, task)
            nearest = min(map(apart, rows), default=least)
            if nearest < least:
                alike, least, source = [row for row in rows if apart(row) == nearest], nearest, str(place)
            if least == (False, 0.0):  # no folder has a better one
                break
        return _cost(alike, horizon, source) if alike else None

    def _rows(self, place: Path, task: str) -> list[Row]:
        if place not in self._read:
            self._read[place] = _over(place)
        return [row for row in self._read[place] if row["task"] == task]

    def _places(self) -> Iterator[Path]:
        yield from self._own
        seen = {place.absolute() for place in self._own}
        for parent in dict.fromkeys(place.parent for place in self._own):
            beside = parent.iterdir() if parent.is_dir() else ()
            yield from sorted(place for place in beside if place.is_dir() and place.absolute() not in seen)


def _cost(rows: Sequence[Row], horizon: int, source: str) -> Cost:
    """Of a run of that horizon: what a run takes whatever its steps, and what a step takes."""
    steps, training = (sum(row[key] for row in rows) for key in ("steps", "train_seconds"))
    start = (sum(row["seconds"] for row in rows) - training) / len(rows)
    some = rows[:: math.ceil(len(rows) / WEIGHED)]
    of_steps = sum(max(0, record.size(row["folder"]) - BYTES_PER_RUN) for row in some)
    size = BYTES_PER_RUN + horizon * of_steps / sum(row["steps"] for row in some)
    return Cost(start + horizon * training / steps, size, source)


def _over(place: Path) -> list[Row]:
    try:
        rows = record.load_rows(place)
    except UserError:  # no results folder, or one that a report could not use either
        return []
    return [row for row in rows if row["state"] in record.OVER and row["steps"] and row["train_seconds"]]


def _gpus(device: str) -> int:
    """How many a sweep would find."""
    if device == "cpu":
        return 0
    import torch  # takes a second

    return torch.cuda.device_count()
