"""The paper's claims C1 to C10, each with the rule that leads to its verdict. docs/claims.md says it in words.

Every effect is such that small values support the claim. Where an optimizer is tuned, it is taken at its own best
learning rate, which is never picked on the seed that is reported on.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.analysis.comparisons import sensitivity_by_seed
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.update_rules import adam
from s3bench.report.claims.evidence import (
    Array,
    Known,
    at,
    at_best,
    at_edge,
    best_multiplier,
    chosen_from,
    gathered,
    log_loss_ratios,
    rates,
    same_cells,
)
from s3bench.report.claims.verdicts import Claim, Finding, judged, of_counts, of_mean, of_rate, of_rates
from s3bench.report.stats.paired_tests import pairs_needed

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
IN_PAIRS = f"in pairs of seeds, each at {cells.TUNED} learning rates or more and with losses above 0"
SHOCK_AXES = ["lr_multiplier", "length", "dose"]  # of shocks at one step
ADAMWS = ("adamw", "adamw_95")  # AdamW (.9, .999), and (.9, .95), whose shorter memory may explain a gain of S3's


class Evidence(NamedTuple):
    """What a claim is judged by."""

    findings: list[Finding]
    missing: list[str]  # what else would show more
    absent: Sequence[str] = ()  # comparisons that the claim names and the records lack


def judge(results: Results) -> list[Claim]:
    """Judge all claims by what the records show: undisturbed runs, and shocked ones with their twins."""
    known, left_out = gathered(results)
    claims = []
    scales = {run.config.get("scale") or "none" for run in results.with_result} or {"none"}
    for name, (statement, rule) in RULES.items():
        findings, missing, absent = rule(known)
        words = " ".join((rule.__doc__ or "").split())
        if findings and len(scales) > 1:
            missing = [f"one scale: runs of several, {' and '.join(sorted(scales))}, are judged together", *missing]
        missing += [said for task, said in left_out if any(task in finding.where for finding in findings)]
        scale = "" if scales == {"none"} else ", ".join(sorted(scales))
        claims.append(judged(Claim(name, statement, words, findings, missing, list(absent), scale)))
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


def _lacking(findings: list[Finding], *optimizers: str) -> list[str]:
    """What is missing where there is no finding at all."""
    return [] if findings else [f"no task has runs of {', '.join(optimizers)} {IN_PAIRS}"]


def _of_task(where: str, found: Mapping[str, Finding | None]) -> tuple[list[Finding], list[str]]:
    """The findings of a task, and what of the comparisons there is absent; a task without any finding has no part."""
    findings = [finding for finding in found.values() if finding]
    absent = [f"{where}: {what} {IN_PAIRS}" for what, finding in found.items() if not finding]
    return findings, absent if findings else []


def _against(runs: pd.DataFrame, own: str, others: Sequence[str], limit: float, refuting: float) -> Evidence:
    """Final losses of an optimizer over those of others, each at its best learning rate."""
    evidence = Evidence([], _all_edges(runs, own, *others), [])
    for task, group in _tasks(runs, own, *others):
        found: dict[str, Finding | None] = {}
        for other in others:
            logs = log_loss_ratios(at_best(group, own), at_best(group, other))
            what = f"the final loss of {own} over that of {other}"
            words: dict[str, Any] = {"where": task, "what": what, "family": task}
            found[f"{own} and {other}"] = (
                of_mean(logs, math.log(limit), math.log(refuting), ratio=True, **words) if len(logs) else None
            )
        findings, absent = _of_task(task, found)
        evidence = Evidence(evidence.findings + findings, evidence.missing, [*evidence.absent, *absent])
    return evidence._replace(missing=_lacking(evidence.findings, own, *others) + evidence.missing)


def _all_edges(runs: pd.DataFrame, *optimizers: str) -> list[str]:
    return [said for _, group in _tasks(runs, *optimizers) for said in _edges(group, *optimizers)]


def sign_like(known: Known) -> Evidence:
    """Supported if Signum's final loss, both tuned, is less than 5% above that of AdamW (.9, .999) on every task; not
    supported if it is more than 5% above on one."""
    return _against(known.runs, "signum", ["adamw"], CLOSE, CLOSE)


def cause(known: Known) -> Evidence:
    """Supported if, on every task where runs of Adam or AdamW (.9, .999) spike in six seeds, the update's root mean
    square in the five steps before a spike's onset is at least 1.1 times its median over the 40 steps up to ten before,
    and if bounding AdamW's updates by 1, with equal betas, lowers the loss's peak after a strong shock of the gradient
    by a larger factor where the bound of (.9, .999) is at least 1.5 than early, where it hardly differs; not supported
    if either is the other way on one. A seed counts once, with the mean of its runs' logarithms."""
    findings, missing, runs = [], [], known.runs
    for task, group in runs[runs.optimizer.isin(["adamw", "adam"])].groupby("task", sort=False):
        ratios = group.dropna(subset="before_spikes").groupby("seed").before_spikes.mean().to_numpy(dtype=np.float64)
        words: dict[str, Any] = {"where": str(task), "family": str(task)}
        words["what"] = "the usual update's size over that before a spike"
        if len(ratios) >= pairs_needed():
            findings.append(of_mean(-ratios, -math.log(LARGER), ratio=True, **words))
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
            findings.append(of_mean((gained[True] - gained[False]).to_numpy(), 0.0, ratio=True, **words))
    return Evidence(findings, missing)


def _shocked(task: str) -> str:
    return f"{task} after strong shocks"


def _after_shocks(shocked: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of each task a column of AdamW (.9, .999) and (.95, .95) after strong shocks of the gradient that both have.

    A row per seed, multiplier and shock, a column per optimizer.
    """
    pair = ["adamw", "adamw_same"]
    strong = shocked[(shocked.kind == "gradient") & (shocked.dose >= STRONG) & shocked.optimizer.isin(pair)]
    for task, group in strong.astype({column: float}).groupby("task", sort=False):
        cells = group.pivot_table(index=["seed", "step", *SHOCK_AXES], columns="optimizer", values=column)
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
    return Evidence(findings, missing if findings else ["no S3 run with measured updates"])


def _largest(runs: pd.DataFrame, where: str) -> Finding:
    """The largest of all measured updates: it is known, and nothing is estimated."""
    largest, limit = float(runs.own_update.max()), 1 + ROUNDING
    words: dict[str, Any] = {"where": where, "what": "s3's largest update, less weight decay", "family": where}
    words |= {"unit": "runs", "test": "none: all measured steps"}
    words |= {"effect": largest, "low": largest, "high": largest, "limit": limit, "refuting": limit}
    return Finding(n=len(runs), p=0.0, p_against=0.0, **words)


def ten_times(known: Known) -> Evidence:
    """At ten times the learning rate that is best for AdamW (.9, .999), in six seeds or more: supported if S3 has fewer
    than one spike in 1,000 steps on every task, and fewer than AdamW at that rate wherever spikes tell them apart in
    six seeds; not supported if it has more on one. A run that diverged has one spike at least."""
    findings, rare, short, missing = [], [], [], []
    for task, group in _tasks(known.runs, "s3", "adamw"):
        multiplier = 10 * best_multiplier(group, "adamw")
        if math.isnan(multiplier):
            missing.append(f"{task}: adamw at {cells.TUNED} learning rates or more")
            continue
        missing += _edges(group, "adamw")
        own, other = (at(group, name, multiplier) for name in ("s3", "adamw"))
        if own.empty or other.empty:
            missing.append(f"{task}: s3 and adamw at ×{multiplier:g}, ten times adamw's best")
            continue
        where = f"{task} at ×{multiplier:g}"
        what, counts = "spikes per 10,000 steps of s3", _counts(own)
        rarely = of_rate(counts[:, 0], counts[:, 1], RARE, where=where, what=what, family=task)
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
            findings.append(of_rates(differences, where=where, what=what, family=task))
        else:
            missing.append(f"{where}: a difference in spikes between s3 and adamw in {pairs_needed()} seeds")
    findings = [*(rare or short), *findings]  # without any rate the claim is not judged by the differences alone
    return Evidence(findings, missing if findings or missing else ["no task has runs of s3 and adamw"])


def _differ(differences: npt.ArrayLike) -> bool:
    """Whether enough of them are not 0 for a test by signs to say anything, in whichever direction."""
    return int(np.count_nonzero(differences)) >= pairs_needed()


def half_steps(known: Known) -> Evidence:
    """Supported if S3's final loss after T steps is less than 1% above AdamW's after 2 T, both tuned, each with its own
    schedule, for both betas of AdamW and on every task; not supported if it is more than 1% above in one case."""
    findings, missing, absent = [], [], []
    for ladder, group in known.runs.groupby("ladder", sort=False):
        by_horizon = dict(tuple(group.groupby("horizon")))
        for horizon, short in by_horizon.items():
            long = by_horizon.get(2 * horizon)  # type: ignore[operator]
            if long is None or "s3" not in set(short.optimizer) or not set(ADAMWS) <= set(long.optimizer):
                continue
            missing += _edges(short, "s3") + _edges(long, *ADAMWS)
            found: dict[str, Finding | None] = {}
            for other in ADAMWS:
                logs = log_loss_ratios(at_best(short, "s3"), at_best(long, other))
                words: dict[str, Any] = {"where": str(ladder), "family": str(ladder)}
                words["what"] = f"s3's final loss after {horizon!s} steps over {other}'s after twice as many"
                made = of_mean(logs, math.log(AS_GOOD), ratio=True, **words) if len(logs) else None
                found[f"s3 after {horizon!s} steps and {other} after twice as many"] = made
            of_both = _of_task(str(ladder), found)
            findings += of_both[0]
            absent += of_both[1]
    lacks = ["no task has S3 at a horizon T and AdamW with both betas at 2 T"]
    return Evidence(findings, missing if findings else lacks, absent)


def better(known: Known) -> Evidence:
    """Supported if S3's final loss is below those of Adam, AdamW with both betas, and SignSGD, each tuned, on every
    task; not supported if it is less than 1% below, or above, one of them."""
    return _against(known.runs, "s3", ["adam", *ADAMWS, "signsgd"], 1.0, MATTERS)


def same_beta(known: Known) -> Evidence:
    """Supported if AdamW (.95, .95) has less than a quarter of the spikes of AdamW (.9, .999) at the same learning
    rates, on every task with spikes in six seeds or more, also of those after strong shocks of the gradient; not
    supported if it has more than a quarter on one. A run that diverged has one spike at least."""
    findings, missing = [], []
    for task, group in _tasks(known.runs, "adamw", "adamw_same"):
        shared = same_cells(group, ("adamw", "adamw_same"))
        own, other = (_counts(shared[shared.optimizer == name]) for name in ("adamw_same", "adamw"))
        counts = np.concatenate([own, other], axis=1)
        if _differ(_quarters(counts)):
            what = "the rate of spikes of adamw_same over that of adamw"
            findings.append(of_counts(counts, AVOIDS, where=task, what=what, family=task))
        else:
            missing.append(f"{task}: spikes of either in {pairs_needed()} seeds")
    if not findings and not missing:
        missing.append("no task has runs of adamw and adamw_same")
    for task, spikes in _after_shocks(known.shocked, "spikes"):
        sums, shocks = spikes.groupby("seed").sum(), spikes.groupby("seed").size()
        counts = np.stack([sums.adamw_same, shocks, sums.adamw, shocks], axis=1)
        if _differ(_quarters(counts)):
            what = "the spikes per shock of adamw_same over those of adamw"
            findings.append(of_counts(counts, AVOIDS, where=_shocked(task), what=what, family=_shocked(task)))
        else:
            missing.append(f"{_shocked(task)}: spikes of either in {pairs_needed()} seeds")
    return Evidence(findings, missing)


def _counts(runs: pd.DataFrame) -> Array:
    """Spikes and steps of each seed, shape (seeds, 2)."""
    counts: Array = runs.groupby("seed")[["spikes", "steps"]].sum().to_numpy(dtype=np.float64)
    return counts


def _quarters(counts: Array) -> Array:
    """Of each seed one's rate less AVOIDS times the other's, see of_counts."""
    own, steps, other, other_steps = counts.T
    differences: Array = own / steps - AVOIDS * other / other_steps
    return differences


def ablation(known: Known) -> Evidence:
    """Supported if taking away any one part of S3 (p = 1 instead of 3; another β in the denominator; no look-ahead),
    tuned anew, raises the final loss on every task; not supported if a part lowers it by less than 1%, or raises it."""
    findings, missing, absent = [], [], []
    without = {"p = 1": (1.0, True, True), "another β": (3.0, False, True), "no look-ahead": (3.0, True, False)}
    for task, group in _tasks(known.runs, "s3", "s3 variant"):
        whole = at_best(group, "s3")
        missing += _edges(group, "s3")
        found: dict[str, Finding | None] = {}
        for name, (p, same, look_ahead) in without.items():
            lacks = (group.p == p) & (group.same_beta == same) & (group.look_ahead == look_ahead)
            logs = log_loss_ratios(whole, at_best(group[lacks], "s3 variant"))
            words: dict[str, Any] = {"where": task, "what": f"s3's final loss over that with {name}", "family": task}
            found[f"s3 and s3 with {name}"] = (
                of_mean(logs, 0.0, math.log(MATTERS), ratio=True, **words) if len(logs) else None
            )
            if len(logs) and at_edge(group[lacks], "s3 variant"):
                missing.append(f"{task}: a longer grid for s3 with {name}, best at its edge")
        of_parts = _of_task(task, found)
        findings += of_parts[0]
        absent += of_parts[1]
    return Evidence(findings, missing if findings else ["no task has S3 with and without its parts"], absent)


def robust(known: Known) -> Evidence:
    """Supported if S3's learning-rate sensitivity (the mean over the multipliers of the final loss above the lowest,
    Wortsman et al. 2023) is below AdamW's with both betas on every task; not supported if it is above one."""
    findings, absent = [], []
    for task, group in _tasks(known.runs, "s3", *ADAMWS):
        found: dict[str, Finding | None] = {}
        for other in ADAMWS:
            own, theirs = (_sensitivity(group, name, other if name == "s3" else "s3") for name in ("s3", other))
            seeds = own.index.intersection(theirs.index)
            differences = (own.loc[seeds] - theirs.loc[seeds]).to_numpy()
            what = f"the learning-rate sensitivity of s3 less that of {other}"
            made = of_mean(differences, 0.0, where=task, what=what, family=task) if len(seeds) else None
            found[f"s3 and {other} at three multipliers"] = made
        of_both = _of_task(task, found)
        findings += of_both[0]
        absent += of_both[1]
    return Evidence(findings, _lacking(findings, "s3", *ADAMWS), absent)


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
        picked = cells.runs_at_best(pd.concat([chosen_from(of) for _, of in group.groupby("horizon")]))
        norms = picked.pivot_table(index="seed", columns="horizon", values="smallest_gradient").dropna()
        if norms.shape[1] < 3 or not (norms > 0).all(axis=None):
            continue
        slopes = _slopes(norms.columns.to_numpy(dtype=np.float64), norms.to_numpy(dtype=np.float64))
        what = "the slope of log(smallest gradient norm of s3) over log(steps)"
        where = f"{ladder}, {norms.columns[0]:,} to {norms.columns[-1]:,} steps"
        findings.append(of_mean(slopes, RATE, where=where, what=what, family=str(ladder)))
        missing += [said for _, of_horizon in group.groupby("horizon") for said in _edges(of_horizon, "s3")]
    lacks = ["no task has S3 at three horizons with the true gradient's norm"]
    return Evidence(findings, missing if findings else lacks)


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
