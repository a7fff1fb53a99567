"""The noise of the held-out curves (see held_out.py)."""

import numpy as np
import numpy.typing as npt
from scipy import signal

Array = npt.NDArray[np.float64]


def coloured(rng: np.random.Generator, n: int, power: float) -> Array:
    """Draw noise whose power spectrum falls as 1 / frequency ** (2 * power): its memory has no longest scale."""
    spectrum = np.fft.rfft(rng.standard_normal(2 * n))
    frequency = np.arange(len(spectrum))
    frequency[0] = 1
    spectrum[0] = 0
    slow = np.fft.irfft(spectrum / frequency**power, 2 * n)[:n]
    return np.asarray(slow / slow.std(), dtype=np.float64)


def _autoregressive(rng: np.random.Generator, n: int) -> Array:
    """Draw AR(2) noise with two real roots: a slow one, and a fast one of either sign."""
    slow, quick = rng.uniform(0.5, 0.95), rng.uniform(-0.6, 0.5)
    filtered: Array = signal.lfilter([1.0], [1.0, -(slow + quick), slow * quick], rng.standard_normal(n))
    return filtered


def _sources(rng: np.random.Generator, n: int) -> Array:
    """Draw a Gaussian mixture: a batch is mostly from one of several sources."""
    count = int(rng.integers(3, 6))
    source = rng.choice(count, n, p=rng.dirichlet(np.full(count, 3.0)))
    middles, widths = rng.normal(0, 1.2, count), rng.uniform(0.4, 1.2, count)
    return np.asarray(middles[source] + widths[source] * rng.standard_normal(n), dtype=np.float64)


def _two_sided(rng: np.random.Generator, n: int) -> Array:
    """Draw Laplace noise with some memory."""
    filtered: Array = signal.lfilter([1.0], [1.0, -rng.uniform(0, 0.6)], rng.laplace(size=n))
    return filtered


def _long_memory(rng: np.random.Generator, n: int) -> Array:
    """Draw white noise plus weaker noise that remembers long."""
    slow = coloured(rng, n, rng.uniform(0.3, 0.5))
    return np.asarray(rng.standard_normal(n) + rng.uniform(0.2, 0.4) * slow, dtype=np.float64)


def _round_robin(rng: np.random.Generator, n: int) -> Array:
    """Draw noise from tasks or sources that take turns."""
    return rng.standard_normal(n) + np.resize(rng.normal(0, rng.uniform(0.3, 1), int(rng.integers(2, 40))), n)


def _last_batch(rng: np.random.Generator, n: int) -> Array:
    """Draw noise in which the last batch of each pass through the data is small."""
    noise = rng.standard_normal(n)
    noise[:: int(rng.integers(40, 400))] *= rng.uniform(1.5, 2.5)
    return noise


def _uneven(rng: np.random.Generator, n: int) -> Array:
    """Draw the noise of batches of texts of uneven length."""
    return rng.standard_normal(n) * np.exp(rng.uniform(0.1, 0.3) * rng.standard_normal(n))


def _volatile(rng: np.random.Generator, n: int) -> Array:
    """Draw GARCH(1, 1) noise: large noise follows large noise."""
    shock, keep = rng.uniform(0.03, 0.12), rng.uniform(0.6, 0.85)
    draws, noise, variance = rng.standard_normal(n), np.empty(n), 1.0
    for i in range(n):
        noise[i] = np.sqrt(variance) * draws[i]
        variance = 1 - shock - keep + shock * noise[i] ** 2 + keep * variance
    return noise


def _easy_batches(rng: np.random.Generator, n: int) -> Array:
    """Draw noise in which some batches hold what is seen often, so that the loss is lower for a step."""
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
