"""Trains a small vision transformer on handwritten digits."""

from torch import nn

from tasks.data.digits import CLASSES, SIZE, digits
from tasks.data.images import ImageTask
from tasks.models.vit import ViT


class DigitsViT(ImageTask):
    """Classifies handwritten digits with torchvision's VisionTransformer; shifts keep it from simply memorising images.

    Args:
        seed: seeds the order of the images and their shifts.
        batch: images per step, from 1 to 1,437.
        shift, patch: largest shift in each direction (0 to 7) and side of a patch (it must divide 8), in pixels.
        width, depth, heads: of the transformer; heads must divide width, and hidden layers are 4 times as wide.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        seed: int,
        *,
        batch: int = 32,
        shift: int = 1,
        patch: int = 4,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        workers: int = 0,
    ) -> None:
        super().__init__(digits(), seed, batch=batch, shift=shift, workers=workers)
        self.vit = ViT(size=SIZE, channels=1, classes=CLASSES, patch=patch, width=width, depth=depth, heads=heads)

    def model(self) -> nn.Module:
        """Return a new transformer, for images of shape (n, 1, 8, 8)."""
        return self.vit.model()
