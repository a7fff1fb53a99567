"""CIFAR-100 with a vision transformer for small images."""

from torch import nn

from tasks.data.cifar import CROP, SIZE, cifar
from tasks.data.images import ImageTask
from tasks.models.vit import ViT


class Cifar100ViT(ImageTask):
    """By default of the shape of ViT-Lite-7/4 (Hassani et al. 2021); random crops and mirror images.

    The model is torchvision's VisionTransformer.

    Args:
        seed: of the order of the images, the crops and the mirroring.
        data_dir: folder of the data.
        download: whether data that are missing may be downloaded.
        batch: images a step.
        patch: side of a patch, in pixels.
        width, depth, heads: of the transformer.
        hidden: of its hidden layers, in widths.
        workers: processes that make the batches.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        download: bool = False,
        batch: int = 128,
        patch: int = 4,
        width: int = 256,
        depth: int = 7,
        heads: int = 4,
        hidden: int = 2,
        workers: int = 0,
    ) -> None:
        super().__init__(cifar(100, data_dir, download), seed, batch=batch, shift=CROP, flip=True, workers=workers)
        shape = {"patch": patch, "width": width, "depth": depth, "heads": heads, "hidden": hidden}
        self.vit = ViT(size=SIZE, channels=3, classes=100, **shape)

    def model(self) -> nn.Module:
        """The transformer, for images of shape (n, 3, 32, 32)."""
        return self.vit.model()
