"""Fits a curve by a small network in full batch, where Adam spikes late without any noise."""

import hashlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Regression:
    """Fits sin(x) + sin(4x) on [-π, π] by a network with tanh hidden layers; every step uses all points.

    The loss falls by five orders of magnitude. Then Adam (.9, .999) at times throws it back by two or three of them, as
    Ma, Wu & E (arXiv 2009.06125) saw with small networks. The held-out points lie halfway between the training points.

    Args:
        seed: seeds the initialisation only; the data are the same for all seeds.
        points: number of training points, at least 2.
        width: width of a hidden layer, at least 1.
        depth: number of hidden layers, at least 1.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, seed: int, *, points: int = 64, width: int = 32, depth: int = 2) -> None:
        for name, value, least in (("points", points, 2), ("width", width, 1), ("depth", depth, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.seed, self.width, self.depth = seed, width, depth
        all_points = torch.linspace(-torch.pi, torch.pi, 2 * points - 1).unsqueeze(1)
        self.train, self.held_out = all_points[::2], all_points[1::2]

    def model(self) -> nn.Module:
        """Return a new network, for x of shape (n, 1)."""
        sizes = [1] + [self.width] * self.depth
        hidden = [layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m), nn.Tanh())]
        return nn.Sequential(*hidden, nn.Linear(self.width, 1))

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `rows` of the batch (x, y) of all points, without end; both have shape (points, 1)."""
        del start_step  # all steps have the same batch
        return itertools.repeat((self.train[rows], _curve(self.train[rows])))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean squared error, 0-d."""
        x, y = batch
        return F.mse_loss(model(x), y)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the mean squared error and the largest error at the held-out points."""
        x = self.held_out.to(next(model.parameters()).device)
        error = model(x) - _curve(x)
        return {"loss": error.square().mean().item(), "largest_error": error.abs().max().item()}

    def fingerprint(self) -> str:
        """Return a digest of the points."""
        return hashlib.sha256(self.train.numpy().tobytes()).hexdigest()[:16]


def _curve(x: Tensor) -> Tensor:
    """Return the curve to be fitted."""
    return torch.sin(x) + torch.sin(4 * x)
