"""Which open claim gets the next block: the one that may be decided for the least."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from s3bench.report.claims.grades import CLAIM_ALPHA, Region, deciding_distance
from s3bench.report.stats.confidence_sequence import blocks_needed, fewest_blocks, shares_needed


@dataclass(frozen=True, kw_only=True)
class OpenClaim:
    """A claim that is not decided yet, and what its blocks have shown."""

    id: str
    region: Region
    n: int  # blocks so far
    mean: float = math.nan  # of them; anything below the fewest blocks that can decide
    sd: float = math.nan
    block_seconds: float  # what one more block costs
    alpha: float = CLAIM_ALPHA
    per_block: float = 0.0  # outcomes of a block, if the claim is on a share

    @property
    def fewest(self) -> float:
        """The fewest blocks that can decide the claim."""
        if self.per_block:
            return min(self._needed(share) for share in (0.0, 1.0))
        return fewest_blocks(self.alpha)

    def _needed(self, share: float) -> float:
        return blocks_of_shares(share, self.region, self.alpha, self.per_block)

    def seconds_left(self) -> float:
        """Return what it may take to decide the claim; infinite if that is out of reach.

        Up to the fewest blocks that can decide, it is what these take: means and standard deviations of less say too
        little to give a claim up by. Afterwards it is what it takes if the standard deviation stays and the mean turns
        out one standard error farther from its limit: a claim that looks dear by bad luck is not left too early.
        """
        blocks, error = self.fewest, self.sd / math.sqrt(self.n) if self.n else math.nan
        if self.n >= blocks and self.per_block:
            farther = self.mean + math.copysign(error, self.mean - self.region.claimed)
            blocks = self._needed(min(1.0, max(0.0, farther)))
        elif self.n >= blocks:
            blocks = blocks_needed(deciding_distance(self.mean, self.region) + error, self.sd, self.alpha)
        return max(1.0, blocks - self.n) * self.block_seconds


def blocks_of_shares(share: float, region: Region, alpha: float, per_block: float) -> float:
    """Return after how many blocks in all the interval of a share will leave out the claimed one, if it stays."""
    outcomes = shares_needed(share, region.claimed, alpha)
    return math.ceil(outcomes / per_block) if math.isfinite(outcomes) else math.inf


def next_claim(claims: Sequence[OpenClaim], budget: float) -> str | None:
    """Return the id of the claim that gets the next block, or None if none can be decided within the budget.

    It is the one with the least seconds_left, on a tie the first. The rule may look at all that was measured: an
    interval that holds at all times at once holds at whatever time the rule stops it.

    Args:
        claims: the open ones.
        budget: the seconds that are left.
    """
    costs = {claim.id: claim.seconds_left() for claim in claims}
    affordable = [name for name, cost in costs.items() if cost <= budget]
    return min(affordable, key=lambda name: costs[name]) if affordable else None
