"""What a sweep would do: which runs, for how long, on how much disk. Nothing is trained and nothing is written."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from s3bench import record
from s3bench.config import RunConfig, run_configs
from s3bench.errors import UserError
from s3bench.status import duration, patient_console
from s3bench.workers import places

BYTES_PER_STEP, BYTES_PER_RUN = 40, 16_000  # of a record whose like was not measured: five columns, and what is fixed
WEIGHED = 100  # records at most whose files are looked at

Kind = tuple[str, str]  # task, optimizer
Row = dict[str, Any]


class Cost(NamedTuple):
    """Of runs of one kind, as measured."""

    seconds: float  # a step
    bytes: float  # a step
    source: str  # where it was measured


def show(overrides: list[str], most: float = math.inf) -> None:
    """Print what `s3bench sweep` with these overrides would run. Raises UserError as it does."""
    console = patient_console()
    configs = run_configs(overrides, most)
    folders = [record.folder_of(vars(config)) for config in configs]
    record.refuse_other_version({folder.parent for folder in folders})
    todo = [config for config, folder in zip(configs, folders, strict=True) if record.state(folder) not in record.OVER]
    all_of, left = (Counter(_kind(config) for config in some) for some in (configs, todo))
    steps: Counter[Kind] = Counter()
    for config in todo:
        steps[_kind(config)] += config.horizon
    table = Table("task", "optimizer", "runs", "over", "to run", "steps", box=None, pad_edge=False)
    for kind, count in all_of.items():
        table.add_row(*kind, *(f"{number:,}" for number in (count, count - left[kind], left[kind], steps[kind])))
    console.print(table)
    results = ", ".join(sorted({config.results_dir for config in configs}))
    console.print(
        f"{len(configs):,} runs in {results}, {len(configs) - len(todo):,} of them over already: "
        f"{len(todo):,} to run, {steps.total():,} steps",
        markup=False,
    )
    if todo:
        for line in _costs(todo, left, steps):
            console.print(line, markup=False)


def _kind(config: RunConfig) -> Kind:
    return config.names.task, config.names.optimizer


def _costs(todo: Sequence[RunConfig], left: Counter[Kind], steps: Counter[Kind]) -> list[str]:
    """How long it takes and how much disk, and where that is known from."""
    sources = _Sources(todo)
    costs = {kind: cost for kind in steps if (cost := sources.cost(kind))}
    unknown = sorted({task for task, optimizer in steps if (task, optimizer) not in costs})
    seconds = sum(cost.seconds * steps[kind] for kind, cost in costs.items())
    size = sum(cost.bytes * steps[kind] for kind, cost in costs.items())
    size += sum(BYTES_PER_STEP * steps[kind] + BYTES_PER_RUN * left[kind] for kind in steps if kind not in costs)
    measured = "measured in " + ", ".join(sorted({cost.source for cost in costs.values()}))
    lines = []
    if costs and "hydra_launcher" in todo[0].launcher:
        lines.append(f"time: about {duration(seconds)} of all runs together, {measured}")
    elif costs:
        at_once = max(1, len(places(todo, _gpus(todo[0].device))))
        lines.append(f"time: about {duration(seconds / at_once)} with {at_once} runs at a time, {measured}")
    if unknown:
        lines.append(f"time: unknown of {', '.join(unknown)}, of which no run is over here or in a folder beside")
    assumed = f"; of {', '.join(unknown)} an estimate, {BYTES_PER_STEP} bytes a step" if unknown else ""
    lines.append(f"disk: about {_size(size)}, {measured if costs else 'not measured'}{assumed}")
    return lines


class _Sources:
    """The runs that are over in the results folders of a sweep, then those in the folders beside them."""

    def __init__(self, todo: Sequence[RunConfig]) -> None:
        self._own = [Path(place) for place in dict.fromkeys(config.results_dir for config in todo)]
        self._read: dict[Path, list[Row]] = {}

    def cost(self, kind: Kind) -> Cost | None:
        """Of runs of the task, with the same optimizer where there are some; None if there are none."""
        for place in self._places():
            if place not in self._read:
                self._read[place] = _over(place)
            of_task = [row for row in self._read[place] if row["task"] == kind[0]]
            rows = [row for row in of_task if row["optimizer"] == kind[1]] or of_task
            if rows:
                some = rows[:: math.ceil(len(rows) / WEIGHED)]
                size = sum(record.size(row["folder"]) for row in some) / sum(row["steps"] for row in some)
                seconds = sum(row["seconds"] for row in rows) / sum(row["steps"] for row in rows)
                return Cost(seconds, size, str(place))
        return None

    def _places(self) -> Iterator[Path]:
        yield from self._own
        seen = {place.absolute() for place in self._own}
        for parent in dict.fromkeys(place.parent for place in self._own):
            beside = parent.iterdir() if parent.is_dir() else ()
            yield from sorted(place for place in beside if place.is_dir() and place.absolute() not in seen)


def _over(place: Path) -> list[Row]:
    try:
        rows = record.load_rows(place)
    except UserError:  # no results folder, or one that a report could not use either
        return []
    return [row for row in rows if row["state"] in record.OVER and row["steps"] and row["seconds"]]


def _gpus(device: str) -> int:
    """How many a sweep would find."""
    if device == "cpu":
        return 0
    import torch  # takes a second

    return torch.cuda.device_count()


def _size(size: float) -> str:
    """Bytes as people say them."""
    power = min(3, int(math.log(max(size, 1024), 1024)))
    return f"{size / 1024**power:,.3g} {('KiB', 'MiB', 'GiB')[power - 1]}"
