"""Minimises a noisy nonconvex function on which no rate is faster than that of the theorems, T^(-1/4)."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tasks.nonconvex import value_and_norm
from tasks.quadratic import Point


class Valley:
    """Minimises loss(x) = f(x) + z·x, where half of the parameters are in long valleys and half in bowls.

    f(v, w) = Σ_i (1 + v_i²)^(-slope/2) / slope + Σ_i w_i² / 2, with z ~ N(0, noise²) on each parameter. Along a valley
    the gradient falls like |v|^(-1 - slope): small learning rates do not get far. In a bowl the noise keeps the
    gradient at a level that grows with the learning rate: large ones end high. SGD of learning rate η, and an optimizer
    that divides by the size of gradients that are mostly noise, reach a mean norm of about (η T)^(-1/2) in valleys and
    η^(1/2) in bowls, so that the best η is about T^(-1/2) and the norm falls like T^(-1/4): the bound is attained.

    Args:
        seed: seeds the noise.
        dim: number of parameters, even and at least 2.
        slope: how fast a valley becomes flat, above 0; for 0 it would have no bottom.
        noise: standard deviation of the noise of each parameter's gradient, at least 0.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, seed: int, *, dim: int = 32, slope: float = 0.1, noise: float = 1.0) -> None:
        if dim < 2 or dim % 2:
            raise ValueError(f"dim is {dim}; it must be even and at least 2")
        if noise < 0:
            raise ValueError(f"noise is {noise}; it must be at least 0")
        if slope <= 0:
            raise ValueError(f"slope is {slope}; it must be above 0")
        self.seed, self.dim, self.slope, self.noise = seed, dim, slope, noise

    def model(self) -> Point:
        """Return a model with one parameter x, shape (dim,): at 1 in the valleys and at 0 in the bowls."""
        return Point(torch.cat([torch.ones(self.dim // 2), torch.zeros(self.dim // 2)]))

    def batches(self, start_step: int) -> Iterator[tuple[Tensor]]:
        """Yield (z,) without end; z has shape (dim,)."""
        step = start_step
        while True:
            z = np.random.default_rng([self.seed, step]).standard_normal(self.dim)
            yield (torch.from_numpy(self.noise * z).float(),)
            step += 1

    def loss(self, model: Point, batch: tuple[Tensor]) -> Tensor:
        """Return the loss of a batch, 0-d."""
        return self._value(model.x) + batch[0] @ model.x

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss and the norm of its gradient, both without noise."""
        return value_and_norm(self._value, model)

    def fingerprint(self) -> str:
        """Return a digest of the function and the noise."""
        return hashlib.sha256(repr((self.dim, self.slope, self.noise)).encode()).hexdigest()[:16]

    def _value(self, x: Tensor) -> Tensor:
        """Return f(x), 0-d."""
        v, w = x.chunk(2)
        return ((1 + v**2) ** (-self.slope / 2) / self.slope).sum() + (w**2 / 2).sum()
