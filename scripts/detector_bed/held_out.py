"""The held-out curves (see bed.py), drawn up without reading the detector's code. Not to be looked at while tuning.

The learning rate has a schedule, which shows in the loss and often in its noise. What is no spike rises by at most 3
local standard deviations and 0.1 (2% of the lowest level where that is more) within 1000 steps.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import signal

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


def baseline(rng: np.random.Generator, steps: int) -> tuple[str, Array, Array, Array]:
    """What family it is, the level, the local robust standard deviation of the noise, and the noise."""
    task = TASKS[int(rng.choice(len(TASKS), p=[task.share for task in TASKS]))]
    last = _log_uniform(rng, *task.last)
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
    noise, unit = _unit_noise(rng, steps)
    names.append(f"{noise} {course}")
    extra = np.zeros(steps)
    if rng.random() < 0.5:
        nuisance, extra = _nuisance(rng, steps)
        names.append(nuisance)
    extra = extra + rng.uniform(0.3, 1) * (answer - lowest)  # higher where the learning rate goes up again
    extra = rng.uniform(0.5, 1) * _kept_small(extra, sigma, max(0.1, 0.02 * float(level.min())))
    return ", ".join(names), level + extra, sigma, sigma * unit


def places(rng: np.random.Generator, steps: int) -> list[int]:
    """Where events may begin, in order: anywhere, one close after the other, or one of them late."""
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
    return sorted(int(place) for place in where if place < steps)


def logged(rng: np.random.Generator, loss: Array) -> Array:
    """Half of the logs are rounded: to four or five significant digits, or to the 11 bits of a float16."""
    precision = rng.choice(["full", "digits", "float16"], p=[0.5, 0.35, 0.15])
    if precision == "digits":
        digits = int(rng.integers(4, 6))
        return np.array([float(f"{one:.{digits}g}") for one in loss])
    if precision == "float16":
        return loss.astype(np.float16).astype(np.float64)
    return loss


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# ---------------------------------------------------------------- levels


@dataclass(frozen=True)
class Task:
    """What is trained: its loss before, the range of the last one, and of the noise in parts of the last."""

    name: str
    share: float
    first: tuple[float, ...]
    last: tuple[float, float]
    noise: tuple[float, float]
    falls: tuple[str, ...]
    rates: tuple[str, ...]
    courses: tuple[str, ...] = ("even", "with the rate", "with the level", "breathing", "late")


def _ln(*classes: int) -> tuple[float, ...]:
    return tuple(float(np.log(n)) for n in classes)


TASKS = (
    Task(
        "language",
        0.3,
        _ln(32_000, 50_257, 100_278, 256_000),
        (2.0, 3.6),
        (0.004, 0.03),
        ("double power law", "double power law", "held back", "jump"),
        ("cosine", "stable, then decay", "inverse root", "linear"),
    ),
    Task(
        "characters",
        0.15,
        _ln(65, 96, 256),
        (0.9, 1.8),
        (0.015, 0.1),
        ("double power law", "held back", "jump", "two exponentials"),
        ("constant", "cosine", "one cycle"),
    ),
    Task(
        "augmented images",
        0.15,
        _ln(100, 1000),
        (0.8, 3.2),
        (0.015, 0.08),
        ("two exponentials", "double power law", "staircase"),
        ("steps", "cosine", "one cycle", "restarts"),
    ),
    Task(
        "plain images",
        0.12,
        _ln(10, 100),
        (0.03, 0.6),
        (0.05, 0.2),
        ("two exponentials", "staircase", "double power law"),
        ("steps", "constant", "restarts", "one cycle"),
        ("with the level",),
    ),
    Task(
        "arithmetic",
        0.08,
        _ln(97, 113),
        (0.03, 0.5),
        (0.05, 0.2),
        ("late", "saddles"),
        ("constant", "linear"),
        ("with the level",),
    ),
    Task(
        "regression",
        0.1,
        (1.0, 1.5, 4.0),
        (0.1, 0.7),
        (0.04, 0.25),
        ("two exponentials", "saddles", "double power law"),
        ("constant", "cosine", "steps"),
        ("with the level", "breathing", "late"),
    ),
    Task(
        "sums over a sample",
        0.1,
        (180.0, 300.0, 550.0),
        (25.0, 110.0),
        (0.005, 0.05),
        ("two exponentials", "double power law", "jump"),
        ("constant", "linear", "cosine"),
    ),
)


def _fall(rng: np.random.Generator, steps: int, name: str) -> Array:
    """From 1 down to about 0, and never up."""
    t = np.arange(steps)
    if name == "double power law":
        quick, slow = rng.uniform(3, 40), rng.uniform(50, 400)
        part = rng.uniform(0.4, 0.8)
        left = part * (1 + t / quick) ** -rng.uniform(0.6, 1.2) + (1 - part) * (1 + t / slow) ** -rng.uniform(0.2, 0.5)
    elif name == "held back":  # while the learning rate warms up: slow at first, then a power law
        warm = rng.uniform(10, min(400, 0.15 * steps))
        left = (1 + (t / warm) ** 2) ** -rng.uniform(0.15, 0.4)
    elif name == "jump":  # soon something is found, at once
        place = steps * rng.uniform(0.03, 0.2)
        found = 1 / (1 + np.exp((t - place) / max(3.0, place * rng.uniform(0.03, 0.15))))
        part = rng.uniform(0.05, 0.25)
        left = (1 - part) * (1 + t / rng.uniform(4, 40)) ** -rng.uniform(0.4, 0.8) + part * found
    elif name == "two exponentials":
        quick, slow = rng.uniform(0.003, 0.03) * steps + 5, rng.uniform(0.1, 0.5) * steps
        part = rng.uniform(0.5, 0.85)
        left = part * np.exp(-t / quick) + (1 - part) * np.exp(-t / slow)
    elif name == "staircase":  # each pass through the data begins lower, by less and less
        epoch = max(50.0, steps / rng.uniform(4, 40))
        passed = np.floor(t / epoch) + np.minimum(1, (t % epoch) / rng.uniform(3, 20)) - 1
        left = 0.5 * np.exp(-t / rng.uniform(10, 100)) + 0.5 * (2 + passed) ** -rng.uniform(0.4, 0.9)
    elif name == "late":  # long nothing but a little, then all
        middle, width = rng.uniform(0.3, 0.8) * steps, rng.uniform(0.01, 0.06) * steps
        part = rng.uniform(0.1, 0.4)
        left = part * np.exp(-t / rng.uniform(20, 150)) + (1 - part) / (1 + np.exp((t - middle) / width))
    else:  # saddles: from one plateau to the next
        left = np.zeros(steps)
        for part in rng.dirichlet(np.full(int(rng.integers(2, 6)), 2.0)):
            left += part / (1 + np.exp((t - steps * rng.uniform(0.01, 0.8)) / (steps * _log_uniform(rng, 0.002, 0.04))))
    return np.asarray(left / left[0], dtype=np.float64)


def _rate(rng: np.random.Generator, steps: int, name: str) -> tuple[str, Array]:
    """The learning rate in parts of its peak, without its warm-up."""
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
        for place in np.sort(rng.uniform(0.3, 0.95, int(rng.integers(1, 4)))):
            rate[t >= place * steps] *= rng.choice([0.1, 0.2, 0.5])
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
    """The loss answers to the learning rate within some steps."""
    keep = 1 - 1 / rng.uniform(2, 40)
    lagged: Array = signal.lfilter([1 - keep], [1, -keep], rate, zi=[keep * rate[0]])[0]
    return lagged


def _curriculum(rng: np.random.Generator, level: Array) -> Array:
    """One or two changes to other data, on which the loss is lower."""
    t = np.arange(len(level))
    for place in rng.uniform(0.15, 0.9, int(rng.integers(1, 3))) * len(level):
        gone = 1 / (1 + np.exp(-np.clip((t - place) / rng.uniform(1, 60), -500, 500)))
        level = level * (1 - rng.uniform(0.03, 0.2) * gone)
    return level


def _nuisance(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """What goes up and is no spike, on no scale."""
    t = np.arange(steps)
    name = str(rng.choice(["warm-up hump", "data order", "long memory drift", "harder data"]))
    if name == "warm-up hump":  # the learning rate gets to its peak
        peak, power = rng.uniform(30, 300), rng.uniform(1, 4)
        extra = (t / peak * np.exp(1 - t / peak)) ** power
    elif name == "data order":  # the same in each pass
        part = t / _log_uniform(rng, 80, max(160, steps / 2))
        extra = sum(
            np.cos(2 * np.pi * (k * part + rng.random())) * rng.standard_normal() / k for k in range(1, 5)
        ) + np.zeros(steps)
    elif name == "harder data":
        extra = 1 / (1 + np.exp(-np.clip((t - rng.uniform(0.2, 0.8) * steps) / rng.uniform(20, 200), -500, 500)))
    else:
        extra = _coloured(rng, steps, 0.8)
        extra = pd.Series(extra).rolling(50, min_periods=1).mean().to_numpy()
    return name, np.asarray(extra / max(np.ptp(extra), 1e-9), dtype=np.float64)


def _kept_small(extra: Array, sigma: Array, most: float) -> Array:
    """Scaled so that within 1000 steps it rises by 3 local standard deviations or `most` somewhere, nowhere by more."""
    rise = extra - pd.Series(extra).rolling(1000, min_periods=1).min()
    local = pd.Series(sigma).rolling(1000, min_periods=1).min()
    scale = float((rise / np.minimum(3 * local, most)).max())
    return (extra - extra.min()) / scale if scale > 0 else np.zeros(len(extra))


def _coloured(rng: np.random.Generator, n: int, power: float) -> Array:
    """Noise whose spectrum goes as 1 / frequency to twice this power: it has no longest memory."""
    spectrum = np.fft.rfft(rng.standard_normal(2 * n))
    frequency = np.arange(len(spectrum))
    frequency[0] = 1
    spectrum[0] = 0
    slow = np.fft.irfft(spectrum / frequency**power, 2 * n)[:n]
    return np.asarray(slow / slow.std(), dtype=np.float64)


# ---------------------------------------------------------------- noise


def _sigma(rng: np.random.Generator, task: Task, level: Array, rate: Array) -> tuple[str, Array]:
    """How large the noise is over the run: its local robust standard deviation."""
    steps, t = len(level), np.arange(len(level))
    size = _log_uniform(rng, *task.noise) * float(level[-1])
    relative = level / level[-1]
    course = str(rng.choice(task.courses))
    if course == "even":
        sigma = np.full(steps, size)
    elif course == "with the rate":
        sigma = size * (0.5 + rng.uniform(0.3, 1) * np.sqrt(rate))
    elif course == "with the level":
        sigma = size * relative ** rng.uniform(0.6, 1.0)
    elif course == "breathing":  # stretches of other data, again and again
        depth, period = rng.uniform(0.1, 0.4), _log_uniform(rng, 200, max(400, steps / 2))
        sigma = size * relative**0.5 * (1 + depth * np.sin(2 * np.pi * (t / period + rng.random())))
    else:  # late: harder examples are told apart as the run goes on
        sigma = size * (0.6 + rng.uniform(0.4, 1.2) * np.log1p(t) / np.log1p(steps))
    return course, np.asarray(np.minimum(sigma, 0.3 * level), dtype=np.float64)


def _unit_noise(rng: np.random.Generator, steps: int) -> tuple[str, Array]:
    """Noise of median 0 and interquartile range / 1.349 of 1."""
    name = str(rng.choice(list(NOISES)))
    draws = NOISES[name](rng, 20_000 + steps)
    low, middle, high = np.quantile(draws, [0.25, 0.5, 0.75])
    return name, np.asarray((draws[-steps:] - middle) / ((high - low) / 1.349), dtype=np.float64)


def _autoregressive(rng: np.random.Generator, n: int) -> Array:
    """AR(2) with two real roots: a slow one, and a quick one of either sign."""
    slow, quick = rng.uniform(0.5, 0.95), rng.uniform(-0.6, 0.5)
    filtered: Array = signal.lfilter([1.0], [1.0, -(slow + quick), slow * quick], rng.standard_normal(n))
    return filtered


def _sources(rng: np.random.Generator, n: int) -> Array:
    """A Gaussian mixture: a batch is mostly of one of some sources."""
    count = int(rng.integers(3, 6))
    source = rng.choice(count, n, p=rng.dirichlet(np.full(count, 3.0)))
    middles, widths = rng.normal(0, 1.2, count), rng.uniform(0.4, 1.2, count)
    return np.asarray(middles[source] + widths[source] * rng.standard_normal(n), dtype=np.float64)


def _two_sided(rng: np.random.Generator, n: int) -> Array:
    """Laplace, with some memory."""
    filtered: Array = signal.lfilter([1.0], [1.0, -rng.uniform(0, 0.6)], rng.laplace(size=n))
    return filtered


def _long_memory(rng: np.random.Generator, n: int) -> Array:
    slow = _coloured(rng, n, rng.uniform(0.3, 0.5))
    return np.asarray(rng.standard_normal(n) + rng.uniform(0.2, 0.4) * slow, dtype=np.float64)


def _round_robin(rng: np.random.Generator, n: int) -> Array:
    """Tasks or sources take turns."""
    return rng.standard_normal(n) + np.resize(rng.normal(0, rng.uniform(0.3, 1), int(rng.integers(2, 40))), n)


def _last_batch(rng: np.random.Generator, n: int) -> Array:
    """The last batch of each pass through the data is a small one."""
    noise = rng.standard_normal(n)
    noise[:: int(rng.integers(40, 400))] *= rng.uniform(1.5, 2.5)
    return noise


def _uneven(rng: np.random.Generator, n: int) -> Array:
    """Batches of texts of uneven length."""
    return rng.standard_normal(n) * np.exp(rng.uniform(0.1, 0.3) * rng.standard_normal(n))


def _volatile(rng: np.random.Generator, n: int) -> Array:
    """GARCH(1, 1): large noise follows large noise."""
    shock, keep = rng.uniform(0.03, 0.12), rng.uniform(0.6, 0.85)
    draws, noise, variance = rng.standard_normal(n), np.empty(n), 1.0
    for i in range(n):
        noise[i] = np.sqrt(variance) * draws[i]
        variance = 1 - shock - keep + shock * noise[i] ** 2 + keep * variance
    return noise


def _easy_batches(rng: np.random.Generator, n: int) -> Array:
    """Now and then a batch of what is seen often: the loss is lower for a step."""
    easy = rng.random(n) < rng.uniform(0.002, 0.02)
    return rng.standard_normal(n) - easy * rng.uniform(2, 6, n)


NOISES = {
    "gaussian": lambda rng, n: rng.standard_normal(n),
    "autoregressive": _autoregressive,
    "sources": _sources,
    "two-sided": _two_sided,
    "gamma": lambda rng, n: rng.gamma(rng.uniform(4, 40), size=n),
    "student": lambda rng, n: rng.standard_t(rng.uniform(3.5, 8), n),
    "long memory": _long_memory,
    "round robin": _round_robin,
    "last batch": _last_batch,
    "uneven": _uneven,
    "volatile": _volatile,
    "easy batches": _easy_batches,
}

# ---------------------------------------------------------------- events


def bump(rng: np.random.Generator, shape: str, room: int) -> tuple[Array, int]:
    """An event: what is added from the onset on, in parts of its height, and the steps of its rise."""
    t = np.arange(room)
    if shape == "blip":
        heights = np.where(t < rng.integers(1, 4), rng.uniform(0.4, 1) ** t, 0)
        return np.asarray(heights, dtype=np.float64), 1
    if shape == "not finite":
        return np.full(room, np.inf), 1
    if shape == "not finite for a moment":  # and back as before, or from somewhat above
        gone = int(rng.integers(1, 7))
        after = np.exp(-3 * (t - gone) / _log_uniform(rng, 10, 200)) * (rng.random() < 0.5)
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
    """1 up to the peak, then back."""
    length = _log_uniform(rng, 8, 400)
    if shape == "exponential recovery":
        left = np.exp(-3 * since / length)
    elif shape == "power-law recovery":
        left = (1 + since / _log_uniform(rng, 1, 20)) ** -rng.uniform(0.7, 1.3)
        left = left * np.clip(1 - since / rng.uniform(500, 3000), 0, 1)
    elif shape == "linear recovery":
        left = np.clip(1 - since / length, 0, 1)
    elif shape == "double-humped":  # the second hump may be the higher one
        apart, width = rng.uniform(5, 60), rng.uniform(0.4, 0.8)
        second = rng.uniform(0.6, 1.3) * np.exp(-(((since - apart) / (width * apart)) ** 2))
        left = np.maximum(np.exp(-since / (width * apart)), second)
        left = left / left.max()
    elif shape == "volley":  # some spikes, each over before the next
        left = np.exp(-since / rng.uniform(1, 4))
        for place in np.cumsum(rng.integers(12, 60, int(rng.integers(1, 4)))):
            again = rng.uniform(0.5, 1.1) * np.exp(-np.maximum(since - place, 0) / rng.uniform(1, 4))
            left = np.where(since >= place, np.maximum(left, again), left)
        left = left / left.max()
    elif shape == "flat top":  # some time later it falls back
        stays = _log_uniform(rng, 20, 600)
        left = np.where(since < stays, 1.0, np.exp(-3 * np.maximum(since - stays, 0) / rng.uniform(5, 100)))
    else:  # plateau: all of it stays, or most
        part = rng.choice([1.0, rng.uniform(0.65, 0.95)])
        left = part + (1 - part) * np.exp(-3 * since / rng.uniform(20, 400))
    return np.asarray(left, dtype=np.float64)


def _swell(rng: np.random.Generator, t: npt.NDArray[np.int_]) -> tuple[Array, int]:
    """Up over some tens of steps, quicker and quicker, and back at once or as slowly."""
    rise, rate = int(rng.integers(8, 61)), rng.uniform(0.5, 2.5)
    up = np.expm1(rate * np.minimum(1, (t + 1) / rise)) / np.expm1(rate)
    since = np.maximum(t - rise + 1, 0)
    down = np.exp(-((since / (rise * rng.uniform(0.3, 3))) ** rng.choice([1, 2])))
    return np.asarray(up * down, dtype=np.float64), rise


def _ramp(rng: np.random.Generator, t: npt.NDArray[np.int_], stays: bool) -> tuple[Array, int]:
    """Up over hundreds of steps: evenly, quicker and quicker, slower and slower, or slow at both ends."""
    rise = int(rng.integers(100, 801))
    part = np.minimum(1.0, (t + 1) / rise)
    bend = rng.uniform(0.5, 1.5)
    ways = (part, np.expm1(bend * part) / np.expm1(bend), np.sin(np.pi / 2 * part), np.sin(np.pi / 2 * part) ** 2)
    up = ways[rng.integers(len(ways))]
    since = np.maximum(t - rise + 1, 0)
    if stays:
        return up, rise
    length = _log_uniform(rng, 10, 600)
    down = np.clip(1 - since / length, 0, 1) if rng.random() < 0.5 else np.exp(-3 * since / length)
    return up * down, rise


def _divergence(rng: np.random.Generator, t: npt.NDArray[np.int_]) -> tuple[Array, int]:
    """Up over some to sixty steps; there it stays, unsteady, or goes on, or is not finite at some time."""
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
