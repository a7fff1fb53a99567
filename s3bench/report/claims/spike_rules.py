"""The claims on updates and spikes and their rules: C2, C3, C4, C7. docs/claims.md explains each.

Every effect is such that small values support the claim.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.analysis.update_rules import adam
from s3bench.report.claims.evidence import (
    Array,
    Evidence,
    Known,
    Rule,
    at,
    best_multiplier,
    edges,
    rates,
    same_cells,
    tasks_with,
)
from s3bench.report.claims.verdicts import (
    Finding,
    mean_finding,
    rate_difference_finding,
    rate_finding,
    rate_ratio_finding,
)
from s3bench.report.stats.paired_tests import pairs_needed

LARGER = 1.1  # C2: "overly large": at least 10% larger than before
ROUNDING = 1e-3  # C3: of float32, over many steps
RARE = 10.0  # C4: "rarely": fewer than one spike in 1,000 steps
EXPOSURE = 3_689  # C4: steps in which a rate of RARE has a spike in 97.5 of 100 cases: without one it is ruled out
AVOIDS = 0.25  # C7: "avoids": at most a quarter of the spikes
STRONG = 100.0  # C2, C7: the gradient's factor c at which AdamW (.9, .999) comes near its bound, (1 - β2) c² = 10
APART = 1.5  # C2, C7: AdamW's bound at the shock's step; before step 42 it is less, and hardly differs from 1
SHOCK_AXES = ["lr_multiplier", "length", "dose"]  # of shocks at one step


def _shocked(task: str) -> str:
    return f"{task} after strong shocks"


def _after_shocks(shocked: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each task's values of a column after strong gradient shocks that AdamW (.9, .999) and (.95, .95) share.

    One row per seed, multiplier and shock, one column per optimizer.
    """
    pair = ["adamw", "adamw_same"]
    strong = shocked[(shocked.kind == "gradient") & (shocked.dose >= STRONG) & shocked.optimizer.isin(pair)]
    for task, group in strong.astype({column: float}).groupby("task", sort=False):
        cells = group.pivot_table(index=["seed", "step", *SHOCK_AXES], columns="optimizer", values=column)
        if set(pair) <= set(cells.columns) and len(cells.dropna()):
            yield str(task), cells.dropna()


def _late(steps: pd.Index) -> Array:
    """Return whether the bound of AdamW (.9, .999) is well above 1 at these steps."""
    return np.array([adam(0.9, 0.999, int(step) + 1) >= APART for step in steps])


def _largest(runs: pd.DataFrame, where: str) -> Finding:
    """Return the largest of all measured updates: it is known, and nothing is estimated."""
    largest, limit = float(runs.own_update.max()), 1 + ROUNDING
    words: dict[str, Any] = {"where": where, "what": "s3's largest update, less weight decay", "family": where}
    words |= {"unit": "runs", "test": "none: all measured steps"}
    words |= {"effect": largest, "low": largest, "high": largest, "limit": limit, "refuting": limit}
    return Finding(n=len(runs), p=0.0, p_against=0.0, **words)


def _differ(differences: npt.ArrayLike) -> bool:
    """Return whether enough differences are not 0 for a test by signs to reach significance in either direction."""
    return int(np.count_nonzero(differences)) >= pairs_needed()


def _counts(runs: pd.DataFrame) -> Array:
    """Return spikes and steps of each seed, shape (seeds, 2)."""
    counts: Array = runs.groupby("seed")[["spikes", "steps"]].sum().to_numpy(dtype=np.float64)
    return counts


def _quarters(counts: Array) -> Array:
    """Return one rate less AVOIDS times the other, by seed, see verdicts.rate_ratio_finding."""
    own, steps, other, other_steps = counts.T
    differences: Array = own / steps - AVOIDS * other / other_steps
    return differences


def cause(known: Known) -> Evidence:
    """Measure updates before spikes, and the effect of bounding them."""
    findings, missing, runs = [], [], known.runs
    for task, group in runs[runs.optimizer.isin(["adamw", "adam"])].groupby("task", sort=False):
        ratios = group.dropna(subset="before_spikes").groupby("seed").before_spikes.mean().to_numpy(dtype=np.float64)
        words: dict[str, Any] = {"where": str(task), "family": str(task)}
        words["what"] = "the usual update's size over that before a spike"
        if len(ratios) >= pairs_needed():
            findings.append(mean_finding(-ratios, -math.log(LARGER), ratio=True, **words))
        elif group.spikes.any():
            missing.append(
                f"{task}: {pairs_needed()} seeds in which Adam spikes with measured updates, not {len(ratios)}"
            )
    if not findings and not missing:
        missing.append("no Adam run with a spike")
    for task, peaks in _after_shocks(known.shocked[known.shocked.peak > 0], "peak"):
        late = _late(peaks.index.get_level_values("step"))
        logs = pd.Series(np.log(peaks.adamw_same / peaks.adamw), index=peaks.index)
        less = logs.groupby(["seed", *SHOCK_AXES, late]).mean().unstack()
        if {False, True} <= set(less.columns):
            gained = less.dropna().groupby("seed").mean()
            what = "the loss's peak of adamw_same over that of adamw, late over early"
            words = {"where": _shocked(task), "family": _shocked(task), "what": what}
            findings.append(mean_finding((gained[True] - gained[False]).to_numpy(), 0.0, ratio=True, **words))
    return Evidence(findings=findings, missing=missing)


C2 = Rule(
    id="C2",
    statement="Adam's spikes come from overly large updates",
    words=(
        "Supported if, on every task where runs of Adam or AdamW (.9, .999) spike in six seeds, the update's root "
        "mean square in the five steps before a spike's onset is at least 1.1 times its median over the 40 steps "
        "up to ten before, and if bounding AdamW's updates by 1, with equal betas, lowers the loss's peak after a "
        "strong shock of the gradient by a larger factor where the bound of (.9, .999) is at least 1.5 than "
        "early, where it hardly differs; not supported if either is the other way on one. A seed counts once, "
        "with the mean of its runs' logarithms."
    ),
    judge=cause,
)


def bounded(known: Known) -> Evidence:
    """Find the largest update of S3 in all measured steps."""
    findings, missing = [], []
    for runs, where in ((known.runs, "{}"), (known.shocked, "{}, shocked")):
        own = runs[runs.optimizer == "s3"]
        for task, group in own[own.own_update.notna()].groupby("task", sort=False):
            findings.append(_largest(group, where.format(task)))
        if sampled := list(own[~own.measured.astype(bool)].task.unique()):
            missing.append(f"some S3 runs on {where.format(', '.join(sampled))} were not measured on every step")
    return Evidence(findings=findings, missing=missing).or_lacking("no S3 run with measured updates")


C3 = Rule(
    id="C3",
    statement="S3's update stays within [-1, 1]",
    words=(
        "Supported if on no measured step of any S3 run a coordinate's update, less what weight decay and "
        "float32's rounding can add to it, is above 1.001; not supported if one is. There is no sampling, so no "
        "test."
    ),
    judge=bounded,
)


def ten_times(known: Known) -> Evidence:
    """Count the spikes of S3 and AdamW at ten times AdamW's best learning rate."""
    findings, rare, short, missing = [], [], [], []
    for task, group in tasks_with(known.runs, "s3", "adamw"):
        multiplier = 10 * best_multiplier(group, "adamw")
        if math.isnan(multiplier):
            missing.append(f"{task}: adamw at {cells.TUNED} learning rates or more")
            continue
        missing += edges(group, "adamw")
        own, other = (at(group, name, multiplier) for name in ("s3", "adamw"))
        if own.empty or other.empty:
            missing.append(f"{task}: s3 and adamw at ×{multiplier:g}, ten times adamw's best")
            continue
        where = f"{task} at ×{multiplier:g}"
        what, counts = "spikes per 10,000 steps of s3", _counts(own)
        rarely = rate_finding(counts[:, 0], counts[:, 1], RARE, where=where, what=what, family=task)
        if len(counts) < pairs_needed():
            short.append(rarely)
            missing.append(f"{where}: {pairs_needed()} seeds of s3, not {len(counts)}")
        elif own.steps.sum() >= EXPOSURE or rarely.low > RARE:
            rare.append(rarely)
        else:
            short.append(rarely)
            missing.append(f"{where}: {EXPOSURE:,} steps of s3, not {own.steps.sum():,}")
        seeds = rates(own).index.intersection(rates(other).index)
        differences = (rates(own).loc[seeds] - rates(other).loc[seeds]).to_numpy()
        if _differ(differences):
            what = "spikes per 10,000 steps of s3 less those of adamw"
            findings.append(rate_difference_finding(differences, where=where, what=what, family=task))
        else:
            missing.append(f"{where}: a difference in spikes between s3 and adamw in {pairs_needed()} seeds")
    findings = [*(rare or short), *findings]  # without any rate the claim is not judged by the differences alone
    return Evidence(findings=findings, missing=missing if findings or missing else ["no task has runs of s3 and adamw"])


C4 = Rule(
    id="C4",
    statement="S3 rarely spikes, even at a ten times larger learning rate",
    words=(
        "At ten times the learning rate that is best for AdamW (.9, .999), in six seeds or more: supported if S3 "
        "has fewer than one spike in 1,000 steps on every task, and fewer than AdamW at that rate wherever spikes "
        "tell them apart in six seeds; not supported if it has more on one. A run that diverged has one spike at "
        "least."
    ),
    judge=ten_times,
)


def same_beta(known: Known) -> Evidence:
    """Compare the spikes of AdamW with equal betas and with the usual ones."""
    findings, missing = [], []
    for task, group in tasks_with(known.runs, "adamw", "adamw_same"):
        shared = same_cells(group, ("adamw", "adamw_same"))
        own, other = (_counts(shared[shared.optimizer == name]) for name in ("adamw_same", "adamw"))
        counts = np.concatenate([own, other], axis=1)
        if _differ(_quarters(counts)):
            what = "the rate of spikes of adamw_same over that of adamw"
            findings.append(rate_ratio_finding(counts, AVOIDS, where=task, what=what, family=task))
        else:
            missing.append(f"{task}: spikes of either in {pairs_needed()} seeds")
    if not findings and not missing:
        missing.append("no task has runs of adamw and adamw_same")
    for task, spikes in _after_shocks(known.shocked, "spikes"):
        sums, shocks = spikes.groupby("seed").sum(), spikes.groupby("seed").size()
        counts = np.stack([sums.adamw_same, shocks, sums.adamw, shocks], axis=1)
        if _differ(_quarters(counts)):
            what = "the spikes per shock of adamw_same over those of adamw"
            findings.append(rate_ratio_finding(counts, AVOIDS, where=_shocked(task), what=what, family=_shocked(task)))
        else:
            missing.append(f"{_shocked(task)}: spikes of either in {pairs_needed()} seeds")
    return Evidence(findings=findings, missing=missing)


C7 = Rule(
    id="C7",
    statement="Adam with equal betas avoids spikes",
    words=(
        "Supported if AdamW (.95, .95) has less than a quarter of the spikes of AdamW (.9, .999) at the same "
        "learning rates, on every task with spikes in six seeds or more, also of those after strong shocks of the "
        "gradient; not supported if it has more than a quarter on one. A run that diverged has one spike at "
        "least."
    ),
    judge=same_beta,
)
