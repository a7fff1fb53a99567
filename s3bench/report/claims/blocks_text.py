"""Writes the verdicts on blocks as Markdown."""

from collections.abc import Sequence

from s3bench.report.claims.judge import Verdict


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """Return the text of claims.md: a table of verdicts, then each claim with its comparisons and its log."""
    scale = next((one.scale for one in verdicts if one.scale), "")
    parts = [f"# The claims, at {f'scale {scale}' if scale else 'the scale of these records'}\n"]
    parts += ["| claim | | verdict, and what decides it |", "| --- | --- | --- |"]
    parts += [f"| {one.claim.id} | {_cell(one.claim.statement)} | {_cell(one.sentence)} |" for one in verdicts]
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
