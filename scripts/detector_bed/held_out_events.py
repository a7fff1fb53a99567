"""The events of the held-out curves (see held_out.py)."""

import numpy as np
import numpy.typing as npt
from scipy import signal

from scripts.detector_bed.drawing import log_uniform

Array = npt.NDArray[np.float64]

SHAPES = {
    "blip": 0.17,
    "exponential recovery": 0.13,
    "power-law recovery": 0.09,
    "linear recovery": 0.08,
    "double-humped": 0.08,
    "volley": 0.06,
    "swell": 0.09,
    "flat top": 0.06,
    "plateau": 0.05,
    "ramp": 0.08,
    "ramp that stays": 0.03,
    "not finite for a moment": 0.03,
    "not finite": 0.02,
    "diverged": 0.03,
}


def bump(rng: np.random.Generator, shape: str, room: int) -> tuple[Array, int]:
    """Draw an event: what is added from the onset on, in parts of its height, and the steps of its rise."""
    t = np.arange(room)
    if shape == "blip":
        heights = np.where(t < rng.integers(1, 4), rng.uniform(0.4, 1) ** t, 0)
        return np.asarray(heights, dtype=np.float64), 1
    if shape == "not finite":
        return np.full(room, np.inf), 1
    if shape == "not finite for a moment":  # then as before, or back from somewhat above
        gone = int(rng.integers(1, 7))
        after = np.exp(-3 * (t - gone) / log_uniform(rng, 10, 200)) * (rng.random() < 0.5)
        return np.where(t < gone, np.inf, after), 1
    if shape == "diverged":
        return _divergence(rng, t)
    if "ramp" in shape:
        return _ramp(rng, t, shape == "ramp that stays")
    if shape == "swell":
        return _swell(rng, t)
    rise = int(rng.integers(1, 6))
    up = np.minimum(1.0, (t + 1) / rise)
    added = up * _recovery(rng, shape, np.maximum(t - rise + 1, 0))
    if shape != "plateau" and rng.random() < 0.5:  # rough while it is high
        added *= np.maximum(0.1, 1 + rng.uniform(0.03, 0.15) * rng.standard_normal(room))
        added /= added.max()
    return added, rise


def _recovery(rng: np.random.Generator, shape: str, since: npt.NDArray[np.int_]) -> Array:
    """Draw what is left of an event `since` steps after its peak; 1 up to the peak."""
    length = log_uniform(rng, 8, 400)
    if shape == "exponential recovery":
        left = np.exp(-3 * since / length)
    elif shape == "power-law recovery":
        left = (1 + since / log_uniform(rng, 1, 20)) ** -rng.uniform(0.7, 1.3)
        left = left * np.clip(1 - since / rng.uniform(500, 3000), 0, 1)
    elif shape == "linear recovery":
        left = np.clip(1 - since / length, 0, 1)
    elif shape == "double-humped":  # the second hump may be higher
        apart, width = rng.uniform(5, 60), rng.uniform(0.4, 0.8)
        second = rng.uniform(0.6, 1.3) * np.exp(-(((since - apart) / (width * apart)) ** 2))
        left = np.maximum(np.exp(-since / (width * apart)), second)
        left = left / left.max()
    elif shape == "volley":  # several spikes, each over before the next
        left = np.exp(-since / rng.uniform(1, 4))
        for start in np.cumsum(rng.integers(12, 60, int(rng.integers(1, 4)))):
            again = rng.uniform(0.5, 1.1) * np.exp(-np.maximum(since - start, 0) / rng.uniform(1, 4))
            left = np.where(since >= start, np.maximum(left, again), left)
        left = left / left.max()
    elif shape == "flat top":  # it falls back some time later
        stays = log_uniform(rng, 20, 600)
        left = np.where(since < stays, 1.0, np.exp(-3 * np.maximum(since - stays, 0) / rng.uniform(5, 100)))
    else:  # plateau: all of it stays, or most of it
        part = rng.choice([1.0, rng.uniform(0.65, 0.95)])
        left = part + (1 - part) * np.exp(-3 * since / rng.uniform(20, 400))
    return np.asarray(left, dtype=np.float64)


def _swell(rng: np.random.Generator, t: npt.NDArray[np.int_]) -> tuple[Array, int]:
    """Draw a rise over tens of steps, faster and faster, which goes back at once or as slowly."""
    rise, rate = int(rng.integers(8, 61)), rng.uniform(0.5, 2.5)
    up = np.expm1(rate * np.minimum(1, (t + 1) / rise)) / np.expm1(rate)
    since = np.maximum(t - rise + 1, 0)
    down = np.exp(-((since / (rise * rng.uniform(0.3, 3))) ** rng.choice([1, 2])))
    return np.asarray(up * down, dtype=np.float64), rise


def _ramp(rng: np.random.Generator, t: npt.NDArray[np.int_], stays: bool) -> tuple[Array, int]:
    """Draw a rise over hundreds of steps: even, faster and faster, slower and slower, or slow at both ends."""
    rise = int(rng.integers(100, 801))
    part = np.minimum(1.0, (t + 1) / rise)
    bend = rng.uniform(0.5, 1.5)
    ways = (part, np.expm1(bend * part) / np.expm1(bend), np.sin(np.pi / 2 * part), np.sin(np.pi / 2 * part) ** 2)
    up = ways[rng.integers(len(ways))]
    since = np.maximum(t - rise + 1, 0)
    if stays:
        return up, rise
    length = log_uniform(rng, 10, 600)
    down = np.clip(1 - since / length, 0, 1) if rng.random() < 0.5 else np.exp(-3 * since / length)
    return up * down, rise


def _divergence(rng: np.random.Generator, t: npt.NDArray[np.int_]) -> tuple[Array, int]:
    """Draw a rise over 2 to 60 steps, after which the loss wavers, keeps rising, or becomes non-finite."""
    rise = int(rng.integers(2, 61))
    part = np.minimum(1, (t + 1) / rise)
    up = np.sin(np.pi / 2 * part) if rng.random() < 0.5 else part**2
    since = np.maximum(t - rise + 1, 0)
    end = rng.choice(["unsteady", "goes on", "not finite"])
    if end == "not finite":
        return np.where(since > rng.integers(1, 300), np.inf, up), rise
    if end == "goes on":
        return up + 0.3 * np.sqrt(since / len(t)), rise
    keep = 1 - 1 / rng.uniform(5, 100)
    swings = signal.lfilter([np.sqrt(1 - keep**2)], [1, -keep], rng.standard_normal(len(t)))
    return np.where(since > 0, 1 + 0.04 * np.abs(swings), up), rise
