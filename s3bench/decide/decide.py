"""Decides claims: adds blocks where a claim is open, until it is decided or the budget is spent.

    1. The learning rates of a claim's arms are chosen on the tuning seeds and frozen, see halving.py.
    2. Blocks follow, one seed on all tasks and arms, on seeds that nothing was chosen on.
    3. After each block the interval is computed anew; the next block goes to the open claim that is expected to be
       decided at the smallest cost, see report/claims/allocation.py.

What was done is appended to decisions.jsonl in the results folder. The same command resumes.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from s3bench import catalog
from s3bench.console import duration, patient_console
from s3bench.decide.blocks import FIRST_BLOCK, FailedRun, Place, Rates, freeze_rates, train_block
from s3bench.errors import UserError, unknown
from s3bench.record import decisions
from s3bench.report.claims.allocation import OpenClaim, next_claim
from s3bench.report.claims.decided import Standing, blocks_of, line, refuse_changed, standing
from s3bench.report.claims.grades import is_open
from s3bench.report.claims.registered import OWN_QUESTIONS, Registered, arm_at, load_claims

HOLES = 3  # so many blocks with a failed run in a row end a claim


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `s3bench decide` was asked for: claims with blocks to train, seconds, and where and how runs are trained."""

    claims: Sequence[Registered]
    budget: float
    place: Place


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
    for claim in trained:
        if scale not in claim.scales:
            raise unknown(f"scale of {claim.id}", scale, claim.scales)
    place = Place(results=Path(results or usual), scale=scale, overrides=overrides)
    return Asked(claims=trained, budget=budget, place=place)


@dataclass
class Open:
    """A claim that is being decided: its blocks, the seed of the next one, and blocks in a row with a failed run."""

    claim: Registered
    blocks: list[Mapping[str, Any]]
    seed: int
    standing: Standing
    rates: Rates | None = None
    holes: int = 0


def decide(order: Asked) -> int:
    """Train blocks until every claim is decided or the budget is spent; return the exit code: 1 if a run failed.

    Raises:
        UserError: a claim that changed after its runs, or another process at work in the folder.
    """
    console, began, place = patient_console(), time.monotonic(), order.place
    with decisions.held(place.results):
        log = decisions.read(place.results)
        refuse_changed(order.claims, log, place.results)
        every = [_opened(claim, place, log) for claim in order.claims]
        for one in every:
            console.print(line(one.standing), markup=False)
        _decide(every, place, began + order.budget, console)
    spent = duration(time.monotonic() - began)
    console.print(
        f"{spent} of {duration(order.budget)}; s3bench report {place.results} writes the verdicts", markup=False
    )
    return int(any(one.holes for one in every))


def _opened(claim: Registered, place: Place, log: Sequence[Mapping[str, Any]]) -> Open:
    """Return a claim with the blocks that the log has of it."""
    blocks = blocks_of(claim, log)
    seeds = [entry["seed"] for entry in blocks]
    seed = max(seeds, default=FIRST_BLOCK - 1) + 1
    return Open(claim=claim, blocks=blocks, seed=seed, standing=standing(claim, blocks, place.results))


def _decide(every: Sequence[Open], place: Place, until: float, console: Console) -> None:
    """Add blocks until the time is over."""
    trained = 0
    while one := _next(every, until - time.monotonic()):
        if one.rates is None:
            if one.claim.tuned():
                console.print(f"{one.claim.id}: choosing learning rates", markup=False)
            try:
                one.rates = freeze_rates(one.claim, place, until)
            except FailedRun as error:
                one.holes = HOLES
                console.print(f"{one.claim.id}: no learning rates: {error}", markup=False)
            if one.rates is None and not one.holes:
                break
            continue
        entry = train_block(one.claim, place, one.rates, one.seed)
        one.seed += 1
        if entry["event"] == decisions.HOLE:
            one.holes += 1
            console.print(f"{one.claim.id}: no block: {entry['cause']}", markup=False)
            continue
        trained, one.holes = trained + 1, 0
        one.blocks.append(entry)
        one.standing = standing(one.claim, one.blocks, place.results)
        console.print(line(one.standing), markup=False)
        if not is_open(one.standing.graded.grade):
            decisions.append(place.results, decisions.STOP, claim=one.claim.id, why=one.standing.graded.sentence())
    if not trained and any(map(_is_open, every)):
        console.print("no block was trained: the budget is too small; what was trained for it is used the next time")


def _is_open(one: Open) -> bool:
    return one.holes < HOLES and is_open(one.standing.graded.grade)


def _next(every: Sequence[Open], left: float) -> Open | None:
    """Return the claim that gets the next block: first every claim gets one, which tells what a block costs.

    None if all are decided or out of reach, or no block fits into the time left.
    """
    still_open = [one for one in every if _is_open(one)]
    if left <= 0:
        return None
    for one in still_open:
        if not one.blocks:
            return one
    prospects = {one.claim.id: _prospect(one) for one in still_open if one.standing.seconds <= left}
    chosen = next_claim(list(prospects.values()), left)
    if chosen is None:  # none can be decided now: what is nearest is brought nearer
        near = {name: one.seconds_left() for name, one in prospects.items() if math.isfinite(one.seconds_left())}
        chosen = min(near, key=lambda name: near[name], default=None)
    return next((one for one in still_open if one.claim.id == chosen), None)


def _prospect(one: Open) -> OpenClaim:
    graded = one.standing.graded
    return OpenClaim(
        id=one.claim.id,
        region=one.claim.region,
        n=graded.n,
        mean=graded.mean,
        sd=one.standing.sd,
        block_seconds=one.standing.seconds,
        alpha=one.claim.alpha,
    )


def show_plan(order: Asked) -> int:
    """Print what a block of each claim trains, and what is tuned before; return the exit code."""
    scale = order.place.scale
    for claim in order.claims:
        tasks = claim.scales[scale].tasks
        runs, tuned = len(claim.expressions()) * len(tasks), len(claim.tuned()) * len(tasks)
        print(f"{claim.id}: {runs} runs a block on {', '.join(tasks)}; {tuned} learning rates to choose")
        for expression in claim.expressions():
            overrides = claim.overrides(arm_at(expression).name, scale, tasks[0])
            print(f"    {expression}: {' '.join(overrides)}")
    return 0
