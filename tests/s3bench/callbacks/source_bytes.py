"""Real text for the tests of callbacks: the standard library's source as bytes, and a model of their pairs."""

import random
from pathlib import Path

import torch


def windows(length=16, count=400):
    """Return sequences of bytes from the source of `random`, shape (count, length)."""
    data = Path(random.__file__).read_bytes()
    return torch.tensor([list(data[at : at + length]) for at in range(0, length * count, length)])
