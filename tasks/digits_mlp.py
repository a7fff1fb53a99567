"""Trains a small multilayer perceptron on handwritten digits, all of them at every step."""

import itertools
from collections.abc import Iterator

import torch
from torch import nn

from tasks.data.digits import CLASSES, SIZE, digits
from tasks.data.images import ImageTask
from tasks.data.loading import Batch


class DigitsMLP(ImageTask):
    """Classifies handwritten digits without gradient noise: every batch holds all training images, unchanged.

    The training loss falls by orders of magnitude, and late in training it jumps up by orders of magnitude, as it does
    with adaptive optimizers at the edge of stability (Cohen et al. 2022, "Adaptive gradient methods at the edge of
    stability").

    Args:
        seed: without effect on the data, which are not random.
        width: width of the two hidden layers, at least 1.

    Raises:
        ValueError: `width` is below 1.
    """

    def __init__(self, seed: int, *, width: int = 64) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(digits(), seed, batch=None)
        self.width = width

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of the batch (images, labels), the same at every step, without end; see ImageTask."""
        del start_step
        return itertools.repeat(self._batch(0, rows))

    def model(self) -> nn.Module:
        """Return a new perceptron, for images of shape (n, 1, 8, 8)."""
        width = self.width
        layers = [nn.Linear(SIZE * SIZE, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, CLASSES))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the training loss as well.

        It alone shows how far the optimizer came, because the held-out loss rises in the end.
        """
        batch = tuple(tensor.to(next(model.parameters()).device) for tensor in next(self.batches(0)))
        return {**super().evaluate(model), "train_loss": self.loss(model, batch).item()}
