"""A labelled test bed for spike detectors: realistic loss curves whose events are known, and what a detector scores.

A curve is a level that falls + noise + things that are no spikes (slow wobble, data order, drops of the learning rate)
+ events. `draw(seed)` draws one from a mixture for development (development.py), `draw(seed, "development_2")`
from a second one (development_2.py). `draw(seed, "held_out")` draws from a third (held_out.py), with
other falls, other noise, other things that are no spikes and other shapes of events, for numbers that are reported.

What counts as an event is a rule that a careful reader of the curve would agree with, not any detector's threshold:
what is added to the curve rises by at least
- 8 local robust standard deviations of the noise (interquartile range / 1.349, known here, not estimated),
- 1.3 times the curve's largest excursion of noise, in local standard deviations,
- 0.2 in loss,
- all of that above the level of ten steps before the onset, so that it cannot hide in a fall, also in the loss itself,
  where noise may be against it, and within the steps that a found onset may be off: so a slow rise, of which that is
  the first half, goes further. A spike in the first 100 steps keeps the same rule.
Local is the largest standard deviation of the last 100 steps. An event lasts while what was added exceeds two.

Some steps are `doubtful`, and what a detector says there is neither right nor wrong:
- Heavy-tailed noise itself breaks the rule at times: steps outside of the events that are above the lowest level of the
  last 1000 steps by 8 standard deviations (the smallest of the last 100 steps) and 0.2 in loss.
- Within an event, what comes after it has once been below half of the rule: whether it is over by then, and a later
  peak another event, is a matter of taste.
All else is no event.
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

Array = npt.NDArray[np.float64]
Detector = Callable[[Array], list[tuple[int, int]]]

MIN_SIGMAS, MIN_LOSS, CLEAR = 8.0, 0.2, 1.3  # the rule above
RAMP_STEPS = 100  # a rise over so many steps is a ramp
TOLERANCE = 5  # steps that a sharp event's onset may be off
ROUNDING = 2.0**-8  # the largest relative error of a log: of a bfloat16


@dataclass(frozen=True)
class Event:
    """One event: it lasts over [onset, end), rises over `rise` steps, by `height` in loss (inf: not finite).

    `kind` is what a detector should call it, `shape` how it was made.
    """

    onset: int
    end: int
    kind: str
    height: float
    shape: str
    rise: int = 1

    @property
    def tolerance(self) -> int:
        """How many steps a found onset may be off: a few, and half of a slow rise."""
        return max(TOLERANCE, self.rise // 2)


@dataclass(frozen=True)
class Curve:
    """A loss per step, what is true of it, and the steps outside of events (where everything found is false)."""

    loss: Array
    events: list[Event]
    family: str
    sigma: Array  # local robust standard deviation of the noise
    level: Array = field(repr=False)  # the loss without its noise, and with its events
    doubtful: npt.NDArray[np.bool_] = field(repr=False)

    @property
    def clean(self) -> npt.NDArray[np.bool_]:
        """Whether a step lies outside of every event, its tolerance included."""
        clean = np.ones(len(self.loss), dtype=bool)
        for event in self.events:
            clean[max(0, event.onset - event.tolerance) : event.end + event.tolerance] = False
        return clean

    @property
    def clean_steps(self) -> int:
        return int(self.clean.sum())


class Mixture(Protocol):
    """What curves are drawn from. A module or an object."""

    @property
    def SHAPES(self) -> dict[str, float]:
        """How often each shape of event is drawn."""

    def baseline(self, rng: np.random.Generator, steps: int, /) -> tuple[str, Array, Array, Array]:
        """What family it is, the level, the local robust standard deviation of the noise, and the noise."""

    def places(self, rng: np.random.Generator, steps: int, /) -> list[int]:
        """Where events may begin, in order."""

    def bump(self, rng: np.random.Generator, shape: str, room: int, /) -> tuple[Array, int]:
        """An event: what is added from the onset on, and the steps of its rise.

        In parts of its height; where negative, in parts of the largest dip after an event. May be infinite.
        """

    def logged(self, rng: np.random.Generator, loss: Array, /) -> Array:
        """The loss as it is written down."""


MIXTURES: dict[str, tuple[Mixture, ...]] = {  # by name; where there are two, each is for half of the curves
    "development": HALVES,
    "development_2": (development_2,),
    "held_out": (held_out,),
}


def draw(seed: int, name: str = "development") -> Curve:
    """The curve of this seed from one of MIXTURES, of 300 to 20,000 steps; three of ten have no event."""
    rng = np.random.default_rng([seed, 2 * list(MIXTURES).index(name)])
    mixture = MIXTURES[name][rng.integers(len(MIXTURES[name]))]
    steps = int(np.exp(rng.uniform(np.log(300), np.log(20_000))))
    family, level, sigma, noise = mixture.baseline(rng, steps)
    noise = np.maximum(noise, -0.98 * level)  # a loss is above zero
    draft = _Draft(level, noise, sigma)
    if rng.random() >= 0.3:
        _add_events(rng, draft, mixture)
    loss = draft.level + noise
    loss[np.isinf(loss)] = rng.choice([np.nan, np.inf])
    return Curve(mixture.logged(rng, loss), draft.events, family, sigma, draft.level, draft.doubtful())


# ---------------------------------------------------------------- the rule


class _Draft:
    """A curve to which events are added: its level with and without them, its noise, and what the rule asks."""

    def __init__(self, level: Array, noise: Array, sigma: Array) -> None:
        self.calm, self.level, self.noise, self.sigma = level, level.copy(), noise, sigma
        largest = max(MIN_SIGMAS, CLEAR * float(np.max(noise / sigma)))
        highest_sigma = -_lowest(-sigma, 100)
        self.smallest = np.maximum(largest * highest_sigma, MIN_LOSS)
        self.events: list[Event] = []
        self.maybe_over = np.zeros(len(level), dtype=bool)

    def doubtful(self) -> npt.NDArray[np.bool_]:
        """The steps where what is found is neither right nor wrong."""
        outside = np.ones(len(self.level), dtype=bool)
        for event in self.events:
            outside[event.onset : event.end] = False
        level = np.where(outside, self.level, self.calm)
        above = level + self.noise - np.where(outside, _lowest(self.level, 1000), self.calm)
        return self.maybe_over | ((above > MIN_SIGMAS * _lowest(self.sigma, 100)) & (above > MIN_LOSS))


def _lowest(values: Array, steps: int) -> Array:
    """The lowest finite value of so many steps up to each."""
    return pd.Series(values).rolling(steps, min_periods=1).min().to_numpy(dtype=np.float64)


# Not back when the curve ends, or not soon.
STAYING = ("plateau", "healing plateau", "ramp that stays", "not finite", "diverged")


def _add_events(rng: np.random.Generator, draft: _Draft, mixture: Mixture) -> None:
    """Up to five events, at least 100 steps apart; after a plateau 1000 from its onset."""
    steps = len(draft.level)
    for onset in mixture.places(rng, steps):
        before = draft.events[-1] if draft.events else None
        shape = _shape(rng, mixture, early=onset < 100)
        if before and (before.kind == "diverged" or onset < before.end + 100) and before.end < steps:
            continue
        if before and before.end == steps and (before.kind == "diverged" or onset < before.onset + before.rise + 1000):
            continue
        event = _add_event(rng, draft, onset, shape, *mixture.bump(rng, shape, steps - onset))
        if event:
            if before and before.end == steps:  # on top of a plateau, which ends here for this purpose
                draft.events[-1] = replace(before, end=onset)
            draft.events.append(event)


def _shape(rng: np.random.Generator, mixture: Mixture, early: bool) -> str:
    """A shape of event; in the first 100 steps no ramp."""
    shares = {shape: share for shape, share in mixture.SHAPES.items() if not (early and "ramp" in shape)}
    return str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))


def _add_event(
    rng: np.random.Generator, draft: _Draft, onset: int, shape: str, added: Array, rise: int
) -> Event | None:
    """The event, after it was added; None, and nothing added, if there is no room for it."""
    steps, sigma, smallest = len(draft.level), draft.sigma[onset:], draft.smallest[onset:]
    if onset + rise + (50 if shape in STAYING else 10) > steps:
        return None
    height = _height(rng, draft, onset, added, rise)
    if shape == "diverged":
        height = max(height, draft.calm[0] * rng.uniform(1.1, 3) + 4 * sigma.max() - draft.calm[onset])
    dip = min(2 * float(draft.sigma.min()), 0.08)  # its way back up is no spike
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
    height = float(rising.max())
    if end == steps:
        last = draft.level[-max(5, (steps - onset) // 4) :]
        return Event(onset, end, "diverged" if np.median(last) > draft.calm[0] else "level_shift", height, shape, rise)
    return Event(onset, end, "blip" if end - onset <= 3 else "recovered", height, shape, rise)


def _height(rng: np.random.Generator, draft: _Draft, onset: int, added: Array, rise: int) -> float:
    """Enough to keep the rule within the tolerance, and up to some times as much."""
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


# ---------------------------------------------------------------- evaluation


def match(found: list[tuple[int, int]], curve: Curve) -> tuple[dict[int, int], list[int]]:
    """Which found event is which true one ({index of true: index of found}), and the indices of the false ones.

    A found event matches a true one if its onset is off by at most the event's tolerance and its [onset, end) overlaps
    the true one's, widened by the tolerance; each matches once, the closest onset first. What is left is false, but for
    what begins on doubtful steps.
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


def evaluate(detector: Detector, curves: Iterable[Curve]) -> dict[str, float | dict[str, float]]:
    """A detector's event precision, recall, F1 and false events per 10,000 clean steps over all curves together.

    A false event within a true one (a second onset) counts against precision, and not against the clean steps.

    `recall_by_shape` gives the recall for each shape of event and for early ones, `false_by_family` the false events.
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
            for name in [event.shape] + ["first 100 steps"] * (event.onset < 100):
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
