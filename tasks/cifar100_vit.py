"""Trains a vision transformer for small images on CIFAR-100."""

from torch import nn

from tasks.data.cifar import CROP, SIZE, cifar
from tasks.data.images import ImageTask
from tasks.models.vit import ViT


class Cifar100ViT(ImageTask):
    """Classifies CIFAR-100 with torchvision's VisionTransformer, on random crops and mirror images.

    The defaults give the shape of ViT-Lite-7/4 (Hassani et al. 2021).

    Args:
        seed: seeds the order of the images, the crops and the mirroring.
        data_dir: folder of the data.
        download: whether missing data may be downloaded.
        batch: images per step, from 1 to 50,000.
        patch: side of a patch, in pixels; it must divide 32.
        width: width of the transformer.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        hidden: width of each block's hidden layer, in units of `width`; at least 1.
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
        """Return a new transformer, for images of shape (n, 3, 32, 32)."""
        return self.vit.model()
