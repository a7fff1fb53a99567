"""Distorted characters with a small vision transformer."""

from torch import nn

from tasks.data.glyphs import CHARACTERS, SIZE, Glyphs
from tasks.models.vit import ViT


class GlyphsViT(Glyphs):
    """The model is torchvision's VisionTransformer.

    Args:
        seed: of the characters, fonts and distortions.
        batch: images a step.
        patch: side of a patch, in pixels.
        width, depth, heads: of the transformer; its hidden layers are 4 widths wide.
        workers: processes that make the batches.
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
        """The transformer, for images of shape (n, 1, 32, 32)."""
        return self.vit.model()
