"""Judges claims by the blocks that a results folder's log of decisions names, and C3 by all of its records with S3.

`s3bench decide` writes the log. Runs that it does not name are no evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3bench.errors import UserError
from s3bench.record import decisions
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.update_rules import known_rule
from s3bench.report.claims.decided import Standing, blocks_of, grade_of, refuse_changed, said, shown, standing
from s3bench.report.claims.grades import CONTRADICTED, SUPPORTED, UNDECIDED, VERDICTS, Graded
from s3bench.report.claims.registered import PAPER, Registered, load_claims

BOUND = "bound"  # the measure of C3
TEST = "confidence sequence of the mean over blocks"
KINDS = ("primary", "control", "secondary")  # of comparisons


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim and what the records say about it, as claims.json has it; numbers are NaN where nothing is known."""

    claim: Registered
    grade: str
    sentence: str
    n: int = 0
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    test: str = ""
    scale: str = ""
    standing: Standing | None = None
    log: Sequence[str] = ()  # what was decided why

    @property
    def verdict(self) -> str:
        """The word of claims.json: "supported", "not supported" or "undecided"."""
        return VERDICTS.get(self.grade, VERDICTS[UNDECIDED])

    def _each(self) -> Mapping[str, Graded]:
        return {} if self.standing is None else self.standing.each

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict for claims.json."""
        known = self.n > 0
        return {
            "id": self.claim.id,
            "statement": self.claim.statement,
            "verdict": self.verdict,
            "grade": self.grade,
            "endpoint": self.claim.digest,
            "words": dict(self.claim.words),
            "scale": self.scale or None,
            "n": self.n,
            "effect": self.effect if known else None,
            "interval": [self.low, self.high] if known else None,
            "test": self.test or None,
            "sentence": self.sentence,
            "rule": self.claim.effect,
            "cells": list(self.claim.scales[self.scale].tasks) if self.scale else [],
            "findings": [_finding(self.claim, name, graded) for name, graded in self._each().items()],
            "log": list(self.log),
        }


def _finding(claim: Registered, name: str, graded: Graded) -> dict[str, Any]:
    is_judged = name not in claim.control and not claim.is_trend(claim.comparisons()[name])
    return {
        "what": name,
        "kind": next(kind for kind in KINDS if name in getattr(claim, kind)),
        "n": graded.n,
        "effect": shown(claim, graded.mean),
        "interval": [shown(claim, graded.low), shown(claim, graded.high)],
        "sentence": graded.sentence() if is_judged else graded.numbers(),
    }


def judge(folder: Path, results: Results) -> list[Verdict]:
    """Judge the paper's claims, and what else was asked, by the records of a folder.

    Raises:
        UserError: the log or a record that it names is damaged, a claim has changed since its blocks were trained, or
            a folder has blocks of several scales.
    """
    log = decisions.read(folder)
    claims = load_claims() + _asked(log)
    refuse_changed(claims, log, folder)
    return [_judge(claim, log, folder, results) for claim in claims]


def standings(folder: Path) -> list[Standing]:
    """Return where each claim stands that the log of a folder has blocks of. Raises UserError as `judge` does."""
    log = decisions.read(folder)
    claims = load_claims() + _asked(log)
    refuse_changed(claims, log, folder)
    return [standing(claim, blocks, folder) for claim in claims if (blocks := blocks_of(claim, log))]


def _asked(log: Sequence[Mapping[str, Any]]) -> list[Registered]:
    """Return the claims that the log has blocks of beside the paper's: the user's, and questions on two optimizers."""
    words = {entry["claim"]: entry["words"] for entry in log if entry["event"] == decisions.BLOCK}
    return [claim for name, of in words.items() if not PAPER.fullmatch(name) for claim in load_claims([name], of)]


def _judge(claim: Registered, log: Sequence[Mapping[str, Any]], folder: Path, results: Results) -> Verdict:
    if claim.measure == BOUND:
        return _bound(claim, results)
    blocks = blocks_of(claim, log)
    if not blocks:
        return Verdict(claim=claim, grade=UNDECIDED, sentence=f"No block yet: s3bench decide {claim.id}")
    scales = {block["scale"] for block in blocks}
    if len(scales) > 1:
        raise UserError(f"{folder} has blocks of {claim.id} at several scales, {', '.join(sorted(scales))}: no verdict")
    found = standing(claim, blocks, folder)
    graded = found.graded
    grade = grade_of(found)
    holes = [entry for entry in log if entry.get("claim") == claim.id and entry["event"] == decisions.HOLE]
    notes = [f"seed {entry['seed']} is missing: {entry['cause']}" for entry in holes]
    notes += [f"decided after {graded.n} blocks"] if not graded.more_blocks else []
    sentence = said(found)
    if len(claim.primary) > 1:
        sentence += f"; the comparison that supports it least is with {found.worst}"
    if found.missing:
        sentence += f"; {found.missing} of {len(blocks)} blocks say nothing on it"
    return Verdict(
        claim=claim,
        grade=grade,
        sentence=sentence[0].upper() + sentence[1:] + ".",
        n=graded.n,
        effect=shown(claim, graded.mean),
        low=shown(claim, graded.low),
        high=shown(claim, graded.high),
        test=TEST,
        scale=scales.pop(),
        standing=found,
        log=notes,
    )


def _bound(claim: Registered, results: Results) -> Verdict:
    """Check the bound, which is a theorem, on every undisturbed record with S3, ramps too.

    With another β in the denominator there is no such bound.
    """
    over = [*results.with_result, *(run for run in results.ramps if run.has_result)]
    rules = [(run, *known_rule(run.config["optimizer"])) for run in over]
    own = [run for run, rule, settings in rules if rule == "s3" and settings["denominator_beta"] == settings["beta"]]
    largest = [run.own_update for run in own if not math.isnan(run.own_update)]
    if not largest:
        return Verdict(claim=claim, grade=UNDECIDED, sentence="A theorem; no record with S3 to check it on.")
    most = max(largest)
    holds = most < claim.region.claimed
    said = "holds" if holds else "does not hold"
    return Verdict(
        claim=claim,
        grade=SUPPORTED if holds else CONTRADICTED,
        sentence=f"A theorem, and it {said} in these {len(largest)} records: the largest update is {most:.4g}.",
        n=len(largest),
        effect=most,
        low=most,
        high=most,
        test="a check of every record",
    )
