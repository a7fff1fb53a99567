"""Small vision transformers: torchvision's, for any number of colours, with their settings checked."""

from dataclasses import dataclass

from torch import nn

from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision.models import VisionTransformer  # isort: skip


@dataclass(frozen=True, kw_only=True)
class ViT:
    """What a vision transformer is built from (Dosovitskiy et al. 2021).

    Args:
        size, channels: of the square images: side in pixels, and colours.
        classes: outputs.
        patch: side of a patch, in pixels.
        width, depth, heads: of the transformer.
        hidden: of the hidden layer of each block, in widths.

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
            raise ValueError(f"patch is {self.patch}; it must divide {self.size}")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width} and heads {self.heads}; heads must divide width")

    def model(self) -> nn.Module:
        """The transformer, for images of shape (n, channels, size, size)."""
        model: nn.Module = VisionTransformer(
            image_size=self.size,
            patch_size=self.patch,
            num_layers=self.depth,
            num_heads=self.heads,
            hidden_dim=self.width,
            mlp_dim=self.hidden * self.width,
            num_classes=self.classes,
        )
        if self.channels != 3:  # torchvision's takes three colours
            model.conv_proj = nn.Conv2d(self.channels, self.width, self.patch, stride=self.patch)
        return model
