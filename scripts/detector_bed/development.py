"""The curves that the detector is developed on: two mixtures, each for half of the curves (see bed.py)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import signal, stats

from scripts.detector_bed.drawing import NORMAL_RANGE, CalmCurve

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Development:
    """One of the two mixtures. Both have the same scales of the loss, drops of the learning rate and shapes of events.

    Attributes:
        falls: the kinds of falls of the loss.
        noises: the kinds of noise.
        courses: how the size of the noise changes over the run.
        correlation: the range of the correlation of neighbouring steps.
        degrees: the range of the degrees of freedom of Student's t.
        wave: what the order of the data looks like.
        smooth_ramps: whether ramps begin and end slowly.
        straight: the share of the events that recover in a straight line.
    """

    falls: tuple[str, ...]
    noises: tuple[str, ...]
    courses: tuple[str, ...]
    correlation: tuple[float, float]
    degrees: tuple[float, float]
    wave: str
    smooth_ramps: bool
    straight: float
    SHAPES: ClassVar[dict[str, float]] = {
        "blip": 0.25,
        "sharp": 0.33,
        "double": 0.1,
        "plateau": 0.1,
        "ramp": 0.1,
        "ramp that stays": 0.03,
        "not finite for a moment": 0.03,
        "not finite": 0.03,
        "diverged": 0.03,
    }

    def calm_curve(self, rng: np.random.Generator, steps: int) -> CalmCurve:
        """Draw a curve without events."""
        fall_name, fall = _fall(rng, steps, str(rng.choice(self.falls)))
        noise, course = str(rng.choice(self.noises)), str(rng.choice(self.courses))
        sigma = _sigma(rng, fall, course)
        unit = _unit_noise(rng, steps, noise, rng.uniform(*self.correlation), rng.uniform(*self.degrees))
        family, level = f"{fall_name}, {noise} {course}", fall
        if rng.random() < 0.25:
            level, scale = _drops(rng, fall)
            family, sigma = f"{family}, drops", sigma * scale
        if rng.random() < 0.25:
            level = np.maximum(level + _wobble(rng, sigma, self.wave), 0.02 * level)
            family += ", wobble"
        return CalmCurve(family=family, level=level, sigma=sigma, noise=sigma * unit)

    def onsets(self, rng: np.random.Generator, steps: int) -> list[int]:
        """Draw the steps where events may begin: anywhere, three times in ten one of them early."""
        onsets = np.sort(rng.integers(100, steps, min(1 + rng.poisson(steps / 4000), 5)))
        if rng.random() < 0.3:
            onsets[0] = rng.integers(10, 100)
        return [int(onset) for onset in onsets]

    def bump(self, rng: np.random.Generator, shape: str, room: int) -> tuple[Array, int]:
        """Draw an event: what is added from the onset on, in parts of its height, and the steps of its rise."""
        t = np.arange(room)
        if shape == "blip":
            heights = np.where(t < rng.integers(1, 4), rng.uniform(0.7, 1, room), 0)
            return heights / heights.max(), 1
        if shape.startswith("not finite"):
            return np.where(t < (room if shape == "not finite" else rng.integers(1, 4)), np.inf, 0), 1
        rise = int(rng.integers(100, 801) if "ramp" in shape else rng.integers(1, 51 if shape == "diverged" else 6))
        up = np.minimum(1.0, (t + 1) / rise)
        if self.smooth_ramps and "ramp" in shape:
            up = (1 - np.cos(np.pi * up)) / 2
        if shape in ("plateau", "ramp that stays", "diverged"):
            return up, rise
        length = np.exp(rng.uniform(np.log(5), np.log(300)))  # steps after which 5% is left
        if "ramp" in shape:
            length = rng.uniform(50, 500)
        after = np.maximum(t - rise + 1, 0)
        down = np.clip(1 - after / length, 0, 1) if rng.random() < self.straight else np.exp(-3 * after / length)
        if shape == "double":  # a second peak before the first is back, when 40% to 70% of it is left
            second = rise + int(np.argmax(down[rise:] < rng.uniform(0.4, 0.7)))
            again = np.zeros(room)
            again[second:] = (up * down)[: room - second] * rng.uniform(0.6, 1.0)
            return np.maximum(up * down, again), rise
        return up * down, rise

    def logged(self, _: np.random.Generator, loss: Array) -> Array:
        """Return the loss as it is: logs are not rounded."""
        return loss


HALVES = (
    Development(
        falls=("power law",) * 4 + ("plateau",),
        noises=("white", "ar1", "student"),
        courses=("constant", "growing", "rising", "proportional"),
        correlation=(0.3, 0.95),
        degrees=(3, 5),
        wave="sine",
        smooth_ramps=False,
        straight=0.0,
    ),
    Development(
        falls=("cosine", "exponential", "broken power law", "late decay"),
        noises=("ar1", "laplace", "skewed", "contaminated", "student", "averaged"),
        courses=("constant", "square root", "bursts", "growing"),
        correlation=(0.2, 0.97),
        degrees=(3.2, 6),
        wave="sawtooth",
        smooth_ramps=True,
        straight=0.5,
    ),
)


def _fall(rng: np.random.Generator, steps: int, name: str) -> tuple[str, Array]:
    """Draw a loss without noise: of a language model, of a classifier, or on another scale."""
    scale = rng.choice(["language", "classes", "other"])
    if scale == "language":
        first, last = np.log(rng.choice([256, 5_000, 50_000])), rng.uniform(1.0, 3.5)
    elif scale == "classes":
        first, last = np.log(rng.choice([10, 100, 1000])), np.exp(rng.uniform(np.log(0.05), np.log(1.0)))
    else:
        last = np.exp(rng.uniform(np.log(0.05), np.log(10)))
        first = last * rng.uniform(1.5, 6)
    t = np.arange(steps)
    if name == "power law":
        shape = (1 + t / rng.uniform(5, 100)) ** -rng.uniform(0.3, 1.0)
    elif name == "plateau":  # nothing is learned for long, then everything at once
        middle, width = rng.uniform(0.2, 0.7) * steps, rng.uniform(0.01, 0.05) * steps
        shape = 1 / (1 + np.exp((t - middle) / width))
    elif name == "cosine":
        shape = 0.4 * (1 + np.cos(np.pi * t / steps)) / 2 + 0.6 * np.exp(-t / rng.uniform(30, 200))
    elif name == "exponential":
        shape = 0.7 * np.exp(-t / rng.uniform(20, 100)) + 0.3 * np.exp(-t / (steps * rng.uniform(0.1, 0.5)))
    elif name == "broken power law":
        middle = rng.uniform(0.1, 0.4) * steps
        shape = (1 + t / 20) ** -0.25 * (1 + (t / middle) ** 2) ** -0.3
    else:  # late decay: a constant learning rate that decays over the last fifth
        shape = 0.85 * (1 + t / 30) ** -0.4 + 0.15 * np.clip((steps - t) / (0.2 * steps), 0, 1)
    return f"{scale} {name}", last + (first - last) * shape


def _drops(rng: np.random.Generator, fall: Array) -> tuple[Array, Array]:
    """Add one to three drops of the learning rate, each of which makes the loss fall within a few steps.

    Returns the loss, and the factor by which the noise shrinks.
    """
    steps = len(fall)
    fall, scale = fall.copy(), np.ones(steps)
    for part in np.sort(rng.uniform(0.2, 0.9, rng.integers(1, 4))):
        new = np.clip((np.arange(steps) - int(part * steps)) / rng.integers(1, 40), 0, 1)
        fall *= 1 - new * rng.uniform(0.1, 0.4)
        scale *= 1 - new * rng.uniform(0.2, 0.6)
    return fall, scale


def _wobble(rng: np.random.Generator, sigma: Array, wave: str) -> Array:
    """Draw an effect of the order of the data, up to 2.5 standard deviations and 0.1: periodic, or one slow swell."""
    steps = len(sigma)
    t = np.arange(steps)
    height = min(0.1, rng.uniform(0.5, 2.5) * float(np.median(sigma)))
    period = rng.uniform(100, 2000)
    if rng.random() < 0.5:
        shape = np.exp(-(((t - rng.uniform(0.2, 0.8) * steps) / max(100.0, period / 2)) ** 2))
    elif wave == "sawtooth":  # harder towards the end of each pass through the data
        shape = (t % period) / period - 0.5
    else:
        shape = np.sin(2 * np.pi * (t / period + rng.random()))
    return np.asarray(height * shape, dtype=np.float64)


def _sigma(rng: np.random.Generator, fall: Array, course: str) -> Array:
    """Draw the local robust standard deviation of the noise."""
    steps = len(fall)
    relative = np.exp(rng.uniform(np.log(0.05), np.log(0.25)))  # to the last loss; higher for small batches
    size = min(relative * fall[-1], np.exp(rng.uniform(np.log(0.01), np.log(0.2))))
    part = np.arange(steps) / steps
    sigma = {
        "constant": np.full(steps, size),
        "growing": size * (1 + rng.uniform(1, 4) * part ** rng.uniform(0.5, 2)),
        "rising": size * (fall[0] / fall) ** rng.uniform(0.3, 0.7),
        "proportional": relative * fall,
        "square root": size * np.sqrt(fall / fall[-1]),
        "bursts": size * np.exp(0.35 * _ar1(rng, steps, 1 - 1 / rng.uniform(100, 500))),
    }[course]
    return np.asarray(np.minimum(sigma, 0.3 * fall), dtype=np.float64)


def _unit_noise(rng: np.random.Generator, steps: int, name: str, correlation: float, degrees: float) -> Array:
    """Draw noise with median 0 and an interquartile range of NORMAL_RANGE."""
    if name == "white":
        return rng.standard_normal(steps)
    if name == "ar1":
        return _ar1(rng, steps, correlation)
    if name == "student":
        law = stats.t(degrees)
    elif name == "laplace":
        law = stats.laplace()
    elif name == "skewed":  # a batch can be much harder than usual, but not much easier
        law = stats.gamma(rng.uniform(3, 8))
    elif name == "contaminated":  # one batch in fifty is off by three times as much
        return rng.standard_normal(steps) * np.where(rng.random(steps) < 0.02, 3, 1)
    else:  # averaged: logged by code that smooths over a few steps
        width = int(rng.integers(2, 9))
        return np.convolve(rng.standard_normal(steps + width - 1), np.ones(width) / np.sqrt(width), "valid")
    low, middle, high = law.ppf([0.25, 0.5, 0.75])
    noise: Array = (law.rvs(steps, random_state=rng) - middle) / ((high - low) / NORMAL_RANGE)
    return noise


def _ar1(rng: np.random.Generator, steps: int, phi: float) -> Array:
    """Draw stationary noise of variance 1; phi is the correlation of neighbouring steps."""
    draws = rng.standard_normal(steps) * np.sqrt(1 - phi**2)
    draws[0] /= np.sqrt(1 - phi**2)
    filtered: Array = signal.lfilter([1.0], [1.0, -phi], draws)
    return filtered
