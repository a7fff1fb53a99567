"""Writes claims with their verdicts as JSON and as Markdown."""

import json
from collections.abc import Sequence
from typing import Any

from s3bench.console import finite_or_none
from s3bench.report.claims.judge import Verdict
from s3bench.report.claims.verdicts import Claim, in_words


def as_json(claims: Sequence[Claim | Verdict]) -> str:
    """Return the text of claims.json; a number that JSON does not have is null."""
    return json.dumps(_plain([claim.as_dict() for claim in claims]), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return finite_or_none(value)


def as_markdown(claims: Sequence[Claim]) -> str:
    """Return the text of claims.md: a table of verdicts, then each claim with its rule and all findings."""
    scale = next((claim.scale for claim in claims if claim.scale), "")
    parts = [f"# The paper's claims, at {f'scale {scale}' if scale else 'the scale of these records'}\n"]
    parts += ["| claim | | verdict, and what decides it |", "| --- | --- | --- |"]
    for claim in claims:
        parts.append(f"| {claim.id} | {claim.statement} | {claim.sentence.replace('|', chr(92) + '|')} |")
    parts.append("")
    for claim in claims:
        parts.append(f"## {claim.id}: {claim.statement}\n\n**{claim.sentence}**\n\nRule: {claim.rule}\n")
        parts += [f"- {finding.verdict}: {in_words(finding)}; {finding.test}" for finding in claim.findings]
        parts += [f"- missing: {what}" for what in (*claim.absent, *claim.missing)]
        parts.append("")
    return "\n".join(parts)
