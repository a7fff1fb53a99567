"""Where a claim stands after its blocks: its interval, valid after every block, and the grade that it gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3bench.errors import UserError
from s3bench.record import decisions
from s3bench.report.analysis.replays import Replay, read_replays
from s3bench.report.claims.grades import Graded, graded
from s3bench.report.claims.measures import Cell, values
from s3bench.report.claims.registered import Registered
from s3bench.report.stats.assumptions import cautions
from s3bench.report.stats.confidence_sequence import intersected, mean_intervals, share_intervals
from s3bench.report.stats.paired_tests import Array


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A claim after its blocks.

    Attributes:
        claim: as it was registered.
        graded: the primary comparison that supports the claim least.
        worst: its name.
        each: every comparison on its own, the primary ones first; only `graded` decides.
        sd: of its numbers over the blocks; NaN for fewer than two.
        missing: blocks in which some comparison has no number.
        seconds: what a block takes; NaN before the first.
    """

    claim: Registered
    graded: Graded
    worst: str
    sd: float
    each: Mapping[str, Graded]
    missing: int
    seconds: float


def refuse_changed(claims: Sequence[Registered], log: Sequence[Mapping[str, Any]], results_dir: Path) -> None:
    """Raise UserError for a claim whose file is not the one that its blocks were trained for."""
    for claim in claims:
        for entry in log:
            if entry.get("claim") == claim.id and entry.get("digest", claim.digest) != claim.digest:
                raise UserError(
                    f"configs/claim/{claim.id}.yaml has changed since its blocks in {results_dir} were trained (it was "
                    f"{entry['digest']}, it is {claim.digest}): a claim is fixed before its runs; restore it, or use "
                    "another results folder"
                )


def blocks_of(claim: Registered, log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of a claim's blocks, in their order."""
    return [entry for entry in log if entry["event"] == decisions.BLOCK and entry["claim"] == claim.id]


def block_values(
    claim: Registered, block: Mapping[str, Any], results_dir: Path, replays: Sequence[Replay] = ()
) -> dict[str, float | None]:
    """Return a block's number for each comparison. Raises UserError if one of its records is gone or damaged."""
    cells = {}
    for task, runs in block["runs"].items():
        folders = {arm: results_dir / run_id for arm, run_id in runs.items()}
        cells[task] = Cell(folders=folders, frozen=block["rates"].get(task, {}), replays=replays)
    return values(claim.measure, cells, claim.comparisons())


def standing(claim: Registered, blocks: Sequence[Mapping[str, Any]], results_dir: Path) -> Standing:
    """Return where a claim stands. Raises UserError if a record of a block is gone or damaged."""
    replays = read_replays(results_dir) if claim.replayed() else ()
    numbers = [block_values(claim, block, results_dir, replays) for block in blocks]
    seconds = float(np.mean([block["seconds"] for block in blocks])) if blocks else math.nan
    return stand(claim, numbers, seconds)


def stand(claim: Registered, numbers: Sequence[Mapping[str, float | None]], seconds: float = math.nan) -> Standing:
    """Return where a claim stands, from the number of each block for each comparison.

    Args:
        claim: as it was registered.
        numbers: of each block, by comparison; None where the block says nothing.
        seconds: what a block takes.
    """
    known = {name: [block[name] for block in numbers if block[name] is not None] for name in claim.comparisons()}
    whole = [block for block in numbers if all(block[name] is not None for name in claim.primary)]
    rows = np.array([[block[name] for block in whole] for name in claim.primary], dtype=np.float64)
    decisive, worst = _graded(claim, rows, seconds)
    each = {name: _graded(claim, np.array([of], dtype=np.float64), seconds)[0] for name, of in known.items()}
    return Standing(
        claim=claim,
        graded=decisive,
        worst=list(claim.primary)[worst],
        sd=float(rows[worst].std(ddof=1)) if len(whole) > 1 else math.nan,
        each=each,
        missing=len(numbers) - len(whole),
        seconds=seconds,
    )


def _graded(claim: Registered, rows: Array, seconds: float) -> tuple[Graded, int]:
    """Return the grade of the largest of k means, and which of them is the largest so far.

    The largest mean is above the upper ends of all k intervals only if it is above its own, so these need no
    correction; it is below the largest of the lower ends if any of them is wrong, so they are taken at alpha / k.

    Args:
        claim: what the values mean.
        rows: shape (k, blocks).
        seconds: what a block takes.
    """
    k, n = rows.shape
    are_shares, alpha = claim.measure == "survival", claim.alpha
    intervals = share_intervals if are_shares else mean_intervals
    upper, lower = intersected(intervals(rows, alpha)), intersected(intervals(rows, alpha / k))
    ends = (float(lower[:, -1, 0].max()), float(upper[:, -1, 1].max())) if n else (-math.inf, math.inf)
    worst = int(rows.mean(axis=1).argmax()) if n else 0
    said = () if are_shares else cautions(rows[worst], alpha)
    return graded(rows[worst], ends, claim.region, alpha=alpha, block_seconds=seconds, cautions=said), worst


def line(standing: Standing) -> str:
    """Return a claim's standing on one line."""
    return f"{standing.claim.id}: {standing.claim.effect}: {standing.graded.sentence()}"


def shown(claim: Registered, value: float) -> float:
    """Return a value as users see it: of logarithms the ratio."""
    if not claim.region.ratio:
        return value
    return math.exp(value) if value < 700 else math.inf  # exp overflows above 709
