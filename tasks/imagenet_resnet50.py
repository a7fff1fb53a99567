"""Trains ResNet-50 on ImageNet."""

from torch import nn

from tasks.data.imagenet import ImageNet
from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision.models import resnet50  # isort: skip


class ImageNetResNet50(ImageNet):
    """Classifies ImageNet with torchvision's resnet50.

    Args:
        seed: seeds the order of the images, the crops and the mirroring.
        data_dir: folder that holds the folder imagenet.
        batch: images per step, from 1 to the number of training images.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: `batch` is outside its range, or the data are missing or incomplete.
    """

    def __init__(self, seed: int, *, data_dir: str, batch: int = 256, workers: int = 0) -> None:
        super().__init__(seed, data_dir=data_dir, batch=batch, workers=workers)

    def model(self) -> nn.Module:
        """Return a new network, for images of shape (n, 3, 224, 224)."""
        model: nn.Module = resnet50(num_classes=self.classes)
        return model
