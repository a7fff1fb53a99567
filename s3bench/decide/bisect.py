"""Finds the largest fixed learning rate at which training is stable, by bisection, where a ramp cannot be relied on.

The runs are those of experiment=ramp_fixed at other rates: in the ramp's results folder, with its seed and horizon, and
judged by its lowest level. Each seed has its own search, the seeds share the grid of rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s3bench import record
from s3bench.console import patient_console, say
from s3bench.errors import UserError, unknown
from s3bench.report.analysis import thresholds
from s3bench.report.analysis.results import Results, read_results
from s3bench.report.analysis.runs import Run, read_run
from s3bench.report.stats.leaving import Threshold, geometric_mean, is_stable, largest_stable, next_rate
from s3bench.run.config.compose import identified, run_config
from s3bench.run.config.recorded import recorded_config
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.sweep.sweep import train

KEYS = ("task", "optimizer")  # that choose rows


@dataclass(kw_only=True)
class Search:
    """The search of one seed: a ramp, the run that it becomes at a fixed rate, and which rates were stable so far."""

    row: tuple[str, str]  # task and optimizer, as the table `thresholds` has them
    threshold: Threshold
    first: float  # the rates that the ramp went through
    last: float
    config: RunConfig
    stable: dict[float, bool] = field(default_factory=dict)

    def at(self, rate: float) -> RunConfig:
        """Return the run at a fixed rate."""
        return identified(replace(self.config, lr_multiplier=rate))

    def next_rate(self) -> float | None:
        """Return the rate to be trained next; None once the search is over."""
        return next_rate(self.stable, self.threshold, self.first, self.last)


def bisect(results: str, chosen: Sequence[str], jobs: Sequence[str] = ()) -> int:
    """Train runs at fixed rates until the largest stable one is known to a factor of √2; return the exit code.

    Args:
        results: a results folder with ramps.
        chosen: task=NAME and optimizer=NAME, lists too, choose rows of the table `thresholds`; without them those where
            the runs at fixed rates contradict the ramps.
        jobs: overrides of the launcher.

    Raises:
        UserError: there is nothing to search, or the ramps were trained by other code.
    """
    folder, console = Path(results), patient_console()
    found = read_results(results)
    searches = _searches(found, _rows(found, _wanted(chosen)), folder, jobs)
    failed = 0
    while todo := [(one, rate) for one in searches if (rate := one.next_rate()) is not None]:
        configs = [one.at(rate) for one, rate in todo]
        folders = [record.folder_of(as_dict(config)) for config in configs]
        record.tidy(folders)
        missing = [c for c, place in zip(configs, folders, strict=True) if not record.has_result(place)]
        if missing:
            train(missing, console, f"{len(missing)} runs at fixed rates")
        for (one, rate), place in zip(todo, folders, strict=True):
            if not record.has_result(place):
                failed += 1
                searches.remove(one)
                say(f"{place.name}: {record.outcome(place)}; its seed is left out", console=console)
                continue
            one.stable[rate] = is_stable(read_run(place).end_level, one.threshold.lowest)
    _show(searches)
    return int(failed > 0)


def _wanted(chosen: Sequence[str]) -> dict[str, list[str]]:
    """Return the names that were asked for, by key. Raises UserError for another key."""
    given = dict(text.partition("=")[::2] for text in chosen)
    for key in given:
        if key not in KEYS:
            raise unknown("key", key, KEYS)
    return {key: names.split(",") for key, names in given.items()}


def _rows(found: Results, wanted: Mapping[str, Sequence[str]]) -> list[list[Run]]:
    """Return the ramps with a result of each row that is to be searched. Raises UserError if there is none."""
    table = thresholds.threshold_table(found)
    if table.empty:
        raise UserError("there is no ramp with a result; s3bench sweep experiment=ramp trains some")
    rows = thresholds.rows_of(found.ramps)
    for key, names in wanted.items():
        known = sorted({getattr(ramps[0], key) for ramps in rows.values()})
        for name in names:
            if name not in known:
                raise unknown(key, name, known)
    if wanted:
        chosen = [r for r in rows.values() if all(getattr(r[0], key) in names for key, names in wanted.items())]
        if not chosen:
            raise UserError("no ramp has both this task and this optimizer")
        return chosen
    misled = table[table.check.str.startswith(thresholds.MISLEADS)]
    if misled.empty:
        raise UserError(
            "no run at a fixed rate contradicts a ramp; task=NAME or optimizer=NAME searches all the same"
            if (table.check != thresholds.UNCHECKED).any()
            else "no ramp was checked at fixed rates: experiment=ramp_fixed does that; task=NAME searches all the same"
        )
    return [rows[task, optimizer] for task, optimizer in zip(misled.task, misled.optimizer, strict=True)]


def _searches(found: Results, rows: Sequence[Sequence[Run]], folder: Path, jobs: Sequence[str]) -> list[Search]:
    """Return a search for each ramp that has a level to judge by, with the runs at fixed rates that are there."""
    here = run_config(["launcher=local", "schedule=constant", *jobs])
    searches = []
    for ramps in rows:
        stable = thresholds.stable_by_seed(found, ramps)
        for ramp in ramps:
            assert ramp.threshold is not None
            if not ramp.threshold.least and not ramp.threshold.most < float("inf"):
                continue  # it learned nothing
            own = recorded_config(ramp.folder, ramp.config, "searched")
            config = replace(
                own,
                schedule={**here.schedule, "warmup": own.schedule["calm"]},
                launcher=here.launcher,
                tracker=here.tracker,
                results_dir=str(folder),
                names=replace(own.names, schedule="constant", launcher=here.names.launcher, tracker=here.names.tracker),
            )
            searches.append(
                Search(
                    row=(ramp.task_label, ramp.optimizer_label),
                    threshold=ramp.threshold,
                    first=ramp.lr_multiplier * own.schedule["start"],
                    last=ramp.lr_multiplier,
                    config=config,
                    stable=stable.get(ramp.seed, {}),
                )
            )
    if not searches:
        raise UserError("these ramps learned nothing, so that no level tells whether a run is stable")
    return searches


def _show(searches: Sequence[Search]) -> None:
    """Print what was found of each row."""
    rows: dict[tuple[str, str], list[Search]] = {}
    for one in searches:
        rows.setdefault(one.row, []).append(one)
    for (task, optimizer), own in rows.items():
        fixed = geometric_mean([largest_stable(one.stable) for one in own])
        ramps = geometric_mean([(one.threshold.least, one.threshold.most) for one in own])
        say(
            f"{task}, {optimizer}: the largest stable fixed rate is {_between(fixed.least, fixed.most)} "
            f"(n = {len(own)}); the ramps left at {_between(ramps.least, ramps.most)}"
        )


def _between(least: Any, most: Any) -> str:
    return f"×{least:.3g}" if least == most else f"between ×{least:.3g} and ×{most:.3g}"
