"""A noisy nonconvex function whose gradient is known exactly: how fast does its norm fall with the number of steps?"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tasks.quadratic import Point


class Nonconvex:
    """loss(x) = f(x) + z·x with Rastrigin's function f(x) = Σ_i (x_i² / 2 + height (1 - cos(waves x_i))) / dim.

    z ~ N(0, noise² / dim) anew at each step is the noise of the gradient. Many local minima; the lowest is f(0) = 0.

    Args:
        seed: of the noise.
        dim: number of parameters.
        height, waves: of the cosine; with height · waves² above 1 the function is not convex.
        noise: root mean square norm of the gradient's noise.
    """

    def __init__(
        self, seed: int, *, dim: int = 32, height: float = 0.5, waves: float = 3.0, noise: float = 0.1
    ) -> None:
        if dim < 1 or noise < 0 or height * waves**2 <= 1:
            raise ValueError(
                f"dim {dim}, noise {noise}, height · waves² {height * waves**2:g}; they must be at least 1, at least 0 "
                "and above 1, as the function is convex below"
            )
        self.seed, self.dim, self.height, self.waves, self.noise = seed, dim, height, waves, noise

    def model(self) -> Point:
        """A model whose one parameter is x, shape (dim,), from N(0, 3²): over several waves."""
        return Point(3 * torch.randn(self.dim))

    def batches(self, start_step: int) -> Iterator[tuple[Tensor]]:
        """Endless (z,), z of shape (dim,)."""
        step = start_step
        while True:
            z = np.random.default_rng([self.seed, step]).standard_normal(self.dim)
            yield (torch.from_numpy(self.noise / math.sqrt(self.dim) * z).float(),)
            step += 1

    def loss(self, model: Point, batch: tuple[Tensor]) -> Tensor:
        """The batch's loss, 0-d."""
        return self._value(model.x) + batch[0] @ model.x

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The loss and the norm of its gradient, both without noise."""
        x = next(model.parameters()).detach().cpu().requires_grad_()
        with torch.enable_grad():
            value = self._value(x)
            (gradient,) = torch.autograd.grad(value, x)
        return {"loss": value.item(), "grad_norm": float(gradient.norm())}

    def fingerprint(self) -> str:
        """Of the function and the noise."""
        return hashlib.sha256(repr((self.dim, self.height, self.waves, self.noise)).encode()).hexdigest()[:16]

    def _value(self, x: Tensor) -> Tensor:
        return (x**2 / 2 + self.height * (1 - torch.cos(self.waves * x))).mean()
