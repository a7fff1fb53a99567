"""Every optimizer against the baseline, in pairs of equal seeds; tables of numbers, a row per optimizer.

The baseline is adamw_95, AdamW (.9, .95), where a task has runs of it, else adamw; without either there are no rows.
"""

import math
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.stats.across_tasks import geometric_mean, geometric_mean_bounds, performance_ratios
from s3bench.report.stats.bootstrap import mean_interval, median_bounds, median_interval
from s3bench.report.stats.censored import Steps, log_ratios
from s3bench.report.stats.horizon_speedup import horizon_speedup
from s3bench.report.stats.paired_tests import holm, sign_flip_p, sign_test_p, signed_rank_p, verdict
from s3bench.report.stats.rates import rate_ratio, rates_p

BASELINES = ("adamw_95", "adamw")
TESTED = ["p", "p_holm", "verdict"]
NOT_TUNED = "not tuned: at one learning rate"

Untuned = Set[tuple[str, str]]  # (task, optimizer), of cells.untuned
NONE: Untuned = frozenset()


def baseline(optimizers: Iterable[str]) -> str | None:
    """The baseline among these optimizers."""
    return next((name for name in BASELINES if name in set(optimizers)), None)


def _pairs(runs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each optimizer but the baseline, the baseline, and one row per seed that both have, columns "_x" and "_y"."""
    base = baseline(runs.optimizer)
    for optimizer, group in runs.groupby("optimizer", sort=False):
        if base is not None and optimizer != base:
            yield str(optimizer), base, group.merge(runs[runs.optimizer == base], on="seed")


def _with_verdicts(rows: list[dict[str, Any]], untuned: Untuned = NONE) -> list[dict[str, Any]]:
    """The rows of one family with Holm's p and the verdict; each has p, n and how many of these are unequal pairs.

    Those without a pair are no test, and neither are those of an optimizer, or against a baseline, that is not tuned.
    """
    tested = []
    for row in rows:
        if row["n"] and not _sides(row) & untuned:
            tested.append(row)
        else:
            row |= {"p": math.nan, "p_holm": math.nan, "verdict": NOT_TUNED if row["n"] else verdict(math.nan, 0, 1)}
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row |= {"p_holm": p, "verdict": verdict(p, row["n"], len(tested), row["unequal"])}
    return rows


def _sides(row: dict[str, Any]) -> Set[tuple[str, str]]:
    """What a row compares, as (task, optimizer)."""
    return {(row["task"], row[side]) for side in ("optimizer", "baseline") if side in row}


def final_losses(at_best: pd.DataFrame, untuned: Untuned = NONE) -> pd.DataFrame:
    """Final losses at each one's own best learning rate: mean difference to the baseline, Wilcoxon's signed ranks.

    `at_best`: one row per task, optimizer and seed, of cells.picked. Holm's correction is over a task's optimizers.
    """
    rows = []
    for task, runs in at_best.groupby("task", sort=False):
        family = []
        for optimizer, base, pairs in _pairs(runs):
            differences = _differences(pairs.final_loss_x, pairs.final_loss_y)
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "baseline": base, "n": len(pairs)}
            row |= _tested(differences)
            family.append(row)
        rows += _with_verdicts(family, untuned)
    columns = ["task", "optimizer", "baseline", "n", "difference", "difference_low", "difference_high", *TESTED]
    return pd.DataFrame(rows, columns=columns)


def _differences(own: "pd.Series[float]", base: "pd.Series[float]") -> Any:
    """own - base; NaN where both are infinite."""
    with np.errstate(invalid="ignore"):
        return own.to_numpy(dtype=np.float64) - base.to_numpy(dtype=np.float64)


def _tested(differences: Any) -> dict[str, float]:
    """Their mean and its interval, p of Wilcoxon's signed ranks, and how many are neither 0 nor unknown."""
    p = signed_rank_p(differences) if len(differences) else math.nan
    return {**_mean("difference", differences), "p": p, "unequal": int(np.count_nonzero(np.nan_to_num(differences)))}


def _mean(name: str, values: Any) -> dict[str, float]:
    """A mean and its interval."""
    low, high = mean_interval(values)
    with np.errstate(invalid="ignore"):
        return {name: float(values.mean()) if len(values) else math.nan, f"{name}_low": low, f"{name}_high": high}


def speedups(times: pd.DataFrame, untuned: Untuned = NONE) -> pd.DataFrame:
    """Steps to each target at each one's own best learning rate: the baseline's over the optimizer's, in pairs.

    The median ratio, as bounds where censoring leaves no more; its interval; the sign test, in which pairs of which
    nothing is known and those within the same evaluations are ties. Holm's correction is over a target's optimizers.
    """
    rows = []
    for (task, target), runs in times.groupby(["task", "target"], sort=False):
        family = []
        for optimizer, base, pairs in _pairs(runs):
            bounds = log_ratios(_times(pairs, "_y"), _times(pairs, "_x"))
            faster = int(((bounds[:, 0] >= 0) & (bounds[:, 1] > 0)).sum())
            slower = int(((bounds[:, 1] <= 0) & (bounds[:, 0] < 0)).sum())
            row: dict[str, Any] = {"task": task, "target": target, "optimizer": optimizer, "baseline": base}
            row |= {"n": len(pairs), "faster": faster, "slower": slower, **_exp("speedup", median_bounds(bounds))}
            row |= _exp("interval", median_interval(bounds))
            row |= {"p": sign_test_p(faster, slower), "unequal": faster + slower}
            family.append(row)
        rows += _with_verdicts(family, untuned)
    columns = ["task", "target", "optimizer", "baseline", "n", "faster", "slower", "speedup_low", "speedup_high"]
    return pd.DataFrame(rows, columns=[*columns, "interval_low", "interval_high", *TESTED])


def _times(pairs: pd.DataFrame, suffix: str = "") -> list[Steps]:
    return [Steps(*bounds) for bounds in zip(pairs[f"low{suffix}"], pairs[f"high{suffix}"], strict=True)]


def _exp(name: str, bounds: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": math.exp(bounds[0]), f"{name}_high": math.exp(bounds[1])}


def spike_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Spikes per 10,000 steps less the baseline's at the same multiplier: mean over seeds, tested by sign flips.

    Beside it how many of the runs diverged, which they may do without a spike, and, taking spikes as independent, the
    ratio of the rates with its exact interval, and `p_poisson`. Holm's correction is over the optimizers at a
    multiplier.
    """
    rows = []
    results = runs[runs.final_loss.notna()]
    for (task, multiplier), group in results.groupby(["task", "lr_multiplier"], sort=False):
        family = []
        for optimizer, base, pairs in _pairs(group):
            counts = pairs[["spikes_x", "steps_x", "spikes_y", "steps_y"]].astype(int).to_numpy().T
            spikes, steps, base_spikes, base_steps = counts
            differences = 1e4 * (spikes / steps - base_spikes / base_steps)
            total, base_total = int(spikes.sum()), int(base_spikes.sum())
            ratio, low, high = rate_ratio(total, steps.sum(), base_total, base_steps.sum())
            row: dict[str, Any] = {"task": task, "lr_multiplier": multiplier, "optimizer": optimizer, "baseline": base}
            diverged = {"diverged": pairs.state_x, "baseline_diverged": pairs.state_y}
            row |= {"n": len(pairs), "spikes": total, "baseline_spikes": base_total, **_mean("difference", differences)}
            row |= {name: int((states == "diverged").sum()) for name, states in diverged.items()}
            row |= {"ratio": ratio, "ratio_low": low, "ratio_high": high, "p_poisson": rates_p(*counts)}
            family.append(row | {"p": sign_flip_p(differences), "unequal": np.count_nonzero(differences)})
        rows += _with_verdicts(family)
    columns = ["task", "lr_multiplier", "optimizer", "baseline", "n", "spikes", "baseline_spikes"]
    columns += [
        "diverged",
        "baseline_diverged",
        "difference",
        "difference_low",
        "difference_high",
        "ratio",
        "ratio_low",
        "ratio_high",
        "p_poisson",
    ]
    return pd.DataFrame(rows, columns=[*columns, *TESTED])


def sensitivity(runs: pd.DataFrame) -> pd.DataFrame:
    """Learning-rate sensitivity of each optimizer over its grid, and less the baseline's over the multipliers of both.

    Beside it the largest multiplier up to which no run diverged, and up to which none had a spike.
    """
    rows = []
    for task, of_task in runs[runs.final_loss.notna()].groupby("task", sort=False):
        base, family = baseline(of_task.optimizer), []
        of_base = of_task[of_task.optimizer == base]
        for optimizer, group in of_task.groupby("optimizer", sort=False):
            own = sensitivity_by_seed(group)
            both = set(group.lr_multiplier) & set(of_base.lr_multiplier)
            shared = [sensitivity_by_seed(part[part.lr_multiplier.isin(both)]) for part in (group, of_base)]
            differences = (shared[0] - shared[1]).dropna().to_numpy() if optimizer != base else np.array([])
            multipliers = sorted(set(group.lr_multiplier))
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "seeds": len(own)}
            row |= {"grid": ", ".join(f"{multiplier:g}" for multiplier in multipliers)}
            row |= {"sensitivity_mean": own.mean(), "sensitivity_sd": own.std(ddof=1)}
            diverged = group.state == "diverged"
            row["largest_without_divergence"] = cells.largest_without(group.lr_multiplier, diverged)
            row["largest_without_spike"] = cells.largest_without(group.lr_multiplier, group.spikes)
            family.append(row | {"n": len(differences), **_tested(differences)})
        _with_verdicts([row for row in family if base and row["optimizer"] != base])
        rows += family
    columns = ["task", "optimizer", "seeds", "grid", "sensitivity_mean", "sensitivity_sd", "largest_without_divergence"]
    columns += ["largest_without_spike", "n", "difference", "difference_low", "difference_high", *TESTED]
    return pd.DataFrame(rows, columns=columns)


def sensitivity_by_seed(runs: pd.DataFrame) -> "pd.Series[float]":
    """By seed, of those with a result at every multiplier; none of fewer than two multipliers."""
    final = runs.pivot_table(index="seed", columns="lr_multiplier", values="final_loss").dropna()
    if final.shape[1] < 2:
        return pd.Series(dtype=float)
    initial = runs.pivot_table(index="seed", columns="lr_multiplier", values="initial_loss").loc[final.index]
    return pd.Series(cells.sensitivity(final, initial), index=final.index)


def horizons(at_best: pd.DataFrame) -> pd.DataFrame:
    """The baseline's horizon that ends at an optimizer's final loss, over the optimizer's: a row per its horizon.

    Every horizon has runs of its own, with their own full schedule and learning rate. Empty unless a task has several.
    """
    rows = []
    for task, runs in at_best.groupby("ladder", sort=False):
        base = baseline(runs.optimizer)
        ladder = runs[runs.optimizer == base].pivot_table(index="seed", columns="horizon", values="final_loss").dropna()
        if runs.horizon.nunique() < 2 or ladder.empty:
            continue
        for (optimizer, horizon), group in runs[runs.optimizer != base].groupby(["optimizer", "horizon"], sort=False):
            losses = group.set_index("seed").final_loss
            seeds = losses.index.intersection(ladder.index)
            if not len(seeds):
                continue
            own, steps = losses.loc[seeds].to_numpy(), ladder.columns.to_numpy()
            bounds, ends = horizon_speedup(own, int(str(horizon)), steps, ladder.loc[seeds].to_numpy())
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "horizon": horizon, "baseline": base}
            row |= {"baseline_horizons": ", ".join(f"{steps:,}" for steps in ladder.columns), "n": len(seeds)}
            row |= {"final_loss_mean": own.mean(), "final_loss_sd": own.std(ddof=1) if len(own) > 1 else math.nan}
            row |= {"speedup_low": bounds[0], "speedup_high": bounds[1]}
            rows.append(row | {"interval_low": ends[0], "interval_high": ends[1]})
    columns = ["task", "optimizer", "horizon", "baseline", "baseline_horizons", "n", "final_loss_mean"]
    return pd.DataFrame(
        rows, columns=[*columns, "final_loss_sd", "speedup_low", "speedup_high", "interval_low", "interval_high"]
    )


def across(at_best: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Each optimizer against the baseline over all tasks; empty of fewer than two tasks that have both.

    The geometric mean over tasks of final loss over the baseline's, with its interval, and of the median speed-up to
    each task's main target, as bounds.
    """
    tasks = [runs for _, runs in at_best.groupby("task", sort=False)]
    base = baseline(set.intersection(*(set(runs.optimizer) for runs in tasks))) if tasks else None
    rows = []
    for optimizer in dict.fromkeys(at_best.optimizer):
        pairs = [_both(runs, str(optimizer), base) for runs in tasks]
        compared = [both for both in pairs if len(both)]
        if optimizer == base or len(compared) < 2:
            continue
        main = times.drop_duplicates([*cells.CELL, "seed"])
        steps = [_both(main[main.task == both.task_x.iloc[0]], str(optimizer), base) for both in compared]
        ratios = [log_ratios(_times(both, "_y"), _times(both, "_x")) for both in steps if len(both)]
        low, high = geometric_mean_bounds(ratios) if len(ratios) == len(compared) else (0.0, math.inf)
        positive = all((both[["final_loss_x", "final_loss_y"]] > 0).all(axis=None) for both in compared)
        losses = [_log_losses(both) for both in compared] if positive else []
        ratio, ratio_low, ratio_high = geometric_mean(losses)
        row: dict[str, Any] = {"optimizer": optimizer, "baseline": base, "tasks": len(compared)}
        row |= {
            "n": sum(map(len, compared)),
            "loss_ratio": ratio,
            "loss_ratio_low": ratio_low,
            "loss_ratio_high": ratio_high,
        }
        rows.append(row | {"speedup_low": low, "speedup_high": high})
    columns = ["optimizer", "baseline", "tasks", "n", "loss_ratio", "loss_ratio_low", "loss_ratio_high"]
    return pd.DataFrame(rows, columns=[*columns, "speedup_low", "speedup_high"])


def shocks(pairs: pd.DataFrame) -> pd.DataFrame:
    """Peak and area of the response to a shock, less the baseline's to the same shock, Wilcoxon's signed ranks.

    `pairs`: one row per shocked run with a response, infinite where it diverged. Holm's correction is over the
    optimizers at a shock and a multiplier, of one measure.
    """
    rows = []
    where = ["task", "lr_multiplier", "kind", "step", "length", "dose"]
    for key, group in pairs.groupby(where, sort=False):
        for measure in ("peak", "area"):
            family = []
            for optimizer, base, both in _pairs(group):
                differences = _differences(both[f"{measure}_x"], both[f"{measure}_y"])
                row: dict[str, Any] = dict(zip(where, key, strict=True)) | {"measure": measure, "optimizer": optimizer}
                family.append(row | {"baseline": base, "n": len(both), **_tested(differences)})
            rows += _with_verdicts(family)
    columns = [*where, "measure", "optimizer", "baseline", "n", "difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=[*columns, *TESTED])


def longest(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each task the runs at its longest horizon: the others are the same task once more."""
    return runs[runs.horizon == runs.groupby("ladder").horizon.transform("max")]


def _both(runs: pd.DataFrame, optimizer: str, base: str | None) -> pd.DataFrame:
    return runs[runs.optimizer == optimizer].merge(runs[runs.optimizer == base], on="seed")


def _log_losses(both: pd.DataFrame) -> Any:
    with np.errstate(invalid="ignore"):
        return np.log(both.final_loss_x.to_numpy() / both.final_loss_y.to_numpy())


def profile_ratios(times: pd.DataFrame) -> tuple[list[str], list[str], Any]:
    """Steps to each task's main target over the fastest optimizer's, of the optimizers that all tasks have.

    Of every task and seed that all these have.

    Returns:
        The optimizers, the task of each problem, and the ratios, shape (problems, optimizers), for performance_profile.
    """
    main = times.drop_duplicates([*cells.CELL, "seed"])
    tasks = main.groupby("optimizer").task.nunique()
    main = main[main.optimizer.isin(tasks[tasks == main.task.nunique()].index)]
    costs = main.pivot_table(index=["task", "seed"], columns="optimizer", values="high", sort=False).dropna()
    numbers = np.maximum(costs.to_numpy(dtype=np.float64), 1.0)  # reached before the first step: no ratio to 0
    names: Sequence[Any] = costs.index.get_level_values("task").tolist()
    return list(map(str, costs.columns)), [str(name) for name in names], performance_ratios(numbers)
