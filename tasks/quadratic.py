"""Minimises a noisy quadratic with a known optimum: a run takes milliseconds, for tests and to study an update rule."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


class Point(nn.Module):
    """Holds one vector as its only parameter."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)


class Quadratic:
    """Minimises loss(x) = 1/2 Σ h_i (x_i - z_i)², with z ~ N(0, noise²) drawn at each step.

    The curvatures h_i are evenly spaced in the logarithm.

    Args:
        seed: seeds the noise.
        dim: number of parameters, at least 1.
        condition: ratio of the largest to the smallest curvature, at least 1; the largest is 1.
        noise: standard deviation of each batch's optimum around 0, at least 0, in the unit of x; x starts at N(0, 1).

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, seed: int, *, dim: int = 32, condition: float = 100.0, noise: float = 0.1) -> None:
        for name, value, least in (("dim", dim, 1), ("condition", condition, 1), ("noise", noise, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.seed = seed
        self.noise = noise
        self.curvatures = torch.logspace(0, -float(np.log10(condition)), dim)

    def model(self) -> Point:
        """Return a model with one parameter x, shape (dim,)."""
        return Point(torch.randn(len(self.curvatures)))

    def batches(self, start_step: int) -> Iterator[tuple[Tensor]]:
        """Yield (z,) without end; z has shape (dim,)."""
        step = start_step
        while True:
            z = self.noise * np.random.default_rng([self.seed, step]).standard_normal(len(self.curvatures))
            yield (torch.from_numpy(z).float(),)
            step += 1

    def loss(self, model: Point, batch: tuple[Tensor]) -> Tensor:
        """Return the loss of a batch, 0-d."""
        return 0.5 * (self.curvatures.to(batch[0]) * (model.x - batch[0]) ** 2).sum()

    def evaluate(self, model: Point) -> dict[str, float]:
        """Return the loss without noise and the distance ‖x‖ to the optimum."""
        x = model.x.detach().cpu()
        return {"loss": float(0.5 * (self.curvatures * x**2).sum()), "distance": float(x.norm())}

    def fingerprint(self) -> str:
        """Return a digest of the curvatures and the noise."""
        return hashlib.sha256(self.curvatures.numpy().tobytes() + repr(self.noise).encode()).hexdigest()[:16]
