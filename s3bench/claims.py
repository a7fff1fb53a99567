"""The paper's claims C1 to C10, each with the rule that leads to its verdict. docs/claims.md says it in words.

Every effect is such that small values support the claim. Where an optimizer is tuned, it is taken at its own best
learning rate, which is never picked on the seed that is reported on.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from s3bench import score
from s3bench.bounds import adam
from s3bench.comparisons import sensitivity_by_seed
from s3bench.evidence import (
    Array,
    Known,
    at,
    at_best,
    at_edge,
    best_multiplier,
    chosen_from,
    gathered,
    log_ratios,
    rates,
    same_cells,
)
from s3bench.inference import pairs_needed
from s3bench.runs import Run
from s3bench.shocks import Pair
from s3bench.verdicts import Claim, Finding, judged, of_mean, of_rates

CLOSE = 1.05  # C1: "comes close": a final loss at most 5% higher
AS_GOOD = 1.01  # C5: "as good": at most 1% higher
MATTERS = 0.99  # C6, C8: a loss that is less than 1% lower is no improvement worth the name
LARGER = 1.1  # C2: "overly large": at least 10% larger than before
ROUNDING = 1e-3  # C3: of float32, over many steps
RARE = 10.0  # C4: "rarely": fewer than one spike in 1,000 steps
EXPOSURE = 3_689  # C4: steps in which a rate of RARE has a spike in 97.5 of 100 cases: without one it is ruled out
AVOIDS = 0.25  # C7: "avoids": at most a quarter of the spikes
RATE = -0.25  # C10
STRONG = 100.0  # C2, C7: the gradient's factor c at which AdamW (.9, .999) comes near its bound, (1 - β2) c² = 10
APART = 1.5  # C2, C7: AdamW's bound at the shock's step; before step 42 it is less, and hardly differs from 1
CELL = ["lr_multiplier", "length", "dose"]  # of shocks at one step
ADAMS = ("adamw", "adamw_95")  # AdamW (.9, .999), and (.9, .95), whose shorter memory may explain a gain of S3's

Evidence = tuple[list[Finding], list[str]]


def judge(runs: Sequence[Run], pairs: Sequence[Pair] = ()) -> list[Claim]:
    """All claims, judged by what these records show: undisturbed runs, and shocked ones with their twins."""
    evidence, left_out = gathered(runs, pairs)
    claims = []
    scales = {run.row["config"].get("scale") or "none" for run in runs if run.has_result} or {"none"}
    for name, (statement, rule) in RULES.items():
        findings, missing = rule(evidence)
        words = " ".join((rule.__doc__ or "").split())
        if findings and len(scales) > 1:
            missing = [f"one scale: runs of several, {' and '.join(sorted(scales))}, are judged together", *missing]
        missing += [said for task, said in left_out if any(task in finding.where for finding in findings)]
        scale = "" if scales == {"none"} else ", ".join(sorted(scales))
        claims.append(judged(Claim(name, statement, words, findings, missing, scale)))
    return claims


def _tasks(runs: pd.DataFrame, *optimizers: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tasks that have runs of all of these optimizers."""
    for task, group in runs.groupby("task", sort=False):
        if set(optimizers) <= set(group.optimizer):
            yield str(task), group


def _edges(runs: pd.DataFrame, *optimizers: str) -> list[str]:
    """Those of a task's optimizers whose best learning rate is at the edge of the grid, in words."""
    task = runs.task.iloc[0]
    return [f"{task}: a longer grid for {name}, best at its edge" for name in optimizers if at_edge(runs, name)]


def _lacking(findings: list[Finding], *optimizers: str) -> Evidence:
    what = (
        f"no task has runs of {', '.join(optimizers)} in pairs of seeds, each at {score.TUNED} learning rates or more"
    )
    return findings, [] if findings else [what]


def _against(runs: pd.DataFrame, own: str, others: Sequence[str], limit: float, refuting: float) -> list[Finding]:
    """Final losses of an optimizer over those of others, each at its best learning rate."""
    findings = []
    for task, group in _tasks(runs, own, *others):
        mine = at_best(group, own)
        for other in others:
            logs = log_ratios(mine, at_best(group, other))
            words: dict[str, Any] = {
                "where": task,
                "what": f"the final loss of {own} over that of {other}",
                "family": task,
            }
            if len(logs):
                findings.append(of_mean(logs, math.log(limit), math.log(refuting), ratio=True, **words))
    return findings


def _all_edges(runs: pd.DataFrame, *optimizers: str) -> list[str]:
    return [said for _, group in _tasks(runs, *optimizers) for said in _edges(group, *optimizers)]


def sign_like(known: Known) -> Evidence:
    """Supported if Signum's final loss, both tuned, is less than 5% above that of AdamW (.9, .999) on every task; not
    supported if it is more than 5% above on one."""
    findings, missing = _lacking(_against(known.runs, "signum", ["adamw"], CLOSE, CLOSE), "signum", "adamw")
    return findings, missing + _all_edges(known.runs, "signum", "adamw")


def cause(known: Known) -> Evidence:
    """Supported if, on every task with six spiking runs of Adam or AdamW (.9, .999), the update's root mean square in
    the five steps before a spike's onset is at least 1.1 times its median over the 40 steps up to ten before, and if
    bounding AdamW's updates by 1, with equal betas, lowers the loss's peak after a strong shock of the gradient by more
    where the bound of (.9, .999) is at least 1.5 than early, where it hardly differs; not supported if either is the
    other way on one. A run counts once, with the mean of its spikes' logarithms."""
    findings, missing, runs = [], [], known.runs
    for task, group in runs[runs.optimizer.isin(["adamw", "adam"])].groupby("task", sort=False):
        ratios = group.before_spikes.dropna().to_numpy(dtype=np.float64)
        words: dict[str, Any] = {"where": str(task), "family": str(task), "unit": "runs"}
        words["what"] = "the usual update's size over that before a spike"
        if len(ratios) >= pairs_needed():
            findings.append(of_mean(-ratios, -math.log(LARGER), ratio=True, **words))
        elif group.spikes.any():
            missing.append(
                f"{task}: {pairs_needed()} runs of Adam with a spike and measured updates, not {len(ratios)}"
            )
    if not findings and not missing:
        missing.append("no Adam run with a spike")
    for task, peaks in _after_shocks(known.shocked, "peak"):
        late = _late(peaks.index.get_level_values("step"))
        less = (peaks.adamw_same - peaks.adamw).groupby(["seed", *CELL, late]).mean().unstack()
        if {False, True} <= set(less.columns):
            gained = less.dropna().groupby("seed").mean()
            what = "the loss's peak of adamw_same less that of adamw, late less early"
            words = {"where": _shocked(task), "family": _shocked(task), "what": what}
            findings.append(of_mean((gained[True] - gained[False]).to_numpy(), 0.0, **words))
    return findings, missing


def _shocked(task: str) -> str:
    return f"{task} after strong shocks"


def _after_shocks(shocked: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of each task a column of AdamW (.9, .999) and (.95, .95) after strong shocks of the gradient that both have.

    A row per seed, multiplier and shock, a column per optimizer.
    """
    pair = ["adamw", "adamw_same"]
    strong = shocked[(shocked.kind == "gradient") & (shocked.dose >= STRONG) & shocked.optimizer.isin(pair)]
    for task, group in strong.astype({column: float}).groupby("task", sort=False):
        cells = group.pivot_table(index=["seed", "step", *CELL], columns="optimizer", values=column)
        if set(pair) <= set(cells.columns) and len(cells.dropna()):
            yield str(task), cells.dropna()


def _late(steps: pd.Index) -> Array:
    """Whether AdamW's (.9, .999) bound is well above 1 at these steps."""
    return np.array([adam(0.9, 0.999, int(step) + 1) >= APART for step in steps])


def bounded(known: Known) -> Evidence:
    """Supported if on no measured step of any S3 run a coordinate's update, less what weight decay and float32's
    rounding can add to it, is above 1.001; not supported if one is. There is no sampling, so no test."""
    findings, missing = [], []
    for runs, where in ((known.runs, "{}"), (known.shocked, "{}, shocked")):
        own = runs[runs.optimizer == "s3"]
        for task, group in own[own.own_update.notna()].groupby("task", sort=False):
            findings.append(_largest(group, where.format(task)))
        if sampled := list(own[~own.measured.astype(bool)].task.unique()):
            missing.append(f"some S3 runs on {where.format(', '.join(sampled))} were not measured on every step")
    return findings, missing if findings else ["no S3 run with measured updates"]


def _largest(runs: pd.DataFrame, where: str) -> Finding:
    """The largest of all measured updates: it is known, and nothing is estimated."""
    largest, limit, p = float(runs.own_update.max()), 1 + ROUNDING, 0.0
    words: dict[str, Any] = {"where": where, "what": "s3's largest update, less weight decay", "family": where}
    words |= {"unit": "runs", "test": "none: all measured steps"}
    return Finding(n=len(runs), effect=largest, low=largest, high=largest, p=p, limit=limit, refuting=limit, **words)


def ten_times(known: Known) -> Evidence:
    """At ten times the learning rate that is best for AdamW (.9, .999): supported if S3 has fewer than one spike in
    1,000 steps on every task, and fewer than AdamW at that rate wherever spikes tell them apart in six seeds or more;
    not supported if it has more on one."""
    findings, rare, short, missing = [], [], [], []
    for task, group in _tasks(known.runs, "s3", "adamw"):
        multiplier = 10 * best_multiplier(group, "adamw")
        if math.isnan(multiplier):
            missing.append(f"{task}: adamw at {score.TUNED} learning rates or more")
            continue
        missing += _edges(group, "adamw")
        own, other = (at(group, name, multiplier) for name in ("s3", "adamw"))
        if own.empty or other.empty:
            missing.append(f"{task}: s3 and adamw at ×{multiplier:g}, ten times adamw's best")
            continue
        where = f"{task} at ×{multiplier:g}"
        rarely = _rarely(own, where, task)
        if own.steps.sum() >= EXPOSURE or rarely.low > RARE:
            rare.append(rarely)
        else:
            short.append(rarely)
            missing.append(f"{where}: {EXPOSURE:,} steps of s3, not {own.steps.sum():,}")
        seeds = rates(own).index.intersection(rates(other).index)
        differences = (rates(own).loc[seeds] - rates(other).loc[seeds]).to_numpy()
        if _differ(differences):
            what = "spikes per 10,000 steps of s3 less those of adamw"
            findings.append(of_rates(differences, where=where, what=what, family=task))
        else:
            missing.append(f"{where}: a difference in spikes between s3 and adamw in {pairs_needed()} seeds")
    findings = [*(rare or short), *findings]  # without any rate the claim is not judged by the differences alone
    return findings, missing if findings or missing else ["no task has runs of s3 and adamw"]


def _differ(differences: npt.ArrayLike) -> bool:
    """Whether enough of them are not 0 for a test by signs to say anything, in whichever direction."""
    return int(np.count_nonzero(differences)) >= pairs_needed()


def _rarely(runs: pd.DataFrame, where: str, family: str) -> Finding:
    """The rate of spikes against RARE, with exact Poisson intervals and p."""
    events, steps = int(runs.spikes.sum()), int(runs.steps.sum())
    low, high = score.poisson_interval(events, steps)
    expected = RARE * steps / 1e4
    p = min(1.0, 2 * min(stats.poisson.cdf(events, expected), stats.poisson.sf(events - 1, expected)))
    words: dict[str, Any] = {
        "where": where,
        "what": "spikes per 10,000 steps of s3",
        "unit": "runs",
        "test": "exact Poisson",
    }
    return Finding(
        n=len(runs),
        effect=score.per_10k(events, steps),
        low=low,
        high=high,
        p=float(p),
        limit=RARE,
        refuting=RARE,
        family=family,
        **words,
    )


def half_steps(known: Known) -> Evidence:
    """Supported if S3's final loss after T steps is less than 1% above AdamW's after 2 T, both tuned, each with its own
    schedule, for both betas of AdamW and on every task; not supported if it is more than 1% above in one case."""
    findings, missing = [], []
    for ladder, group in known.runs.groupby("ladder", sort=False):
        by_horizon = dict(tuple(group.groupby("horizon")))
        for horizon, short in by_horizon.items():
            long = by_horizon.get(2 * horizon)  # type: ignore[operator]
            if long is None or "s3" not in set(short.optimizer) or not set(ADAMS) <= set(long.optimizer):
                continue
            missing += _edges(short, "s3") + _edges(long, *ADAMS)
            for other in ADAMS:
                logs = log_ratios(at_best(short, "s3"), at_best(long, other))
                words: dict[str, Any] = {"where": str(ladder), "family": str(ladder)}
                words["what"] = f"s3's final loss after {horizon!s} steps over {other}'s after twice as many"
                if len(logs):
                    findings.append(of_mean(logs, math.log(AS_GOOD), ratio=True, **words))
    return findings, missing if findings else ["no task has S3 at a horizon T and AdamW with both betas at 2 T"]


def better(known: Known) -> Evidence:
    """Supported if S3's final loss is below those of Adam, AdamW with both betas, and SignSGD, each tuned, on every
    task; not supported if it is less than 1% below, or above, one of them."""
    others = ["adam", *ADAMS, "signsgd"]
    findings, missing = _lacking(_against(known.runs, "s3", others, 1.0, MATTERS), "s3", *others)
    return findings, missing + _all_edges(known.runs, "s3", *others)


def same_beta(known: Known) -> Evidence:
    """Supported if AdamW (.95, .95) has less than a quarter of the spikes of AdamW (.9, .999) at the same learning
    rates, on every task with spikes in six seeds or more, also of those after strong shocks of the gradient; not
    supported if it has more than a quarter on one."""
    findings, missing = [], []
    for task, group in _tasks(known.runs, "adamw", "adamw_same"):
        shared = same_cells(group, ("adamw", "adamw_same"))
        own, other = (rates(shared[shared.optimizer == name]) for name in ("adamw_same", "adamw"))
        differences = (own - AVOIDS * other).to_numpy()
        if _differ(differences):
            what = "spikes per 10,000 steps of adamw_same less a quarter of adamw's"
            findings.append(of_rates(differences, where=task, what=what, family=task))
        else:
            missing.append(f"{task}: spikes of either in {pairs_needed()} seeds")
    if not findings and not missing:
        missing.append("no task has runs of adamw and adamw_same")
    for task, spikes in _after_shocks(known.shocked, "spikes"):
        by_seed = spikes.groupby("seed").mean()
        differences = (by_seed.adamw_same - AVOIDS * by_seed.adamw).to_numpy()
        if _differ(differences):
            what = "spikes per shock of adamw_same less a quarter of adamw's"
            findings.append(of_rates(differences, where=_shocked(task), what=what, family=_shocked(task)))
        else:
            missing.append(f"{_shocked(task)}: spikes of either in {pairs_needed()} seeds")
    return findings, missing


def ablation(known: Known) -> Evidence:
    """Supported if taking away any one part of S3 (p = 1 instead of 3; another β in the denominator; no look-ahead),
    tuned anew, raises the final loss on every task; not supported if a part lowers it by less than 1%, or raises it."""
    findings, missing = [], []
    without = {"p = 1": (1.0, True, True), "another β": (3.0, False, True), "no look-ahead": (3.0, True, False)}
    for task, group in _tasks(known.runs, "s3", "s3 variant"):
        whole = at_best(group, "s3")
        missing += _edges(group, "s3")
        for name, (p, same, look_ahead) in without.items():
            lacks = (group.p == p) & (group.same_beta == same) & (group.look_ahead == look_ahead)
            logs = log_ratios(whole, at_best(group[lacks], "s3 variant"))
            words: dict[str, Any] = {"where": task, "what": f"s3's final loss over that with {name}", "family": task}
            if len(logs):
                findings.append(of_mean(logs, 0.0, math.log(MATTERS), ratio=True, **words))
                if at_edge(group[lacks], "s3 variant"):
                    missing.append(f"{task}: a longer grid for s3 with {name}, best at its edge")
    return findings, missing if findings else ["no task has S3 with and without its parts"]


def robust(known: Known) -> Evidence:
    """Supported if S3's learning-rate sensitivity (the mean over the multipliers of the final loss above the lowest,
    Wortsman et al. 2023) is below AdamW's with both betas on every task; not supported if it is above one."""
    findings = []
    for task, group in _tasks(known.runs, "s3", *ADAMS):
        for other in ADAMS:
            own, theirs = (_sensitivity(group, name, other if name == "s3" else "s3") for name in ("s3", other))
            seeds = own.index.intersection(theirs.index)
            if len(seeds):
                differences = (own.loc[seeds] - theirs.loc[seeds]).to_numpy()
                what = f"the learning-rate sensitivity of s3 less that of {other}"
                findings.append(of_mean(differences, 0.0, where=task, what=what, family=task))
    return _lacking(findings, "s3", *ADAMS)


def _sensitivity(runs: pd.DataFrame, optimizer: str, other: str) -> "pd.Series[float]":
    """By seed, over the multipliers that both optimizers have; none of fewer than three."""
    multipliers = set.intersection(*(set(runs[runs.optimizer == name].lr_multiplier) for name in (optimizer, other)))
    own = runs[(runs.optimizer == optimizer) & runs.lr_multiplier.isin(multipliers)]
    return sensitivity_by_seed(own) if len(multipliers) >= 3 else pd.Series(dtype=float)


def rate(known: Known) -> Evidence:
    """Supported if the smallest norm of the true gradient over S3's runs of T steps, tuned for each T, falls faster
    than T^(-1/4): the slope of its logarithm over log T is below -1/4; not supported if it is above."""
    findings, missing, runs = [], [], known.runs
    for ladder, group in runs[(runs.optimizer == "s3") & runs.smallest_gradient.notna()].groupby("ladder", sort=False):
        picked = score.picked(pd.concat([chosen_from(of) for _, of in group.groupby("horizon")]))
        norms = picked.pivot_table(index="seed", columns="horizon", values="smallest_gradient").dropna()
        if norms.shape[1] < 3 or not (norms > 0).all(axis=None):
            continue
        slopes = _slopes(norms.columns.to_numpy(dtype=np.float64), norms.to_numpy(dtype=np.float64))
        what = "the slope of log(smallest gradient norm of s3) over log(steps)"
        where = f"{ladder}, {norms.columns[0]:,} to {norms.columns[-1]:,} steps"
        findings.append(of_mean(slopes, RATE, where=where, what=what, family=str(ladder)))
        missing += [said for _, of_horizon in group.groupby("horizon") for said in _edges(of_horizon, "s3")]
    return findings, missing if findings else ["no task has S3 at three horizons with the true gradient's norm"]


def _slopes(horizons: Array, norms: Array) -> Array:
    """Of each row of norms, shape (seeds, horizons), the least-squares slope of its logarithm over log(horizon)."""
    x = np.log(horizons) - np.log(horizons).mean()
    slopes: Array = np.log(norms) @ x / (x @ x)
    return slopes


RULES: dict[str, tuple[str, Callable[[Known], Evidence]]] = {
    "C1": ("with momentum, SignSGD comes close to Adam", sign_like),
    "C2": ("Adam's spikes come from overly large updates", cause),
    "C3": ("S3's update stays within [-1, 1]", bounded),
    "C4": ("S3 rarely spikes, even at a ten times larger learning rate", ten_times),
    "C5": ("S3 in T steps is as good as AdamW in 2 T steps", half_steps),
    "C6": ("S3 ends at a lower loss than Adam, AdamW and SignSGD, each tuned", better),
    "C7": ("Adam with equal betas avoids spikes", same_beta),
    "C8": ("each part of S3 helps: the order p, the same β, the look-ahead", ablation),
    "C9": ("larger learning rates need no careful tuning", robust),
    "C10": ("the gradient norm falls like T^(-1/4) on nonconvex stochastic problems", rate),
}
