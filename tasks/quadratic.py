"""A noisy quadratic with a known optimum: milliseconds a run, for tests and for seeing an update rule bare."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


class Point(nn.Module):
    """A model that is one vector."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)


class Quadratic:
    """loss(x) = 1/2 Σ h_i (x_i - z_i)², z ~ N(0, noise²) anew at each step, h spaced evenly in the logarithm.

    Args:
        seed: of the noise.
        dim: number of parameters.
        condition: largest over smallest curvature; the largest is 1.
        noise: standard deviation of each batch's optimum around 0, in the unit of x; x starts at N(0, 1).
    """

    def __init__(self, seed: int, *, dim: int = 32, condition: float = 100.0, noise: float = 0.1) -> None:
        if dim < 1 or condition < 1 or noise < 0:
            raise ValueError(f"dim {dim}, condition {condition}, noise {noise}; they must be at least 1, 1 and 0")
        self.seed = seed
        self.noise = noise
        self.curvatures = torch.logspace(0, -float(np.log10(condition)), dim)

    def model(self) -> Point:
        """A model whose one parameter is x, shape (dim,)."""
        return Point(torch.randn(len(self.curvatures)))

    def batches(self, start_step: int) -> Iterator[tuple[Tensor]]:
        """Endless (z,), z of shape (dim,)."""
        step = start_step
        while True:
            z = self.noise * np.random.default_rng([self.seed, step]).standard_normal(len(self.curvatures))
            yield (torch.from_numpy(z).float(),)
            step += 1

    def loss(self, model: Point, batch: tuple[Tensor]) -> Tensor:
        """The batch's loss, 0-d."""
        return 0.5 * (self.curvatures.to(batch[0]) * (model.x - batch[0]) ** 2).sum()

    def evaluate(self, model: Point) -> dict[str, float]:
        """The loss without noise, and the distance ‖x‖ to the optimum."""
        x = model.x.detach().cpu()
        return {"loss": float(0.5 * (self.curvatures * x**2).sum()), "distance": float(x.norm())}

    def fingerprint(self) -> str:
        """Of the curvatures and the noise."""
        return hashlib.sha256(self.curvatures.numpy().tobytes() + repr(self.noise).encode()).hexdigest()[:16]
