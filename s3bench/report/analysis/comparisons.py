"""Compares every optimizer with the reference, in pairs of equal seeds; tables of numbers, one row per optimizer.

The reference is adamw_95, AdamW (.9, .95), where a task has runs of it, else adamw; without either there are no rows.
The tables' column `baseline` holds its name: the column is older than the word.
"""

import math
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench import record
from s3bench.report.analysis import cells
from s3bench.report.stats.across_tasks import geometric_mean, geometric_mean_bounds, performance_ratios
from s3bench.report.stats.bootstrap import mean_interval, median_bounds, median_interval
from s3bench.report.stats.censored import Steps, log_step_ratios
from s3bench.report.stats.horizon_speedup import horizon_speedup
from s3bench.report.stats.paired_tests import holm, log_ratios, sign_flip_p, sign_test_p, signed_rank_p, verdict
from s3bench.report.stats.rates import rate_ratio, rates_p

REFERENCES = ("adamw_95", "adamw")  # the first that a task has runs of
TESTED = ["p", "p_holm", "verdict"]
NOT_TUNED = "not tuned: at one learning rate"

Array = npt.NDArray[np.float64]
Untuned = Set[tuple[str, str]]  # (task, optimizer), of cells.untuned
NONE: Untuned = frozenset()


def reference_among(optimizers: Iterable[str]) -> str | None:
    """Return the reference among these optimizers; None if there is none."""
    return next((name for name in REFERENCES if name in set(optimizers)), None)


def _pairs(runs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each other optimizer, the reference, and one row per seed that both have; see `_paired`."""
    reference = reference_among(runs.optimizer)
    for optimizer in runs.optimizer.unique():
        if reference is not None and optimizer != reference:
            yield str(optimizer), reference, _paired(runs, str(optimizer), reference)


def _paired(runs: pd.DataFrame, optimizer: str, reference: str | None) -> pd.DataFrame:
    """Return one row per seed that both have; the reference's columns end in "_reference"."""
    own, other = runs[runs.optimizer == optimizer], runs[runs.optimizer == reference]
    return own.merge(other, on="seed", suffixes=("", "_reference"))


def _with_verdicts(rows: list[dict[str, Any]], untuned: Untuned = NONE) -> list[dict[str, Any]]:
    """Return the rows of one family of tests with Holm's p and the verdict.

    Each row has p, n and how many of the pairs are unequal. A row without a pair is not a test, and neither is one that
    compares an optimizer that is not tuned.
    """
    is_test = [bool(row["n"]) and not _sides(row) & untuned for row in rows]
    corrected = iter(holm([row["p"] for row, tested in zip(rows, is_test, strict=True) if tested]))
    found = []
    for row, tested in zip(rows, is_test, strict=True):
        if tested:
            p = next(corrected)
            found.append(row | {"p_holm": p, "verdict": verdict(p, row["n"], sum(is_test), row["unequal"])})
        else:
            why = NOT_TUNED if row["n"] else verdict(math.nan, 0, 1)
            found.append(row | {"p": math.nan, "p_holm": math.nan, "verdict": why})
    return found


def _sides(row: dict[str, Any]) -> Set[tuple[str, str]]:
    """Return what a row compares, as (task, optimizer)."""
    return {(row["task"], row[side]) for side in ("optimizer", "baseline") if side in row}


def final_losses(at_best: pd.DataFrame, untuned: Untuned = NONE) -> pd.DataFrame:
    """Compare final losses at each one's own best learning rate: mean difference, Wilcoxon's signed ranks.

    `at_best`: one row per task, optimizer and seed, of cells.runs_at_best. Holm's correction is over a task's
    optimizers.
    """
    rows = []
    for task, runs in at_best.groupby("task", sort=False):
        family = []
        for optimizer, reference, pairs in _pairs(runs):
            differences = _differences(pairs.final_loss, pairs.final_loss_reference)
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "baseline": reference, "n": len(pairs)}
            row |= _tested(differences)
            family.append(row)
        rows += _with_verdicts(family, untuned)
    columns = ["task", "optimizer", "baseline", "n", "difference", "difference_low", "difference_high", *TESTED]
    return pd.DataFrame(rows, columns=columns)


def _differences(own: "pd.Series[float]", reference: "pd.Series[float]") -> Array:
    """Return own - reference; NaN where both are infinite."""
    with np.errstate(invalid="ignore"):
        differences: Array = own.to_numpy(dtype=np.float64) - reference.to_numpy(dtype=np.float64)
    return differences


def _tested(differences: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    """Return the mean and its interval, p of Wilcoxon's signed ranks, and how many are neither 0 nor unknown."""
    p = signed_rank_p(differences) if len(differences) else math.nan
    return {**_mean("difference", differences), "p": p, "unequal": int(np.count_nonzero(np.nan_to_num(differences)))}


def _mean(name: str, values: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    """Return the mean and its interval, as columns."""
    low, high = mean_interval(values)
    with np.errstate(invalid="ignore"):
        return {name: float(values.mean()) if len(values) else math.nan, f"{name}_low": low, f"{name}_high": high}


def speedups(times: pd.DataFrame, untuned: Untuned = NONE) -> pd.DataFrame:
    """Compare steps to each target at each one's own best learning rate: the reference's over the optimizer's.

    The median ratio over pairs of seeds, as bounds where censoring leaves no more, with its interval; and the sign
    test, in which pairs whose order is unknown, or lies within the same evaluations, are ties. Holm's correction is
    over a target's optimizers.
    """
    rows = []
    for (task, target), runs in times.groupby(["task", "target"], sort=False):
        family = []
        for optimizer, reference, pairs in _pairs(runs):
            bounds = log_step_ratios(_times(pairs, "_reference"), _times(pairs))
            faster = int(((bounds[:, 0] >= 0) & (bounds[:, 1] > 0)).sum())
            slower = int(((bounds[:, 1] <= 0) & (bounds[:, 0] < 0)).sum())
            row: dict[str, Any] = {"task": task, "target": target, "optimizer": optimizer, "baseline": reference}
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
    """Compare spikes per 10,000 steps at the same multiplier: mean difference over seeds, tested by sign flips.

    The table also counts the runs that diverged, which they may do without a spike, and those that are dead, which have
    few. Taking spikes as independent, it has the ratio of the rates with its exact interval, and `p_poisson`. Holm's
    correction is over the optimizers at a multiplier.
    """
    rows = []
    results = runs[runs.final_loss.notna()]
    for (task, multiplier), group in results.groupby(["task", "lr_multiplier"], sort=False):
        family = []
        for optimizer, reference, pairs in _pairs(group):
            counts = pairs[["spikes", "steps", "spikes_reference", "steps_reference"]].astype(int).to_numpy().T
            spikes, steps, other_spikes, other_steps = counts
            differences = 1e4 * (spikes / steps - other_spikes / other_steps)
            total, other_total = int(spikes.sum()), int(other_spikes.sum())
            ratio, low, high = rate_ratio(total, steps.sum(), other_total, other_steps.sum())
            row: dict[str, Any] = {
                "task": task,
                "lr_multiplier": multiplier,
                "optimizer": optimizer,
                "baseline": reference,
            }
            diverged = {"diverged": pairs.state, "baseline_diverged": pairs.state_reference}
            dead = {"dead": pairs.dead, "baseline_dead": pairs.dead_reference}
            row |= {
                "n": len(pairs),
                "spikes": total,
                "baseline_spikes": other_total,
                **_mean("difference", differences),
            }
            row |= {name: int((states == record.DIVERGED).sum()) for name, states in diverged.items()}
            row |= {name: int(are_dead.sum()) for name, are_dead in dead.items()}
            row |= {"ratio": ratio, "ratio_low": low, "ratio_high": high, "p_poisson": rates_p(*counts)}
            family.append(row | {"p": sign_flip_p(differences), "unequal": np.count_nonzero(differences)})
        rows += _with_verdicts(family)
    columns = ["task", "lr_multiplier", "optimizer", "baseline", "n", "spikes", "baseline_spikes"]
    columns += ["diverged", "baseline_diverged", "dead", "baseline_dead"]
    columns += ["difference", "difference_low", "difference_high"]
    columns += ["ratio", "ratio_low", "ratio_high", "p_poisson"]
    return pd.DataFrame(rows, columns=[*columns, *TESTED])


def sensitivity(runs: pd.DataFrame) -> pd.DataFrame:
    """Compare the learning-rate sensitivity of each optimizer, over the multipliers that it shares with the reference.

    The table also has each optimizer's sensitivity over its own grid, the largest multiplier up to which no run
    diverged, and the largest up to which none spiked, diverged or was dead.
    """
    rows = []
    for task, of_task in runs[runs.final_loss.notna()].groupby("task", sort=False):
        reference, family = reference_among(of_task.optimizer), []
        of_reference = of_task[of_task.optimizer == reference]
        for optimizer, group in of_task.groupby("optimizer", sort=False):
            own = sensitivity_by_seed(group)
            both = set(group.lr_multiplier) & set(of_reference.lr_multiplier)
            shared = [sensitivity_by_seed(part[part.lr_multiplier.isin(both)]) for part in (group, of_reference)]
            differences = (
                (shared[0] - shared[1]).dropna().to_numpy(dtype=np.float64) if optimizer != reference else np.array([])
            )
            multipliers = sorted(set(group.lr_multiplier))
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "seeds": len(own)}
            row |= {"grid": ", ".join(f"{multiplier:g}" for multiplier in multipliers)}
            row |= {"sensitivity_mean": own.mean(), "sensitivity_sd": own.std(ddof=1)}
            diverged = group.state == record.DIVERGED
            row["largest_without_divergence"] = cells.largest_without(group.lr_multiplier, diverged)
            row["largest_without_spike"] = cells.largest_without_spike(group)
            family.append(row | {"n": len(differences), **_tested(differences)})
        tested = iter(_with_verdicts([row for row in family if reference and row["optimizer"] != reference]))
        rows += [next(tested) if reference and row["optimizer"] != reference else row for row in family]
    columns = ["task", "optimizer", "seeds", "grid", "sensitivity_mean", "sensitivity_sd", "largest_without_divergence"]
    columns += ["largest_without_spike", "n", "difference", "difference_low", "difference_high", *TESTED]
    return pd.DataFrame(rows, columns=columns)


def sensitivity_by_seed(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return the sensitivity of each seed with a result at every multiplier; empty for fewer than two multipliers."""
    final = runs.pivot_table(index="seed", columns="lr_multiplier", values="final_loss").dropna()
    if final.shape[1] < 2:
        return pd.Series(dtype=float)
    initial = runs.pivot_table(index="seed", columns="lr_multiplier", values="initial_loss").loc[final.index]
    return pd.Series(cells.sensitivity(final, initial), index=final.index)


def horizons(at_best: pd.DataFrame) -> pd.DataFrame:
    """Compare horizons: the reference's horizon that ends at an optimizer's final loss, over the optimizer's own.

    One row per optimizer and horizon. Every horizon has runs of its own, with their own full schedule and learning
    rate. Empty unless a task has several.
    """
    rows = []
    for task, runs in at_best.groupby("ladder", sort=False):
        reference = reference_among(runs.optimizer)
        ladder = (
            runs[runs.optimizer == reference].pivot_table(index="seed", columns="horizon", values="final_loss").dropna()
        )
        if runs.horizon.nunique() < 2 or ladder.empty:
            continue
        for (optimizer, horizon), group in runs[runs.optimizer != reference].groupby(
            ["optimizer", "horizon"], sort=False
        ):
            losses = group.set_index("seed").final_loss
            seeds = losses.index.intersection(ladder.index)
            if not len(seeds):
                continue
            ends_at, steps = losses.loc[seeds].to_numpy(), ladder.columns.to_numpy()
            bounds, ends = horizon_speedup(ends_at, int(str(horizon)), steps, ladder.loc[seeds].to_numpy())
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "horizon": horizon, "baseline": reference}
            row |= {"baseline_horizons": ", ".join(f"{steps:,}" for steps in ladder.columns), "n": len(seeds)}
            row |= {"final_loss_mean": ends_at.mean()}
            row |= {"final_loss_sd": ends_at.std(ddof=1) if len(ends_at) > 1 else math.nan}
            row |= {"speedup_low": bounds[0], "speedup_high": bounds[1]}
            rows.append(row | {"interval_low": ends[0], "interval_high": ends[1]})
    columns = ["task", "optimizer", "horizon", "baseline", "baseline_horizons", "n", "final_loss_mean"]
    return pd.DataFrame(
        rows, columns=[*columns, "final_loss_sd", "speedup_low", "speedup_high", "interval_low", "interval_high"]
    )


def across(at_best: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Compare each optimizer with the reference over all tasks; empty unless two tasks have both.

    The geometric mean over tasks of final loss over the reference's, with its interval, and of the median speed-up to
    each task's main target, as bounds.
    """
    tasks = [runs for _, runs in at_best.groupby("task", sort=False)]
    reference = reference_among(set.intersection(*(set(runs.optimizer) for runs in tasks))) if tasks else None
    rows = []
    for optimizer in dict.fromkeys(at_best.optimizer):
        pairs = [_paired(runs, str(optimizer), reference) for runs in tasks]
        compared = [both for both in pairs if len(both)]
        if optimizer == reference or len(compared) < 2:
            continue
        main = times.drop_duplicates([*cells.CELL, "seed"])
        steps = [_paired(main[main.task == both.task.iloc[0]], str(optimizer), reference) for both in compared]
        ratios = [log_step_ratios(_times(both, "_reference"), _times(both)) for both in steps if len(both)]
        low, high = geometric_mean_bounds(ratios) if len(ratios) == len(compared) else (0.0, math.inf)
        positive = all((both[["final_loss", "final_loss_reference"]] > 0).all(axis=None) for both in compared)
        losses = [log_ratios(both.final_loss, both.final_loss_reference) for both in compared] if positive else []
        ratio, ratio_low, ratio_high = geometric_mean(losses)
        row: dict[str, Any] = {"optimizer": optimizer, "baseline": reference, "tasks": len(compared)}
        row |= {"n": sum(map(len, compared)), "loss_ratio": ratio}
        row |= {"loss_ratio_low": ratio_low, "loss_ratio_high": ratio_high}
        rows.append(row | {"speedup_low": low, "speedup_high": high})
    columns = ["optimizer", "baseline", "tasks", "n", "loss_ratio", "loss_ratio_low", "loss_ratio_high"]
    return pd.DataFrame(rows, columns=[*columns, "speedup_low", "speedup_high"])


def shocks(responses: pd.DataFrame) -> pd.DataFrame:
    """Compare peak and area of the responses to the same shock: mean difference, Wilcoxon's signed ranks.

    `responses`: one row per shocked run with a response, infinite where it diverged. Holm's correction is over the
    optimizers at a shock and a multiplier, for each of the two measures.
    """
    rows = []
    where = ["task", "lr_multiplier", "kind", "step", "length", "dose"]
    for key, group in responses.groupby(where, sort=False):
        for measure in ("peak", "area"):
            family = []
            for optimizer, reference, both in _pairs(group):
                differences = _differences(both[measure], both[f"{measure}_reference"])
                row: dict[str, Any] = dict(zip(where, key, strict=True)) | {"measure": measure, "optimizer": optimizer}
                family.append(row | {"baseline": reference, "n": len(both), **_tested(differences)})
            rows += _with_verdicts(family)
    columns = [*where, "measure", "optimizer", "baseline", "n", "difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=[*columns, *TESTED])


def longest(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at each task's longest horizon: the others are the same task again."""
    return runs[runs.horizon == runs.groupby("ladder").horizon.transform("max")]


def profile_ratios(times: pd.DataFrame) -> tuple[list[str], list[str], Any]:
    """Return steps to each task's main target over the fastest optimizer's, for the optimizers that all tasks have.

    A problem is a task and a seed that all these optimizers have.

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
