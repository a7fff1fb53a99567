"""Decides claims: adds blocks where a claim is open, until it is decided or the budget is spent.

    1. The learning rates of a claim's arms are chosen on the tuning seeds and frozen, see halving.py.
    2. Blocks follow, one seed on all tasks and arms, on seeds that nothing was chosen on.
    3. After each block the interval is computed anew; the next block goes to the open claim that is expected to be
       decided at the smallest cost, see report/claims/allocation.py. Where several are sure to be needed, they are
       trained at once. The claim with the largest expected effect begins.
    4. Time that no claim can be decided in goes to the secondary comparisons, then to what is still open.

What was done is appended to decisions.jsonl in the results folder. The same command resumes.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3bench import catalog
from s3bench.console import patient_console
from s3bench.decide.blocks import FailedRun, Place, Rates, config_of, freeze_rates, train_blocks
from s3bench.decide.board import Board
from s3bench.errors import UserError, unknown
from s3bench.record import decisions
from s3bench.report.claims.allocation import OpenClaim, next_claim
from s3bench.report.claims.decided import Standing, blocks_of, refuse_changed, said, standing
from s3bench.report.claims.grades import is_open
from s3bench.report.claims.measures import NoMeasure
from s3bench.report.claims.registered import OWN_QUESTIONS, Registered, arm_at, load_claims

HOLES = 3  # so many blocks with a failed run in a row end a claim


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `s3bench decide` was asked for.

    Attributes:
        claims: with blocks to train.
        budget: seconds.
        place: where and how runs are trained.
        left_out: ids of claims that were not named and do not have the scale.
    """

    claims: Sequence[Registered]
    budget: float
    place: Place
    left_out: Sequence[str] = ()


def asked(
    given: Sequence[str], *, budget: float, results: str | None, scale: str, optimizer: str | None, against: str
) -> Asked:
    """Return what a command line asks for.

    Args:
        given: ids of claims, none of them for all, and overrides of all runs.
        budget: seconds.
        results: the results folder; None for the usual one.
        scale: of the claims.
        optimizer, against: names of optimizers that are to be compared; None asks the paper's claims.

    Raises:
        UserError: an unknown claim, scale or optimizer.
    """
    ids, overrides = [text for text in given if "=" not in text], [text for text in given if "=" in text]
    if optimizer is None:
        claims, usual = load_claims(ids), f"results/decide_{scale}"
    else:
        known = catalog.choices("optimizer")
        for name in (optimizer, against):
            if name not in known:
                raise unknown("optimizer", name, known)
        claims = load_claims(ids or OWN_QUESTIONS, {"OWN": optimizer, "OTHER": against})
        usual = f"results/decide_{optimizer}_{against}"
    trained = [claim for claim in claims if claim.scales]
    if not trained:
        raise UserError(f"{', '.join(ids)}: every report judges it by all of its records; there is nothing to train")
    chosen = [claim for claim in trained if scale in claim.scales]
    for claim in trained:
        if claim not in chosen and (ids or not chosen):
            raise unknown(f"scale of {claim.id}", scale, claim.scales)
    place = Place(results=Path(results or usual), scale=scale, overrides=overrides)
    if overrides:
        _compose_one(chosen[0], place)
    left_out = [claim.id for claim in trained if claim not in chosen]
    return Asked(claims=chosen, budget=budget, place=place, left_out=left_out)


def _compose_one(claim: Registered, place: Place) -> None:
    """Compose a run of a claim, so that a mistake in the overrides is told before anything is written."""
    arm = arm_at(claim.trained(claim.in_block())[0]).name
    own = claim.overrides(arm, place.scale, claim.scales[place.scale].tasks[0])
    config_of(own, place, folder=place.results, rate=1.0, seed=claim.first_seed)


@dataclass
class Open:
    """A claim that is being decided: its blocks, the seed of the next one, and blocks in a row with a failed run."""

    claim: Registered
    blocks: list[Mapping[str, Any]]
    seed: int
    standing: Standing
    rates: Rates | None = None
    holes: int = 0

    @property
    def is_open(self) -> bool:
        """Whether more blocks may decide it; not if as many as could decide it say nothing, such as without a spike."""
        silent = not self.standing.graded.n and self.standing.missing >= self.prospect.fewest
        return self.holes < HOLES and not silent and is_open(self.standing.graded.grade)

    @property
    def prospect(self) -> OpenClaim:
        """What its blocks have shown."""
        graded = self.standing.graded
        return OpenClaim(
            id=self.claim.id,
            region=self.claim.region,
            n=graded.n,
            mean=graded.mean,
            sd=self.standing.sd,
            block_seconds=self.standing.seconds,
            alpha=self.claim.alpha,
            per_block=self.standing.per_block,
        )


def decide(order: Asked) -> int:
    """Train blocks until every claim is decided or the budget is spent; return the exit code: 1 if a run failed.

    Raises:
        UserError: a claim that changed after its runs, or another process at work in the folder.
    """
    began, place = time.monotonic(), order.place
    with decisions.held(place.results):
        log = decisions.read(place.results)
        refuse_changed(order.claims, log, place.results)
        every = [_opened(claim, place, log) for claim in order.claims]
        with Board(patient_console(), order.budget, [one.standing for one in every]) as board:
            if order.left_out:
                board.say(f"without {', '.join(order.left_out)}, which have no scale {place.scale}")
            Decider(every, place, began + order.budget, board).decide()
            board.close(f"s3bench report {place.results} writes the verdicts")
    return int(any(one.holes for one in every))


def _opened(claim: Registered, place: Place, log: Sequence[Mapping[str, Any]]) -> Open:
    """Return a claim with the blocks that the log has of it."""
    blocks = list(blocks_of(claim, log))
    seeds = [entry["seed"] for entry in blocks]
    seed = max(seeds, default=claim.first_seed - 1) + 1
    return Open(claim=claim, blocks=blocks, seed=seed, standing=standing(claim, blocks, place.results))


class Decider:
    """Adds blocks to claims until the time, one of time.monotonic, is over."""

    def __init__(self, every: Sequence[Open], place: Place, until: float, board: Board) -> None:
        self._every, self._place, self._until, self._board = every, place, until, board
        self._trained = 0

    def decide(self) -> None:
        """Add blocks where claims are open, then secondary comparisons, then what is left."""
        while one := self._next():
            if one.rates is None:
                if not self._freeze(one):
                    break
            else:
                self._add(one, self._at_once(one))
        for one in self._every:
            self._add_secondary(one)
        while one := self._nearest():
            self._add(one, 1)
        if not self._trained and any(one.is_open for one in self._every):
            self._board.say("no block was trained: the budget is too small; the same command resumes")

    def _left(self) -> float:
        return self._until - time.monotonic()

    def _next(self) -> Open | None:
        """Return the claim that gets the next block: of those begun the one that may be decided for the least; if none
        can be decided in the time left, the next one to begin, the largest expected effect first.

        None if all are decided or out of reach, or the time is over.
        """
        left, still_open = self._left(), [one for one in self._every if one.is_open]
        if left <= 0:
            return None
        begun = {one.claim.id: one for one in still_open if one.blocks}
        chosen = next_claim([one.prospect for one in begun.values()], left)
        if chosen is not None:
            return begun[chosen]
        new = [one for one in still_open if not one.blocks]
        return max(
            new, key=lambda one: -math.inf if math.isnan(one.claim.expected) else one.claim.expected, default=None
        )

    def _nearest(self) -> Open | None:
        """Return the open claim that lacks the least, if a block of it fits; it cannot be decided today."""
        left = self._left()
        fit = [one for one in self._every if one.is_open and one.rates and one.standing.seconds <= left]
        return min(fit, key=lambda one: one.prospect.seconds_left(), default=None)

    def _at_once(self, one: Open) -> int:
        """Return how many blocks to train at once: those without which the claim cannot be decided, or a third of what
        it is expected to need; as many as fit.
        """
        if not one.blocks:
            return 1
        prospect, graded = one.prospect, one.standing.graded
        wanted = max(prospect.fewest - graded.n, graded.more_blocks // 3, 1)
        return int(max(1, min(wanted, self._left() // one.standing.seconds)))

    def _freeze(self, one: Open) -> bool:
        """Choose the learning rates of a claim; return whether there is time for more."""
        if tuned := one.claim.tuned(one.claim.in_block()):
            self._board.say(f"{one.claim.id}: choosing learning rates of {', '.join(tuned)}")
        try:
            one.rates = freeze_rates(one.claim, self._place, self._until, one.claim.in_block())
        except (FailedRun, NoMeasure) as error:
            one.holes = HOLES
            self._board.say(f"{one.claim.id}: no learning rates: {error}")
            return True
        return one.rates is not None

    def _add(self, one: Open, number: int) -> None:
        """Add blocks to a claim."""
        assert one.rates is not None
        seeds = range(one.seed, one.seed + number)
        self._board.working(f"{one.claim.id}: {number} block{'s' * (number > 1)}")
        for entry in train_blocks(one.claim, self._place, one.rates, seeds):
            if entry["event"] == decisions.HOLE:
                one.holes += 1
                self._board.say(f"{one.claim.id}: no block: {entry['cause']}")
            else:
                self._trained, one.holes = self._trained + 1, 0
                one.blocks.append(entry)
        one.seed += number
        one.standing = standing(one.claim, one.blocks, self._place.results)
        self._board.show(one.standing)
        if not is_open(one.standing.graded.grade):
            decisions.append(self._place.results, decisions.STOP, claim=one.claim.id, why=said(one.standing))

    def _add_secondary(self, one: Open) -> None:
        """Train what the secondary comparisons of a claim's blocks need, block by block while it fits."""
        comparisons = one.claim.secondary
        lacking = [block for block in one.blocks if not block.get("has_more")]
        if not (comparisons and lacking and self._left() > 0):
            return
        self._board.working(f"{one.claim.id}: secondary comparisons")
        share = len(one.claim.trained(comparisons)) / len(one.claim.trained(one.claim.in_block()))
        try:
            rates = freeze_rates(one.claim, self._place, self._until, comparisons)
        except (FailedRun, NoMeasure) as error:
            self._board.say(f"{one.claim.id}: no secondary comparisons: {error}")
            return
        for block in lacking:
            if rates is None or self._left() < share * one.standing.seconds:
                break
            train_blocks(one.claim, self._place, rates, [block["seed"]], more=True)
        log = decisions.read(self._place.results)
        one.blocks = list(blocks_of(one.claim, log))
        one.standing = standing(one.claim, one.blocks, self._place.results)
        self._board.show(one.standing)
