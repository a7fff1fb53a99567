"""Writes verdicts as JSON and as Markdown."""

import json
from collections.abc import Sequence
from typing import Any

from s3bench.console import finite_or_none
from s3bench.report.claims.judge import Verdict


def as_json(verdicts: Sequence[Verdict]) -> str:
    """Return the text of claims.json; a number that JSON does not have is null."""
    return json.dumps(_plain([one.as_dict() for one in verdicts]), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return finite_or_none(value)


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return the text of claims.md: a table of verdicts, then each claim with its comparisons and its log.

    Claims of which the records say nothing are one line.
    """
    scale = next((one.scale for one in verdicts if one.scale), "")
    unjudged = [one.claim.id for one in verdicts if not one.n]
    verdicts = [one for one in verdicts if one.n]
    parts = [f"# The claims, at {f'scale {scale}' if scale else 'the scale of these records'}\n"]
    parts += ["| claim | | verdict | of what |", "| --- | --- | --- | --- |"]
    cells = [(one.claim.id, one.claim.statement, one.sentence, one.claim.effect) for one in verdicts]
    parts += [f"| {' | '.join(map(_cell, row))} |" for row in cells]
    if unjudged:
        parts.append(f"\nOf {', '.join(unjudged)} these records say nothing: `s3bench decide` trains what they need.")
    parts.append("")
    for one in verdicts:
        parts.append(f"## {one.claim.id}: {one.claim.statement}\n\n**{one.sentence}**\n")
        parts.append(f"Endpoint ({one.claim.digest}): {one.claim.effect}.\n")
        for finding in one.as_dict()["findings"]:
            parts.append(f"- {finding['kind']}, {finding['what']}: {finding['sentence']}")
        parts += [f"- log: {what}" for what in one.log]
        parts.append("")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
