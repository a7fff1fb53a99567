"""Graded verdicts: all that one interval of an endpoint says about a claim. Low values support the claim.

Every grade states that the endpoint lies in some set, and is given only if the whole interval lies in that set. So all
that is said is true wherever the interval holds the truth: grades need no error rate of their own. docs/inference.md
explains them.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3bench.console import duration
from s3bench.report.stats.assumptions import cautions
from s3bench.report.stats.confidence_sequence import (
    MOST_BLOCKS,
    blocks_needed,
    fewest_blocks,
    intersected,
    mean_intervals,
)
from s3bench.report.stats.paired_tests import ALPHA, Array

SHARED_BY = 11  # endpoints: C1 to C10, C7b and C8b, but C3, which is a theorem and takes no error
CLAIM_ALPHA = ALPHA / SHARED_BY  # of one claim, so that all ten together err with a probability of at most ALPHA

SUPPORTED, UNDECIDED, CONTRADICTED = "supported", "undecided", "contradicted"
BETTER, EQUAL, WORSE = "better but size open", "practically equal", "worse but size open"
NOT_SUPPORTED = "not supported"
VERDICTS = {  # the words of claims.json
    SUPPORTED: SUPPORTED,
    BETTER: UNDECIDED,
    EQUAL: NOT_SUPPORTED,
    WORSE: UNDECIDED,
    CONTRADICTED: NOT_SUPPORTED,
    UNDECIDED: UNDECIDED,
}


@dataclass(frozen=True, kw_only=True)
class Region:
    """What the values of an endpoint mean for a claim, fixed before the runs. All in the unit of the blocks' values."""

    claimed: float  # the claim says that the endpoint is below
    none: float = 0.0  # no effect
    equal: float = 0.0  # within this of `none`, the effect is of no practical importance
    ratio: bool = False  # the values are natural logarithms of ratios; sentences show the ratios

    def __post_init__(self) -> None:
        """Refuse a region whose grades could contradict each other.

        Raises:
            ValueError: a number is not finite, `equal` is below 0, or `claimed` lies within `equal` of `none`, so
                that the claim might hold for effects of no importance.
        """
        if not all(map(math.isfinite, (self.claimed, self.none, self.equal))) or self.equal < 0:
            raise ValueError(f"claimed, none and equal must be finite, and equal at least 0; they are {self}")
        gap = abs(self.claimed - self.none)
        if gap < self.equal and not math.isclose(gap, self.equal):
            raise ValueError(f"claimed is {self.claimed}; it must be {self.equal} or more from none, {self.none}")


def grade(low: float, high: float, region: Region) -> str:
    """Return what the interval [low, high] says; the first that applies:

        supported              high < claimed
        practically equal      none - equal < low and high < none + equal
        contradicted           low > claimed
        better but size open   high < none
        worse but size open    low > none
        undecided              else, and if low > high: blocks that exclude each other say nothing

    So practically equal implies that the claim does not hold, "better" that the claimed size is open, and "worse" is
    given only where the claim allows for it, by a limit above `none`; otherwise what is worse is contradicted.

    Raises:
        ValueError: an end is NaN.
    """
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"the interval is [{low}, {high}]; unknown ends must be infinite")
    if low > high:
        return UNDECIDED
    if high < region.claimed:
        return SUPPORTED
    if region.none - region.equal < low and high < region.none + region.equal:
        return EQUAL
    if low > region.claimed:
        return CONTRADICTED
    if high < region.none:
        return BETTER
    return WORSE if low > region.none else UNDECIDED


def is_open(of: str) -> bool:
    """Return whether more blocks may still decide a claim of this grade."""
    return VERDICTS[of] == UNDECIDED


def deciding_distance(mean: float, region: Region) -> float:
    """Return how far an interval about this mean may reach to each side and still decide the claim.

    It then leaves out `claimed`, or lies within `equal` of `none`.
    """
    return max(abs(mean - region.claimed), region.equal - abs(mean - region.none))


@dataclass(frozen=True, kw_only=True)
class Graded:
    """A claim's endpoint after some blocks: its interval, its grade, and what more blocks would cost."""

    region: Region
    alpha: float
    n: int  # blocks
    mean: float
    low: float  # of the interval that holds with all earlier ones at once
    high: float
    grade: str
    more_blocks: float  # about the median of what it takes to decide; 0 once decided, infinite if out of reach
    seconds: float  # that they take; NaN if what a block takes is not known
    cautions: tuple[str, ...] = ()  # assumptions that the blocks speak against

    @property
    def verdict(self) -> str:
        """The word of claims.json: "supported", "not supported" or "undecided"."""
        return VERDICTS[self.grade]

    def sentence(self) -> str:
        """Return the grade, the size and what is open: "better but size open: 0.9 [0.8, 0.97] after 9 blocks, ..."."""
        if not self.n:
            return f"{self.grade}: no block yet"
        said = f"{self.grade}: {self.numbers()}{self._meaning()}"
        if is_open(self.grade) and self.low <= self.high:
            said += f"; would need {self._more()}"
        return "; ".join([said, *self.cautions])

    def numbers(self) -> str:
        """Return the mean with its interval: "0.9 [0.8, 0.97] after 9 blocks"."""
        if not self.n:
            return "no block yet"
        ends = f"[{self._shown(self.low)}, {self._shown(self.high)}]"
        return f"{self._shown(self.mean)} {ends} after {self.n} block{'s' if self.n != 1 else ''}"

    def _shown(self, value: float) -> str:
        if not self.region.ratio:
            return f"{value:.3g}"
        return f"{math.exp(value):.3g}" if value < 700 else "inf"  # exp overflows above 709

    def _meaning(self) -> str:
        """Return where the interval lies, in words."""
        claimed, none = self._shown(self.region.claimed), self._shown(self.region.none)
        if self.low > self.high:
            return ", where earlier blocks exclude what all of them show"
        if self.grade == EQUAL:
            ends = (self.region.none - self.region.equal, self.region.none + self.region.equal)
            return f", within {self._shown(ends[0])} to {self._shown(ends[1])}"
        if self.grade == SUPPORTED:
            return f", below {claimed}"
        if self.grade == CONTRADICTED:
            less = f", better than {none} but by less than claimed" if self.high < self.region.none else ""
            return f", above {claimed}" + less
        if self.grade in (BETTER, WORSE):
            return f", {'below' if self.grade == BETTER else 'above'} {none}, not yet told from {claimed}"
        return f", not yet told from {claimed}"

    def _more(self) -> str:
        if not math.isfinite(self.more_blocks):
            return f"more than {MOST_BLOCKS:,} blocks"
        blocks = f"{self.more_blocks:.0f} more block{'s' if self.more_blocks != 1 else ''}"
        about = "about" if self.n > 1 else "at least"
        return f"{about} {blocks}" + (f", {duration(self.seconds)}" if math.isfinite(self.seconds) else "")


def grade_blocks(
    values: npt.ArrayLike, region: Region, *, alpha: float = CLAIM_ALPHA, block_seconds: float = math.nan
) -> Graded:
    """Return the grade of an endpoint that is a mean over blocks.

    The interval is the intersection of those after each block: a verdict that was given stays, unless later blocks
    leave nothing of the interval.

    Args:
        values: shape (blocks,), finite, in the order of the blocks.
        region: what the values mean.
        alpha: the probability that anything said of this claim, after any block, is false.
        block_seconds: what one more block takes.

    Raises:
        ValueError: a value is not finite, or alpha is not in (0, 1).
    """
    numbers = np.asarray(values, dtype=np.float64)
    path = intersected(mean_intervals(numbers, alpha))
    ends = (float(path[-1, 0]), float(path[-1, 1])) if len(numbers) else (-math.inf, math.inf)
    said = cautions(numbers, alpha)
    return graded(numbers, ends, region, alpha=alpha, block_seconds=block_seconds, cautions=said)


def graded(
    numbers: Array,
    ends: tuple[float, float],
    region: Region,
    *,
    alpha: float,
    block_seconds: float,
    cautions: tuple[str, ...] = (),
) -> Graded:
    """Return the grade that an interval gives, with what more blocks would cost.

    Args:
        numbers: one a block, shape (blocks,), finite.
        ends: of the interval.
        region: what the values mean.
        alpha: as for grade_blocks.
        block_seconds: what one more block takes.
        cautions: assumptions of the interval that the blocks speak against.
    """
    n, (low, high) = len(numbers), ends
    given = grade(low, high, region)
    mean, sd = (float(numbers.mean()) if n else math.nan, float(numbers.std(ddof=1)) if n > 1 else math.nan)
    needed = blocks_needed(deciding_distance(mean, region), sd, alpha) if n > 1 else fewest_blocks(alpha)
    more = 0.0 if not is_open(given) else max(1.0, needed - n) if low <= high else math.inf
    return Graded(
        region=region,
        alpha=alpha,
        n=n,
        mean=mean,
        low=low,
        high=high,
        grade=given,
        more_blocks=more,
        seconds=more * block_seconds,
        cautions=cautions,
    )
