"""From an effect and its interval to a verdict, and from the verdicts of several findings to that of a claim."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from s3bench.report.stats.bootstrap import mean_interval
from s3bench.report.stats.paired_tests import ALPHA, holm, sign_flip_p, signed_rank_p
from s3bench.report.stats.rates import per_10k, poisson_interval, rate_ratio

Array = npt.NDArray[np.float64]

SUPPORTED, REFUTED, UNDECIDED = "supported", "not supported", "undecided"


@dataclass
class Finding:
    """One effect that a claim stands on, in the cells `where`. A claim holds where the effect lies below `limit`."""

    where: str  # in words: task, optimizers, multiplier
    what: str  # the effect in words: "final loss over adamw's"
    n: int  # seeds, pairs or runs, as `unit` says
    effect: float
    low: float  # of the 95% interval
    high: float
    p: float  # two-sided, of "the effect is at the limit"; 0 where all is known and nothing estimated
    p_against: float  # one-sided, of "the effect is not above `refuting`"
    test: str
    limit: float  # below it the claim holds,
    refuting: float  # and above this it does not
    family: str = ""  # findings of one family share Holm's correction: mostly the task
    unit: str = "seeds"
    p_holm: float = math.nan  # filled in by judged: p over the family, or p_against over the claim
    verdict: str = UNDECIDED  # filled in by judged


@dataclass
class Claim:
    """A claim of the paper with its verdict at the scale of the records."""

    id: str
    statement: str  # the paper's, in one sentence
    rule: str  # when it is supported, and when not
    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what the records lack
    absent: list[str] = field(default_factory=list)  # comparisons that it names and they lack: no support without them
    scale: str = ""  # of the experiments: "laptop"; several if they are mixed, none of runs by hand
    verdict: str = UNDECIDED
    sentence: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For claims.json: `effect`, `interval`, `n`, `test` and `p` are those of the finding that decides."""
        decisive = self.decisive()
        row: dict[str, Any] = {"id": self.id, "statement": self.statement, "verdict": self.verdict}
        row["scale"] = self.scale or None
        if decisive is None:
            row |= {"n": 0, "effect": None, "interval": None, "test": None, "p": None}
        else:
            row |= {"n": decisive.n, "effect": decisive.effect, "interval": [decisive.low, decisive.high]}
            row |= {"test": decisive.test, "p": decisive.p_holm or None}
        row |= {
            "sentence": self.sentence,
            "rule": self.rule,
            "cells": list(dict.fromkeys(finding.where for finding in self.findings)),
        }
        row["missing"] = [*self.absent, *self.missing]
        return row | {"findings": [asdict(finding) for finding in self.findings]}

    def decisive(self) -> Finding | None:
        """The finding that decides: the clearest that refutes, else the least certain; None without any."""
        refuting = [finding for finding in self.findings if finding.verdict == REFUTED]
        undecided = [finding for finding in self.findings if finding.verdict == UNDECIDED]
        if refuting:
            return min(refuting, key=lambda finding: (_or_one(finding.p_holm), -finding.effect))
        return max(undecided or self.findings, key=lambda f: (_or_one(f.p_holm), f.effect), default=None)


def _or_one(p: float) -> float:
    return 1.0 if math.isnan(p) else p


def of_mean(
    values: npt.ArrayLike, limit: float, refuting: float | None = None, *, ratio: bool = False, **words: Any
) -> Finding:
    """The mean of a value per seed or run, its bootstrap interval, and Wilcoxon's signed ranks against the limit.

    Args:
        values: shape (n,), finite; logarithms of ratios where `ratio` says so. Effect, interval and limits are then
            ratios, and the effect is the geometric mean.
        limit, refuting: below and above which the claim holds and does not; equal if only one is given.
    """
    numbers = np.asarray(values, dtype=np.float64)
    out = math.exp if ratio else float
    refuting = limit if refuting is None else refuting
    low, high = mean_interval(numbers)
    middle = float(numbers.mean()) if len(numbers) else math.nan
    ends: dict[str, Any] = {
        "effect": out(middle),
        "low": out(low),
        "high": out(high),
        "limit": out(limit),
        "refuting": out(refuting),
    }
    p = signed_rank_p(numbers - limit) if len(numbers) else math.nan
    p_against = signed_rank_p(numbers - refuting, greater=True) if len(numbers) else math.nan
    return Finding(n=len(numbers), p=p, p_against=p_against, test="Wilcoxon's signed ranks", **ends, **words)


def of_rates(differences: npt.ArrayLike, **words: Any) -> Finding:
    """The mean of a difference of spike rates per seed, its bootstrap interval, sign flips; below 0 the claim holds."""
    numbers = np.asarray(differences, dtype=np.float64)
    low, high = mean_interval(numbers)
    middle = float(numbers.mean()) if len(numbers) else math.nan
    ends: dict[str, Any] = {"effect": middle, "low": low, "high": high, "limit": 0.0, "refuting": 0.0}
    p, p_against = sign_flip_p(numbers), sign_flip_p(numbers, greater=True)
    return Finding(n=len(numbers), p=p, p_against=p_against, test="sign flips", **ends, **words)


def of_counts(counts: Array, limit: float, **words: Any) -> Finding:
    """The ratio of two rates of rare events, its exact interval, and two tests of which the larger p counts.

    The exact test takes events as independent (a binomial share of all of them), the sign flips, over the differences
    to the limit, a seed as one observation; alone, the former is too sure of events that come in bursts, and the latter
    of few ones, whose differences are skewed.

    Args:
        counts: shape (n, 4): of each seed the events and steps of one, and those of the other.
        limit: below it the claim holds, and above it not.
    """
    own, steps, other, other_steps = counts.T
    total, total_steps, others, others_steps = (int(part.sum()) for part in (own, steps, other, other_steps))
    ratio, low, high = rate_ratio(total, total_steps, others, others_steps)
    share = limit * total_steps / (limit * total_steps + others_steps)
    ends: dict[str, Any] = {"effect": ratio, "low": low, "high": high, "limit": limit, "refuting": limit}
    ends |= _of_both(total, stats.binom(total + others, share), own / steps - limit * other / other_steps)
    return Finding(n=len(own), test="exact binomial and sign flips, the larger p", **ends, **words)


def of_rate(events: Array, steps: Array, limit: float, **words: Any) -> Finding:
    """A rate of rare events per 10,000 steps, its exact Poisson interval, and two tests as those of `of_counts`.

    Args:
        events, steps: shape (n,), of each seed.
        limit: below it the claim holds, and above it not; per 10,000 steps.
    """
    total, total_steps = int(events.sum()), int(steps.sum())
    low, high = poisson_interval(total, total_steps)
    rate = per_10k(total, total_steps)
    ends: dict[str, Any] = {"effect": rate, "low": low, "high": high, "limit": limit, "refuting": limit}
    ends |= _of_both(total, stats.poisson(limit * total_steps / 1e4), 1e4 * events / steps - limit)
    return Finding(n=len(events), test="exact Poisson and sign flips, the larger p", **ends, **words)


def _of_both(events: int, expected: Any, differences: Array) -> dict[str, float]:
    """The larger p of an exact test on a number of events, of this distribution at the limit, and of sign flips."""
    at_most, at_least = float(expected.cdf(events)), float(expected.sf(events - 1))
    p = max(min(1.0, 2 * min(at_most, at_least)), sign_flip_p(differences))
    return {"p": p, "p_against": max(at_least, sign_flip_p(differences, greater=True))}


def judged(claim: Claim) -> Claim:
    """The claim with the verdicts of its findings, its own, and its sentence.

    A claim is supported if every finding supports it (an intersection-union test: the more findings, the harder) and no
    comparison that it names is absent, and not supported if one refutes it. A finding supports it if its interval lies
    below the limit, and p ≤ 0.05 after Holm's correction over its family. It refutes it if its interval lies above
    `refuting`, and the one-sided p ≤ 0.05 after Holm's correction over all findings of the claim, for any of them would
    do. Else it is undecided.
    """
    for family in {finding.family: None for finding in claim.findings}:
        members = [finding for finding in claim.findings if finding.family == family]
        for finding, p in zip(members, holm([finding.p for finding in members]), strict=True):
            finding.p_holm = p
            if finding.high < finding.limit and p <= ALPHA:
                finding.verdict = SUPPORTED
    for finding, p in zip(claim.findings, holm([finding.p_against for finding in claim.findings]), strict=True):
        if finding.low > finding.refuting and p <= ALPHA:
            finding.verdict = REFUTED
        if finding.effect > finding.limit or finding.verdict == REFUTED:
            finding.p_holm = p
    verdicts = [finding.verdict for finding in claim.findings]
    if REFUTED in verdicts:
        claim.verdict = REFUTED
    elif verdicts and set(verdicts) == {SUPPORTED} and not claim.absent:
        claim.verdict = SUPPORTED
    claim.sentence = _sentence(claim)
    return claim


def _sentence(claim: Claim) -> str:
    """The verdict and what decides it, in words."""
    decisive = claim.decisive()
    if decisive is None:
        return "Undecided: these records lack what it takes to judge it."
    of_all = f"{sum(f.verdict == SUPPORTED for f in claim.findings)} of {len(claim.findings)} findings support it"
    of_all += f", {sum(f.verdict == REFUTED for f in claim.findings)} speak against it"
    if claim.absent:
        of_all += f"; of what it names {len(claim.absent)} cannot be compared"
    return f"{claim.verdict.capitalize()}: {in_words(decisive)}; {of_all}."


def in_words(finding: Finding) -> str:
    """Such as "on digits_vit, s3's final loss over adamw's is 0.95 [0.92, 0.98] (n = 8 seeds, p = 0.03)"."""
    known = math.isnan(finding.low) or finding.low == finding.high  # nothing was estimated
    ends = "" if known else f" [{finding.low:.3g}, {finding.high:.3g}]"
    p = f", p = {finding.p_holm:.2g}" if finding.p_holm > 0 else ""  # 0: there was no test
    return f"on {finding.where}, {finding.what} is {finding.effect:.3g}{ends} (n = {finding.n} {finding.unit}{p})"
