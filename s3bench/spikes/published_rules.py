"""Published definitions of a spike, for comparison: which steps each one flags, and its rule in words.

Each definition is a function from one value per step to one boolean per step, together with its rule in words. Where a
source leaves something open, the rule says what is assumed here. What a definition does with a value that is not finite
is part of the rule: most compare with NaN, which is false, and so miss it.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from s3bench.spikes.rolling import median_bounds, medians_around, trailing_mean_and_sd

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Counts(NamedTuple):
    """What a definition finds in one run, or in several together; all 0 for a run too short to be judged."""

    flagged: int
    events: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A published definition of a spike: its rule as code and in words, and how its score is computed.

    Attributes:
        name: the definition's name in tables and on the report's page.
        flags: the rule as code; takes one value per step, gives one boolean per step.
        rule: the rule in one sentence.
        details: what the sentence leaves open, and what is assumed here.
        not_finite: what the rule does with a value that is not finite.
        source: where the rule comes from.
        unit: the unit of the score.
        times: the score is the flagged share of the steps times this; None: the number of flagged steps.
        first: how many steps at the start it cannot judge.
        gradient_norm: whether the rule has a meaning on a gradient norm.
    """

    name: str
    flags: Callable[[npt.ArrayLike], Flags]
    rule: str
    details: str
    not_finite: str
    source: str
    unit: str
    times: float | None
    first: int
    gradient_norm: bool = True

    def count(self, values: npt.ArrayLike) -> Counts:
        """Count one run's flagged steps, events and steps; all 0 if the run is too short for one to be judged."""
        flags = self.flags(values)
        if len(flags) <= self.first:
            return Counts(flagged=0, events=0, steps=0)
        return Counts(flagged=int(flags.sum()), events=len(events(flags)), steps=len(flags))

    def score(self, flagged: int, steps: int) -> float:
        """Return the score in its unit; NaN if no step could be judged."""
        if steps <= self.first:
            return float("nan")
        return float(flagged) if self.times is None else self.times * flagged / steps

    def text(self) -> list[str]:
        """Return the definition in words, as paragraphs: rule, details, values that are not finite, source."""
        return [self.rule, self.details, f"Not finite: {self.not_finite}", f"Source: {self.source}"]


def olmo2(values: npt.ArrayLike) -> Flags:
    """Flag steps by the rule of OLMO_2."""
    x = _series(values)
    mean, sd = trailing_mean_and_sd(x, 1000)
    with np.errstate(invalid="ignore"):
        away = np.abs(x - mean)
    return (away >= 7 * sd) & (away > 0)


OLMO_2 = Definition(
    name="OLMo 2",
    flags=olmo2,
    rule="OLMo 2's spike score: a value at least 7 standard deviations away from the mean of the last 1,000 values.",
    details=(
        "Deviations to either side count. Assumed here: the window is the 1,000 values before the step, no step is "
        "flagged until there are 1,000, and the standard deviation is that of the sample."
    ),
    not_finite="a NaN is not flagged, and neither is any of the 1,000 steps after a NaN or an infinite value.",
    source=(
        "2 OLMo 2 Furious, arXiv 2501.00656, section 3, as summarised by others. The spike score is the percentage of "
        "such values, of the loss and of the gradient norm."
    ),
    unit="% of steps",
    times=100,
    first=1000,
)


def olmo_core_monitor(values: npt.ArrayLike) -> Flags:
    """Flag steps by the rule of OLMO_CORE_MONITOR."""
    x = _series(values)
    mean, sample_sd = _last_128(x.tobytes())
    sd = sample_sd * math.sqrt(127 / 128)
    return ~(sd < 1e-10) & (x > mean + 6 * sd) & (np.arange(len(x)) >= 128)


OLMO_CORE_MONITOR = Definition(
    name="OLMo-core, monitor",
    flags=olmo_core_monitor,
    rule=(
        "OLMo-core's stability monitor: a value above the mean of the last 128 values by more than 6 standard "
        "deviations."
    ),
    details=(
        "The window is the 128 values before the step; no step is flagged until there are 128. The standard deviation "
        "is that of the population; nothing is flagged where it is below 1e-10."
    ),
    not_finite="an infinite value is flagged, a NaN is not, and neither is any of the 128 steps after either of them.",
    source=(
        "github.com/allenai/OLMo-core, train/callbacks/stability_monitor.py at fa6c501 (2026-06). Its SpikeScore "
        "(total) is the share of steps where the loss or the gradient norm is flagged."
    ),
    unit="% of steps",
    times=100,
    first=128,
)


def olmo_core_skip(values: npt.ArrayLike) -> Flags:
    """Flag steps by the rule of OLMO_CORE_SKIP."""
    x = _series(values)
    mean, sd = _last_128(x.tobytes())
    with np.errstate(invalid="ignore"):
        proceeds = x - mean <= 6 * sd
    return ~proceeds & (np.arange(len(x)) >= 63)


OLMO_CORE_SKIP = Definition(
    name="OLMo-core, skipped steps",
    flags=olmo_core_skip,
    rule=(
        "OLMo-core's skipped steps: a value that is not at most 6 standard deviations above the mean of the last 128 "
        "values."
    ),
    details=(
        "The window is the values before the step, up to 128; no step is flagged until there are 63. The standard "
        "deviation is that of the sample."
    ),
    not_finite=(
        "flagged, and so are the 128 steps after it, because the rule asks which steps may proceed, and NaN never may."
    ),
    source=(
        "github.com/allenai/OLMo-core, optim/skip_step_optimizer.py at fa6c501 (2026-06), which skips the update where "
        "the loss or the gradient norm is flagged. Another version, at 067267c, counts deviations to both sides."
    ),
    unit="% of steps",
    times=100,
    first=63,
)


@lru_cache(maxsize=2)
def _last_128(values: bytes) -> tuple[Array, Array]:
    """Return mean and sample standard deviation of the up to 128 values before each step; NaN before there are 63.

    Cached, because both of OLMo-core's rules need them for the same series.
    """
    return trailing_mean_and_sd(np.frombuffer(values), 128, fewest=63)


def qwen(values: npt.ArrayLike) -> Flags:
    """Flag steps by the rule of QWEN."""
    x = _series(values)
    flags = np.zeros(len(x), dtype=bool)
    low, raised = median_bounds(x, reach=100, block=50), x + 0.1
    known = np.isfinite(low)
    for candidates in _batches(np.flatnonzero(known & (x > low + 0.1))):
        around = sliding_window_view(raised, 201)[candidates - 100]
        above = np.count_nonzero(around < x[candidates, None], axis=1)
        flags[candidates] = above > 100  # above most of 201 values is above their median
    for begin, end in events(~known, gap=200):
        flags[begin:end] = x[begin:end] > medians_around(x, begin, end, reach=100) + 0.1
    return flags


QWEN = Definition(
    name="Qwen",
    flags=qwen,
    rule="Qwen's loss spikes: a value above the median of 201 steps by more than 0.1.",
    details=(
        "Assumed here: the window is centred on the step and cut off at both ends of the curve, and each step above is "
        "a spike. The 0.1 is in the unit of a language model's loss; on a gradient norm it has no meaning."
    ),
    not_finite="assumed to be left out of the median; an infinite value is flagged, a NaN is not.",
    source=(
        "On the Design of Qwen3.8-Next Architecture: Evaluation, Efficiency, and Training Stability (2026), the stress "
        "tests, which report spikes per 10,000 steps; as summarised by others."
    ),
    unit="per 10,000 steps",
    times=1e4,
    first=0,
    gradient_norm=False,
)


def _batches(steps: npt.NDArray[np.integer]) -> list[npt.NDArray[np.integer]]:
    """Split steps into batches of about 200, whose windows together fit into the processor's cache."""
    return np.array_split(steps, 1 + len(steps) // 200) if len(steps) else []


def lightning(values: npt.ArrayLike) -> Flags:
    """Flag steps by the rule of LIGHTNING."""
    x = _series(values)
    flags = np.zeros(len(x), dtype=bool)
    doubtful = [*np.flatnonzero(_may_be_far(x)).tolist(), len(x)]
    recent: deque[float] = deque(maxlen=10)
    step, calm = 0, 0  # calm: how many steps in a row were not flagged
    while step < len(x):
        value = float(x[step])
        finite = math.isfinite(value)
        if finite and not (recent and not value <= recent[-1] and _is_far(value, sum(recent) / len(recent))):
            recent.append(value)
            calm += 1
        else:
            flags[step] = step > 0
            calm = 0
        step += 1
        if calm >= 10:  # the window is the last ten steps, and stays so up to the next doubtful step: skip to there
            step = doubtful[bisect_left(doubtful, step)]
            recent.extend(x[step - 10 : step].tolist())
    return flags


LIGHTNING = Definition(
    name="Lightning",
    flags=lightning,
    rule=(
        "Lightning's SpikeDetection: a value that has risen, and is away from the mean of the last 10 values by at "
        "least twice that mean."
    ),
    details=(
        "For a positive loss that is at least three times the mean. Risen means above the last value that was not "
        "flagged. The first step is not judged. A flagged value is left out of the mean, as in a run that continues "
        "without that batch; the callback itself stops the run there."
    ),
    not_finite="flagged (with the default finite_only=True, whose documentation says the opposite).",
    source=(
        "github.com/Lightning-AI/pytorch-lightning, fabric/utilities/spike.py at 0c94c0e, defaults (window=10, "
        'warmup=1, rtol=2.0, atol=None, mode="min").'
    ),
    unit="steps",
    times=None,
    first=1,
)


def _is_far(value: float, mean: float) -> bool:
    return abs(value - mean) >= abs(2 * mean)


def _may_be_far(x: Array) -> Flags:
    """Flag each value that is not finite, or may have risen and be far from the mean of the ten values before it."""
    doubtful = np.ones(len(x), dtype=bool)
    if len(x) > 10:
        with np.errstate(invalid="ignore", over="ignore"):
            mean, size = (sum(v[k : len(v) - 10 + k] for k in range(10)) / 10 for v in (x, np.abs(x)))
            slack = 1e-12 * (size + np.abs(x[10:]))  # another order of summation may round differently
            near = np.abs(x[10:] - mean) < np.abs(2 * mean) - slack
        doubtful[10:] = ~(np.isfinite(x[10:]) & (near | (x[10:] <= x[9:-1])))
    return doubtful


def llm_foundry(values: npt.ArrayLike) -> Flags:
    """Flag steps by the rule of LLM_FOUNDRY."""
    x = _series(values)
    mean, _ = trailing_mean_and_sd(x, 100)
    high = x >= 2 * mean
    fifth = high.copy()
    for back in range(1, 5):
        fifth[back:] &= high[:-back]
    return fifth


LLM_FOUNDRY = Definition(
    name="llm-foundry",
    flags=llm_foundry,
    rule=(
        "llm-foundry's KillLossSpike: a value of at least twice the mean of the last 100 values, five times or more in "
        "a row."
    ),
    details=(
        "The window is the 100 values before the step, high ones included; no step is flagged until there are 100. The "
        "fifth step of a row and those after it are flagged. The callback's other test, half of the last 100 losses "
        "above 10, does not describe a spike and is left out."
    ),
    not_finite=(
        "an infinite value counts as high; a NaN does not, and so ends a row; in the 100 steps after an infinite value "
        "no finite value counts as high, and in the 100 steps after a NaN no value does."
    ),
    source=(
        "github.com/mosaicml/llm-foundry, callbacks/kill_loss_spike_callback.py at 03826b5, defaults "
        "(outlier_multiplier=2, window_size=100, patience=4)."
    ),
    unit="steps",
    times=None,
    first=104,
)


def spam(gradients: npt.ArrayLike) -> Flags:
    """Flag gradient entries by the rule of SPAM."""
    return spam_scores(gradients) > 50


SPAM = Definition(
    name="SPAM",
    flags=spam,
    rule=(
        "SPAM's gradient spikes: gradient entries whose magnitude is above 50 times the mean magnitude of that entry "
        "over all steps."
    ),
    details="It needs every entry of the gradient at every step, shape (steps, entries), which a record does not hold.",
    not_finite=(
        "an entry with a NaN has no score at any step; one with an infinite value has a score of 0 where it is finite, "
        "and none elsewhere."
    ),
    source=(
        "SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training, arXiv 2501.06842, section 2, as "
        "summarised by others. The optimizer itself tests g² > 5000 v instead, where v is the running mean of g²."
    ),
    unit="% of entries",
    times=100,
    first=0,
)


def spam_scores(gradients: npt.ArrayLike) -> Array:
    """Return SPAM's gradient spike score: an entry's magnitude over the mean magnitude of that entry over all steps.

    Args:
        gradients: shape (steps, entries), or (steps,) for one entry.
    """
    sizes = np.abs(np.asarray(gradients, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        scores: Array = sizes / sizes.mean(axis=0)
    return scores


def _series(values: npt.ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"values have shape {x.shape}; they must be one-dimensional, one value per step")
    return x


def events(flags: npt.ArrayLike, gap: int = 5) -> list[tuple[int, int]]:
    """Group flagged steps into events [onset, end); two with fewer than `gap` steps between them are one.

    No definition says what an event is; without the gap, one noisy excursion would be many events.
    """
    steps = np.flatnonzero(np.asarray(flags, dtype=bool))
    if not len(steps):
        return []
    breaks = np.flatnonzero(np.diff(steps) > gap)
    onsets = steps[np.concatenate([[0], breaks + 1])]
    ends = steps[np.concatenate([breaks, [len(steps) - 1]])] + 1
    return list(zip(onsets.tolist(), ends.tolist(), strict=True))
