"""Runs as tables, unformatted: cells, tuned learning rates, targets, comparisons with the baseline, and what is odd."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.analysis import cells, comparisons
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.stats import rates
from s3bench.report.stats.censored import Steps, expected_running_time, median_steps
from s3bench.spikes import Spike
from s3bench.spikes.published import LOSS, OF_RECORDS

RUN = ["run_id", "task", "ladder", "optimizer", "lr_multiplier", "lr", "seed", "horizon", "state", "steps"]
TIME = [*cells.CELL, "seed", "target", "horizon", "low", "high", "spent"]
TARGET = [*cells.CELL, "target", "n", "reached", "median_steps", "min_steps", "max_steps", "running_time"]
OURS = "s3bench"  # the name of our definition beside the published ones
PUBLISHED = [*cells.CELL, "definition", "series", "score", "unit", "events", "events_per_10k", "flagged", "steps"]
PUBLISHED += ["n", "runs"]


def make_tables(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """All tables."""
    plain, times = run_table(runs), time_table(runs)
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    at_best, times_at_best = picked(plain, times)
    untuned = cells.untuned(plain)
    compared = tuned_only(at_best, untuned)
    longest = comparisons.longest(compared)
    tables = {"tuned": cells.tuned(plain), "cells": cells.cells(plain, names), "targets": _targets(times)}
    return {
        "overview": _overview(runs, tables, _targets(times_at_best.assign(lr_multiplier=math.nan))),
        **tables,
        "final_losses": comparisons.final_losses(at_best, untuned),
        "speedups": comparisons.speedups(times_at_best, untuned),
        "spike_rates": comparisons.spike_rates(plain),
        "sensitivity": comparisons.sensitivity(plain),
        "horizons": comparisons.horizons(compared),
        "across": comparisons.across(longest, times_at_best[times_at_best.task.isin(longest.task)]),
        "published": published_table(runs),
        "spikes": _spikes(runs),
        "holes": _holes(runs),
        "runs": plain.drop(columns="ladder"),
        "environment": _environments(runs),
    }


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run with its scores, NaN where it has no result."""
    rows = [{key: run.row[key] for key in RUN} | run.scores for run in runs]
    table = pd.DataFrame(rows, columns=None if rows else RUN)
    for name in ("final_loss", "initial_loss", "spikes", "update_max"):
        if name not in table:
            table[name] = np.nan  # no run has a result
    return table


def time_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run with a result and target: between which steps it was reached, and the steps spent."""
    rows = []
    for run in runs:
        of_run = {key: run.row[key] for key in (*cells.CELL, "seed", "horizon")}
        for name, time in run.times.items():
            rows.append(of_run | {"target": name, "low": time.low, "high": time.high, "spent": run.row["steps"]})
    return pd.DataFrame(rows, columns=TIME)


def picked(plain: pd.DataFrame, times: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables that are of runs at their optimizer's own best learning rate."""
    at_best = cells.picked(plain)
    keys = [*cells.CELL, "seed"]
    chosen = pd.MultiIndex.from_frame(times[keys]).isin(pd.MultiIndex.from_frame(at_best[keys]))
    return at_best, times[chosen]


def tuned_only(table: pd.DataFrame, untuned: comparisons.Untuned) -> pd.DataFrame:
    """The rows of a table that are of none of these tasks and optimizers."""
    return table[~pd.MultiIndex.from_frame(table[["task", "optimizer"]]).isin(list(untuned))]


def _targets(times: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and target: how many runs reached it, and in how many steps."""
    table = []
    for key, group in times.groupby([*cells.CELL, "target"], sort=False, dropna=False):
        of_runs = [Steps(low, high) for low, high in zip(group.low, group.high, strict=True)]
        reached = [time.high for time in of_runs if time.reached]
        row: dict[str, Any] = dict(zip((*cells.CELL, "target"), key, strict=True))
        row |= {"n": len(of_runs), "reached": len(reached), "median_steps": median_steps(of_runs)}
        row["running_time"] = expected_running_time(of_runs, group.spent.tolist())
        row |= {"min_steps": min(reached, default=math.nan), "max_steps": max(reached, default=math.nan)}
        table.append(row)
    return pd.DataFrame(table, columns=TARGET)


def published_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per cell, definition of a spike and series, ours first: its score, flagged steps and events.

    All are of the steps of the `n` runs that were long enough to be judged, of the cell's `runs` with a result.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.has_result:
            groups.setdefault(tuple(run.row[key] for key in cells.CELL), []).append(run)
    rows = []
    for key, group in groups.items():
        of_cell = dict(zip(cells.CELL, key, strict=True)) | {"runs": len(group)}
        own = [(sum(spike.width for spike in run.spikes), len(run.spikes), run.row["steps"]) for run in group]
        of_ours = _added_up(np.array(own))
        ours = {"definition": OURS, "series": LOSS, "score": of_ours["events_per_10k"], "unit": "per 10,000 steps"}
        rows.append(of_cell | ours | of_ours)
        found = np.stack([run.published for run in group], axis=1)
        for (definition, series), counts in zip(OF_RECORDS, found, strict=True):
            sums = _added_up(counts)
            theirs = {"definition": definition.name, "series": series, "unit": definition.unit}
            rows.append(of_cell | theirs | sums | {"score": definition.score(sums["flagged"], sums["steps"])})
    return pd.DataFrame(rows, columns=PUBLISHED)


def _added_up(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The sums of flagged steps, events and steps over runs, shape (runs, 3); n: the runs that have steps."""
    flagged, events, steps = counts.sum(axis=0).tolist()
    n = int((counts[:, 2] > 0).sum())
    rate = rates.per_10k(events, steps)
    return {"flagged": flagged, "events": events, "steps": steps, "events_per_10k": rate, "n": n}


def _overview(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame], targets: pd.DataFrame) -> pd.DataFrame:
    """One row per task and optimizer: at its best learning rate, at the task's largest, spikes, the main target.

    `targets`: of the runs at the best learning rate, as the final losses.
    """
    rows = []
    for task, of_task in grouped(runs, "task").items():
        largest = max(run.row["lr_multiplier"] for run in of_task)
        for optimizer, group in grouped(of_task, "optimizer").items():
            (best,) = part(tables["tuned"], task=task, optimizer=optimizer).to_dict("records")
            results = [run for run in group if run.has_result]
            row: dict[str, Any] = {"task": task, "optimizer": optimizer}
            row |= {key: best[key] for key in ("n", "picks", "edge", "final_loss_mean", "final_loss_sd")}
            at_largest = part(tables["cells"], task=task, optimizer=optimizer, lr_multiplier=largest).to_dict("records")
            row["largest_multiplier"] = largest
            for key in ("n", "diverged", "final_loss_mean", "final_loss_sd"):
                row[f"largest_{key}"] = at_largest[0][key] if at_largest else math.nan
            row |= {"runs": len(results), "runs_with_spike": sum(bool(run.spikes) for run in results)}
            row["target"] = group[0].targets[0] if group[0].targets else None
            reached = part(targets, task=task, optimizer=optimizer, target=row["target"]).to_dict("records")
            for key in ("reached", "n", "median_steps"):
                row[f"target_{key}"] = reached[0][key] if reached else math.nan
            rows.append(row)
    return pd.DataFrame(rows)


def part(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows that have these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _spikes(runs: Sequence[Run]) -> pd.DataFrame:
    axes = ("task", "optimizer", "lr_multiplier", "seed")
    rows = [{key: run.row[key] for key in axes} | vars(spike) for run in runs for spike in run.spikes]
    return pd.DataFrame(rows, columns=[*axes, *Spike.__annotations__])


def _holes(runs: Sequence[Run]) -> pd.DataFrame:
    columns = ["run_id", "state", "steps", "horizon", "cause"]
    rows = [{key: run.row[key] for key in columns} for run in runs if not run.has_result]
    return pd.DataFrame(rows, columns=columns)


def _environments(runs: Sequence[Run]) -> pd.DataFrame:
    """What the runs ran on; more than one row if they ran on different things."""
    rows = []
    for run in runs:
        if run.has_result:
            summary = run.row["summary"]
            rows.append({"device": summary["device"], "commit": summary["commit"] or "unknown", **summary["versions"]})
    if not rows:
        return pd.DataFrame(columns=["runs", "device", "commit"])
    table = pd.DataFrame(rows).fillna("-")
    return table.groupby(list(table.columns), sort=False).size().rename("runs").reset_index()
