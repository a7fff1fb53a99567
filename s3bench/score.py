"""The scores of runs, and of cells (task × optimizer × lr_multiplier) over their seeds. Pure functions on arrays."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammainccinv, gammaincinv

CELL = ["task", "optimizer", "lr_multiplier"]


def steps_to_target(
    steps: npt.ArrayLike, values: npt.ArrayLike, *, at_most: float | None = None, at_least: float | None = None
) -> int | None:
    """The step of the first evaluation that reached the target, None if none did; NaN reaches nothing.

    Raises ValueError unless exactly one of at_most and at_least is given.
    """
    if (at_most is None) == (at_least is None):
        raise ValueError(f"at_most is {at_most} and at_least {at_least}; exactly one of them must be given")
    numbers = np.asarray(values, dtype=np.float64)
    reached = numbers <= at_most if at_most is not None else numbers >= np.float64(at_least or 0)
    return int(np.asarray(steps)[reached.argmax()]) if reached.any() else None


def median_steps(steps: Sequence[float | None]) -> float:
    """The median with None (not reached) as infinity: infinite if at least half were not reached, NaN of nothing."""
    if not len(steps):
        return math.nan
    numbers = sorted(math.inf if step is None else float(step) for step in steps)
    low, high = numbers[(len(numbers) - 1) // 2], numbers[len(numbers) // 2]
    return high if math.isinf(high) else (low + high) / 2


def per_10k(events: int, steps: int) -> float:
    """Events per 10,000 steps; NaN without steps."""
    return 1e4 * events / steps if steps else math.nan


def poisson_interval(events: int, steps: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate of events per 10,000 steps (Garwood 1936); (NaN, NaN) without steps."""
    if not steps:
        return math.nan, math.nan
    tail = (1 - level) / 2
    low = float(gammaincinv(events, tail)) if events else 0.0
    return per_10k(1, steps) * low, per_10k(1, steps) * float(gammainccinv(events + 1, tail))


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


def tuned(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task and optimizer: the loss at its own best learning rate, which is never picked on the seed it is
    reported on.

    For each seed the multiplier with the lowest mean final loss over the *other* seeds is taken (a diverged run counts
    as infinite), and the seed's final loss there is a result; `final_loss_mean` and `_sd` are over these n results, NaN
    where there are fewer than two. Seeds that lack a result at some multiplier do not count: `n` is below `seeds`.
    `best_multiplier` is the best over all that count, NaN if every one diverged; `edge` says that it is the smallest or
    the largest of the `grid`, so that a better one may lie outside.
    """
    rows = []
    for (task, optimizer), group in runs.groupby(["task", "optimizer"], sort=False):
        grid = group.groupby(["seed", "lr_multiplier"]).final_loss.mean().unstack()
        whole = grid.dropna()  # seeds with a result at every multiplier
        best = _best(whole)
        multipliers = sorted(set(group.lr_multiplier))
        losses = [
            whole.loc[seed].get(_best(whole.drop(index=seed)), math.inf) for seed in whole.index if len(whole) > 1
        ]
        rows.append(
            {
                "task": task,
                "optimizer": optimizer,
                "n": len(losses),
                "seeds": len(grid),
                "grid": ", ".join(f"{multiplier:g}" for multiplier in multipliers),
                "best_multiplier": best,
                "edge": best in (multipliers[0], multipliers[-1]),
                "final_loss_mean": np.mean(losses) if losses else math.nan,
                "final_loss_sd": np.std(losses, ddof=1) if losses and np.isfinite(losses).all() else math.nan,
            }
        )
    return pd.DataFrame(rows)


def _best(grid: pd.DataFrame) -> float:
    """The column with the lowest mean, infinite where a value is; the smallest of equals; NaN if none is finite."""
    means = {float(str(multiplier)): float(mean) for multiplier, mean in grid.mean(axis=0).items()}
    finite = [multiplier for multiplier, mean in means.items() if math.isfinite(mean)]
    return min(finite, key=lambda multiplier: (means[multiplier], multiplier), default=math.nan)


def running_median(values: npt.ArrayLike, window: int) -> npt.NDArray[np.float64]:
    """The median over the last `window` values (fewer at the start), non-finite values left out."""
    series = pd.Series(np.asarray(values, dtype=np.float64)).replace([np.inf, -np.inf], np.nan)
    return series.rolling(window, min_periods=1).median().to_numpy()
