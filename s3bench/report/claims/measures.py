"""How a block becomes a number: one function per measure that a claim can name, for one task and one comparison.

Every number is such that low values support the claim. Those that compare losses or learning rates are logarithms of
ratios, so that a block's number is a mean over its tasks; they are shown as ratios, see RATIOS in registered.py.

A run that diverged, or ended above its loss at initialisation, counts with that loss.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3bench import record
from s3bench.errors import UserError
from s3bench.record.judge import spikes_of
from s3bench.report.analysis.replays import Replay
from s3bench.report.claims.registered import Expressions, rate
from s3bench.report.stats import leaving
from s3bench.spikes.divergence import death

THEOREM = -0.25  # the slope of log(norm of the gradient) over log(steps)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a measure may look at: one block's runs on one task.

    Attributes:
        folders: the record of each arm expression.
        frozen: by arm, its best multiplier, and the log loss there on the tuning seeds.
        replays: the replayed spikes of these runs.
    """

    folders: Mapping[str, Path]
    frozen: Mapping[str, Mapping[str, float]]
    replays: Sequence[Replay] = ()

    def log_loss(self, arm: str) -> float:
        """Return the logarithm of an arm's final loss."""
        return log_final_loss(self.folders[arm])


class NoMeasure(UserError):
    """What a claim measures cannot be measured on a task."""


Measure = Callable[[Cell, Expressions], float | None]  # None: the block says nothing on this task


def log_final_loss(folder: Path) -> float:
    """Return the logarithm of a run's final loss. Raises UserError for a loss that is not positive."""
    losses = record.eval_arrays(folder)["loss"]
    first = float(losses[0])
    last = first if record.state(folder) == record.DIVERGED else float(losses[-1])
    loss = min(last, first) if math.isfinite(last) else first
    if not loss > 0:
        raise UserError(f"{folder} ends at a loss of {loss:g}; claims compare logarithms, so losses must be above 0")
    return math.log(loss)


def loss(cell: Cell, comparison: Expressions) -> float:
    """Return log(own final loss / the other's), or its mean over two lists of arms in pairs."""
    own, other = ([arms] if isinstance(arms, str) else arms for arms in comparison)
    return float(np.mean([cell.log_loss(a) - cell.log_loss(b) for a, b in zip(own, other, strict=True)]))


def steps(cell: Cell, comparison: Expressions) -> float:
    """Return log(own steps / those in which the other ends as low).

    [own, other, [at T, at 2 T]]: the last two are arms whose losses on the tuning seeds say what twice the steps are
    worth. Losses are taken to fall as a power of the steps between T / 2 and 2 T. A list of such comparisons, each of
    twice the steps of the one before, gives the trend: the mean change from one to the next.
    """
    if not isinstance(comparison[0], str):
        logs = [steps(cell, one) for one in comparison]
        return float(np.polyfit(range(len(logs)), logs, 1)[0])
    own, other, (once, twice) = comparison
    return (cell.log_loss(own) - cell.log_loss(other)) / worth_of_a_step(cell.frozen, once, twice)


def worth_of_a_step(frozen: Mapping[str, Mapping[str, float]], once: str, twice: str) -> float:
    """Return -d log(loss) / d log(steps). Raises NoMeasure if twice the steps do not lower the loss."""
    slope = (frozen[once]["log_loss"] - frozen[twice]["log_loss"]) / math.log(2)
    if not slope > 0:
        raise NoMeasure(f"{twice} does not end lower than {once}: on such a task steps cannot be compared")
    return slope


def check_rates(measure: str, frozen: Mapping[str, Mapping[str, Any]], comparisons: Mapping[str, Expressions]) -> None:
    """Raise NoMeasure if a measure cannot tell anything with these learning rates, on one task.

    Args:
        measure: its name.
        frozen: as for Cell.
        comparisons: of a claim.
    """
    for comparison in comparisons.values() if measure == "steps" else ():
        for one in [comparison] if isinstance(comparison[0], str) else comparison:
            worth_of_a_step(frozen, *one[2])


def gap(cell: Cell, comparison: Expressions) -> float | None:
    """Return the share of the gap in log loss between a worst arm and the best that the own arm leaves open."""
    own, best, worst = map(cell.log_loss, comparison)
    return (own - best) / (worst - best) if worst > best else None


def threshold(cell: Cell, comparison: Expressions) -> float | None:
    """Return log(the other's largest stable learning rate / the own); the other may be a rate, such as 10 x adamw.

    None if a loss never left, or left before the rate had grown: then a threshold is only bounded.
    """
    own, other = (_threshold(cell, expression) for expression in comparison)
    return None if own is None or other is None else math.log(other / own)


def _threshold(cell: Cell, expression: str) -> float | None:
    """Return a multiplier of the task's learning rate; None if it is only bounded."""
    fixed = rate(expression)
    if fixed is not None:
        factor, of = fixed
        return factor * cell.frozen[of]["best"]
    folder = cell.folders[expression]
    steps = record.step_arrays(folder, ["loss", "lr"])
    rates = steps["lr"] / record.load_config(folder)["task"]["lr"]
    found = leaving.threshold(steps["loss"], rates, diverged=record.state(folder) == record.DIVERGED)
    return found.most if found.is_known else None


def survival(cell: Cell, comparison: Expressions) -> float | None:
    """Return the share of a run's spikes that come again in an arm of their replays; None without a spike."""
    run, arm = comparison
    outcomes = [
        made.outcome
        for one in cell.replays
        if one.run == cell.folders[run].name
        for made in one.arms
        if made.name == arm
    ]
    return float(np.mean([outcome != "vanished" for outcome in outcomes])) if outcomes else None


def burden(cell: Cell, comparison: Expressions) -> float:
    """Return log(own burden / the other's); 1 is added to each, so that few small spikes weigh like none."""
    own, other = comparison
    return math.log((1 + _burden(cell.folders[own])) / (1 + _burden(cell.folders[other])))


def _burden(folder: Path) -> float:
    """Return the excess of a loss over its level during spikes, in its unit × steps, per 10,000 steps.

    A run that diverged, or whose loss stays at a guess, counts from there on with its loss at initialisation for each
    step of its horizon: a dead network is not a quiet one.
    """
    row, losses = record.load_record(folder), record.step_arrays(folder, ["loss"])["loss"]
    first = float(record.eval_arrays(folder)["loss"][0])
    alive = death(losses, first)
    spikes = spikes_of(row, losses, {})  # by its record: a claim is fixed before its runs
    area = sum(spike.area for spike in spikes if spike.onset < alive)
    return float(1e4 * (area + (row["horizon"] - alive) * first) / row["horizon"])


def slope(cell: Cell, comparison: Expressions) -> float:
    """Return the slope of log(mean norm of the true gradient) over log(steps), less other arms' or the theorem's."""
    own, *other = comparison
    return _slope(cell, own) - (_slope(cell, other[0]) if other else THEOREM)


def _slope(cell: Cell, arms: Sequence[str]) -> float:
    norms = [log_mean_norm(cell.folders[arm]) for arm in arms]
    horizons = [math.log(record.load_config(cell.folders[arm])["horizon"]) for arm in arms]
    return float(np.polyfit(horizons, norms, 1)[0])


def log_mean_norm(folder: Path) -> float:
    """Return the logarithm of the mean norm of the true gradient over a run; infinite if it diverged."""
    norms = record.eval_arrays(folder)["grad_norm"]
    return math.log(float(np.mean(norms))) if record.state(folder) != record.DIVERGED else math.inf


def tuned_by(measure: str) -> Callable[[Path], float]:
    """Return what the learning rates of a claim's arms are chosen by: the lower the better."""
    return log_mean_norm if measure == "slope" else log_final_loss


FUNCTIONS: dict[str, Measure] = {made.__name__: made for made in (loss, steps, gap, threshold, survival, burden, slope)}


def values(measure: str, cells: Mapping[str, Cell], comparisons: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return a block's numbers for each comparison: one of each task that says something and has its runs."""
    found: dict[str, tuple[float, ...]] = {}
    for name, comparison in comparisons.items():
        numbers = [FUNCTIONS[measure](cell, comparison) for cell in cells.values()]
        found[name] = tuple(number for number in numbers if number is not None)
    return found
