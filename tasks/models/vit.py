"""Builds torchvision's vision transformer for small images with any number of channels."""

from dataclasses import dataclass

from torch import nn

from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision.models import VisionTransformer  # isort: skip


@dataclass(frozen=True, kw_only=True)
class ViT:
    """Holds the settings of a vision transformer (Dosovitskiy et al. 2021), checked.

    Args:
        size: side of the square images, in pixels.
        channels: colours of the images.
        classes: number of outputs.
        patch: side of a patch, in pixels; it must divide `size`.
        width: width of the transformer.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        hidden: width of each block's hidden layer, in units of `width`; at least 1.

    Raises:
        ValueError: a number is below 1, or does not divide what it must.
    """

    size: int
    channels: int
    classes: int
    patch: int
    width: int
    depth: int
    heads: int
    hidden: int = 4

    def __post_init__(self) -> None:
        for name in ("patch", "width", "depth", "heads", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.size % self.patch:
            raise ValueError(f"patch is {self.patch}; it must divide {self.size}, the side of the images")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width} and heads {self.heads}; heads must divide width")

    def model(self) -> nn.Module:
        """Return a new transformer, for images of shape (n, channels, size, size)."""
        model: nn.Module = VisionTransformer(
            image_size=self.size,
            patch_size=self.patch,
            num_layers=self.depth,
            num_heads=self.heads,
            hidden_dim=self.width,
            mlp_dim=self.hidden * self.width,
            num_classes=self.classes,
        )
        if self.channels != 3:  # torchvision's takes three channels
            model.conv_proj = nn.Conv2d(self.channels, self.width, self.patch, stride=self.patch)
        return model
