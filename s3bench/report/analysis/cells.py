"""Scores of cells (task × optimizer × lr_multiplier) over their seeds, and each optimizer's best learning rate."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench import record
from s3bench.report.stats.rates import per_10k, poisson_interval

CELL = ["task", "optimizer", "lr_multiplier"]
TUNED = 2  # multipliers that an optimizer needs: with a single one nothing was chosen

Array = npt.NDArray[np.float64]


def cell_table(runs: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per cell from one row per run.

    Means, standard deviations and extremes are over the finished runs alone. Rates of spikes have their exact 95%
    interval, which takes spikes as independent and their rate as constant.

    Args:
        runs: has the columns of CELL, state, seed, steps, spikes, dead, update_max, final_loss (infinite for a diverged
            run) and the metrics (final values).
        metrics: names of columns to summarise like final_loss.

    Returns:
        A table whose `n` counts the runs with a result, of which some `diverged`; `holes` counts those without one.
    """
    rows = []
    for key, group in runs.groupby(CELL, sort=False):
        results = group[group.state.isin(record.OVER)]
        finished = results[results.state == record.FINISHED]
        events, steps = int(results.spikes.sum()), int(results.steps.sum())
        low, high = poisson_interval(events, steps)
        row: dict[str, Any] = dict(zip(CELL, key, strict=True))
        row |= {"n": len(results), "holes": len(group) - len(results), "diverged": len(results) - len(finished)}
        for name in ("final_loss", *metrics):
            values = finished[name].astype(float)
            row |= {f"{name}_mean": values.mean(), f"{name}_sd": values.std(ddof=1)}
            row |= {f"{name}_min": values.min(), f"{name}_max": values.max()}
        row |= {"spikes": events, "steps": steps, "runs_with_spike": int((results.spikes > 0).sum())}
        row["dead"] = int(results.dead.sum())
        row |= {"spikes_per_10k": per_10k(events, steps), "spikes_per_10k_low": low, "spikes_per_10k_high": high}
        rows.append(row | {"update_max": results.update_max.max()})
    return pd.DataFrame(rows)


def runs_at_best(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at each optimizer's own best learning rate, which is never chosen on the seed it is reported on.

    The choice leaves one out: for each seed, the multiplier at which the fewest other seeds diverged; ties go to the
    lowest mean final loss of the others, then to the smaller multiplier. A seed that lacks a result at some multiplier
    gives no row, and neither does a single seed.
    """
    parts = [runs.iloc[:0]]
    for _, group in runs.groupby(["task", "optimizer"], sort=False):
        chosen = group.seed.map(_best_for_the_others(_final_losses(group).dropna()))
        parts.append(group[group.lr_multiplier == chosen].sort_values("seed", kind="stable"))
    return pd.concat(parts)


def best_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per task and optimizer: the final loss at its own best learning rate, see `runs_at_best`.

    Returns:
        A table with these columns. `final_loss_mean` and `final_loss_sd` are over `n` results, NaN where there are
        fewer than two; `n` is below `seeds` where some seeds lack a result. `picks` lists how many of them were chosen
        at which multiplier, the most first. `best_multiplier` is the best over all that count, NaN if every one
        diverged; `edge` is true if it is the smallest or the largest of the `grid`, so that a better one may lie
        outside.
    """
    rows = []
    reported = runs_at_best(runs)
    for (task, optimizer), group in runs.groupby(["task", "optimizer"], sort=False):
        grid = _final_losses(group)
        whole = grid.dropna()  # seeds with a result at every multiplier
        best = _best(whole)
        multipliers = sorted(set(group.lr_multiplier))
        own = reported[(reported.task == task) & (reported.optimizer == optimizer)]
        found = dict(zip(own.seed, own.final_loss, strict=True))
        counts = own.lr_multiplier.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        losses = [found.get(seed, math.inf) for seed in whole.index if len(whole) > 1]
        rows.append(
            {
                "task": task,
                "optimizer": optimizer,
                "n": len(losses),
                "seeds": len(grid),
                "grid": ", ".join(f"{multiplier:g}" for multiplier in multipliers),
                "picks": ", ".join(f"{multiplier:g} ({count})" for multiplier, count in counts.items()),
                "best_multiplier": best,
                "edge": best in (multipliers[0], multipliers[-1]),
                "final_loss_mean": np.mean(losses) if losses else math.nan,
                "final_loss_sd": np.std(losses, ddof=1) if losses and np.isfinite(losses).all() else math.nan,
            }
        )
    return pd.DataFrame(rows)


def untuned(runs: pd.DataFrame) -> frozenset[tuple[str, str]]:
    """Return the (task, optimizer) with results at fewer than TUNED learning rates."""
    counts = runs[runs.final_loss.notna()].groupby(["task", "optimizer"]).lr_multiplier.nunique()
    return frozenset(counts[counts < TUNED].index)


def sensitivity(final: npt.ArrayLike, initial: npt.ArrayLike) -> Array:
    """Return the learning-rate sensitivity of each seed, in the loss's unit (Wortsman et al. 2023, 2309.14322).

    That is the mean over the grid of min(final loss, loss at initialisation), minus the smallest of these.

    Args:
        final: shape (seeds, multipliers), infinite where a run diverged; NaN makes the seed's sensitivity NaN.
        initial: the same shape, the loss before the first step.

    Returns:
        Shape (seeds,).
    """
    losses = np.minimum(np.asarray(final, dtype=np.float64), np.asarray(initial, dtype=np.float64))
    above: Array = losses.mean(axis=1) - losses.min(axis=1)
    return above


def largest_without(multipliers: npt.ArrayLike, events: npt.ArrayLike) -> float:
    """Return the largest multiplier up to which no run had an event; NaN if the smallest had one.

    Args:
        multipliers: shape (runs,).
        events: shape (runs,), how many events (divergences, spikes) each run had.
    """
    grid, hit = np.asarray(multipliers, dtype=np.float64), np.asarray(events) > 0
    calm = grid[grid < grid[hit].min()] if hit.any() else grid
    return float(calm.max()) if len(calm) else math.nan


def largest_without_spike(runs: pd.DataFrame) -> float:
    """Return the largest multiplier up to which no run spiked, diverged or was dead; NaN if the smallest did.

    A run counts as dead above the best multiplier alone: below it a loss may be at a guess because it falls slowly.

    Args:
        runs: of one task and optimizer, all with a result, with the columns lr_multiplier, seed, final_loss, state,
            spikes and dead.
    """
    best = _best(_final_losses(runs).dropna())
    dead = runs.dead.astype(bool) & (runs.lr_multiplier > best)
    return largest_without(runs.lr_multiplier, (runs.spikes > 0) | (runs.state == record.DIVERGED) | dead)


def _final_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the final losses of one task and optimizer: a row per seed, a column per multiplier, NaN without one."""
    return runs.groupby(["seed", "lr_multiplier"]).final_loss.mean().unstack()


def _best_for_the_others(grid: pd.DataFrame) -> dict[Any, float]:
    """Return for each seed the multiplier that is best for all other seeds; empty for a single seed."""
    if len(grid) < 2:
        return {}
    infinite = np.isinf(grid.to_numpy())
    finite = np.where(infinite, 0.0, grid.to_numpy())
    best = _fewest_infinite(
        sums=finite.sum(axis=0) - finite,
        infinite=infinite.sum(axis=0) - infinite,
        count=len(grid) - 1,
    )
    return dict(zip(grid.index, grid.columns.to_numpy(dtype=np.float64)[best], strict=True))


def _best(grid: pd.DataFrame) -> float:
    """Return the multiplier that is best for all seeds; NaN if all losses are infinite."""
    infinite = np.isinf(grid.to_numpy())
    if infinite.all():
        return math.nan
    sums = np.where(infinite, 0.0, grid.to_numpy()).sum(axis=0)
    return float(grid.columns[_fewest_infinite(sums=sums, infinite=infinite.sum(axis=0), count=len(grid))])


def _fewest_infinite(*, sums: Array, infinite: npt.NDArray[np.int64], count: int) -> Any:
    """Return the index along the last axis of the fewest infinite losses; ties go to the lowest mean, then the first.

    `sums` are those of the finite ones of `count` losses.
    """
    finite = count - infinite
    means = np.divide(sums, finite, out=np.full(sums.shape, math.inf), where=finite > 0)
    return np.lexsort((means, infinite))[..., 0]
