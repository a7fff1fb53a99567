"""The held-out curves (see bed.py), designed without reading the detector's code. Do not look at them while tuning it.

The learning rate has a schedule, which shows in the loss and often in its noise. Nuisances rise by at most 3 local
standard deviations and 0.1 (2% of the lowest level where that is more) within 1000 steps.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import signal

from scripts.detector_bed.drawing import CalmCurve, log_uniform, unit_noise
from scripts.detector_bed.held_out_events import SHAPES as SHAPES
from scripts.detector_bed.held_out_events import bump as bump
from scripts.detector_bed.held_out_noise import NOISES, coloured

Array = npt.NDArray[np.float64]


def calm_curve(rng: np.random.Generator, steps: int) -> CalmCurve:
    """Draw a curve without events."""
    task = TASKS[int(rng.choice(len(TASKS), p=[task.share for task in TASKS]))]
    last = log_uniform(rng, *task.last)
    first = float(rng.choice(task.first)) * rng.uniform(1.0, 1.1)
    fall_name = str(rng.choice(task.falls))
    level = last + (first - last) * _fall(rng, steps, fall_name)
    rate_name, rate = _rate(rng, steps, str(rng.choice(task.rates)))
    answer = _lagged(rng, rate)
    lowest = np.minimum.accumulate(answer)
    level = level * (1 - rng.uniform(0.02, 0.15) * (1 - lowest))
    names = [f"{task.name} {fall_name}", rate_name]
    if rng.random() < 0.2:
        level = _curriculum(rng, level)
        names.append("curriculum")
    course, sigma = _sigma(rng, task, level, rate)
    noise, unit = unit_noise(rng, steps, NOISES)
    names.append(f"{noise} {course}")
    extra = np.zeros(steps)
    if rng.random() < 0.5:
        nuisance, extra = _nuisance(rng, steps)
        names.append(nuisance)
    extra = extra + rng.uniform(0.3, 1) * (answer - lowest)  # higher where the learning rate goes up again
    extra = rng.uniform(0.5, 1) * _kept_small(extra, sigma, max(0.1, 0.02 * float(level.min())))
    return CalmCurve(family=", ".join(names), level=level + extra, sigma=sigma, noise=sigma * unit)


def onsets(rng: np.random.Generator, steps: int) -> list[int]:
    """Draw the steps where events may begin, in order: anywhere, one soon after the other, or one of them late."""
    count = min(1 + rng.poisson(steps / 3000), 5)
    where = np.sort(rng.integers(100, steps, count))
    if rng.random() < 0.3:
        where[0] = rng.integers(10, 100)
    style = rng.choice(["anywhere", "cluster", "late"], p=[0.65, 0.2, 0.15])
    if style == "cluster":
        count = int(rng.integers(3, 6))
        where = where[0] + np.concatenate([[0], np.cumsum(rng.integers(105, 260, count - 1))])
    elif style == "late":
        where[-1] = steps - rng.integers(15, max(16, steps // 15))
    return sorted(int(onset) for onset in where if onset < steps)


def logged(rng: np.random.Generator, loss: Array) -> Array:
    """Round the losses of half of the curves: to four or five significant digits, or to the 11 bits of a float16."""
    precision = rng.choice(["full", "digits", "float16"], p=[0.5, 0.35, 0.15])
    if precision == "digits":
        digits = int(rng.integers(4, 6))
        return np.array([float(f"{one:.{digits}g}") for one in loss])
    if precision == "float16":
        return loss.astype(np.float16).astype(np.float64)
    return loss


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained.

    Attributes:
        name: in words.
        share: the share of the curves.
        first: the losses before training.
        last: the range of the last loss.
        noise: the range of the noise's size, in parts of the last loss.
        falls: the kinds of falls of the loss.
        rates: the schedules of the learning rate.
        courses: how the size of the noise changes over the run.
    """

    name: str
    share: float
    first: tuple[float, ...]
    last: tuple[float, float]
    noise: tuple[float, float]
    falls: tuple[str, ...]
    rates: tuple[str, ...]
    courses: tuple[str, ...] = ("even", "with the rate", "with the level", "breathing", "late")


def _ln(*classes: int) -> tuple[float, ...]:
    """Return the cross-entropy of a uniform guess for these numbers of classes."""
    return tuple(float(np.log(n)) for n in classes)


TASKS = (
    Task(
        name="language",
        share=0.3,
        first=_ln(32_000, 50_257, 100_278, 256_000),
        last=(2.0, 3.6),
        noise=(0.004, 0.03),
        falls=("double power law", "double power law", "held back", "jump"),
        rates=("cosine", "stable, then decay", "inverse root", "linear"),
    ),
    Task(
        name="characters",
        share=0.15,
        first=_ln(65, 96, 256),
        last=(0.9, 1.8),
        noise=(0.015, 0.1),
        falls=("double power law", "held back", "jump", "two exponentials"),
        rates=("constant", "cosine", "one cycle"),
    ),
    Task(
        name="augmented images",
        share=0.15,
        first=_ln(100, 1000),
        last=(0.8, 3.2),
        noise=(0.015, 0.08),
        falls=("two exponentials", "double power law", "staircase"),
        rates=("steps", "cosine", "one cycle", "restarts"),
    ),
    Task(
        name="plain images",
        share=0.12,
        first=_ln(10, 100),
        last=(0.03, 0.6),
        noise=(0.05, 0.2),
        falls=("two exponentials", "staircase", "double power law"),
        rates=("steps", "constant", "restarts", "one cycle"),
        courses=("with the level",),
    ),
    Task(
        name="arithmetic",
        share=0.08,
        first=_ln(97, 113),
        last=(0.03, 0.5),
        noise=(0.05, 0.2),
        falls=("late", "saddles"),
        rates=("constant", "linear"),
        courses=("with the level",),
    ),
    Task(
        name="regression",
        share=0.1,
        first=(1.0, 1.5, 4.0),
        last=(0.1, 0.7),
        noise=(0.04, 0.25),
        falls=("two exponentials", "saddles", "double power law"),
        rates=("constant", "cosine", "steps"),
        courses=("with the level", "breathing", "late"),
    ),
    Task(
        name="sums over a sample",
        share=0.1,
        first=(180.0, 300.0, 550.0),
        last=(25.0, 110.0),
        noise=(0.005, 0.05),
        falls=("two exponentials", "double power law", "jump"),
        rates=("constant", "linear", "cosine"),
    ),
)


def _fall(rng: np.random.Generator, steps: int, name: str) -> Array:
    """Draw a fall from 1 to about 0 that never rises."""
    t = np.arange(steps)
    if name == "double power law":
        quick, slow = rng.uniform(3, 40), rng.uniform(50, 400)
        part = rng.uniform(0.4, 0.8)
        left = part * (1 + t / quick) ** -rng.uniform(0.6, 1.2) + (1 - part) * (1 + t / slow) ** -rng.uniform(0.2, 0.5)
    elif name == "held back":  # by the warm-up of the learning rate: slow at first, then a power law
        warm = rng.uniform(10, min(400, 0.15 * steps))
        left = (1 + (t / warm) ** 2) ** -rng.uniform(0.15, 0.4)
    elif name == "jump":  # early on, something is found all at once
        middle = steps * rng.uniform(0.03, 0.2)
        found = 1 / (1 + np.exp((t - middle) / max(3.0, middle * rng.uniform(0.03, 0.15))))
        part = rng.uniform(0.05, 0.25)
        left = (1 - part) * (1 + t / rng.uniform(4, 40)) ** -rng.uniform(0.4, 0.8) + part * found
    elif name == "two exponentials":
        quick, slow = rng.uniform(0.003, 0.03) * steps + 5, rng.uniform(0.1, 0.5) * steps
        part = rng.uniform(0.5, 0.85)
        left = part * np.exp(-t / quick) + (1 - part) * np.exp(-t / slow)
    elif name == "staircase":  # each pass through the data begins lower, by less each time
        epoch = max(50.0, steps / rng.uniform(4, 40))
        passed = np.floor(t / epoch) + np.minimum(1, (t % epoch) / rng.uniform(3, 20)) - 1
        left = 0.5 * np.exp(-t / rng.uniform(10, 100)) + 0.5 * (2 + passed) ** -rng.uniform(0.4, 0.9)
    elif name == "late":  # for long little is learned, then everything
        middle, width = rng.uniform(0.3, 0.8) * steps, rng.uniform(0.01, 0.06) * steps
        part = rng.uniform(0.1, 0.4)
        left = part * np.exp(-t / rng.uniform(20, 150)) + (1 - part) / (1 + np.exp((t - middle) / width))
    else:  # saddles: down from one plateau to the next
        left = np.zeros(steps)
        for part in rng.dirichlet(np.full(int(rng.integers(2, 6)), 2.0)):
            left += part / (1 + np.exp((t - steps * rng.uniform(0.01, 0.8)) / (steps * log_uniform(rng, 0.002, 0.04))))
    return np.asarray(left / left[0], dtype=np.float64)


def _rate(rng: np.random.Generator, steps: int, name: str) -> tuple[str, Array]:
    """Draw a learning rate in parts of its peak, without its warm-up, and the name of its schedule."""
    t = np.arange(steps)
    end = rng.choice([0.0, 0.1])
    part = t / steps
    if name == "cosine":
        rate = end + (1 - end) * (1 + np.cos(np.pi * part)) / 2
    elif name == "linear":
        rate = end + (1 - end) * (1 - part)
    elif name == "inverse root":
        rate = 1 / np.sqrt(1 + t / rng.uniform(100, 1000))
    elif name == "stable, then decay":
        begin = rng.uniform(0.6, 0.9)
        rate = (1 + np.cos(np.pi * np.clip((part - begin) / (1 - begin), 0, 1))) / 2
    elif name == "steps":
        rate = np.full(steps, 1.0)
        for start in np.sort(rng.uniform(0.3, 0.95, int(rng.integers(1, 4)))):
            rate[t >= start * steps] *= rng.choice([0.1, 0.2, 0.5])
    elif name == "one cycle":
        peak = rng.uniform(0.2, 0.45)
        rate = np.where(part < peak, 0.1 + 0.9 * part / peak, np.maximum(0, 1 - (part - peak) / (1 - peak)))
    elif name == "restarts":
        cycle = steps / rng.integers(2, 7)
        rate = (1 + np.cos(np.pi * (t % cycle) / cycle)) / 2
    else:
        rate = np.ones(steps)
    return name.replace(",", ""), np.asarray(rate, dtype=np.float64)


def _lagged(rng: np.random.Generator, rate: Array) -> Array:
    """Return the learning rate as the loss responds to it: delayed by some steps."""
    keep = 1 - 1 / rng.uniform(2, 40)
    lagged: Array = signal.lfilter([1 - keep], [1, -keep], rate, zi=[keep * rate[0]])[0]
    return lagged


def _curriculum(rng: np.random.Generator, level: Array) -> Array:
    """Add one or two changes to other data, on which the loss is lower."""
    t = np.arange(len(level))
    for middle in rng.uniform(0.15, 0.9, int(rng.integers(1, 3))) * len(level):
        gone = 1 / (1 + np.exp(-np.clip((t - middle) / rng.uniform(1, 60), -500, 500)))
        level = level * (1 - rng.uniform(0.03, 0.2) * gone)
    return level


def _nuisance(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """Draw something that rises but is not a spike, and its kind; its scale has no meaning."""
    t = np.arange(steps)
    name = str(rng.choice(["warm-up hump", "data order", "long memory drift", "harder data"]))
    if name == "warm-up hump":  # while the learning rate rises to its peak
        peak, power = rng.uniform(30, 300), rng.uniform(1, 4)
        extra = (t / peak * np.exp(1 - t / peak)) ** power
    elif name == "data order":  # the same in each pass
        part = t / log_uniform(rng, 80, max(160, steps / 2))
        extra = sum(
            np.cos(2 * np.pi * (k * part + rng.random())) * rng.standard_normal() / k for k in range(1, 5)
        ) + np.zeros(steps)
    elif name == "harder data":
        extra = 1 / (1 + np.exp(-np.clip((t - rng.uniform(0.2, 0.8) * steps) / rng.uniform(20, 200), -500, 500)))
    else:
        extra = coloured(rng, steps, 0.8)
        extra = pd.Series(extra).rolling(50, min_periods=1).mean().to_numpy()
    return name, np.asarray(extra / max(np.ptp(extra), 1e-9), dtype=np.float64)


def _kept_small(extra: Array, sigma: Array, most: float) -> Array:
    """Scale a nuisance so that within 1000 steps it rises by at most 3 local standard deviations and `most`.

    Somewhere it rises by just that.
    """
    rise = extra - pd.Series(extra).rolling(1000, min_periods=1).min()
    local = pd.Series(sigma).rolling(1000, min_periods=1).min()
    scale = float((rise / np.minimum(3 * local, most)).max())
    return (extra - extra.min()) / scale if scale > 0 else np.zeros(len(extra))


def _sigma(rng: np.random.Generator, task: Task, level: Array, rate: Array) -> tuple[str, Array]:
    """Draw the local robust standard deviation of the noise, and how it changes over the run in words."""
    steps, t = len(level), np.arange(len(level))
    size = log_uniform(rng, *task.noise) * float(level[-1])
    relative = level / level[-1]
    course = str(rng.choice(task.courses))
    if course == "even":
        sigma = np.full(steps, size)
    elif course == "with the rate":
        sigma = size * (0.5 + rng.uniform(0.3, 1) * np.sqrt(rate))
    elif course == "with the level":
        sigma = size * relative ** rng.uniform(0.6, 1.0)
    elif course == "breathing":  # stretches of different data, again and again
        depth, period = rng.uniform(0.1, 0.4), log_uniform(rng, 200, max(400, steps / 2))
        sigma = size * relative**0.5 * (1 + depth * np.sin(2 * np.pi * (t / period + rng.random())))
    else:  # late: harder examples are told apart as the run continues
        sigma = size * (0.6 + rng.uniform(0.4, 1.2) * np.log1p(t) / np.log1p(steps))
    return course, np.asarray(np.minimum(sigma, 0.3 * level), dtype=np.float64)
