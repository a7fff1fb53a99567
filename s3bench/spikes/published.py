"""How others define a spike, to compare with: which steps each definition flags, its own score, and the events.

Each definition is a function of one value per step that gives a boolean per step, by the rule as it stands in its
source. Where a source leaves something open, the docstring says what is assumed here. What a definition does with a
value that is not finite is part of it, and stated too: most compare with NaN, which is false, and so miss it.
"""

import inspect
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from s3bench.spikes.rolling import trailing_mean_and_sd

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# ---------------------------------------------------------------- the definitions


def olmo2(values: npt.ArrayLike) -> Flags:
    """OLMo 2's spike score: at least 7 standard deviations away from the mean of the last 1,000 values.

    Deviations to either side count. Assumed: the 1,000 values before the step, none flagged until there are as many,
    and their sample standard deviation.

    Not finite: a NaN is not flagged, and nor is anything in the 1,000 steps after a NaN or an infinite value.

    Source: 2 OLMo 2 Furious, arXiv 2501.00656, section 3 (the percentage of such values of the loss and of the
    gradient norm is the spike score), as summarised by others.
    """
    x = _series(values)
    mean, sd = trailing_mean_and_sd(x, 1000)
    with np.errstate(invalid="ignore"):
        away = np.abs(x - mean)
    return (away >= 7 * sd) & (away > 0)


def olmo_core_monitor(values: npt.ArrayLike) -> Flags:
    """OLMo-core's stability monitor: above the mean of the last 128 values by more than 6 standard deviations.

    The 128 values before the step, none flagged until there are as many; the population standard deviation; nothing is
    flagged where it is below 1e-10.

    Not finite: an infinite value is flagged, a NaN is not, and nor is anything in the 128 steps after either.

    Source: github.com/allenai/OLMo-core, train/callbacks/stability_monitor.py at fa6c501 (2026-06), whose SpikeScore
    (total) is the part of the steps where loss or gradient norm is flagged.
    """
    x = _series(values)
    mean, sample_sd = _last_128(x.tobytes())
    sd = sample_sd * math.sqrt(127 / 128)
    return ~(sd < 1e-10) & (x > mean + 6 * sd) & (np.arange(len(x)) >= 128)


def olmo_core_skip(values: npt.ArrayLike) -> Flags:
    """OLMo-core's skipped steps: not within 6 standard deviations above the mean of the last 128 values.

    The values before the step, up to 128, none flagged before there are 63; the sample standard deviation.

    Not finite: flagged, and so are the 128 steps after, because the rule asks what may proceed and NaN never may.

    Source: github.com/allenai/OLMo-core, optim/skip_step_optimizer.py at fa6c501 (2026-06), which leaves out the
    update where loss or gradient norm is flagged. Another version, at 067267c, counts both sides.
    """
    x = _series(values)
    mean, sd = _last_128(x.tobytes())
    with np.errstate(invalid="ignore"):
        proceeds = x - mean <= 6 * sd
    return ~proceeds & (np.arange(len(x)) >= 63)


@lru_cache(maxsize=2)
def _last_128(values: bytes) -> tuple[Array, Array]:
    """Mean and sample standard deviation of the up to 128 values before each step; NaN before there are 63.

    Remembered, because both of OLMo-core's rules ask for those of the same series.
    """
    return trailing_mean_and_sd(np.frombuffer(values), 128, fewest=63)


def qwen(values: npt.ArrayLike) -> Flags:
    """Qwen's loss spikes: above the median of 201 steps by more than 0.1.

    Assumed: the window is centred on the step, and cut off at both ends of the curve; each step above is a spike. The
    0.1 is in the unit of a language model's loss: on a gradient norm it has no meaning.

    Not finite: assumed to be left out of the median; an infinite value is flagged, a NaN is not.

    Source: On the Design of Qwen3.8-Next Architecture: Evaluation, Efficiency, and Training Stability (2026), the
    stress tests, which report spikes per 10,000 steps; as summarised by others.
    """
    x = _series(values)
    flags = np.zeros(len(x), dtype=bool)
    low, raised = _below_medians(x), x + 0.1
    known = np.isfinite(low)
    for doubtful in _parts(np.flatnonzero(known & (x > low + 0.1))):
        around = sliding_window_view(raised, 201)[doubtful - 100]
        flags[doubtful] = np.count_nonzero(around < x[doubtful, None], axis=1) > 100  # above most is above the median
    for begin, end in events(~known, gap=200):
        flags[begin:end] = x[begin:end] > _medians(x, begin, end) + 0.1
    return flags


def _parts(steps: npt.NDArray[np.integer]) -> list[npt.NDArray[np.integer]]:
    """A few hundred steps at a time: the values around them have to fit into the memory, better into the cache."""
    return np.array_split(steps, 1 + len(steps) // 200) if len(steps) else []


def _medians(x: Array, begin: int, end: int) -> Array:
    """The median of the 201 finite values around each step from begin to end."""
    first, last = max(0, begin - 100), end + 100
    near = pd.Series(np.where(np.isfinite(x), x, np.nan)[first:last])
    return near.rolling(201, center=True, min_periods=1).median().to_numpy()[begin - first : end - first]


def _below_medians(x: Array) -> Array:
    """A lower bound of the median of the 201 values around each step, fast: one for each fifty steps.

    The 201 values around any of fifty steps have 152 in common, of which the 52nd smallest is at most the 101st of all.
    -∞ where there are fewer than 201 values, and everywhere if some value is not finite.
    """
    low = np.full(len(x), -np.inf)
    blocks = (len(x) - 200) // 50
    if blocks > 0 and np.isfinite(x).all():
        common = sliding_window_view(x, 152)[49 : 49 + 50 * blocks : 50]
        low[100 : 100 + 50 * blocks] = np.repeat(np.partition(common, 51, axis=1)[:, 51], 50)
    return low


def lightning(values: npt.ArrayLike) -> Flags:
    """Lightning's SpikeDetection: away from the mean of the last 10 values by twice that mean or more, and risen.

    So for a positive loss: at least three times the mean. Risen means above the last value that was not flagged. The
    first step is not judged. A flagged value stays out of the mean, as in a run that goes on without that batch; the
    callback itself stops the run there.

    Not finite: flagged (with the default finite_only=True, whose documentation says the reverse).

    Source: github.com/Lightning-AI/pytorch-lightning, fabric/utilities/spike.py at 0c94c0e, defaults (window=10,
    warmup=1, rtol=2.0, atol=None, mode="min").
    """
    x = _series(values)
    flags = np.zeros(len(x), dtype=bool)
    doubtful = [*np.flatnonzero(_may_be_far(x)).tolist(), len(x)]
    recent: deque[float] = deque(maxlen=10)
    step, calm = 0, 0  # calm: steps in a row that were not flagged
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
        if calm >= 10:  # the last ten steps are all in the mean: up to the next doubtful one it is that of ten steps
            step = doubtful[bisect_left(doubtful, step)]
            recent.extend(x[step - 10 : step].tolist())
    return flags


def _is_far(value: float, mean: float) -> bool:
    return abs(value - mean) >= abs(2 * mean)


def _may_be_far(x: Array) -> Flags:
    """Where a value may be away from the mean of the ten before it by twice that mean and risen, or is not finite."""
    doubtful = np.ones(len(x), dtype=bool)
    if len(x) > 10:
        with np.errstate(invalid="ignore", over="ignore"):
            mean, size = (sum(v[k : len(v) - 10 + k] for k in range(10)) / 10 for v in (x, np.abs(x)))
            slack = 1e-12 * (size + np.abs(x[10:]))  # another order of summing may round otherwise
            near = np.abs(x[10:] - mean) < np.abs(2 * mean) - slack
        doubtful[10:] = ~(np.isfinite(x[10:]) & (near | (x[10:] <= x[9:-1])))
    return doubtful


def llm_foundry(values: npt.ArrayLike) -> Flags:
    """llm-foundry's KillLossSpike: at least twice the mean of the last 100 values, five times or more in a row.

    The 100 values before the step, high ones included, none flagged until there are as many. Flagged are the fifth
    step of a row and those after it. Its other test, half of the last 100 losses above 10, is not a spike's and left
    out.

    Not finite: an infinite value counts as high; a NaN does not and so ends a row; in the 100 steps after an infinite
    value no finite one does, and in those after a NaN none at all.

    Source: github.com/mosaicml/llm-foundry, callbacks/kill_loss_spike_callback.py at 03826b5, defaults
    (outlier_multiplier=2, window_size=100, patience=4).
    """
    x = _series(values)
    mean, _ = trailing_mean_and_sd(x, 100)
    high = x >= 2 * mean
    fifth = high.copy()
    for back in range(1, 5):
        fifth[back:] &= high[:-back]
    return fifth


def spam(gradients: npt.ArrayLike) -> Flags:
    """SPAM's gradient spikes: entries whose magnitude is above 50 times the mean magnitude of that entry in all steps.

    It needs single entries of the gradient at every step, shape (steps, entries), which a record does not hold.

    Not finite: an entry with one NaN has no score anywhere, and one with an infinite value none but 0.

    Source: SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training, arXiv 2501.06842, section 2, as
    summarised by others. The optimizer itself asks for g² > 5000 v instead, v the running mean of g².
    """
    return spam_scores(gradients) > 50


def spam_scores(gradients: npt.ArrayLike) -> Array:
    """SPAM's gradient spike score: a gradient entry's magnitude over the mean magnitude of that entry in all steps.

    Args:
        gradients: shape (steps, entries), or (steps,) for one entry.
    """
    sizes = np.abs(np.asarray(gradients, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        scores: Array = sizes / sizes.mean(axis=0)
    return scores


@dataclass(frozen=True)
class Definition:
    """A definition and its score: `times` the flagged part of the steps, or their number where `times` is None."""

    name: str
    flags: Callable[[npt.ArrayLike], Flags]
    unit: str
    times: float | None
    first: int  # steps before the first that it can judge
    gradient_norm: bool = True  # whether it has a meaning there

    def count(self, values: npt.ArrayLike) -> tuple[int, int, int]:
        """Of one run the flagged steps, the events and the steps; (0, 0, 0) if it is too short for one to be judged."""
        flags = self.flags(values)
        return (int(flags.sum()), len(events(flags)), len(flags)) if len(flags) > self.first else (0, 0, 0)

    def score(self, flagged: int, steps: int) -> float:
        """The score in its unit; NaN if no step could be judged."""
        if steps <= self.first:
            return float("nan")
        return float(flagged) if self.times is None else self.times * flagged / steps

    def text(self) -> list[str]:
        """The rule, what it does with a value that is not finite, and its source, in words: paragraphs."""
        return [" ".join(part.split()) for part in (inspect.getdoc(self.flags) or "").split("\n\n")]


DEFINITIONS = (
    Definition("OLMo 2", olmo2, "% of steps", 100, first=1000),
    Definition("OLMo-core, monitor", olmo_core_monitor, "% of steps", 100, first=128),
    Definition("OLMo-core, skipped steps", olmo_core_skip, "% of steps", 100, first=63),
    Definition("Qwen", qwen, "per 10,000 steps", 1e4, first=0, gradient_norm=False),
    Definition("Lightning", lightning, "steps", None, first=1),
    Definition("llm-foundry", llm_foundry, "steps", None, first=104),
)

SPAM = Definition("SPAM", spam, "% of entries", 100, first=0)
LOSS, GRADIENT_NORM = "loss", "gradient norm"
OF_RECORDS = tuple(  # each definition with each series of a record that it has a meaning on
    (definition, series)
    for series in (LOSS, GRADIENT_NORM)
    for definition in DEFINITIONS
    if series == LOSS or definition.gradient_norm
)

# ---------------------------------------------------------------- scores and events


def events(flags: npt.ArrayLike, gap: int = 5) -> list[tuple[int, int]]:
    """The runs of flagged steps as [onset, end); two with fewer than `gap` steps between them are one.

    No definition says what an event is; without the gap, one excursion with noise on it would be many.
    """
    steps = np.flatnonzero(np.asarray(flags, dtype=bool))
    if not len(steps):
        return []
    breaks = np.flatnonzero(np.diff(steps) > gap)
    onsets = steps[np.concatenate([[0], breaks + 1])]
    ends = steps[np.concatenate([breaks, [len(steps) - 1]])] + 1
    return list(zip(onsets.tolist(), ends.tolist(), strict=True))


def counts(loss: npt.ArrayLike, grad_norm: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """One run in small numbers: flagged steps, events and steps for each of OF_RECORDS, shape (OF_RECORDS, 3).

    They add up over runs. A run too short for a definition has zeros, also for its steps.
    """
    return np.array([definition.count(loss if series == LOSS else grad_norm) for definition, series in OF_RECORDS])


def no_counts() -> npt.NDArray[np.int64]:
    """The `counts` of nothing."""
    return np.zeros((len(OF_RECORDS), 3), dtype=np.int64)


def scores(
    loss: npt.ArrayLike, grad_norm: npt.ArrayLike | None = None, gradients: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """One run under every published definition.

    Args:
        loss: shape (steps,).
        grad_norm: shape (steps,); None if it was not recorded.
        gradients: shape (steps, entries); None if they were not recorded, as in a record.

    Returns:
        One row per definition and series, with the columns definition, series ("loss", "gradient norm" or "gradient
        entries"), score, unit, events, flagged, steps. Where the run is too short for the definition to judge a step,
        the score is NaN and the others 0. `pool` adds up several runs.
    """
    rows = []
    for definition, series in OF_RECORDS:
        values = loss if series == LOSS else grad_norm
        if values is not None:
            rows.append(_row(definition, series, *definition.count(values)))
    if gradients is not None:
        spiked = SPAM.flags(gradients)
        spiked = spiked.reshape(len(spiked), -1)
        rows.append(_row(SPAM, "gradient entries", int(spiked.sum()), len(events(spiked.any(axis=1))), spiked.size))
    return pd.DataFrame(rows)


def pool(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The tables of several runs as one: flagged steps, steps and events added up, scores from the sums.

    A run too short for a definition is left out of that definition's row; the score is NaN if all are.
    """
    both = pd.concat(list(tables), ignore_index=True)
    definitions = {definition.name: definition for definition in (*DEFINITIONS, SPAM)}
    rows = []
    for (name, series), group in both.groupby(["definition", "series"], sort=False):
        sums = (int(group[column].sum()) for column in ("flagged", "events", "steps"))
        rows.append(_row(definitions[str(name)], str(series), *sums))
    return pd.DataFrame(rows)


def _row(definition: Definition, series: str, flagged: int, count: int, steps: int) -> dict[str, Any]:
    return {
        "definition": definition.name,
        "series": series,
        "score": definition.score(flagged, steps),
        "unit": definition.unit,
        "events": count,
        "flagged": flagged,
        "steps": steps,
    }


def _series(values: npt.ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"values have shape {x.shape}; they must be one-dimensional, one value per step")
    return x
