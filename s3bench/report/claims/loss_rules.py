"""The claims on final losses and their rules: C1, C5, C6, C8, C9, C10. docs/claims.md explains each.

Every effect is such that small values support the claim. A tuned optimizer is taken at its own best learning rate,
which is never chosen on the seed that is reported on.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.analysis.comparisons import sensitivity_by_seed
from s3bench.report.claims.evidence import (
    Array,
    Evidence,
    Known,
    Rule,
    all_edges,
    at_best,
    at_edge,
    chosen_from,
    edges,
    lacking,
    log_loss_ratios,
    tasks_with,
)
from s3bench.report.claims.verdicts import Finding, mean_finding

CLOSE = 1.05  # C1: "comes close": a final loss at most 5% higher
AS_GOOD = 1.01  # C5: "as good": at most 1% higher
MATTERS = 0.99  # C6, C8: a loss that is less than 1% lower is no improvement worth the name
RATE = -0.25  # C10
ADAMWS = ("adamw", "adamw_95")  # AdamW (.9, .999), and (.9, .95), whose shorter memory may explain a gain of S3's


def _against(runs: pd.DataFrame, own: str, others: Sequence[str], limit: float, refuting: float) -> Evidence:
    """Compare an optimizer's final losses with those of others, each at its best learning rate."""
    evidence = Evidence()
    for task, group in tasks_with(runs, own, *others):
        found: dict[str, Finding | None] = {}
        for other in others:
            logs = log_loss_ratios(at_best(group, own), at_best(group, other))
            what = f"the final loss of {own} over that of {other}"
            words: dict[str, Any] = {"where": task, "what": what, "family": task}
            found[f"{own} and {other}"] = (
                mean_finding(logs, math.log(limit), math.log(refuting), ratio=True, **words) if len(logs) else None
            )
        evidence.compare(task, found)
    evidence.missing.extend(lacking(evidence.findings, own, *others) + all_edges(runs, own, *others))
    return evidence


def _sensitivity(runs: pd.DataFrame, optimizer: str, other: str) -> "pd.Series[float]":
    """Return the sensitivity by seed, over the multipliers that both optimizers have; empty for fewer than three."""
    multipliers = set.intersection(*(set(runs[runs.optimizer == name].lr_multiplier) for name in (optimizer, other)))
    own = runs[(runs.optimizer == optimizer) & runs.lr_multiplier.isin(multipliers)]
    return sensitivity_by_seed(own) if len(multipliers) >= 3 else pd.Series(dtype=float)


def _slopes(horizons: Array, norms: Array) -> Array:
    """Return the least-squares slope of log(norm) over log(horizon) of each row of norms, shape (seeds, horizons)."""
    x = np.log(horizons) - np.log(horizons).mean()
    slopes: Array = np.log(norms) @ x / (x @ x)
    return slopes


def sign_like(known: Known) -> Evidence:
    """Compare Signum's final loss with AdamW's."""
    return _against(known.runs, "signum", ["adamw"], CLOSE, CLOSE)


C1 = Rule(
    id="C1",
    statement="with momentum, SignSGD comes close to Adam",
    words=(
        "Supported if Signum's final loss, both tuned, is less than 5% above that of AdamW (.9, .999) on every "
        "task; not supported if it is more than 5% above on one."
    ),
    judge=sign_like,
)


def half_steps(known: Known) -> Evidence:
    """Compare S3's final loss with AdamW's after twice the steps."""
    evidence = Evidence()
    for ladder, group in known.runs.groupby("ladder", sort=False):
        by_horizon = dict(tuple(group.groupby("horizon")))
        for horizon, short in by_horizon.items():
            long = by_horizon.get(2 * horizon)  # type: ignore[operator]
            if long is None or "s3" not in set(short.optimizer) or not set(ADAMWS) <= set(long.optimizer):
                continue
            evidence.missing.extend(edges(short, "s3") + edges(long, *ADAMWS))
            found: dict[str, Finding | None] = {}
            for other in ADAMWS:
                logs = log_loss_ratios(at_best(short, "s3"), at_best(long, other))
                words: dict[str, Any] = {"where": str(ladder), "family": str(ladder)}
                words["what"] = f"s3's final loss after {horizon!s} steps over {other}'s after twice as many"
                made = mean_finding(logs, math.log(AS_GOOD), ratio=True, **words) if len(logs) else None
                found[f"s3 after {horizon!s} steps and {other} after twice as many"] = made
            evidence.compare(str(ladder), found)
    return evidence.or_lacking("no task has S3 at a horizon T and AdamW with both betas at 2 T")


C5 = Rule(
    id="C5",
    statement="S3 in T steps is as good as AdamW in 2 T steps",
    words=(
        "Supported if S3's final loss after T steps is less than 1% above AdamW's after 2 T, both tuned, each "
        "with its own schedule, for both betas of AdamW and on every task; not supported if it is more than 1% "
        "above in one case."
    ),
    judge=half_steps,
)


def better(known: Known) -> Evidence:
    """Compare S3's final loss with those of Adam, AdamW and SignSGD."""
    return _against(known.runs, "s3", ["adam", *ADAMWS, "signsgd"], 1.0, MATTERS)


C6 = Rule(
    id="C6",
    statement="S3 ends at a lower loss than Adam, AdamW and SignSGD, each tuned",
    words=(
        "Supported if S3's final loss is below those of Adam, AdamW with both betas, and SignSGD, each tuned, on "
        "every task; not supported if it is less than 1% below, or above, one of them."
    ),
    judge=better,
)


def ablation(known: Known) -> Evidence:
    """Compare S3 with S3 without one of its parts."""
    evidence = Evidence()
    without = {"p = 1": (1.0, True, True), "another β": (3.0, False, True), "no look-ahead": (3.0, True, False)}
    for task, group in tasks_with(known.runs, "s3", "s3 variant"):
        whole = at_best(group, "s3")
        evidence.missing.extend(edges(group, "s3"))
        found: dict[str, Finding | None] = {}
        for name, (p, same, look_ahead) in without.items():
            lacks = (group.p == p) & (group.same_beta == same) & (group.look_ahead == look_ahead)
            logs = log_loss_ratios(whole, at_best(group[lacks], "s3 variant"))
            words: dict[str, Any] = {"where": task, "what": f"s3's final loss over that with {name}", "family": task}
            found[f"s3 and s3 with {name}"] = (
                mean_finding(logs, 0.0, math.log(MATTERS), ratio=True, **words) if len(logs) else None
            )
            if len(logs) and at_edge(group[lacks], "s3 variant"):
                evidence.missing.append(f"{task}: a longer grid for s3 with {name}, best at its edge")
        evidence.compare(task, found)
    return evidence.or_lacking("no task has S3 with and without its parts")


C8 = Rule(
    id="C8",
    statement="each part of S3 helps: the order p, the same β, the look-ahead",
    words=(
        "Supported if taking away any one part of S3 (p = 1 instead of 3; another β in the denominator; no "
        "look-ahead), tuned anew, raises the final loss on every task; not supported if a part lowers it by less "
        "than 1%, or raises it."
    ),
    judge=ablation,
)


def robust(known: Known) -> Evidence:
    """Compare S3's learning-rate sensitivity with AdamW's."""
    evidence = Evidence()
    for task, group in tasks_with(known.runs, "s3", *ADAMWS):
        found: dict[str, Finding | None] = {}
        for other in ADAMWS:
            own, theirs = (_sensitivity(group, name, other if name == "s3" else "s3") for name in ("s3", other))
            seeds = own.index.intersection(theirs.index)
            differences = (own.loc[seeds] - theirs.loc[seeds]).to_numpy()
            what = f"the learning-rate sensitivity of s3 less that of {other}"
            made = mean_finding(differences, 0.0, where=task, what=what, family=task) if len(seeds) else None
            found[f"s3 and {other} at three multipliers"] = made
        evidence.compare(task, found)
    evidence.missing.extend(lacking(evidence.findings, "s3", *ADAMWS))
    return evidence


C9 = Rule(
    id="C9",
    statement="larger learning rates need no careful tuning",
    words=(
        "Supported if S3's learning-rate sensitivity (the mean over the multipliers of the final loss above the "
        "lowest, Wortsman et al. 2023) is below AdamW's with both betas on every task; not supported if it is "
        "above one."
    ),
    judge=robust,
)


def rate(known: Known) -> Evidence:
    """Measure how fast the smallest gradient norm falls with the number of steps."""
    evidence, runs = Evidence(), known.runs
    for ladder, group in runs[(runs.optimizer == "s3") & runs.smallest_gradient.notna()].groupby("ladder", sort=False):
        picked = cells.runs_at_best(pd.concat([chosen_from(of) for _, of in group.groupby("horizon")]))
        norms = picked.pivot_table(index="seed", columns="horizon", values="smallest_gradient").dropna()
        if norms.shape[1] < 3 or not (norms > 0).all(axis=None):
            continue
        slopes = _slopes(norms.columns.to_numpy(dtype=np.float64), norms.to_numpy(dtype=np.float64))
        what = "the slope of log(smallest gradient norm of s3) over log(steps)"
        where = f"{ladder}, {norms.columns[0]:,} to {norms.columns[-1]:,} steps"
        evidence.findings.append(mean_finding(slopes, RATE, where=where, what=what, family=str(ladder)))
        for _, of_horizon in group.groupby("horizon"):
            evidence.missing.extend(edges(of_horizon, "s3"))
    return evidence.or_lacking("no task has S3 at three horizons with the true gradient's norm")


C10 = Rule(
    id="C10",
    statement="the gradient norm falls like T^(-1/4) on nonconvex stochastic problems",
    words=(
        "Supported if the smallest norm of the true gradient over S3's runs of T steps, tuned for each T, falls "
        "faster than T^(-1/4): the slope of its logarithm over log T is below -1/4; not supported if it is above."
    ),
    judge=rate,
)
