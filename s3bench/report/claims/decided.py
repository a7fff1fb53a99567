"""Where a claim stands after its blocks: its interval, valid after every block, and the grade that it gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from s3bench.console import duration
from s3bench.errors import UserError
from s3bench.record import decisions
from s3bench.record.judge import JUDGE
from s3bench.report.analysis.replays import Replay, read_replays
from s3bench.report.claims.allocation import blocks_of_shares
from s3bench.report.claims.grades import SUPPORTED, Graded, graded
from s3bench.report.claims.measures import Cell, values
from s3bench.report.claims.registered import Registered
from s3bench.report.stats.assumptions import cautions
from s3bench.report.stats.confidence_sequence import intersected, mean_intervals, share_intervals
from s3bench.report.stats.paired_tests import Array

NO_EVIDENCE = "consistent with, and no evidence"
COLUMNS = ("claim", "effect", "interval", "blocks", "", "to decide")  # of `cells`
RUNS_AND_RATES = ("runs", "rates")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A claim after its blocks.

    Attributes:
        claim: as it was registered.
        graded: the primary comparison that supports the claim least.
        worst: its name.
        each: every comparison on its own, the primary ones first; only `graded` decides.
        sd: of its numbers over the blocks; NaN for fewer than two.
        missing: blocks in which some primary comparison has no number.
        seconds: what a block takes if none of its runs is there yet; NaN before the first.
        path: the interval after each block, shape (blocks, 2).
        means: of the deciding comparison so far, after each block.
        per_block: outcomes of a block, if the claim is on a share; 0 of one that is not.
    """

    claim: Registered
    graded: Graded
    worst: str
    sd: float
    each: Mapping[str, Graded]
    missing: int
    seconds: float
    path: Array
    means: Array
    per_block: float = 0.0


def refuse_changed(claims: Sequence[Registered], log: Sequence[Mapping[str, Any]], results_dir: Path) -> None:
    """Raise UserError for a claim whose file is not the one that its blocks were trained for, or for a JUDGE."""
    if log and (results_dir / JUDGE).exists():
        raise UserError(f"{results_dir / JUDGE} would change what spikes are: claims are fixed before their runs")
    for claim in claims:
        for entry in log:
            if entry.get("claim") == claim.id and entry.get("digest", claim.digest) != claim.digest:
                raise UserError(
                    f"configs/claim/{claim.id}.yaml has changed since its blocks in {results_dir} were trained (it was "
                    f"{entry['digest']}, it is {claim.digest}): a claim is fixed before its runs; restore it, or use "
                    "another results folder"
                )


def blocks_of(claim: Registered, log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of a claim's blocks in their order, each with the runs of its secondary comparisons."""
    own = [entry for entry in log if entry.get("claim") == claim.id]
    more = {entry["seed"]: entry for entry in own if entry["event"] == decisions.MORE}
    return [_with(entry, more.get(entry["seed"])) for entry in own if entry["event"] == decisions.BLOCK]


def _with(block: Mapping[str, Any], more: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a block with the runs and rates that were added later."""
    if more is None:
        return block
    both = {key: {task: {**of, **more[key].get(task, {})} for task, of in block[key].items()} for key in RUNS_AND_RATES}
    return {**block, **both, "has_more": True}


def block_values(
    claim: Registered, block: Mapping[str, Any], results_dir: Path, replays: Sequence[Replay] = ()
) -> dict[str, tuple[float, ...]]:
    """Return a block's numbers for each comparison that it has: one of each task that says something.

    Raises:
        UserError: one of its records is gone or damaged.
    """
    cells = {}
    for task, runs in block["runs"].items():
        folders = {arm: results_dir / run_id for arm, run_id in runs.items()}
        cells[task] = Cell(folders=folders, frozen=block["rates"].get(task, {}), replays=replays)
    comparisons = claim.comparisons() if block.get("has_more") else claim.in_block()
    return values(claim.measure, cells, comparisons)


def standing(claim: Registered, blocks: Sequence[Mapping[str, Any]], results_dir: Path) -> Standing:
    """Return where a claim stands. Raises UserError if a record of a block is gone or damaged."""
    if not blocks:
        return stand(claim, [])
    replays = read_replays(results_dir) if claim.shares else ()
    numbers = [block_values(claim, block, results_dir, replays) for block in blocks]
    trained = sum(block["trained"] for block in blocks)
    runs = len(claim.trained(claim.in_block())) * len(blocks[0]["runs"])
    spent = sum(block["seconds"] for block in blocks)
    seconds = spent * runs / trained if trained else spent / len(blocks)
    return stand(claim, numbers, seconds)


def stand(claim: Registered, numbers: Sequence[Mapping[str, Sequence[float]]], seconds: float = math.nan) -> Standing:
    """Return where a claim stands, from the numbers of each block for each comparison.

    Args:
        claim: as it was registered.
        numbers: of each block, by comparison, those of its tasks; none where the block says nothing.
        seconds: what a block takes.
    """
    known = {name: [block[name] for block in numbers if block.get(name)] for name in claim.comparisons()}
    whole = [block for block in numbers if all(block[name] for name in claim.primary)]
    rows = [[block[name] for block in whole] for name in claim.primary]
    decisive, worst, path = _graded(claim, rows, seconds)
    each = {name: _graded(claim, [of], seconds)[0] for name, of in known.items()}
    means = _means(rows[worst])
    return Standing(
        claim=claim,
        graded=decisive,
        worst=list(claim.primary)[worst],
        sd=float(means.std(ddof=1)) if len(whole) > 1 else math.nan,
        each=each,
        missing=len(numbers) - len(whole),
        seconds=seconds,
        path=path,
        means=means.cumsum() / np.arange(1, len(means) + 1),
        per_block=_per_block(rows[worst]) if claim.shares and whole else 0.0,
    )


def _means(row: Sequence[Sequence[float]]) -> Array:
    return np.array([np.mean(block) for block in row], dtype=np.float64)


def _graded(claim: Registered, rows: Sequence[Sequence[Sequence[float]]], seconds: float) -> tuple[Graded, int, Array]:
    """Return the grade of the largest of k means, which of them is the largest so far, and the interval by block.

    The largest mean is above the upper ends of all k intervals only if it is above its own, so these need no
    correction; it is below the largest of the lower ends if any of them is wrong, so they are taken at alpha / k.

    Args:
        claim: what the values mean.
        rows: of each comparison the numbers of each block.
        seconds: what a block takes.
    """
    k, alpha = len(rows), claim.alpha
    means = [_means(row) for row in rows]
    path = np.max([_path(claim, row, (alpha / k, alpha)) for row in rows], axis=0)
    worst = int(np.argmax([of.mean() for of in means])) if len(means[0]) else 0
    numbers = means[worst]
    ends = (float(path[-1, 0]), float(path[-1, 1])) if len(path) else (-math.inf, math.inf)
    warned = () if claim.shares else cautions(numbers, alpha)
    found = graded(numbers, ends, claim.region, alpha=alpha, block_seconds=seconds, cautions=warned)
    if claim.shares and len(numbers) and found.more_blocks:
        needed = blocks_of_shares(float(numbers.mean()), claim.region, alpha, _per_block(rows[worst]))
        more = max(1.0, needed - len(numbers))
        found = replace(found, more_blocks=more, seconds=more * seconds)
    return found, worst, path


def _path(claim: Registered, row: Sequence[Sequence[float]], alphas: tuple[float, float]) -> Array:
    """Return a comparison's interval after each block, its low and high ends at two levels, shape (blocks, 2)."""
    if claim.shares:  # each task of a block is an outcome of its own, see docs/inference.md
        outcomes, last = np.concatenate([*row, []]), np.cumsum([len(block) for block in row]) - 1
        ends = [intersected(share_intervals(outcomes, alpha))[last.astype(int)] for alpha in alphas]
    else:
        ends = [intersected(mean_intervals(_means(row), alpha)) for alpha in alphas]
    return np.stack([ends[0][..., 0], ends[1][..., 1]], axis=-1)


def _per_block(row: Sequence[Sequence[float]]) -> float:
    """Return the mean number of outcomes of a block."""
    return float(np.mean([len(block) for block in row]))


def grade_of(found: Standing) -> str:
    """Return the grade; NO_EVIDENCE where the theorem's rate holds, but another optimizer's is not told from it."""
    if found.claim.measure != "slope" or found.graded.grade != SUPPORTED:
        return found.graded.grade
    told = all(found.each[name].high < found.claim.region.none for name in found.claim.control)
    return SUPPORTED if told else NO_EVIDENCE


def said(standing: Standing) -> str:
    """Return a claim's grade with its numbers, and where it is no evidence what the controls are."""
    if grade_of(standing) != NO_EVIDENCE:
        return standing.graded.sentence()
    controls = [f"{name}: {standing.each[name].numbers()}" for name in standing.claim.control]
    return "; ".join([f"{NO_EVIDENCE}: {standing.graded.numbers()}", *controls])


def line(standing: Standing) -> str:
    """Return a claim's standing on one line."""
    return f"{standing.claim.id}: {standing.claim.effect}: {said(standing)}"


def cells(standing: Standing) -> list[str]:
    """Return a claim's standing as a row of texts."""
    graded, claim = standing.graded, standing.claim
    if not graded.n:
        return [claim.id, "", "", "0", graded.grade, ""]
    mean, low, high = (f"{shown(claim, value):.3g}" for value in (graded.mean, graded.low, graded.high))
    more = "" if not graded.more_blocks else f"{graded.more_blocks:.0f} blocks, {duration(graded.seconds)}"
    if not math.isfinite(graded.more_blocks) or not math.isfinite(graded.seconds):
        more = "out of reach"
    return [claim.id, mean, f"{low} to {high}", str(graded.n), grade_of(standing), more]


def shown(claim: Registered, value: float) -> float:
    """Return a value as users see it: of logarithms the ratio."""
    if not claim.region.ratio:
        return value
    return math.exp(value) if value < 700 else math.inf  # exp overflows above 709
