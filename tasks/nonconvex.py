"""Minimises a noisy nonconvex function with a known gradient, to see how fast the gradient's norm falls."""

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tasks.quadratic import Point


class Nonconvex:
    """Minimises loss(x) = f(x) + z·x, where f is Rastrigin's function.

    f(x) = Σ_i (x_i² / 2 + height (1 - cos(waves x_i))) / dim has many local minima; the lowest is f(0) = 0. The noise
    of the gradient is z ~ N(0, noise² / dim), drawn at each step.

    Args:
        seed: seeds the noise.
        dim: number of parameters, at least 1.
        height: height of the cosine. height · waves² must be above 1: up to there the function is convex.
        waves: frequency of the cosine.
        noise: root mean square norm of the gradient's noise, at least 0.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self, seed: int, *, dim: int = 32, height: float = 0.5, waves: float = 3.0, noise: float = 0.1
    ) -> None:
        if dim < 1:
            raise ValueError(f"dim is {dim}; it must be at least 1")
        if noise < 0:
            raise ValueError(f"noise is {noise}; it must be at least 0")
        if height * waves**2 <= 1:
            product = height * waves**2
            raise ValueError(f"height · waves² is {product:g}; it must be above 1, else the function is convex")
        self.seed, self.dim, self.height, self.waves, self.noise = seed, dim, height, waves, noise

    def model(self) -> Point:
        """Return a model with one parameter x, shape (dim,), drawn from N(0, 3²): over several waves."""
        return Point(3 * torch.randn(self.dim))

    def batches(self, start_step: int) -> Iterator[tuple[Tensor]]:
        """Yield (z,) without end; z has shape (dim,)."""
        step = start_step
        while True:
            z = np.random.default_rng([self.seed, step]).standard_normal(self.dim)
            yield (torch.from_numpy(self.noise / math.sqrt(self.dim) * z).float(),)
            step += 1

    def loss(self, model: Point, batch: tuple[Tensor]) -> Tensor:
        """Return the loss of a batch, 0-d."""
        return self._value(model.x) + batch[0] @ model.x

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss and the norm of its gradient, both without noise."""
        return value_and_norm(self._value, model)

    def fingerprint(self) -> str:
        """Return a digest of the function and the noise."""
        return hashlib.sha256(repr((self.dim, self.height, self.waves, self.noise)).encode()).hexdigest()[:16]

    def _value(self, x: Tensor) -> Tensor:
        """Return f(x), 0-d."""
        return (x**2 / 2 + self.height * (1 - torch.cos(self.waves * x))).mean()


def value_and_norm(function: Callable[[Tensor], Tensor], model: nn.Module) -> dict[str, float]:
    """Return the `loss`, a function of a model's only parameter, and as `grad_norm` the norm of its gradient."""
    x = next(model.parameters()).detach().cpu().requires_grad_()
    with torch.enable_grad():
        value = function(x)
        (gradient,) = torch.autograd.grad(value, x)
    return {"loss": value.item(), "grad_norm": float(gradient.norm())}
