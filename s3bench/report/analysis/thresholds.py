"""Ramps to failure as tables: the learning rate at which the loss left, and whether runs at fixed rates bear it out."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from s3bench.record import identity
from s3bench.report.analysis.comparisons import reference_among
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.stats.leaving import Threshold, geometric_mean, is_stable, largest_stable, ratios

BOUNDS = ["threshold_least", "threshold_most"]
COLUMNS = ["task", "optimizer", "n", "censored", "early", "threshold", "threshold_low", "threshold_high", *BOUNDS]
COLUMNS += ["pairs", "ratio", "ratio_low", "ratio_high", "ratio_least", "ratio_most", "headroom", "stable", "check"]
COLUMNS += ["fixed_least", "fixed_most"]
COLUMNS += ["reference"]
RAMP = ["run_id", "task", "optimizer", "seed", "horizon", "first_multiplier", "last_multiplier", "state"]
RAMP += ["left_at", "lowest", *BOUNDS]
MARGIN = 2.0  # factor from a threshold within which a ramp says nothing: of 600 steps, it passes that in 41
HOLDS, BELOW, ABOVE, MISLEADS, UNCHECKED = "holds", "holds below", "holds above", "misleads", "not checked"


def threshold_table(results: Results) -> pd.DataFrame:
    """Return one row per task and optimizer that has ramps, over the `n` of them with a result.

    Returns:
        A table with these columns. `threshold` is the geometric mean of the multipliers at which the losses left, with
        its 95% interval, NaN if it is not known: then it lies from `threshold_least` to `threshold_most`. Runs that
        never left are `censored`; those that left before the rate had grown, `early`, have no lower bound. `ratio` is
        the geometric mean over `pairs` of equal seeds of the threshold over the one of `reference`. `headroom` is the
        threshold over the optimizer's own best multiplier, where the folder has runs to choose it from, of which the
        best is not at the edge. `stable` counts the runs at fixed rates that were stable, and `check` says what follows
        for the ramp, see `_check`. The geometric mean over their seeds of the largest stable fixed rate lies from
        `fixed_least` to `fixed_most`.
    """
    rows = []
    for task, of_task in grouped([run for run in results.ramps if run.has_result], "task_label").items():
        by_optimizer = grouped(of_task, "optimizer_label")
        reference = reference_among(by_optimizer)
        for optimizer, own in by_optimizer.items():
            found = _thresholds(own)
            mean = geometric_mean([(one.least, one.most) for one in found])
            row: dict[str, Any] = {"task": task, "optimizer": optimizer, "n": len(own)}
            row["censored"] = sum(math.isinf(one.step) for one in found)
            row["early"] = sum(one.least == 0 and math.isfinite(one.step) for one in found)
            row |= {"threshold": mean.value, "threshold_low": mean.low, "threshold_high": mean.high}
            row |= {"threshold_least": mean.least, "threshold_most": mean.most}
            if reference is not None and optimizer != reference:
                row |= {"reference": reference, **_against(own, by_optimizer[reference])}
            row["headroom"] = mean.value / _best_multiplier(results, own[0])
            by_seed = stable_by_seed(results, own)
            stable = _by_rate(by_seed)
            row |= {"stable": _counts(stable), "check": _check(found, stable)}
            fixed = geometric_mean([largest_stable(each) for each in by_seed.values()])
            row |= {"fixed_least": fixed.least, "fixed_most": fixed.most}
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def rows_of(ramps: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the ramps with a result of each row of threshold_table, by task and optimizer."""
    rows: dict[tuple[str, str], list[Run]] = {}
    for run in ramps:
        if run.has_result:
            rows.setdefault((run.task_label, run.optimizer_label), []).append(run)
    return rows


def ramp_table(ramps: Sequence[Run]) -> pd.DataFrame:
    """Return one row per ramp: the multipliers that it went through, and the bounds of that at which its loss left."""
    rows = []
    for run in ramps:
        facts = {"run_id": run.run_id, "task": run.task_label, "optimizer": run.optimizer_label, "seed": run.seed}
        facts |= {"horizon": run.horizon, "first_multiplier": run.lr_multiplier * run.config["schedule"]["start"]}
        facts |= {"last_multiplier": run.lr_multiplier, "state": run.state}
        if run.threshold is not None:
            facts["left_at"] = run.threshold.step
            facts |= {"lowest": run.threshold.lowest}
            facts |= dict(zip(BOUNDS, run.threshold[2:], strict=True))
        rows.append(facts)
    return pd.DataFrame(rows, columns=RAMP)


def of_setups(table: pd.DataFrame, ramps: Sequence[Run]) -> dict[tuple[str, str], Mapping[Hashable, Any]]:
    """Return the rows of threshold_table by setup and optimizer; none where a setup has several kinds of ramps."""
    setups = {run.task_label: run.setup for run in ramps}
    rows: dict[tuple[str, str], list[dict[Hashable, Any]]] = {}
    for row in table.to_dict("records"):
        rows.setdefault((setups[row["task"]], row["optimizer"]), []).append(row)
    return {key: own[0] for key, own in rows.items() if len(own) == 1}


def _thresholds(runs: Sequence[Run]) -> list[Threshold]:
    return [run.threshold for run in runs if run.threshold is not None]


def _against(own: Sequence[Run], reference: Sequence[Run]) -> dict[str, Any]:
    """Return the columns of the ratio to the reference's thresholds, in pairs of equal seeds."""
    others = {run.seed: run for run in reference}
    pairs = [(run, others[run.seed]) for run in own if run.seed in others]
    bounds = ratios(_thresholds([run for run, _ in pairs]), _thresholds([other for _, other in pairs]))
    mean = geometric_mean(bounds)
    columns = {"ratio": mean.value, "ratio_low": mean.low, "ratio_high": mean.high}
    return {"pairs": len(pairs), **columns, "ratio_least": mean.least, "ratio_most": mean.most}


def _best_multiplier(results: Results, ramp: Run) -> float:
    """Return the best multiplier of a ramp's optimizer at its setup's longest horizon; NaN if it is not known.

    The runs that check the ramp are too few rates to choose from.
    """
    same = [run for run in results.with_result if _key(run) == _key(ramp) and not _checks(run, ramp)]
    horizon = max((run.horizon for run in same), default=0)
    tasks = {run.task_label for run in same if run.horizon == horizon}
    best = results.best_rates
    if len(tasks) != 1:
        return math.nan
    (row,) = best[(best.task == tasks.pop()) & (best.optimizer == ramp.optimizer_label)].to_dict("records")
    return math.nan if row["edge"] else float(row["best_multiplier"])


def _key(run: Run) -> tuple[str, str]:
    return run.setup, run.optimizer_label


def _checks(run: Run, ramp: Run) -> bool:
    """Return whether a run checks a ramp: with a constant rate after a warm-up of as many steps as the ramp is calm.

    It has the ramp's setup, optimizer and horizon.
    """
    if not identity.is_constant(run.config) or _key(run) != _key(ramp) or run.horizon != ramp.horizon:
        return False
    calm, warmup = ramp.config["schedule"]["calm"], run.config["schedule"]["warmup"]
    return bool(round(warmup * run.horizon) == round(calm * ramp.horizon))


def stable_by_seed(results: Results, ramps: Sequence[Run]) -> dict[int, dict[float, bool]]:
    """Return by seed and multiplier whether the runs that check these ramps were stable, by the ramp of the seed."""
    of_seeds = {run.seed: run.threshold.lowest for run in ramps if run.threshold is not None}
    found: dict[int, dict[float, bool]] = {}
    for run in sorted(results.with_result, key=lambda run: run.lr_multiplier):
        if run.seed in of_seeds and _checks(run, ramps[0]):
            found.setdefault(run.seed, {})[run.lr_multiplier] = is_stable(run.end_level, of_seeds[run.seed])
    return found


def _by_rate(by_seed: Mapping[int, Mapping[float, bool]]) -> dict[float, list[bool]]:
    """Return by multiplier, ascending, whether each seed was stable."""
    rates = sorted({rate for each in by_seed.values() for rate in each})
    return {rate: [each[rate] for each in by_seed.values() if rate in each] for rate in rates}


def _counts(stable: Mapping[float, Sequence[bool]]) -> str:
    return ", ".join(f"×{rate:g}: {sum(each)} of {len(each)}" for rate, each in stable.items())


def _check(found: Sequence[Threshold], stable: Mapping[float, Sequence[bool]]) -> str:
    """Return whether runs at fixed rates bear out what the ramps say.

    At a rate at least MARGIN below all thresholds every run has to be stable, at one at least MARGIN above them none;
    in between the ramps say nothing. One run that does otherwise is enough for "misleads".
    """
    least, most = min(one.least for one in found) / MARGIN, max(one.most for one in found) * MARGIN
    below = {rate: all(each) for rate, each in stable.items() if rate <= least}
    above = {rate: not any(each) for rate, each in stable.items() if rate >= most}
    wrong = [f"×{rate:g}" for rate, held in (below | above).items() if not held]
    if wrong:
        return f"{MISLEADS} at {', '.join(wrong)}"
    if below and above:
        return HOLDS
    return BELOW if below else ABOVE if above else UNCHECKED
