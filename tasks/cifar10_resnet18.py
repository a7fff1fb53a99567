"""Trains ResNet-18 on CIFAR-10."""

from torch import nn

from tasks.data.cifar import CROP, cifar
from tasks.data.images import ImageTask
from tasks.models.resnet import RESNET18, resnet


class Cifar10ResNet18(ImageTask):
    """Classifies CIFAR-10 with ResNet-18, on random crops and mirror images (He et al. 2016).

    The network's first layer is that for small images, see `resnet`.

    Args:
        seed: seeds the order of the images, the crops and the mirroring.
        data_dir: folder of the data.
        download: whether missing data may be downloaded.
        batch: images per step, from 1 to 50,000.
        width: channels of the first stage, at least 1; ResNet-18 has 64.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range, or the data are missing or damaged.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        download: bool = False,
        batch: int = 128,
        width: int = 64,
        workers: int = 0,
    ) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(cifar(10, data_dir, download), seed, batch=batch, shift=CROP, flip=True, workers=workers)
        self.width = width

    def model(self) -> nn.Module:
        """Return a new network, for images of shape (n, 3, 32, 32)."""
        return resnet(3, 10, width=self.width, blocks=RESNET18)
