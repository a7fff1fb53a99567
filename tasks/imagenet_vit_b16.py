"""ImageNet with ViT-B/16."""

from torch import nn

from tasks.data.imagenet import ImageNet
from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision.models import vit_b_16  # isort: skip


class ImageNetViTB16(ImageNet):
    """The model is torchvision's vit_b_16.

    Args:
        seed: of the order of the images, the crops and the mirroring.
        data_dir: holds the folder imagenet.
        batch: images a step.
        workers: processes that make the batches.
    """

    def __init__(self, seed: int, *, data_dir: str, batch: int = 256, workers: int = 0) -> None:
        super().__init__(seed, data_dir=data_dir, batch=batch, workers=workers)

    def model(self) -> nn.Module:
        """The network, for images of shape (n, 3, 224, 224)."""
        model: nn.Module = vit_b_16(num_classes=self.classes)
        return model
