"""What the mixtures of curves share: the record of a curve without events, and how noise is scaled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
NORMAL_RANGE = 1.349  # the interquartile range of the standard normal distribution
SAMPLE = 20_000  # draws besides the curve's own from which the quartiles of a kind of noise are measured


@dataclass(frozen=True, kw_only=True)
class CalmCurve:
    """A curve without events; arrays have shape (steps,).

    Attributes:
        family: what the curve is made of, in words.
        level: the loss without noise.
        sigma: the local robust standard deviation of the noise.
        noise: what is added to the level.
    """

    family: str
    level: Array
    sigma: Array
    noise: Array


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def unit_noise(
    rng: np.random.Generator, steps: int, kinds: Mapping[str, Callable[[np.random.Generator, int], Array]]
) -> tuple[str, Array]:
    """Draw one kind of noise, and noise of it with median 0 and an interquartile range of NORMAL_RANGE."""
    name = str(rng.choice(list(kinds)))
    draws = kinds[name](rng, SAMPLE + steps)
    low, middle, high = np.quantile(draws, [0.25, 0.5, 0.75])
    return name, np.asarray((draws[-steps:] - middle) / ((high - low) / NORMAL_RANGE), dtype=np.float64)
