"""Trains a small vision transformer on distorted characters."""

from torch import nn

from tasks.data.glyphs import CHARACTERS, SIZE, Glyphs
from tasks.models.vit import ViT


class GlyphsViT(Glyphs):
    """Classifies distorted characters with torchvision's VisionTransformer.

    Args:
        seed: seeds the characters, fonts and distortions.
        batch: images per step, at least 1.
        patch: side of a patch, in pixels; it must divide 32.
        width: width of the transformer; its hidden layers are 4 times as wide.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range, or a font cannot be read.
    """

    def __init__(
        self,
        seed: int,
        *,
        batch: int = 32,
        patch: int = 8,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        workers: int = 0,
    ) -> None:
        super().__init__(seed, batch=batch, workers=workers)
        classes = len(CHARACTERS)
        self.vit = ViT(size=SIZE, channels=1, classes=classes, patch=patch, width=width, depth=depth, heads=heads)

    def model(self) -> nn.Module:
        """Return a new transformer, for images of shape (n, 1, 32, 32)."""
        return self.vit.model()
