"""The plainest loss curve, without a spike: for the detector's tests and the pictures of docs/spikes.md."""

import numpy as np
import numpy.typing as npt


def falling(
    steps: int,
    *,
    noise: float = 0.03,
    drop: float = 3.0,
    power: float = 0.3,
    seed: int | np.random.Generator = 0,
) -> npt.NDArray[np.float64]:
    """Return a loss that falls to 1 as a power of the step, with Gaussian noise."""
    rng = np.random.default_rng(seed)
    loss: npt.NDArray[np.float64] = 1 + drop * (np.arange(steps) + 10.0) ** -power + noise * rng.standard_normal(steps)
    return loss
