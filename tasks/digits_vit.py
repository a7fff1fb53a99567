"""Handwritten digits with a small vision transformer."""

from torch import nn

from tasks import torchvision_shim  # noqa: F401 (before torchvision)
from tasks.digits import CLASSES, SIZE, digits
from tasks.images import ImageTask

from torchvision.models import VisionTransformer  # isort: skip


class DigitsViT(ImageTask):
    """Ten classes; training images are shifted, so that the model cannot merely memorise them.

    The model is torchvision's VisionTransformer.

    Args:
        seed: of the order of the images and of their shifts.
        batch: images a step.
        shift, patch: largest shift in each direction and side of a patch, in pixels.
        width, depth, heads: of the transformer; its hidden layers are 4 widths wide.
        workers: processes that make the batches.
    """

    def __init__(
        self,
        seed: int,
        *,
        batch: int = 32,
        shift: int = 1,
        patch: int = 4,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        workers: int = 0,
    ) -> None:
        if SIZE % patch:
            raise ValueError(f"patch is {patch}; it must divide {SIZE}")
        if width % heads:
            raise ValueError(f"width is {width} and heads {heads}; heads must divide width")
        super().__init__(digits(), seed, batch=batch, shift=shift, workers=workers)
        self.shape = {"patch_size": patch, "num_layers": depth, "num_heads": heads, "hidden_dim": width}

    def model(self) -> nn.Module:
        """The transformer, for images of shape (n, 1, 8, 8)."""
        width, patch = self.shape["hidden_dim"], self.shape["patch_size"]
        model: nn.Module = VisionTransformer(image_size=SIZE, mlp_dim=4 * width, num_classes=CLASSES, **self.shape)
        model.conv_proj = nn.Conv2d(1, width, patch, stride=patch)  # torchvision's takes three colours
        return model
