"""Handwritten digits with a small residual network, which has batch normalisation."""

from torch import nn

from tasks.data.digits import CLASSES, digits
from tasks.data.images import ImageTask
from tasks.models.resnet import resnet

BLOCKS = (1, 1, 1)  # in each stage: the images are 8, 4 and 2 pixels wide


class DigitsCNN(ImageTask):
    """Ten classes; training images are shifted, so that the model cannot merely memorise them.

    Args:
        seed: of the order of the images and of their shifts.
        batch: images a step.
        shift: largest shift in each direction, in pixels.
        width: channels of the first of three stages.
        workers: processes that make the batches.
    """

    def __init__(self, seed: int, *, batch: int = 32, shift: int = 1, width: int = 16, workers: int = 0) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(digits(), seed, batch=batch, shift=shift, workers=workers)
        self.width = width

    def model(self) -> nn.Module:
        """The network, for images of shape (n, 1, 8, 8)."""
        return resnet(1, CLASSES, width=self.width, blocks=BLOCKS)
