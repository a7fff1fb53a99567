"""Plans on paper: what a block of each claim trains, how many are needed, and what they cost."""

import math

import numpy as np

from s3bench.console import duration, say
from s3bench.decide.blocks import Place
from s3bench.decide.decide import Asked
from s3bench.decide.halving import LATER
from s3bench.report.claims.registered import GRID, Registered, arm_at
from s3bench.report.stats.confidence_sequence import intersected, mean_intervals

SAMPLES, LOOKS = 2000, 200  # of simulated claims, and the blocks after which they are given up
TUNED_RUNS = len(GRID) + 2 + 2 * len(LATER)  # of an arm on a task, see halving.py, if the grid is not widened
WITHIN = 0.8  # the plan is for this chance of a decision


def show_plan(order: Asked) -> int:
    """Print what a block of each claim trains, what is tuned before, what a decision costs; return the exit code."""
    hours = 0.0
    for claim in order.claims:
        hours += _show(claim, order.place)
    if order.left_out:
        say(f"without {', '.join(order.left_out)}, which have no scale {order.place.scale}")
    if hours:
        say(f"in all {hours:.3g} device hours for a chance of {WITHIN:.0%} on each claim that has a plan")
    return 0


def _show(claim: Registered, place: Place) -> float:
    """Print the plan of a claim; return its device hours, 0 if they are not known."""
    scale, comparisons = claim.scales[place.scale], claim.in_block()
    trained = claim.trained(comparisons)
    runs, cells = len(trained) * len(scale.tasks), len(claim.tuned(comparisons)) * len(scale.tasks)
    say(f"{claim.id}: {runs} runs a block on {', '.join(scale.tasks)}; {cells} learning rates to choose")
    for expression in trained:
        overrides = claim.overrides(arm_at(expression).name, place.scale, scale.tasks[0])
        say(f"    {expression}: {' '.join(overrides)}")
    if not math.isfinite(claim.expected):
        say("    no effect is known to plan with")
        return 0.0
    decided = blocks_to_decide(claim.expected, claim.alpha)
    half, most = (float(np.quantile(decided, share)) for share in (0.5, WITHIN))
    said = (
        f"    at the expected effect of {claim.expected:g} standard deviations decided after {half:.0f} blocks in half"
    )
    say(f"{said} of the cases, after {most:.0f} in {WITHIN:.0%}" if most <= LOOKS else f"{said} of the cases")
    minutes = (cells * TUNED_RUNS + most * runs) * scale.run_minutes
    if not math.isfinite(minutes):
        return 0.0
    say(f"    {duration(60 * minutes)} of one device, at {duration(60 * scale.run_minutes)} a run")
    return minutes / 60


def blocks_to_decide(effect: float, alpha: float) -> np.ndarray:
    """Return the blocks after which simulated claims are decided, shape (SAMPLES,); LOOKS + 1 where they are not.

    Args:
        effect: the distance of the mean from the limit, in standard deviations of a block.
        alpha: of the interval.
    """
    values = np.random.default_rng(0).normal(effect, 1, (SAMPLES, LOOKS))
    told = intersected(mean_intervals(values, alpha))[..., 0] > 0
    return np.where(told.any(axis=1), told.argmax(axis=1) + 1, LOOKS + 1)
