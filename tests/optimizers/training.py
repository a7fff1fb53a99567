"""What several tests of optimizers share: settings, parameters of many kinds, and training on random gradients."""

import math

import pytest
import torch
from torch import nn

from optimizers import S3, SignSGD

SETTINGS = {
    "s3": (S3, {}),
    "s3_p1": (S3, {"p": 1.0}),
    "s3_p1_3": (S3, {"p": 1.3}),
    "s3_p2_5": (S3, {"p": 2.5, "nesterov": False}),
    "s3_different_beta": (S3, {"p": 2.0, "denominator_beta": 0.99}),
    "s3_inf": (S3, {"p": math.inf, "maximize": True}),
    "signsgd": (SignSGD, {}),
    "signum": (SignSGD, {"momentum": 0.9}),
}
SHAPES = [(3,), (70, 1000), (), (5, 7), (0,), (200, 300), (8, 4, 3, 3)]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
devices = pytest.mark.parametrize("device", ["cpu", GPU])


def parameters(dtype=torch.float32, device="cpu"):
    """Return small and large parameters, a 0-d one, an empty one, a transposed one, and one with gaps."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(device, dtype) for shape in SHAPES]
    tensors.append(torch.randn(4, 6, generator=generator).to(device, dtype).t())
    tensors.append(torch.randn(4, 6, generator=generator).to(device, dtype)[:, ::2])
    return [nn.Parameter(tensor) for tensor in tensors]


def train(optimizer, params, steps=5, first=0):
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.device, param.dtype)
        optimizer.step()


def distance(params, others):
    return max((a - b).abs().max().item() for a, b in zip(params, others, strict=True) if a.numel())
