"""The paper's claims C1 to C10, and what the records show of each. docs/claims.md explains them."""

from s3bench.report.analysis.results import Results
from s3bench.report.claims.evidence import gathered
from s3bench.report.claims.loss_rules import C1, C5, C6, C8, C9, C10
from s3bench.report.claims.spike_rules import C2, C3, C4, C7
from s3bench.report.claims.verdicts import Claim, with_verdicts

CLAIMS = (C1, C2, C3, C4, C5, C6, C7, C8, C9, C10)


def judge(results: Results) -> list[Claim]:
    """Judge all claims by what the records show: undisturbed runs, and shocked ones with their twins."""
    known, left_out = gathered(results)
    claims = []
    scales = {run.config.get("scale") or "none" for run in results.with_result} or {"none"}
    for rule in CLAIMS:
        evidence = rule.judge(known)
        missing = list(evidence.missing)
        if evidence.findings and len(scales) > 1:
            names = " and ".join(sorted(scales))
            missing.insert(0, f"one scale: runs of several, {names}, are judged together")
        places = [finding.where for finding in evidence.findings]
        missing += [said for task, said in left_out if any(task in where for where in places)]
        claim = Claim(
            id=rule.id,
            statement=rule.statement,
            rule=rule.words,
            findings=evidence.findings,
            missing=missing,
            absent=evidence.absent,
            scale="" if scales == {"none"} else ", ".join(sorted(scales)),
        )
        claims.append(with_verdicts(claim))
    return claims
