"""Regression on a curve by a small network in full batch: without any noise Adam spikes late, by itself."""

import hashlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Regression:
    """Fits sin(x) + sin(4x) on [-π, π] by a network with hidden layers of tanh; every step sees all points.

    The loss falls by five orders of magnitude; then Adam (.9, .999) at times throws it back by two or three of them, as
    Ma, Wu & E (arXiv 2009.06125) saw with small networks. Held out: the points halfway between those for training.

    Args:
        seed: the initialisation alone follows from it; the data are the same.
        points: for training.
        width: of a hidden layer.
        depth: hidden layers.
    """

    def __init__(self, seed: int, *, points: int = 64, width: int = 32, depth: int = 2) -> None:
        if points < 2 or width < 1 or depth < 1:
            raise ValueError(f"points {points}, width {width}, depth {depth}; they must be at least 2, 1 and 1")
        self.seed, self.width, self.depth = seed, width, depth
        all_points = torch.linspace(-torch.pi, torch.pi, 2 * points - 1).unsqueeze(1)
        self.train, self.held_out = all_points[::2], all_points[1::2]

    def model(self) -> nn.Module:
        """The network, for x of shape (n, 1)."""
        sizes = [1] + [self.width] * self.depth
        hidden = [layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m), nn.Tanh())]
        return nn.Sequential(*hidden, nn.Linear(self.width, 1))

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (x, y), all points, of which `rows` are given; shape (points, 1)."""
        del start_step  # all steps are alike
        return itertools.repeat((self.train[rows], _curve(self.train[rows])))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error, 0-d."""
        x, y = batch
        return F.mse_loss(model(x), y)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean squared error between the training points, and the largest error there."""
        x = self.held_out.to(next(model.parameters()).device)
        error = model(x) - _curve(x)
        return {"loss": error.square().mean().item(), "largest_error": error.abs().max().item()}

    def fingerprint(self) -> str:
        """Of the points."""
        return hashlib.sha256(self.train.numpy().tobytes()).hexdigest()[:16]


def _curve(x: Tensor) -> Tensor:
    return torch.sin(x) + torch.sin(4 * x)
