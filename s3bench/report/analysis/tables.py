"""Results as tables, unformatted: cells, best learning rates, targets, comparisons with the reference, what is odd."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.analysis import cells, comparisons
from s3bench.report.analysis.field import field_table
from s3bench.report.analysis.replays import arm_table, spike_table
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.shock_tables import shock_holes, shock_table, shock_tests
from s3bench.report.analysis.thresholds import ramp_table, threshold_table
from s3bench.report.analysis.update_bounds import bound_table
from s3bench.report.stats.censored import Steps, expected_running_time, median_steps
from s3bench.report.stats.rates import per_10k
from s3bench.spikes import Spike
from s3bench.spikes.published import LOSS, OF_RECORDS

TARGET = [*cells.CELL, "target", "n", "reached", "median_steps", "min_steps", "max_steps", "running_time"]
OURS = "s3bench"  # the name of our definition beside the published ones
PUBLISHED = [*cells.CELL, "definition", "series", "score", "unit", "events", "events_per_10k", "flagged", "steps"]
PUBLISHED += ["n", "runs"]
HOLE = ["run_id", "state", "steps", "horizon", "cause"]


def make_tables(results: Results) -> dict[str, pd.DataFrame]:
    """Make all tables, by the names of their files; those of replays and ramps only if there are any."""
    replays = results.replays
    replayed = {"replay": arm_table(replays), "replay_spikes": spike_table(replays)} if replays else {}
    ramped = {"thresholds": threshold_table(results), "ramps": ramp_table(results.ramps)} if results.ramps else {}
    longest, targets = results.longest_at_best, _targets(results.times)
    best_targets = _targets(results.times_at_best.assign(lr_multiplier=math.nan))
    return {
        "overview": _overview(results, best_targets),
        "tuned": results.best_rates,
        "cells": results.cells,
        "targets": targets,
        "final_losses": comparisons.final_losses(results.at_best, results.untuned),
        "speedups": comparisons.speedups(results.times_at_best, results.untuned),
        "spike_rates": comparisons.spike_rates(results.table),
        "sensitivity": comparisons.sensitivity(results.table),
        "horizons": comparisons.horizons(results.tuned_at_best),
        "across": comparisons.across(longest, results.times_at_best[results.times_at_best.task.isin(longest.task)]),
        "published": _published(results.runs),
        "spikes": _spikes(results.runs),
        "holes": _holes(results),
        "runs": results.table.drop(columns="ladder"),
        "environment": _environments([run for run in (*results.runs, *results.ramps) if run.has_result]),
        "field": field_table(results),
        "shocks": shock_table(results.pairs),
        "shock_tests": shock_tests(results.pairs),
        "bounds": bound_table(results),
        **ramped,
        **replayed,
    }


def _targets(times: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell and target: how many runs reached it, and in how many steps."""
    table = []
    for key, group in times.groupby([*cells.CELL, "target"], sort=False, dropna=False):
        found = [Steps(low, high) for low, high in zip(group.low, group.high, strict=True)]
        reached = [time.high for time in found if time.reached]
        row: dict[str, Any] = dict(zip((*cells.CELL, "target"), key, strict=True))
        row |= {"n": len(found), "reached": len(reached), "median_steps": median_steps(found)}
        row["running_time"] = expected_running_time(found, group.spent.tolist())
        row |= {"min_steps": min(reached, default=math.nan), "max_steps": max(reached, default=math.nan)}
        table.append(row)
    return pd.DataFrame(table, columns=TARGET)


def _published(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per cell, definition of a spike and series, ours first: its score, flagged steps and events.

    All are of the steps of the `n` runs that were long enough to be judged, of the cell's `runs` with a result.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.has_result:
            groups.setdefault((run.task_label, run.optimizer_label, run.lr_multiplier), []).append(run)
    rows = []
    for key, group in groups.items():
        cell = dict(zip(cells.CELL, key, strict=True)) | {"runs": len(group)}
        own = [(sum(spike.width for spike in run.spikes), len(run.spikes), run.steps) for run in group]
        our_sums = _sums(np.array(own))
        ours = {"definition": OURS, "series": LOSS, "score": our_sums["events_per_10k"], "unit": "per 10,000 steps"}
        rows.append(cell | ours | our_sums)
        found = np.stack([run.published for run in group], axis=1)
        for (definition, series), counts in zip(OF_RECORDS, found, strict=True):
            sums = _sums(counts)
            theirs = {"definition": definition.name, "series": series, "unit": definition.unit}
            rows.append(cell | theirs | sums | {"score": definition.score(sums["flagged"], sums["steps"])})
    return pd.DataFrame(rows, columns=PUBLISHED)


def _sums(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Sum flagged steps, events and steps over runs, shape (runs, 3); `n` counts the runs that have steps."""
    flagged, events, steps = counts.sum(axis=0).tolist()
    n = int((counts[:, 2] > 0).sum())
    rate = per_10k(events, steps)
    return {"flagged": flagged, "events": events, "steps": steps, "events_per_10k": rate, "n": n}


def _overview(results: Results, targets: pd.DataFrame) -> pd.DataFrame:
    """Return one row per task and optimizer: at its best learning rate, at the task's largest, spikes, main target.

    `targets`: of the runs at the best learning rate, as the final losses.
    """
    rows = []
    for task, of_task in grouped(results.runs, "task_label").items():
        largest = max(run.lr_multiplier for run in of_task)
        for optimizer, group in grouped(of_task, "optimizer_label").items():
            (best,) = rows_with(results.best_rates, task=task, optimizer=optimizer).to_dict("records")
            over = [run for run in group if run.has_result]
            row: dict[str, Any] = {"task": task, "optimizer": optimizer}
            row |= {key: best[key] for key in ("n", "picks", "grid", "edge", "final_loss_mean", "final_loss_sd")}
            cell = rows_with(results.cells, task=task, optimizer=optimizer, lr_multiplier=largest).to_dict("records")
            row["largest_multiplier"] = largest
            for key in ("n", "diverged", "final_loss_mean", "final_loss_sd"):
                row[f"largest_{key}"] = cell[0][key] if cell else math.nan
            row |= {"runs": len(over), "runs_with_spike": sum(bool(run.spikes) for run in over)}
            row["target"] = group[0].target_names[0] if group[0].targets else None
            reached = rows_with(targets, task=task, optimizer=optimizer, target=row["target"]).to_dict("records")
            for key in ("reached", "n", "median_steps"):
                row[f"target_{key}"] = reached[0][key] if reached else math.nan
            rows.append(row)
    return pd.DataFrame(rows)


def rows_with(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return the rows that have these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _spikes(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per spike; `number` counts those of its run from 1, as `s3bench replay --spike` does."""
    rows = [
        {"task": run.task_label, "optimizer": run.optimizer_label, "lr_multiplier": run.lr_multiplier}
        | {"seed": run.seed, "number": number}
        | vars(spike)
        for run in runs
        for number, spike in enumerate(run.spikes, start=1)
    ]
    return pd.DataFrame(rows, columns=[*cells.CELL, "seed", "number", *(field.name for field in fields(Spike))])


def _holes(results: Results) -> pd.DataFrame:
    """Return the runs without a result, and the shocked ones without a response."""
    rows = [{key: getattr(run, key) for key in HOLE} for run in (*results.runs, *results.ramps) if not run.has_result]
    return pd.DataFrame([*rows, *shock_holes(results.pairs)], columns=HOLE)


def _environments(runs: Sequence[Run]) -> pd.DataFrame:
    """Return what the runs ran on: more than one row if they ran on different things."""
    rows: list[Mapping[str, Any]] = [
        {"device": run.summary["device"], "commit": run.summary["commit"] or "unknown", **run.summary["versions"]}
        for run in runs
    ]
    if not rows:
        return pd.DataFrame(columns=["runs", "device", "commit"])
    table = pd.DataFrame(rows).fillna("-")
    return table.groupby(list(table.columns), sort=False).size().rename("runs").reset_index()
