"""Trains a deep, narrow perceptron on few handwritten digits, again and again: AdamW spikes late, by itself."""

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.digits import CLASSES, SIZE, digits, some_digits
from tasks.data.images import ImageTask
from tasks.data.loading import Batch
from tasks.models.perceptron import perceptron


class DigitsDeep(ImageTask):
    """Classifies few handwritten digits in small batches, with label smoothing, over hundreds of epochs.

    Once the digits are learned, the gradients are far smaller than those that a long memory of squares remembers, and
    label smoothing keeps the loss, and with it the curvature, away from zero. That is where AdamW's loss jumps up.

    Args:
        seed: draws the digits, and seeds their order in each epoch.
        images: how many digits are trained on.
        batch: digits per step, from 1 to `images`.
        width: width of the hidden layers, at least 1.
        depth: number of hidden layers, at least 1.
        smoothing: the share of each label that is spread over all classes, from 0 to 1; without effect on evaluations.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        seed: int,
        *,
        images: int = 256,
        batch: int = 64,
        width: int = 32,
        depth: int = 8,
        smoothing: float = 0.1,
    ) -> None:
        for name, size in {"width": width, "depth": depth}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing is {smoothing}; it must be from 0 to 1")
        super().__init__(some_digits(images, seed), seed, batch=batch)
        self.width, self.depth, self.smoothing = width, depth, smoothing

    def model(self) -> nn.Module:
        """Return a new perceptron, for images of shape (n, 1, 8, 8)."""
        return perceptron(SIZE * SIZE, CLASSES, width=self.width, depth=self.depth)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy to the smoothed labels in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(images), labels, label_smoothing=self.smoothing)

    def fingerprint(self) -> str:
        """Return a digest of all digits, from which every seed draws its own."""
        return digits().fingerprint()
