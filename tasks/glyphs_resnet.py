"""Trains a narrow ResNet-18 on distorted characters."""

from torch import nn

from tasks.data.glyphs import CHARACTERS, Glyphs
from tasks.models.resnet import RESNET18, resnet


class GlyphsResNet(Glyphs):
    """Classifies distorted characters with a ResNet-18 for small images.

    Args:
        seed: seeds the characters, fonts and distortions.
        batch: images per step, at least 1.
        width: channels of the first stage, at least 1; ResNet-18 itself has 64.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range, or a font cannot be read.
    """

    def __init__(self, seed: int, *, batch: int = 32, width: int = 8, workers: int = 0) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(seed, batch=batch, workers=workers)
        self.width = width

    def model(self) -> nn.Module:
        """Return a new network, for images of shape (n, 1, 32, 32)."""
        return resnet(1, len(CHARACTERS), width=self.width, blocks=RESNET18)
