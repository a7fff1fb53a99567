"""A labelled test bed for spike detectors: realistic loss curves whose events are known, and a detector's scores.

A curve is a falling level, plus noise, plus nuisances that are not spikes (slow waves, effects of the order of the
data, drops of the learning rate), plus events. `draw(seed)` draws one from a mixture for development (development.py),
and `draw(seed, "development_2")` from a second one (development_2.py). `draw(seed, "held_out")` draws from a third
(held_out.py), with different falls, noise, nuisances and shapes of events, for the numbers that are reported.

What counts as an event is a rule that a careful reader of the curve would agree with, not the threshold of any
detector. What is added to the curve rises by at least
- 8 local robust standard deviations of the noise (interquartile range / 1.349, known here, not estimated),
- 1.3 times the largest excursion of the noise on that curve, in local standard deviations,
- 0.2 in loss.
All of that counts from the level ten steps before the onset, so that an event cannot hide in a fall. It holds in the
loss itself, too, where noise may work against it, and within the steps by which a found onset may be off: a slow rise,
of which these steps are the first half, therefore rises further. A spike in the first 100 steps follows the same rule.
Local means the largest standard deviation of the last 100 steps. An event lasts while more than two standard deviations
are added.

On some steps, which are called `doubtful`, what a detector finds is neither right nor wrong:
- Heavy-tailed noise sometimes meets the rule by itself: steps outside of the events that are above the lowest level of
  the last 1000 steps by 8 standard deviations (the smallest of the last 100 steps) and by 0.2 in loss.
- Within an event, everything after it has first fallen below half of the rule: whether the event is over by then, and a
  later peak is another event, is a matter of taste.
Everything else is not an event.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from scripts.detector_bed import development_2, held_out
from scripts.detector_bed.development import HALVES
from scripts.detector_bed.drawing import CalmCurve

Array = npt.NDArray[np.float64]
Detector = Callable[[Array], list[tuple[int, int]]]  # from a loss to events [onset, end)

MIN_SIGMAS, MIN_LOSS, CLEAR = 8.0, 0.2, 1.3  # the rule above
EARLY_STEPS = 100  # the first steps, where no ramp begins
LOCAL_STEPS = 100  # steps that a local standard deviation is the largest or smallest of
TOLERANCE = 5  # steps by which the found onset of a sharp event may be off
ROUNDING = 2.0**-8  # the largest relative rounding error of a log: that of a bfloat16
NO_EVENT = 0.3  # the share of curves without events
STAYING = ("plateau", "healing plateau", "ramp that stays", "not finite", "diverged")  # not back soon, or at all


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event.

    Attributes:
        onset: its first step.
        end: the first step after it.
        kind: what a detector should call it, see Spike.
        height: how far it rises, in loss; infinite if it is not finite.
        shape: how it was made.
        rise: the steps over which it rises.
    """

    onset: int
    end: int
    kind: str
    height: float
    shape: str
    rise: int = 1

    @property
    def tolerance(self) -> int:
        """The number of steps by which a found onset may be off: a few, or half of a slow rise."""
        return max(TOLERANCE, self.rise // 2)


@dataclass(frozen=True, kw_only=True)
class LabelledCurve:
    """A loss curve whose events are known; arrays have shape (steps,).

    Attributes:
        loss: one value per step.
        events: the events, in order.
        family: what the curve is made of, in words.
        sigma: the local robust standard deviation of the noise.
        level: the loss without its noise, but with its events.
        doubtful: the steps where what a detector finds is neither right nor wrong.
    """

    loss: Array
    events: list[Event]
    family: str
    sigma: Array
    level: Array = field(repr=False)
    doubtful: npt.NDArray[np.bool_] = field(repr=False)

    @property
    def clean(self) -> npt.NDArray[np.bool_]:
        """Whether each step lies outside of every event and its tolerance, so that everything found there is false."""
        clean = np.ones(len(self.loss), dtype=bool)
        for event in self.events:
            clean[max(0, event.onset - event.tolerance) : event.end + event.tolerance] = False
        return clean

    @property
    def clean_steps(self) -> int:
        """The number of clean steps."""
        return int(self.clean.sum())


class Mixture(Protocol):
    """What curves are drawn from: a module or an object."""

    @property
    def SHAPES(self) -> dict[str, float]:
        """The shapes of events, and how often each is drawn."""

    def calm_curve(self, rng: np.random.Generator, steps: int, /) -> CalmCurve:
        """Draw a curve without events."""

    def onsets(self, rng: np.random.Generator, steps: int, /) -> list[int]:
        """Draw the steps where events may begin, in order."""

    def bump(self, rng: np.random.Generator, shape: str, room: int, /) -> tuple[Array, int]:
        """Draw an event: what is added in each of the `room` steps from the onset on, and the steps of its rise.

        Positive values are in parts of the event's height, negative ones in parts of the largest dip after an event.
        Values may be infinite.
        """

    def logged(self, rng: np.random.Generator, loss: Array, /) -> Array:
        """Return the loss as it is written to the log."""


MIXTURES: dict[str, tuple[Mixture, ...]] = {  # by name; where there are two, each is for half of the curves
    "development": HALVES,
    "development_2": (development_2,),
    "held_out": (held_out,),
}


def draw(seed: int, name: str = "development") -> LabelledCurve:
    """Draw the curve of this seed from one of MIXTURES, of 300 to 20,000 steps; three of ten have no event."""
    rng = np.random.default_rng([seed, 2 * list(MIXTURES).index(name)])
    mixture = MIXTURES[name][rng.integers(len(MIXTURES[name]))]
    steps = int(np.exp(rng.uniform(np.log(300), np.log(20_000))))
    calm = mixture.calm_curve(rng, steps)
    noise = np.maximum(calm.noise, -0.98 * calm.level)  # a loss is above zero
    draft = _Draft(calm.level, noise, calm.sigma)
    if rng.random() >= NO_EVENT:
        _add_events(rng, draft, mixture)
    loss = draft.level + noise
    loss[np.isinf(loss)] = rng.choice([np.nan, np.inf])
    return LabelledCurve(
        loss=mixture.logged(rng, loss),
        events=draft.events,
        family=calm.family,
        sigma=calm.sigma,
        level=draft.level,
        doubtful=draft.doubtful(),
    )


class _Draft:
    """A curve to which events are added: its level with and without them, its noise, and what the rule asks for."""

    def __init__(self, level: Array, noise: Array, sigma: Array) -> None:
        self.calm, self.level, self.noise, self.sigma = level, level.copy(), noise, sigma
        largest = max(MIN_SIGMAS, CLEAR * float(np.max(noise / sigma)))
        highest_sigma = -_lowest(-sigma, LOCAL_STEPS)
        self.smallest = np.maximum(largest * highest_sigma, MIN_LOSS)  # the smallest height of an event at each step
        self.events: list[Event] = []
        self.maybe_over = np.zeros(len(level), dtype=bool)

    def doubtful(self) -> npt.NDArray[np.bool_]:
        """Return the steps where what is found is neither right nor wrong."""
        outside = np.ones(len(self.level), dtype=bool)
        for event in self.events:
            outside[event.onset : event.end] = False
        level = np.where(outside, self.level, self.calm)
        above = level + self.noise - np.where(outside, _lowest(self.level, 1000), self.calm)
        return self.maybe_over | ((above > MIN_SIGMAS * _lowest(self.sigma, LOCAL_STEPS)) & (above > MIN_LOSS))


def _lowest(values: Array, steps: int) -> Array:
    """Return the lowest finite value of the last `steps` steps, for each step."""
    return pd.Series(values).rolling(steps, min_periods=1).min().to_numpy(dtype=np.float64)


def _add_events(rng: np.random.Generator, draft: _Draft, mixture: Mixture) -> None:
    """Add up to five events, at least 100 steps apart, or 1000 steps after the onset of a plateau."""
    steps = len(draft.level)
    for onset in mixture.onsets(rng, steps):
        before = draft.events[-1] if draft.events else None
        shape = _shape(rng, mixture, early=onset < EARLY_STEPS)
        if before and (before.kind == "diverged" or onset < before.end + 100) and before.end < steps:
            continue
        if before and before.end == steps and (before.kind == "diverged" or onset < before.onset + before.rise + 1000):
            continue
        event = _add_event(rng, draft, onset, shape, *mixture.bump(rng, shape, steps - onset))
        if event:
            if before and before.end == steps:  # it is on top of a plateau, which ends here as an event
                draft.events[-1] = replace(before, end=onset)
            draft.events.append(event)


def _shape(rng: np.random.Generator, mixture: Mixture, early: bool) -> str:
    """Draw the shape of an event; an early one is not a ramp."""
    shares = {shape: share for shape, share in mixture.SHAPES.items() if not (early and "ramp" in shape)}
    return str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))


def _add_event(
    rng: np.random.Generator, draft: _Draft, onset: int, shape: str, added: Array, rise: int
) -> Event | None:
    """Add an event to the draft and return it; return None, and add nothing, if there is not enough room."""
    steps, sigma, smallest = len(draft.level), draft.sigma[onset:], draft.smallest[onset:]
    needed = 50 if shape in STAYING else 10  # steps after the rise
    if onset + rise + needed > steps:
        return None
    height = _height(rng, draft, onset, added, rise)
    if shape == "diverged":
        height = max(height, draft.calm[0] * rng.uniform(1.1, 3) + 4 * sigma.max() - draft.calm[onset])
    dip = min(2 * float(draft.sigma.min()), 0.08)  # small, so that its way back up is not a spike
    rising = np.where(added > 0, height, dip) * added
    end = onset + 1 + int(np.flatnonzero(rising > 2 * sigma)[-1])
    if end > steps - 5 or (shape in STAYING and added[-1] >= 1):
        if shape not in STAYING:
            return None  # would not be back before the end
        end = steps
    below = np.flatnonzero(rising[rise : end - onset] < smallest[rise : end - onset] / 2)
    if len(below):
        draft.maybe_over[onset + rise + below[0] : end] = True
    draft.level[onset:] += rising
    if end == steps:
        last = draft.level[-max(5, (steps - onset) // 4) :]
        kind = "diverged" if np.median(last) > draft.calm[0] else "level_shift"
    else:
        kind = "blip" if end - onset <= 3 else "recovered"
    return Event(onset=onset, end=end, kind=kind, height=float(rising.max()), shape=shape, rise=rise)


def _height(rng: np.random.Generator, draft: _Draft, onset: int, added: Array, rise: int) -> float:
    """Draw a height that meets the rule within the tolerance: just enough, or several times as much."""
    seen = slice(onset, onset + max(TOLERANCE, rise // 2) + 1)
    before = max(draft.calm[max(0, onset - 10)], draft.level[max(0, onset - 10)])
    smallest = float(draft.smallest[seen].max())
    top = int(np.argmax(added[: seen.stop - onset]))
    reached = min(1.0, float(added[top]))
    needed = smallest + max(0.0, before - float(draft.level[seen].min()))
    height = needed / reached * (1 + rng.exponential(1.0))
    there = draft.level[onset + top] + draft.noise[onset + top] + height * reached
    lacking = (before + smallest) * (1 + ROUNDING) - there
    return float(height + max(0.0, lacking) / reached)


def match(found: list[tuple[int, int]], curve: LabelledCurve) -> tuple[dict[int, int], list[int]]:
    """Match found events [onset, end) with true ones.

    A found event matches a true one if its onset is off by at most the event's tolerance and it overlaps the true one
    widened by that tolerance. Each matches once, the closest onset first. A found event without a match is false,
    unless it begins on doubtful steps.

    Returns:
        The index of the found event for each index of a matched true event, and the indices of the false ones.
    """
    pairs = []
    for i, event in enumerate(curve.events):
        for j, (onset, end) in enumerate(found):
            off = abs(onset - event.onset)
            if off <= event.tolerance and onset < event.end + event.tolerance and end > event.onset - event.tolerance:
                pairs.append((off, i, j))
    matched: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in matched and j not in matched.values():
            matched[i] = j
    used = set(matched.values())
    false = [j for j, (a, _) in enumerate(found) if j not in used and not curve.doubtful[a : a + TOLERANCE].any()]
    return matched, false


def evaluate(detector: Detector, curves: Iterable[LabelledCurve]) -> dict[str, float | dict[str, float]]:
    """Return a detector's scores on all curves together.

    Returns:
        Event precision, recall and f1, and `false_per_10k`, the false events per 10,000 clean steps; the numbers of
        true events, events found and clean steps that they are computed from; `recall_by_shape`, the recall for each
        shape of event and for early ones; `false_by_family`, the number of false events. A false event within a true
        one (a second onset) counts against the precision, but not against the clean steps.
    """
    true = found_true = false = false_clean = clean_steps = 0
    seen: Counter[str] = Counter()
    total: Counter[str] = Counter()
    false_by_family: Counter[str] = Counter()
    for curve in curves:
        found = detector(curve.loss)
        matched, wrong = match(found, curve)
        clean = curve.clean
        true += len(curve.events)
        found_true += len(matched)
        false += len(wrong)
        false_clean += sum(bool(clean[found[j][0]]) for j in wrong)
        clean_steps += int(clean.sum())
        if wrong:
            false_by_family[curve.family] += len(wrong)
        for i, event in enumerate(curve.events):
            for name in [event.shape] + ["first 100 steps"] * (event.onset < EARLY_STEPS):
                total[name] += 1
                seen[name] += i in matched
    precision = found_true / (found_true + false) if found_true + false else float("nan")
    recall = found_true / true if true else float("nan")
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * found_true / (2 * found_true + false + true - found_true) if true + false else float("nan"),
        "false_per_10k": 1e4 * false_clean / clean_steps if clean_steps else float("nan"),
        "events": true,
        "found": found_true + false,
        "clean_steps": clean_steps,
        "recall_by_shape": {name: seen[name] / total[name] for name in sorted(total)},
        "false_by_family": dict(false_by_family.most_common()),
    }
