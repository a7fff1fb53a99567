"""Memorises handwritten digits, all of them at every step: optimizers without an ε spike where gradients vanish."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.digits import CLASSES, SIZE, digits, some_digits
from tasks.data.images import ImageTask
from tasks.data.loading import Batch
from tasks.models.perceptron import perceptron


class DigitsMemorise(ImageTask):
    """Classifies handwritten digits without gradient noise, until the training loss is zero in float32.

    In float32 the gradient of a digit's right class becomes exactly zero. An optimizer with a short memory then forgets
    how large gradients were, and without an ε in its denominator it turns a tiny gradient into a full step
    (Thilak et al. 2022, "The slingshot mechanism").

    Args:
        seed: draws the digits.
        images: how many digits are trained on.
        width: width of the hidden layers, at least 1.
        depth: number of hidden layers, at least 1.
        float64_loss: whether the cross-entropy is computed in float64: a control, in which no gradient is rounded to 0.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self, seed: int, *, images: int = 500, width: int = 64, depth: int = 5, float64_loss: bool = False
    ) -> None:
        for name, size in {"width": width, "depth": depth}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        super().__init__(some_digits(images, seed), seed, batch=None)
        self.width, self.depth, self.float64_loss = width, depth, float64_loss

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of the batch (images, labels), the same at every step, without end; see ImageTask."""
        del start_step
        return itertools.repeat(self._batch(0, rows))

    def model(self) -> nn.Module:
        """Return a new perceptron, for images of shape (n, 1, 8, 8)."""
        return perceptron(SIZE * SIZE, CLASSES, width=self.width, depth=self.depth)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats, 0-d."""
        images, labels = batch
        logits = model(images)
        return F.cross_entropy(logits.double() if self.float64_loss else logits, labels)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the mean cross-entropy in nats on the digits that are memorised, and both metrics on other ones."""
        batch = tuple(tensor.to(next(model.parameters()).device) for tensor in next(self.batches(0)))
        held_out = {f"held_out_{name}": value for name, value in super().evaluate(model).items()}
        return {"loss": self.loss(model, batch).item(), **held_out}

    def fingerprint(self) -> str:
        """Return a digest of all digits, from which every seed draws its own."""
        return digits().fingerprint()
