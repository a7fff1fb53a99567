"""Handwritten digits with a small vision transformer."""

from torch import nn

from tasks.data.digits import CLASSES, SIZE, digits
from tasks.data.images import ImageTask
from tasks.models.vit import ViT


class DigitsViT(ImageTask):
    """Ten classes; training images are shifted, so that the model cannot merely memorise them.

    The model is torchvision's VisionTransformer.

    Args:
        seed: of the order of the images and of their shifts.
        batch: images a step.
        shift, patch: largest shift in each direction and side of a patch, in pixels.
        width, depth, heads: of the transformer; its hidden layers are 4 widths wide.
        workers: processes that make the batches.
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
        """The transformer, for images of shape (n, 1, 8, 8)."""
        return self.vit.model()
