"""More curves that the detector is developed on (see bed.py), designed without reading its code.

The levels are those of language models in pre-training, of images with augmentation, of fine-tuning, and of noisy
returns as in reinforcement learning. Nuisances rise by at most 2 local standard deviations and 0.08 within 1000 steps.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import signal

from scripts.detector_bed.drawing import CalmCurve, log_uniform, unit_noise

Array = npt.NDArray[np.float64]

SHAPES = {
    "blip": 0.2,
    "power-law recovery": 0.12,
    "overshoot": 0.11,
    "ringing": 0.1,
    "train": 0.1,
    "healing plateau": 0.07,
    "plateau": 0.03,
    "ramp": 0.14,
    "ramp that stays": 0.04,
    "not finite for a moment": 0.03,
    "not finite": 0.03,
    "diverged": 0.03,
}


def calm_curve(rng: np.random.Generator, steps: int) -> CalmCurve:
    """Draw a curve without events."""
    name, level = _fall(rng, steps)
    course, sigma = _sigma(rng, level)
    noise, unit = unit_noise(rng, steps, NOISES)
    family = f"{name}, {noise} {course}"
    if rng.random() < 0.25:
        level = _switches(rng, level)
        family += ", switches"
    if rng.random() < 0.4:
        nuisance, extra = _nuisance(rng, steps)
        level = level + _kept_small(extra, sigma) * rng.uniform(0.3, 1)
        family += f", {nuisance}"
    return CalmCurve(family=family, level=level, sigma=sigma, noise=sigma * unit)


def onsets(rng: np.random.Generator, steps: int) -> list[int]:
    """Draw the steps where events may begin, in order: anywhere, or one soon after the other.

    The latter is what a learning rate that is too high looks like.
    """
    count = min(1 + rng.poisson(steps / 3500), 5)
    where = np.sort(rng.integers(100, steps, count))
    if rng.random() < 0.3:
        where[0] = rng.integers(10, 100)
    if rng.random() < 0.15:
        where = where[0] + np.concatenate([[0], np.cumsum(rng.integers(150, 600, count))])
    return [int(onset) for onset in where if onset < steps]


def logged(rng: np.random.Generator, loss: Array) -> Array:
    """Round the losses of half of the curves: to three or four decimals, or to the 8 bits of a bfloat16."""
    precision = rng.choice(["full", "decimals", "bfloat16"], p=[0.5, 0.3, 0.2])
    if precision == "decimals":
        return np.round(loss, int(rng.integers(3, 5)))
    if precision == "bfloat16":
        significand, exponent = np.frexp(loss)
        return np.ldexp(np.round(significand * 256) / 256, exponent)
    return loss


def _fall(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """Draw a loss without noise, and its kind in words."""
    task = rng.choice(["pre-training", "augmented images", "fine-tuning", "returns"], p=[0.4, 0.25, 0.2, 0.15])
    if task == "pre-training":
        first, last = np.log(rng.choice([512, 32_000, 128_000])), rng.uniform(1.5, 3.8)
    elif task == "augmented images":
        first = np.log(rng.choice([10, 100, 1000, 21_000]))
        last = first * rng.uniform(0.1, 0.7)
    elif task == "fine-tuning":
        last = log_uniform(rng, 0.15, 1.5)
        first = last * rng.uniform(1.2, 3)
    else:
        last = log_uniform(rng, 0.3, 8)
        first = last * rng.uniform(1.05, 1.6)
    t = np.arange(steps)
    shape = str(rng.choice(["stretched", "warmup", "logarithm", "two stages", "epochs", "cooldown", "linear"]))
    if shape == "stretched":
        left = np.exp(-((t / (steps * rng.uniform(0.01, 0.1))) ** rng.uniform(0.3, 0.7)))
    elif shape == "warmup":  # little is learned in the first steps
        warm = rng.uniform(20, min(300, 0.2 * steps))
        left = (1 + np.maximum(t - warm, 0) / rng.uniform(5, 60)) ** -rng.uniform(0.3, 0.8)
    elif shape == "logarithm":
        unit = rng.uniform(3, 50)
        left = 1 - np.log1p(t / unit) / np.log1p(steps / unit)
    elif shape == "two stages":  # something is learned late
        left = 0.7 / (1 + (t / rng.uniform(10, 60)) ** 1.5) + 0.3 / (1 + (t / (steps * rng.uniform(0.2, 0.6))) ** 4)
    elif shape == "epochs":  # each pass through the data begins lower, as the data are known
        epoch = max(60.0, steps / rng.uniform(3, 20))
        left = 0.6 * np.exp(-t / rng.uniform(20, 120)) + 0.4 * rng.uniform(0.6, 0.9) ** np.floor(t / epoch)
    elif shape == "cooldown":  # warmup, constant learning rate, decay
        begin = steps * rng.uniform(0.7, 0.9)
        decay = 1 - np.sqrt(np.clip((t - begin) / (steps - begin), 0, 1))
        left = 0.88 * (1 + t / rng.uniform(10, 80)) ** -0.45 + 0.12 * decay
    else:
        left = 1 - t / steps
    return f"{task} {shape}", last + (first - last) * left


def _switches(rng: np.random.Generator, level: Array) -> Array:
    """Add one to three changes of the data or their weights, each lowering the loss a little within a few steps."""
    t = np.arange(len(level))
    for part in rng.uniform(0.1, 0.9, rng.integers(1, 4)):
        level = level * (1 - rng.uniform(0.01, 0.08) * np.clip((t - part * len(level)) / rng.integers(1, 20), 0, 1))
    return level


def _nuisance(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """Draw something that rises but is not a spike, and its kind; its scale has no meaning."""
    t = np.arange(steps)
    name = str(rng.choice(["sawtooth", "hump", "rewarmed", "drift"]))
    if name == "sawtooth":  # each pass through the data begins with the data remembered best
        epoch = log_uniform(rng, 60, max(120, steps / 3))
        return name, np.power((t % epoch) / epoch, rng.uniform(0.4, 1), dtype=np.float64)
    if name == "hump":  # while the learning rate warms up
        middle = rng.uniform(15, 150)
        return name, np.exp(-(((t - middle) / (0.4 * middle)) ** 2))
    if name == "rewarmed":  # the learning rate rises again, and falls
        since = np.maximum(0, t - rng.uniform(0.2, 0.8) * steps) / rng.uniform(50, 300)
        return name, since * np.exp(-since)
    waves = [np.sin(2 * np.pi * (t / log_uniform(rng, 200, 5000) + rng.random())) for _ in range(4)]
    return name, np.sum(waves, axis=0)


def _kept_small(extra: Array, sigma: Array) -> Array:
    """Scale a nuisance so that within 1000 steps it rises by at most 2 local standard deviations and 0.08.

    Somewhere it rises by just that.
    """
    rise = extra - pd.Series(extra).rolling(1000, min_periods=1).min()
    local = pd.Series(sigma).rolling(1000, min_periods=1).min()
    most = float((rise / np.minimum(2 * local, 0.08)).max())
    return (extra - extra.min()) / most if most > 0 else np.zeros(len(extra))


def _sigma(rng: np.random.Generator, fall: Array) -> tuple[str, Array]:
    """Draw the local robust standard deviation of the noise, and how it changes over the run in words."""
    steps, t = len(fall), np.arange(len(fall))
    relative = log_uniform(rng, 0.02, 0.3)  # to the last loss; lower for large batches
    size = min(relative * fall[-1], log_uniform(rng, 0.006, 0.25))
    course = str(rng.choice(["even", "shrinking", "batch ramp", "regimes", "learning rate", "power of the loss"]))
    if course == "even":
        sigma = np.full(steps, size)
    elif course == "shrinking":
        sigma = size * (1 + 0.99 * (steps - t) / (t + rng.uniform(30, 500))) ** rng.uniform(0.1, 0.4)
    elif course == "batch ramp":  # the batch is doubled one to four times
        doublings = np.sum(t[:, None] >= rng.uniform(0.1, 0.9, rng.integers(1, 5)) * steps, axis=1)
        sigma = 2 * size * np.sqrt(0.5) ** doublings
    elif course == "regimes":  # now and then different data, or a region of sharper curvature
        switches = np.cumsum(rng.random(steps) < 1 / rng.uniform(200, 1500)) + rng.integers(2)
        sigma = size * np.where(switches % 2, rng.uniform(1.3, 2), 1)
    elif course == "learning rate":  # warmup, then a cosine
        warm = rng.uniform(0.02, 0.1) * steps
        rate = np.minimum(t / warm, (1 + np.cos(np.pi * np.clip((t - warm) / (steps - warm), 0, 1))) / 2)
        sigma = size * (0.6 + rng.uniform(0.5, 1.5) * np.sqrt(rate))
    else:
        sigma = size * (fall / fall[-1]) ** rng.uniform(0.7, 1.3)
    return course, np.asarray(np.minimum(sigma, 0.3 * fall), dtype=np.float64)


def _two_kinds(rng: np.random.Generator, n: int) -> Array:
    """Draw noise in which some batches are of a harder kind."""
    return rng.standard_normal(n) + rng.uniform(1.5, 3) * (rng.random(n) < rng.uniform(0.1, 0.3))


def _hard_batches(rng: np.random.Generator, n: int) -> Array:
    """Draw noise in which one batch in 30 to 200 is harder, sometimes much harder."""
    hard = rng.random(n) < rng.uniform(0.005, 0.03)
    return rng.standard_normal(n) + rng.exponential(rng.uniform(1, 2.5), n) * hard


def _moving_average(rng: np.random.Generator, n: int) -> Array:
    """Draw heavy-tailed noise, logged by code that smooths over a few steps."""
    window = signal.windows.triang(int(rng.integers(3, 7)))
    return np.convolve(rng.standard_t(5, n), window, "same")


def _second_order(rng: np.random.Generator, n: int) -> Array:
    """Draw noise with swings of a few to twenty steps that die out."""
    radius, angle = rng.uniform(0.5, 0.93), np.pi * rng.uniform(0.1, 0.8)
    filtered: Array = signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], rng.standard_normal(n))
    return filtered


def _white_and_slow(rng: np.random.Generator, n: int) -> Array:
    """Draw noise from batches that differ, and from stretches of the data that differ."""
    phi = 1 - 1 / rng.uniform(20, 200)
    slow = signal.lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], rng.standard_normal(n))
    return np.asarray(rng.standard_normal(n) + rng.uniform(0.2, 0.5) * slow, dtype=np.float64)


def _same_order(rng: np.random.Generator, n: int) -> Array:
    """Draw noise half of which repeats, as the data come in the same order in each pass."""
    return rng.standard_normal(n) + np.resize(rng.standard_normal(int(rng.integers(100, 2000))), n)


NOISES = {
    "lognormal": lambda rng, n: np.exp(rng.uniform(0.2, 0.5) * rng.standard_normal(n)),
    "gumbel": lambda rng, n: rng.gumbel(size=n),
    "logistic": lambda rng, n: rng.logistic(size=n),
    "accumulated": lambda rng, n: rng.standard_t(3.5, (n, 4)).mean(axis=1),
    "two kinds": _two_kinds,
    "hard batches": _hard_batches,
    "moving average": _moving_average,
    "second order": _second_order,
    "white and slow": _white_and_slow,
    "same order": _same_order,
}


def bump(rng: np.random.Generator, shape: str, room: int) -> tuple[Array, int]:
    """Draw an event: what is added from the onset on, in parts of its height, and the steps of its rise."""
    t = np.arange(room)
    if shape == "blip":
        heights = np.where(t < rng.integers(1, 4), rng.uniform(0.5, 1, room), 0)
        return heights / heights.max(), 1
    if shape.startswith("not finite"):
        return np.where(t < (room if shape == "not finite" else rng.integers(1, 11)), np.inf, 0), 1
    if shape == "diverged":
        return _divergence(rng, t)
    rise = int(rng.integers(100, 801) if "ramp" in shape else rng.integers(1, 7))
    up = np.minimum(1.0, (t + 1) / rise)
    up = 3 * up**2 - 2 * up**3 if "ramp" in shape and rng.random() < 0.5 else up ** rng.uniform(0.6, 1.3)
    since = np.maximum(t - rise + 1, 0)
    if shape == "train":
        return _train(rng, up * np.exp(-3 * since / log_uniform(rng, 10, 200)), rise), rise
    return up * _recovery(rng, shape, since), rise


def _recovery(rng: np.random.Generator, shape: str, since: npt.NDArray[np.int_]) -> Array:
    """Draw what is left of an event `since` steps after its peak; 1 up to the peak."""
    if shape in ("plateau", "ramp that stays"):
        return np.ones(len(since))
    if shape == "power-law recovery":
        left = (1 + since / log_uniform(rng, 2, 30)) ** -rng.uniform(0.8, 1.6) * np.exp(-since / 2000)
    elif shape == "overshoot":  # for a while it is lower than before
        length = log_uniform(rng, 10, 300)
        dip = rng.uniform(0.4, 1) * np.exp(-((2.5 * (since / length - 2)) ** 2))
        left = np.where(since < length, np.exp(-5 * since / length), -dip)
    elif shape == "ringing":
        depth, period = rng.uniform(0.4, 1), rng.uniform(8, 40)
        waves = (1 + depth * np.cos(2 * np.pi * since / period)) / (1 + depth)
        left = waves * np.exp(-3 * since / log_uniform(rng, 40, 300))
    else:  # a ramp or a healing plateau: half a cosine
        length = rng.uniform(1000, 5000) if shape == "healing plateau" else rng.uniform(100, 800)
        left = (1 + np.cos(np.pi * np.minimum(1, since / length))) / 2
    return np.asarray(left, dtype=np.float64)


def _train(rng: np.random.Generator, spike: Array, rise: int) -> Array:
    """Repeat a spike so that there are two to four peaks, each when 45% to 70% of the one before is left."""
    added, start = spike.copy(), 0
    for _ in range(rng.integers(1, 4)):
        part = rng.uniform(0.45, 0.7)
        start += rise + int(np.argmax(np.append(spike[rise:], 0.0) < part))
        if start < len(spike):
            added[start:] = np.maximum(added[start:], rng.uniform(0.6, 1.2) * spike[: len(spike) - start])
    return added


def _divergence(rng: np.random.Generator, t: npt.NDArray[np.int_]) -> tuple[Array, int]:
    """Draw a divergence: exponential growth over up to 80 steps, then slower growth, or a loss that is not finite."""
    rise, rate = int(rng.integers(5, 81)), rng.uniform(1.5, 4)
    up = np.expm1(rate * np.minimum(1, (t + 1) / rise)) / np.expm1(rate)
    later = np.maximum(t - rise + 1, 0)
    if rng.random() < 0.5:
        return np.where(later > rng.integers(1, 200), np.inf, up), rise
    return up + 0.1 * np.log1p(later / 50), rise
