"""Makes rules cheaper that are not compiled: there each operation is a call and passes over all coordinates."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from .recording import is_compiled


class Quotient(NamedTuple):
    """An update: factor * above / below. To divide in the same call that moves the parameter saves a pass over it."""

    above: Tensor
    below: Tensor
    factor: float = 1.0


def number(value: float, like: Tensor) -> float | Tensor:
    """Return a number as an operand for a tensor: as a tensor too if nothing is compiled, as its calls cost half."""
    if is_compiled() or type(like) not in (Tensor, Parameter):
        return value
    return _number(value, like.dtype)


@functools.lru_cache(1024)
def _number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype, device="cpu")  # which other devices accept


def root_(x: Tensor, exponent: float) -> Tensor:
    """Set x to (1 + x)^exponent and return it, for x of at least 0.

    Of the logarithms and exponentials, log1p and exp2 are those that take the least time on processors of all makes.
    """
    if exponent == 1:
        return x.add_(number(1, x))
    if exponent == 0.5:
        return x.add_(number(1, x)).sqrt_()
    return x.log1p_().mul_(number(exponent / math.log(2), x)).exp2_()


def power_(x: Tensor, exponent: float) -> Tensor:
    """Set x to x^exponent and return it, for x of at least 0; to about 1e-7 of 1 where x is below that, in float32."""
    if is_compiled():
        return x.log2_().mul_(exponent).exp2_()
    return x.sub_(number(1, x)).log1p_().mul_(number(exponent / math.log(2), x)).exp2_()
