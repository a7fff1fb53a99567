"""Trains a small residual network, which has batch normalisation, on handwritten digits."""

from torch import nn

from tasks.data.digits import CLASSES, digits
from tasks.data.images import ImageTask
from tasks.models.resnet import resnet

BLOCKS = (1, 1, 1)  # number of blocks per stage; the images are 8, 4 and 2 pixels wide there


class DigitsCNN(ImageTask):
    """Classifies handwritten digits with a small residual network.

    Training images are shifted, so that the model cannot simply memorise them.

    Args:
        seed: seeds the order of the images and their shifts.
        batch: images per step, from 1 to 1,437.
        shift: largest shift in each direction, in pixels; from 0 to 7.
        width: channels of the first of three stages, at least 1.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, seed: int, *, batch: int = 32, shift: int = 1, width: int = 16, workers: int = 0) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(digits(), seed, batch=batch, shift=shift, workers=workers)
        self.width = width

    def model(self) -> nn.Module:
        """Return a new network, for images of shape (n, 1, 8, 8)."""
        return resnet(1, CLASSES, width=self.width, blocks=BLOCKS)
