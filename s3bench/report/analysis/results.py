"""All that the records of a results folder show, computed once: what tables, claims, figures and the page take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.analysis.comparisons import Untuned, longest
from s3bench.report.analysis.replays import Replay, read_replays
from s3bench.report.analysis.results_folder import read_runs
from s3bench.report.analysis.runs import Run
from s3bench.report.analysis.shock_tables import Pair, paired

RUN = ["run_id", "task", "ladder", "optimizer", "lr_multiplier", "lr", "seed", "horizon", "state", "steps"]
TIME = [*cells.CELL, "seed", "target", "horizon", "low", "high", "spent"]
NOT_SCORED = ("final_loss", "initial_loss", "spikes", "dead", "update_max")  # columns that are there without any result


@dataclass(frozen=True, kw_only=True)
class Results:
    """The runs of a results folder and the tables that several outputs share. In all tables, names are labels.

    Attributes:
        runs: the undisturbed runs, in the page's order, without the ramps: no other attribute but `ramps` has these.
        ramps: the runs whose learning rate grows until the loss leaves.
        pairs: each shocked run with its undisturbed twin.
        table: one row per undisturbed run with its scores; see run_table.
        times: one row per undisturbed run and target; see time_table.
        cells: one row per cell (task × optimizer × lr_multiplier) over its seeds.
        best_rates: one row per task and optimizer: its best learning rate and the loss there.
        at_best: the rows of `table` at each optimizer's own best learning rate.
        times_at_best: the rows of `times` of the same runs.
        untuned: the (task, optimizer) with results at too few learning rates for one to have been chosen.
        replays: the spikes that were replayed, with their arms.
        no_spikes: how many more were replayed that are none by judge.yaml; they count nowhere.
    """

    runs: Sequence[Run]
    pairs: Sequence[Pair]
    table: pd.DataFrame
    times: pd.DataFrame
    cells: pd.DataFrame
    best_rates: pd.DataFrame
    at_best: pd.DataFrame
    times_at_best: pd.DataFrame
    untuned: Untuned
    ramps: Sequence[Run] = ()
    replays: Sequence[Replay] = ()
    no_spikes: int = 0

    @property
    def with_result(self) -> list[Run]:
        """The undisturbed runs that are over and did not fail."""
        return [run for run in self.runs if run.has_result]

    @property
    def tuned_at_best(self) -> pd.DataFrame:
        """The rows of `at_best` whose optimizer is tuned on that task."""
        return tuned_only(self.at_best, self.untuned)

    @property
    def tuned_times(self) -> pd.DataFrame:
        """The rows of `times_at_best` whose optimizer is tuned on that task."""
        return tuned_only(self.times_at_best, self.untuned)

    @property
    def longest_at_best(self) -> pd.DataFrame:
        """The rows of `tuned_at_best` at each task's longest horizon."""
        return longest(self.tuned_at_best)


def read_results(results_dir: str | Path) -> Results:
    """Read a results folder. Raises UserError as read_runs and read_replays do."""
    return gather(read_runs(results_dir), read_replays(Path(results_dir)))


def gather(runs: Sequence[Run], replays: Sequence[Replay] = ()) -> Results:
    """Compute what all outputs share from labelled runs and their replays. Raises UserError for a damaged record."""
    undisturbed = [run for run in runs if run.shock is None and not run.is_ramp]
    table, times = run_table(undisturbed), time_table(undisturbed)
    metrics = list(dict.fromkeys(name for run in undisturbed for name in run.metrics))
    at_best = cells.runs_at_best(table)
    keys = [*cells.CELL, "seed"]
    chosen = pd.MultiIndex.from_frame(times[keys]).isin(pd.MultiIndex.from_frame(at_best[keys]))
    return Results(
        runs=undisturbed,
        pairs=paired(undisturbed, [run for run in runs if run.shock is not None]),
        table=table,
        times=times,
        cells=cells.cell_table(table, metrics),
        best_rates=cells.best_rates(table),
        at_best=at_best,
        times_at_best=times[chosen],
        untuned=cells.untuned(table),
        ramps=[run for run in runs if run.is_ramp],
        replays=_labelled([one for one in replays if one.is_of_spike], runs),
        no_spikes=sum(not one.is_of_spike for one in replays),
    )


def _labelled(replays: Sequence[Replay], runs: Sequence[Run]) -> list[Replay]:
    """Return replays with the labels of their runs for names."""
    of = {run.folder.name: run for run in runs}
    return [
        replace(one, task=of[one.run].task_label, optimizer=of[one.run].optimizer_label) if one.run in of else one
        for one in replays
    ]


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run with its scores; NaN where it has no result."""
    rows = [_row(run) for run in runs]
    table = pd.DataFrame(rows, columns=None if rows else RUN)
    for name in NOT_SCORED:
        if name not in table:
            table[name] = np.nan  # no run has a result
    return table


def _row(run: Run) -> dict[str, Any]:
    names = {"task": run.task_label, "ladder": run.ladder, "optimizer": run.optimizer_label}
    row = {key: names[key] if key in names else getattr(run, key) for key in RUN}
    if not run.has_result:
        return row
    scores = ("update_max", "own_update", "before_spikes", "smallest_gradient")
    return {
        **row,
        **{"final_loss": run.final_loss, "initial_loss": run.initial_loss, "spikes": len(run.spikes)},
        "dead": run.is_dead,
        **{key: getattr(run, key) for key in scores},
        **run.metrics,
        **{name: int(time.high) if time.reached else None for name, time in run.times.items()},
    }


def time_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run with a result and target: the steps between which it was reached, and the steps spent."""
    rows = []
    for run in runs:
        cell = {"task": run.task_label, "optimizer": run.optimizer_label, "lr_multiplier": run.lr_multiplier}
        for name, time in run.times.items():
            reached = {"target": name, "low": time.low, "high": time.high, "spent": run.steps}
            rows.append(cell | {"seed": run.seed, "horizon": run.horizon} | reached)
    return pd.DataFrame(rows, columns=TIME)


def tuned_only(table: pd.DataFrame, untuned: Untuned) -> pd.DataFrame:
    """Return the rows of a table whose task and optimizer are not among the untuned ones."""
    return table[~pd.MultiIndex.from_frame(table[["task", "optimizer"]]).isin(list(untuned))]
