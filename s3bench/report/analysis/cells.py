"""The scores of runs, and of cells (task × optimizer × lr_multiplier) over their seeds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.stats.rates import per_10k, poisson_interval

CELL = ["task", "optimizer", "lr_multiplier"]
TUNED = 2  # multipliers: of a single one nothing was chosen


def cells(runs: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """One row per cell from one row per run.

    `runs` has the columns of CELL, state, seed, steps, spikes, final_loss (infinite for a diverged run) and the
    metrics (final values). `n` counts the runs with a result, of which some `diverged`; `holes` those without one.
    Means, standard deviations and extremes are over the finished runs alone. Rates have their exact 95% interval, which
    takes spikes as independent and their rate as constant.
    """
    rows = []
    for key, group in runs.groupby(CELL, sort=False):
        results = group[group.state.isin(["finished", "diverged"])]
        finished = results[results.state == "finished"]
        events, steps = int(results.spikes.sum()), int(results.steps.sum())
        low, high = poisson_interval(events, steps)
        row: dict[str, Any] = dict(zip(CELL, key, strict=True))
        row |= {"n": len(results), "holes": len(group) - len(results), "diverged": len(results) - len(finished)}
        for name in ("final_loss", *metrics):
            values = finished[name].astype(float)
            row |= {f"{name}_mean": values.mean(), f"{name}_sd": values.std(ddof=1)}
            row |= {f"{name}_min": values.min(), f"{name}_max": values.max()}
        row |= {"spikes": events, "steps": steps, "runs_with_spike": int((results.spikes > 0).sum())}
        row |= {"spikes_per_10k": per_10k(events, steps), "spikes_per_10k_low": low, "spikes_per_10k_high": high}
        rows.append(row | {"update_max": results.update_max.max()})
    return pd.DataFrame(rows)


def picked(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs at each optimizer's own best learning rate, which is never picked on the seed it is reported on.

    For each seed the multiplier is taken at which the fewest of the *other* seeds diverged, and of those the one with
    the lowest mean final loss of the others (of equals the smallest); the seed's run there is a row. Seeds that lack a
    result at some multiplier give none, and neither does a single seed.
    """
    parts = [runs.iloc[:0]]
    for _, group in runs.groupby(["task", "optimizer"], sort=False):
        chosen = group.seed.map(_best_of_the_others(_grid(group).dropna()))
        parts.append(group[group.lr_multiplier == chosen].sort_values("seed", kind="stable"))
    return pd.concat(parts)


def tuned(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task and optimizer: the final loss at its own best learning rate, see `picked`.

    `final_loss_mean` and `_sd` are over `n` results, NaN where there are fewer than two; `n` is below `seeds` where
    some seeds lack a result. `picks` says at which multiplier how many of them are, the most first. `best_multiplier`
    is the best over all that count, NaN if every one diverged; `edge` says that it is the smallest or the largest of
    the `grid`, so that a better one may lie outside.
    """
    rows = []
    reported = picked(runs)
    for (task, optimizer), group in runs.groupby(["task", "optimizer"], sort=False):
        grid = _grid(group)
        whole = grid.dropna()  # seeds with a result at every multiplier
        best = _best(whole)
        multipliers = sorted(set(group.lr_multiplier))
        of_both = reported[(reported.task == task) & (reported.optimizer == optimizer)]
        found = dict(zip(of_both.seed, of_both.final_loss, strict=True))
        counts = of_both.lr_multiplier.value_counts().sort_index().sort_values(ascending=False, kind="stable")
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


def untuned(runs: pd.DataFrame) -> set[tuple[str, str]]:
    """The (task, optimizer) with results at fewer than TUNED learning rates."""
    counts = runs[runs.final_loss.notna()].groupby(["task", "optimizer"]).lr_multiplier.nunique()
    return set(counts[counts < TUNED].index)


def sensitivity(final: npt.ArrayLike, initial: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Learning-rate sensitivity of each seed, shape (seeds,), in the loss's unit (Wortsman et al. 2023, 2309.14322):

    the mean over the grid of min(final loss, loss at initialisation), minus the smallest of these.

    Args:
        final: shape (seeds, multipliers), infinite where a run diverged; NaN makes the seed's sensitivity NaN.
        initial: the same shape, the loss before the first step.
    """
    losses = np.minimum(np.asarray(final, dtype=np.float64), np.asarray(initial, dtype=np.float64))
    best: npt.NDArray[np.float64] = losses.mean(axis=1) - losses.min(axis=1)
    return best


def largest_without(multipliers: npt.ArrayLike, events: npt.ArrayLike) -> float:
    """The largest multiplier up to which no run had an event (a divergence, a spike); NaN if the smallest had one.

    Args:
        multipliers: shape (runs,).
        events: shape (runs,), how many each had.
    """
    grid, hit = np.asarray(multipliers, dtype=np.float64), np.asarray(events) > 0
    calm = grid[grid < grid[hit].min()] if hit.any() else grid
    return float(calm.max()) if len(calm) else math.nan


def _grid(runs: pd.DataFrame) -> pd.DataFrame:
    """Final losses of one task and optimizer: a row per seed, a column per multiplier, NaN without a result."""
    return runs.groupby(["seed", "lr_multiplier"]).final_loss.mean().unstack()


def _best_of_the_others(grid: pd.DataFrame) -> dict[Any, float]:
    """For each row the column with the fewest infinite values in the other rows, of those the one with the lowest mean
    of their others, of equals the smallest; none of a single row."""
    losses, infinite = grid.to_numpy(), np.isinf(grid.to_numpy())
    if len(grid) < 2:
        return {}
    finite, count = np.where(infinite, 0.0, losses), infinite.sum(axis=0) - infinite
    known = len(grid) - 1 - count
    means = np.divide(finite.sum(axis=0) - finite, known, out=np.full(losses.shape, math.inf), where=known > 0)
    best = np.lexsort((means, count))[:, 0]
    return dict(zip(grid.index, grid.columns.to_numpy(dtype=np.float64)[best], strict=True))


def _best(grid: pd.DataFrame) -> float:
    """The column with the fewest infinite values, of those the one with the lowest mean, of equals the smallest; NaN if
    all are infinite."""
    infinite = np.isinf(grid.to_numpy())
    if infinite.all():
        return math.nan
    means = grid.mask(infinite).mean(axis=0).fillna(math.inf).to_numpy()
    return float(grid.columns[np.lexsort((means, infinite.sum(axis=0)))[0]])
