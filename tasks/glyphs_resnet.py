"""Distorted characters with a narrow ResNet-18."""

from torch import nn

from tasks.data.glyphs import CHARACTERS, Glyphs
from tasks.models.resnet import RESNET18, resnet


class GlyphsResNet(Glyphs):
    """ResNet-18 for small images, `width` channels in its first stage: 64 is ResNet-18 itself.

    Args:
        seed: of the characters, fonts and distortions.
        batch: images a step.
        width: channels of the first stage.
        workers: processes that make the batches.
    """

    def __init__(self, seed: int, *, batch: int = 32, width: int = 8, workers: int = 0) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(seed, batch=batch, workers=workers)
        self.width = width

    def model(self) -> nn.Module:
        """The network, for images of shape (n, 1, 32, 32)."""
        return resnet(1, len(CHARACTERS), width=self.width, blocks=RESNET18)
