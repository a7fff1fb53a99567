"""More curves that the detector is developed on (see bed.py), drawn up without reading its code.

Levels: language models in pre-training, images with augmentation, fine-tuning, noisy returns as in reinforcement
learning. What is no spike rises by at most 2 local standard deviations and 0.08 within 1000 steps.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import signal

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


def baseline(rng: np.random.Generator, steps: int) -> tuple[str, Array, Array, Array]:
    """What family it is, the level, the local robust standard deviation of the noise, and the noise."""
    name, level = _fall(rng, steps)
    course, sigma = _sigma(rng, level)
    noise, unit = _unit_noise(rng, steps)
    family = f"{name}, {noise} {course}"
    if rng.random() < 0.25:
        level = _switches(rng, level)
        family += ", switches"
    if rng.random() < 0.4:
        nuisance, extra = _nuisance(rng, steps)
        level = level + _kept_small(extra, sigma) * rng.uniform(0.3, 1)
        family += f", {nuisance}"
    return family, level, sigma, sigma * unit


def places(rng: np.random.Generator, steps: int) -> list[int]:
    """Where events may begin, in order: anywhere, or one after the other as when the learning rate is too high."""
    count = min(1 + rng.poisson(steps / 3500), 5)
    where = np.sort(rng.integers(100, steps, count))
    if rng.random() < 0.3:
        where[0] = rng.integers(10, 100)
    if rng.random() < 0.15:
        where = where[0] + np.concatenate([[0], np.cumsum(rng.integers(150, 600, count))])
    return [int(place) for place in where if place < steps]


def logged(rng: np.random.Generator, loss: Array) -> Array:
    """Half of the logs are rounded: to three or four decimals, or to the 8 bits of a bfloat16."""
    precision = rng.choice(["full", "decimals", "bfloat16"], p=[0.5, 0.3, 0.2])
    if precision == "decimals":
        return np.round(loss, int(rng.integers(3, 5)))
    if precision == "bfloat16":
        significand, exponent = np.frexp(loss)
        return np.ldexp(np.round(significand * 256) / 256, exponent)
    return loss


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# ---------------------------------------------------------------- levels


def _fall(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """The loss without noise."""
    task = rng.choice(["pre-training", "augmented images", "fine-tuning", "returns"], p=[0.4, 0.25, 0.2, 0.15])
    if task == "pre-training":
        first, last = np.log(rng.choice([512, 32_000, 128_000])), rng.uniform(1.5, 3.8)
    elif task == "augmented images":
        first = np.log(rng.choice([10, 100, 1000, 21_000]))
        last = first * rng.uniform(0.1, 0.7)
    elif task == "fine-tuning":
        last = _log_uniform(rng, 0.15, 1.5)
        first = last * rng.uniform(1.2, 3)
    else:
        last = _log_uniform(rng, 0.3, 8)
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
    elif shape == "two stages":  # something is understood late
        left = 0.7 / (1 + (t / rng.uniform(10, 60)) ** 1.5) + 0.3 / (1 + (t / (steps * rng.uniform(0.2, 0.6))) ** 4)
    elif shape == "epochs":  # each pass through the data begins lower: what was in it is known
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
    """One to three changes of the data or its weights, each to a slightly lower loss within a few steps."""
    t = np.arange(len(level))
    for place in rng.uniform(0.1, 0.9, rng.integers(1, 4)):
        level = level * (1 - rng.uniform(0.01, 0.08) * np.clip((t - place * len(level)) / rng.integers(1, 20), 0, 1))
    return level


def _nuisance(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """What goes up and is no spike, on no scale."""
    t = np.arange(steps)
    name = str(rng.choice(["sawtooth", "hump", "rewarmed", "drift"]))
    if name == "sawtooth":  # each pass through the data begins with what is remembered best
        epoch = _log_uniform(rng, 60, max(120, steps / 3))
        return name, np.power((t % epoch) / epoch, rng.uniform(0.4, 1), dtype=np.float64)
    if name == "hump":  # while the learning rate warms up
        middle = rng.uniform(15, 150)
        return name, np.exp(-(((t - middle) / (0.4 * middle)) ** 2))
    if name == "rewarmed":  # the learning rate goes up again, and comes down
        since = np.maximum(0, t - rng.uniform(0.2, 0.8) * steps) / rng.uniform(50, 300)
        return name, since * np.exp(-since)
    waves = [np.sin(2 * np.pi * (t / _log_uniform(rng, 200, 5000) + rng.random())) for _ in range(4)]
    return name, np.sum(waves, axis=0)


def _kept_small(extra: Array, sigma: Array) -> Array:
    """Scaled so that within 1000 steps it rises by 2 local standard deviations or 0.08 somewhere, and nowhere more."""
    rise = extra - pd.Series(extra).rolling(1000, min_periods=1).min()
    local = pd.Series(sigma).rolling(1000, min_periods=1).min()
    most = float((rise / np.minimum(2 * local, 0.08)).max())
    return (extra - extra.min()) / most if most > 0 else np.zeros(len(extra))


# ---------------------------------------------------------------- noise


def _sigma(rng: np.random.Generator, fall: Array) -> tuple[str, Array]:
    """How large the noise is over the run: its local robust standard deviation."""
    steps, t = len(fall), np.arange(len(fall))
    relative = _log_uniform(rng, 0.02, 0.3)  # of the last loss; large batches are at the lower end
    size = min(relative * fall[-1], _log_uniform(rng, 0.006, 0.25))
    course = str(rng.choice(["even", "shrinking", "batch ramp", "regimes", "learning rate", "power of the loss"]))
    if course == "even":
        sigma = np.full(steps, size)
    elif course == "shrinking":
        sigma = size * (1 + 0.99 * (steps - t) / (t + rng.uniform(30, 500))) ** rng.uniform(0.1, 0.4)
    elif course == "batch ramp":  # twice the batch, one to four times
        doublings = np.sum(t[:, None] >= rng.uniform(0.1, 0.9, rng.integers(1, 5)) * steps, axis=1)
        sigma = 2 * size * np.sqrt(0.5) ** doublings
    elif course == "regimes":  # now and then other data, or a region of sharper curvature
        switches = np.cumsum(rng.random(steps) < 1 / rng.uniform(200, 1500)) + rng.integers(2)
        sigma = size * np.where(switches % 2, rng.uniform(1.3, 2), 1)
    elif course == "learning rate":  # warmup, then a cosine
        warm = rng.uniform(0.02, 0.1) * steps
        rate = np.minimum(t / warm, (1 + np.cos(np.pi * np.clip((t - warm) / (steps - warm), 0, 1))) / 2)
        sigma = size * (0.6 + rng.uniform(0.5, 1.5) * np.sqrt(rate))
    else:
        sigma = size * (fall / fall[-1]) ** rng.uniform(0.7, 1.3)
    return course, np.asarray(np.minimum(sigma, 0.3 * fall), dtype=np.float64)


def _unit_noise(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """Noise of median 0 and interquartile range / 1.349 of 1."""
    name = str(rng.choice(list(NOISES)))
    draws = NOISES[name](rng, 20_000 + steps)
    low, middle, high = np.quantile(draws, [0.25, 0.5, 0.75])
    return name, np.asarray((draws[-steps:] - middle) / ((high - low) / 1.349), dtype=np.float64)


def _two_kinds(rng: np.random.Generator, n: int) -> Array:
    """Some batches are of a harder kind."""
    return rng.standard_normal(n) + rng.uniform(1.5, 3) * (rng.random(n) < rng.uniform(0.1, 0.3))


def _hard_batches(rng: np.random.Generator, n: int) -> Array:
    """A batch in thirty to two hundred is harder, at times much."""
    hard = rng.random(n) < rng.uniform(0.005, 0.03)
    return rng.standard_normal(n) + rng.exponential(rng.uniform(1, 2.5), n) * hard


def _moving_average(rng: np.random.Generator, n: int) -> Array:
    """Heavy-tailed, as logged by code that smooths over a few steps."""
    window = signal.windows.triang(int(rng.integers(3, 7)))
    return np.convolve(rng.standard_t(5, n), window, "same")


def _second_order(rng: np.random.Generator, n: int) -> Array:
    """Swings of a few to twenty steps that die out."""
    radius, angle = rng.uniform(0.5, 0.93), np.pi * rng.uniform(0.1, 0.8)
    filtered: Array = signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], rng.standard_normal(n))
    return filtered


def _white_and_slow(rng: np.random.Generator, n: int) -> Array:
    """Batches differ, and so do stretches of the data."""
    phi = 1 - 1 / rng.uniform(20, 200)
    slow = signal.lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], rng.standard_normal(n))
    return np.asarray(rng.standard_normal(n) + rng.uniform(0.2, 0.5) * slow, dtype=np.float64)


def _same_order(rng: np.random.Generator, n: int) -> Array:
    """The data come in the same order in each pass, so that half of the noise repeats."""
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

# ---------------------------------------------------------------- events


def bump(rng: np.random.Generator, shape: str, room: int) -> tuple[Array, int]:
    """An event: what is added from the onset on, in parts of its height, and the steps of its rise."""
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
        return _train(rng, up * np.exp(-3 * since / _log_uniform(rng, 10, 200)), rise), rise
    return up * _recovery(rng, shape, since), rise


def _recovery(rng: np.random.Generator, shape: str, since: npt.NDArray[np.int_]) -> Array:
    """1 up to the peak, then back."""
    if shape in ("plateau", "ramp that stays"):
        return np.ones(len(since))
    if shape == "power-law recovery":
        left = (1 + since / _log_uniform(rng, 2, 30)) ** -rng.uniform(0.8, 1.6) * np.exp(-since / 2000)
    elif shape == "overshoot":  # lower than before, for a while
        length = _log_uniform(rng, 10, 300)
        dip = rng.uniform(0.4, 1) * np.exp(-((2.5 * (since / length - 2)) ** 2))
        left = np.where(since < length, np.exp(-5 * since / length), -dip)
    elif shape == "ringing":
        depth, period = rng.uniform(0.4, 1), rng.uniform(8, 40)
        waves = (1 + depth * np.cos(2 * np.pi * since / period)) / (1 + depth)
        left = waves * np.exp(-3 * since / _log_uniform(rng, 40, 300))
    else:  # a half cosine
        length = rng.uniform(1000, 5000) if shape == "healing plateau" else rng.uniform(100, 800)
        left = (1 + np.cos(np.pi * np.minimum(1, since / length))) / 2
    return np.asarray(left, dtype=np.float64)


def _train(rng: np.random.Generator, spike: Array, rise: int) -> Array:
    """Two to four peaks, each before the last one is back: when 45% to 70% of it is left."""
    added, place = spike.copy(), 0
    for _ in range(rng.integers(1, 4)):
        part = rng.uniform(0.45, 0.7)
        place += rise + int(np.argmax(np.append(spike[rise:], 0.0) < part))
        if place < len(spike):
            added[place:] = np.maximum(added[place:], rng.uniform(0.6, 1.2) * spike[: len(spike) - place])
    return added


def _divergence(rng: np.random.Generator, t: npt.NDArray[np.int_]) -> tuple[Array, int]:
    """Exponential growth over up to 80 steps; then slower, or at some time not finite."""
    rise, rate = int(rng.integers(5, 81)), rng.uniform(1.5, 4)
    up = np.expm1(rate * np.minimum(1, (t + 1) / rise)) / np.expm1(rate)
    later = np.maximum(t - rise + 1, 0)
    if rng.random() < 0.5:
        return np.where(later > rng.integers(1, 200), np.inf, up), rise
    return up + 0.1 * np.log1p(later / 50), rise
