"""Sums up the spikes of one curve in a paragraph: how many, how bad, when, what became of them, what to do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from s3bench.curve_files.names import OF_SCORES, words
from s3bench.spikes.published import DEFINITIONS

if TYPE_CHECKING:
    from s3bench.curve_files.reader import LoggedCurve
    from s3bench.spikes import Spike

REMEDIES = "docs/remedies.md"
MEASURED = (  # of docs/remedies.md, which has the n of each
    "Of 76 other spikes, replayed on small tasks with one thing changed, half the learning rate prevented 72, the "
    "whole update scaled down to near its usual size 62, and chance none"
)
EARLY = 10  # a spike is early in the first 1/EARLY of the values
BACK = ("blip", "recovered")  # kinds of spikes that the loss came back from
MOST_RATE = 1000  # per 10,000: a curve that allows more says nothing
MOST_VALUES = 1_000_000  # of a curve on which other definitions are tried: they take seconds on more


def paragraph(curve: "LoggedCurve", spikes: "Sequence[Spike]") -> str:
    """Return the answer to what the spikes of a curve amount to, in one paragraph.

    Args:
        curve: the curve.
        spikes: its spikes, with indices into its losses.
    """
    if not spikes:
        return f"{_none(curve)} {_others(curve)}"
    said = [_how_bad(curve, spikes), _when(curve, spikes), _became(curve, spikes)]
    said += [*_dead(curve), _others(curve)]
    is_score = words(curve.column) & OF_SCORES and "loss" not in words(curve.column)
    said += [f"{MEASURED}: {REMEDIES} has these, and what did not help."] * (not is_score)
    return " ".join(said)


def _none(curve: "LoggedCurve") -> str:
    """Say that there is no spike, and which rate that still allows."""
    from s3bench.report.stats.rates import poisson_interval

    count, unit = len(curve.loss), _unit(curve)
    most = poisson_interval(0, count)[1]
    if most > MOST_RATE:
        return f"No spike, but {count:,} {unit} are too few to say that there are few."
    return f"No spike. {count:,} {unit} without one still allow up to {most:.3g} per 10,000 (95% interval)."


def _how_bad(curve: "LoggedCurve", spikes: "Sequence[Spike]") -> str:
    """Say which share the spikes take, and how high they are."""
    unit, count = _unit(curve), len(curve.loss)
    share = 100 * sum(spike.width for spike in spikes) / count
    text = (
        f"{_plural(len(spikes), 'spike')}: from onset to end {share:.2g}% of the {count:,} {unit}, and as much of the "
    )
    text += f"compute if all {unit} cost the same."
    finite = [spike for spike in spikes if np.isfinite(spike.height)]
    if finite:
        highest = max(finite, key=lambda spike: spike.height)
        text += f" The highest peak is {highest.height:.3g} above its level, at {curve.steps[highest.peak]}."
    endless = len(spikes) - len(finite)
    return text + f" In {endless} the loss is not finite." * bool(endless)


def _when(curve: "LoggedCurve", spikes: "Sequence[Spike]") -> str:
    """Say whether the spikes are early."""
    early, count = sum(spike.onset < len(curve.loss) / EARLY for spike in spikes), len(spikes)
    if count == 1:
        return f"It begins {'early, in' if early else 'after'} the first tenth."
    which = {0: "None begins", count: "All begin"}.get(early, f"{early} of them begin{'s' * (early == 1)}")
    last = curve.steps[max(spike.onset for spike in spikes)]
    return f"{which} early, in the first tenth; the last begins at {last}."


def _became(curve: "LoggedCurve", spikes: "Sequence[Spike]") -> str:
    """Say how many spikes the loss came back from, and how the others ended."""
    count, last = len(spikes), len(curve.loss)
    back = [spike.width for spike in spikes if spike.kind in BACK]
    parts = []
    if back:
        which = "" if count == 1 else " from all" if len(back) == count else f" from {len(back)}"
        unit = _unit(curve).removesuffix("s" * (round(np.median(back)) == 1))
        parts.append(f"the loss came back{which} after {np.median(back):g} {unit}{' (median)' * (len(back) > 1)}")
    stayed = [spike.end == last for spike in spikes if spike.kind == "level_shift"]
    parts += [f"{stayed.count(False)} led to another level"] * (False in stayed)
    parts += [f"{stayed.count(True)} had not ended where the file ends"] * (True in stayed)
    parts += ["the run diverged in the last"] * any(spike.kind == "diverged" for spike in spikes)
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def _dead(curve: "LoggedCurve") -> list[str]:
    """Say that a positive loss that had fallen is back at that of a guess, or above, and stays."""
    from s3bench.spikes.divergence import GUESS, death

    first = float(curve.loss[0])
    at = death(curve.loss, first)
    if first <= 0 or not 0 < at < len(curve.loss) or np.median(curve.loss[:at]) >= GUESS * first:
        return []
    return [f"From {curve.steps[at]} on it is at {GUESS:g} of its first value or above: the network may be dead."]


def _unit(curve: "LoggedCurve") -> str:
    return "logged values" if curve.counted() == "values" else curve.counted()


def _others(curve: "LoggedCurve") -> str:
    """Say how many events the published definitions find."""
    if len(curve.loss) > MOST_VALUES:
        return f"Other definitions are not tried on more than {MOST_VALUES:,} values."
    counts = {definition.name: definition.count(curve.loss) for definition in DEFINITIONS}
    judged = [f"{name}: {found.events}" for name, found in counts.items() if found.steps]
    judged += [f"{name}: too few values" for name, found in counts.items() if not found.steps]
    return f"Events by other definitions, taken as if each value were a step: {'; '.join(judged)}."


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
