"""Builds residual networks of any width for small images, from torchvision's blocks."""

from collections.abc import Sequence

from torch import nn

from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision.models.resnet import BasicBlock  # isort: skip

RESNET18 = (2, 2, 2, 2)  # blocks in each stage


def resnet(channels: int, classes: int, *, width: int, blocks: Sequence[int]) -> nn.Module:
    """Return a residual network with batch normalisation for images of 8x8 pixels or more.

    Images have shape (n, channels, height, width). With `blocks` RESNET18 and `width` 64 it is ResNet-18 (He et al.
    2016) with a first layer for small images: a 3x3 convolution with stride 1, and no pooling after it. Each further
    stage halves the image and doubles the width.

    Args:
        channels: colours of the images.
        classes: number of outputs.
        width: channels of the first stage, at least 1.
        blocks: number of blocks in each stage.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"width is {width}; it must be at least 1")
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inside = width
    for stage, count in enumerate(blocks):
        outside = width * 2**stage
        for block in range(count):
            stride = 2 if stage and block == 0 else 1
            shortcut = None
            if inside != outside:
                convolution = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)
                shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outside))
            layers.append(BasicBlock(inside, outside, stride, shortcut))
            inside = outside
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # He et al. 2015, as in torchvision
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
