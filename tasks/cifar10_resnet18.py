"""CIFAR-10 with ResNet-18."""

from torch import nn

from tasks.data.cifar import CROP, cifar
from tasks.data.images import ImageTask
from tasks.models.resnet import RESNET18, resnet


class Cifar10ResNet18(ImageTask):
    """ResNet-18 with the beginning that small images need; random crops and mirror images (He et al. 2016).

    Args:
        seed: of the order of the images, the crops and the mirroring.
        data_dir: folder of the data.
        download: whether data that are missing may be downloaded.
        batch: images a step.
        width: channels of the first stage; ResNet-18 has 64.
        workers: processes that make the batches.
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
        """The network, for images of shape (n, 3, 32, 32)."""
        return resnet(3, 10, width=self.width, blocks=RESNET18)
