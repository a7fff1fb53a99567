"""A multilayer perceptron."""

from torch import nn


def perceptron(inputs: int, outputs: int, *, width: int, depth: int) -> nn.Sequential:
    """Return a perceptron with `depth` hidden layers of `width` units and ReLU, with torch's default initialisation.

    It flattens its input of shape (n, ...) to (n, inputs), and returns (n, outputs).
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for size in [inputs, *[width] * (depth - 1)]:
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
