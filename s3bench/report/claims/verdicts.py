"""Turns an effect and its interval into a finding, and the findings of a claim into its verdict."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from s3bench.report.stats.bootstrap import mean_interval
from s3bench.report.stats.paired_tests import ALPHA, holm, sign_flip_p, signed_rank_p
from s3bench.report.stats.rates import per_10k, poisson_interval, rate_ratio

Array = npt.NDArray[np.float64]

SUPPORTED, REFUTED, UNDECIDED = "supported", "not supported", "undecided"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One effect that a claim is judged by. The claim holds if the effect is below `limit`."""

    where: str  # the cells, in words: task, optimizers, multiplier
    what: str  # the effect, in words: "final loss over adamw's"
    n: int  # seeds, pairs or runs, as `unit` says
    effect: float
    low: float  # of the 95% interval
    high: float
    p: float  # two-sided, of "the effect is at the limit"; 0 if everything is known and nothing is estimated
    p_against: float  # one-sided, of "the effect is not above `refuting`"
    test: str
    limit: float  # the claim holds below it,
    refuting: float  # and does not hold above this
    family: str = ""  # findings of one family share Holm's correction; mostly the task
    unit: str = "seeds"
    p_holm: float = math.nan  # from with_verdicts: p over the family, or p_against over the claim
    verdict: str = UNDECIDED  # from with_verdicts


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper with its verdict at the scale of the records."""

    id: str
    statement: str  # the paper's, in one sentence
    rule: str  # when the claim is supported, and when not
    findings: Sequence[Finding] = ()
    missing: Sequence[str] = ()  # what the records lack
    absent: Sequence[str] = ()  # comparisons that the claim names and the records lack: without them it has no support
    scale: str = ""  # of the experiments: "laptop"; several if they are mixed, "" for runs by hand
    verdict: str = UNDECIDED  # from with_verdicts
    sentence: str = ""  # from with_verdicts: the verdict and what decides it

    def as_dict(self) -> dict[str, Any]:
        """Return the claim for claims.json; its effect, interval, n, test and p are those of the decisive finding."""
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
        """Return the finding that decides: the clearest that refutes, else the least certain; None if there is none."""
        refuting = [finding for finding in self.findings if finding.verdict == REFUTED]
        undecided = [finding for finding in self.findings if finding.verdict == UNDECIDED]
        if refuting:
            return min(refuting, key=lambda finding: (_or_one(finding.p_holm), -finding.effect))
        return max(undecided or self.findings, key=lambda f: (_or_one(f.p_holm), f.effect), default=None)


def _or_one(p: float) -> float:
    return 1.0 if math.isnan(p) else p


def mean_finding(
    values: npt.ArrayLike, limit: float, refuting: float | None = None, *, ratio: bool = False, **words: Any
) -> Finding:
    """Return the mean of a value per seed or run, its bootstrap interval, and Wilcoxon's signed ranks against a limit.

    Args:
        values: shape (n,), finite; logarithms of ratios if `ratio`. Effect, interval and limits are then ratios, and
            the effect is the geometric mean.
        limit: the claim holds below it.
        refuting: the claim does not hold above it; by default the limit.
        ratio: whether the values, the limit and `refuting` are logarithms of ratios.
        words: `where`, `what` and `family` of the finding.
    """
    numbers = np.asarray(values, dtype=np.float64)
    refuting = limit if refuting is None else refuting
    estimate: dict[str, Any] = _estimated(numbers) | {"limit": limit, "refuting": refuting}
    if ratio:
        estimate = {name: math.exp(value) for name, value in estimate.items()}
    p = signed_rank_p(numbers - limit) if len(numbers) else math.nan
    p_against = signed_rank_p(numbers - refuting, greater=True) if len(numbers) else math.nan
    return Finding(n=len(numbers), p=p, p_against=p_against, test="Wilcoxon's signed ranks", **estimate, **words)


def rate_difference_finding(differences: npt.ArrayLike, **words: Any) -> Finding:
    """Return the mean difference of spike rates per seed, its bootstrap interval and sign flips; the limit is 0."""
    numbers = np.asarray(differences, dtype=np.float64)
    p, p_against = sign_flip_p(numbers), sign_flip_p(numbers, greater=True)
    estimate: dict[str, Any] = _estimated(numbers) | {"limit": 0.0, "refuting": 0.0}
    return Finding(n=len(numbers), p=p, p_against=p_against, test="sign flips", **estimate, **words)


def _estimated(values: Array) -> dict[str, float]:
    """Return the mean, NaN without values, and its bootstrap interval."""
    low, high = mean_interval(values)
    return {"effect": float(values.mean()) if len(values) else math.nan, "low": low, "high": high}


def rate_ratio_finding(counts: Array, limit: float, **words: Any) -> Finding:
    """Return the ratio of two rates of rare events, its exact interval, and the larger p of two tests.

    The exact test assumes independent events (a binomial share of all of them) and is too sure of events that come in
    bursts. The sign flips, over the differences to the limit, take a seed as one observation, and are too sure of few
    events, whose differences are skewed.

    Args:
        counts: shape (n, 4): for each seed the events and steps of one optimizer, and those of the other.
        limit: the claim holds below it, and does not hold above it.
        words: `where`, `what` and `family` of the finding.
    """
    own, steps, other, other_steps = counts.T
    total, total_steps, others, others_steps = (int(part.sum()) for part in (own, steps, other, other_steps))
    ratio, low, high = rate_ratio(total, total_steps, others, others_steps)
    share = limit * total_steps / (limit * total_steps + others_steps)
    estimate: dict[str, Any] = {"effect": ratio, "low": low, "high": high, "limit": limit, "refuting": limit}
    estimate |= _larger_p(total, stats.binom(total + others, share), own / steps - limit * other / other_steps)
    return Finding(n=len(own), test="exact binomial and sign flips, the larger p", **estimate, **words)


def rate_finding(events: Array, steps: Array, limit: float, **words: Any) -> Finding:
    """Return a rate of rare events per 10,000 steps, its exact Poisson interval, and the larger p of two tests.

    The tests are an exact one and sign flips, for the reasons given at `rate_ratio_finding`.

    Args:
        events: of each seed, shape (n,).
        steps: of each seed, shape (n,).
        limit: per 10,000 steps; the claim holds below it, and does not hold above it.
        words: `where`, `what` and `family` of the finding.
    """
    total, total_steps = int(events.sum()), int(steps.sum())
    low, high = poisson_interval(total, total_steps)
    rate = per_10k(total, total_steps)
    estimate: dict[str, Any] = {"effect": rate, "low": low, "high": high, "limit": limit, "refuting": limit}
    estimate |= _larger_p(total, stats.poisson(limit * total_steps / 1e4), 1e4 * events / steps - limit)
    return Finding(n=len(events), test="exact Poisson and sign flips, the larger p", **estimate, **words)


def _larger_p(events: int, expected: Any, differences: Array) -> dict[str, float]:
    """Return the larger p of two tests: exact, given the distribution of events at the limit, and by sign flips."""
    at_most, at_least = float(expected.cdf(events)), float(expected.sf(events - 1))
    p = max(min(1.0, 2 * min(at_most, at_least)), sign_flip_p(differences))
    return {"p": p, "p_against": max(at_least, sign_flip_p(differences, greater=True))}


def with_verdicts(claim: Claim) -> Claim:
    """Return the claim with its verdict, its sentence, and the verdicts of its findings.

    A claim is supported if every finding supports it (an intersection-union test: the more findings, the harder) and no
    comparison that it names is absent. It is not supported if one finding refutes it. Otherwise it is undecided.

    A finding supports the claim if its interval is below the limit, and p ≤ 0.05 after Holm's correction over its
    family. It refutes the claim if its interval is above `refuting`, and the one-sided p ≤ 0.05 after Holm's correction
    over all findings of the claim, since any of them would do.
    """
    findings = _refuting(_supporting(claim.findings))
    verdicts = {finding.verdict for finding in findings}
    verdict = UNDECIDED
    if REFUTED in verdicts:
        verdict = REFUTED
    elif verdicts == {SUPPORTED} and not claim.absent:
        verdict = SUPPORTED
    decided = replace(claim, findings=findings, verdict=verdict)
    return replace(decided, sentence=_sentence(decided))


def _supporting(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with p corrected over each family, and those marked that support the claim."""
    marked = list(findings)
    for family in {finding.family for finding in findings}:
        places = [place for place, finding in enumerate(findings) if finding.family == family]
        for place, p in zip(places, holm([findings[place].p for place in places]), strict=True):
            supports = findings[place].high < findings[place].limit and p <= ALPHA
            marked[place] = replace(findings[place], p_holm=p, verdict=SUPPORTED if supports else UNDECIDED)
    return marked


def _refuting(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with those marked that refute the claim.

    `p_holm` becomes the p that speaks against the claim, corrected over all findings, wherever the effect is above the
    limit.
    """
    marked = []
    for finding, p in zip(findings, holm([finding.p_against for finding in findings]), strict=True):
        if finding.low > finding.refuting and p <= ALPHA:
            marked.append(replace(finding, p_holm=p, verdict=REFUTED))
        elif finding.effect > finding.limit:
            marked.append(replace(finding, p_holm=p))
        else:
            marked.append(finding)
    return marked


def _sentence(claim: Claim) -> str:
    """Return the verdict and what decides it, in words."""
    decisive = claim.decisive()
    if decisive is None:
        return "Undecided: these records lack what it takes to judge it."
    of_all = f"{sum(f.verdict == SUPPORTED for f in claim.findings)} of {len(claim.findings)} findings support it"
    of_all += f", {sum(f.verdict == REFUTED for f in claim.findings)} speak against it"
    if claim.absent:
        of_all += f"; of what it names {len(claim.absent)} cannot be compared"
    return f"{claim.verdict.capitalize()}: {in_words(decisive)}; {of_all}."


def in_words(finding: Finding) -> str:
    """Return "on digits_vit, s3's final loss over adamw's is 0.95 [0.92, 0.98] (n = 8 seeds, p = 0.03)"."""
    known = math.isnan(finding.low) or finding.low == finding.high  # nothing was estimated
    ends = "" if known else f" [{finding.low:.3g}, {finding.high:.3g}]"
    p = f", p = {finding.p_holm:.2g}" if finding.p_holm > 0 else ""  # 0: there was no test
    return f"on {finding.where}, {finding.what} is {finding.effect:.3g}{ends} (n = {finding.n} {finding.unit}{p})"
