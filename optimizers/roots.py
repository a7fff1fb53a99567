"""Powers and roots of numbers in [0, 1], several times faster than torch.pow and as exact as float32."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

TOLERANCE = 1e-7  # relative; float32's unit in the last place is 1.2e-7
MOST = 12  # coefficients
CANCELLATION = 16  # sum of the coefficients' absolute values over the first: digits beyond it are lost


class Root:
    """(base + x)^exponent for x in [0, 1]: in float32 by a polynomial where a short one is exact enough."""

    def __init__(self, base: float, exponent: float) -> None:
        self.base, self.exponent = base, exponent
        self.coefficients = None
        if base >= 0.5 and exponent not in (0.5, -1):  # a square root and a division are as fast
            self.coefficients = _coefficients(lambda x: (base + x) ** exponent)

    def __call__(self, x: Tensor) -> Tensor:
        """The root of each element, as a new tensor."""
        if self.coefficients is None or x.dtype != torch.float32:
            smallest = torch.finfo(x.dtype).smallest_normal  # base 0: what it multiplies is then 0
            return (x + self.base).clamp_min_(smallest).pow_(self.exponent)
        return _polynomial(x, self.coefficients)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Sum of c_k x^k, halved by pairs (Estrin): a shorter chain of dependent operations than Horner's."""
    if len(coefficients) % 2:
        coefficients = (*coefficients, 0.0)
    terms = [(x * odd).add_(even) for even, odd in zip(coefficients[::2], coefficients[1::2], strict=True)]
    while len(terms) > 1:
        x = x * x
        paired = [low.addcmul_(high, x) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = paired if len(terms) % 2 == 0 else [*paired, terms[-1]]
    return terms[0]


def _coefficients(function: Callable[[Tensor], Tensor]) -> tuple[float, ...] | None:
    """Of the shortest polynomial within TOLERANCE of the function on [0, 1], exact at 0; None if there is none."""
    test = torch.linspace(0, 1, 501, dtype=torch.float64, device="cpu")
    start = function(test[:1])
    for count in range(2, MOST):
        powers = torch.arange(count, dtype=torch.float64, device="cpu")
        at = (1 + torch.cos(math.pi * (powers + 0.5) / count)) / 2  # Chebyshev's nodes
        slopes = torch.linalg.solve(at[:, None] ** powers, (function(at) - start) / at)
        fitted = start + test * (test[:, None] ** powers @ slopes)
        if ((fitted / function(test) - 1).abs() < TOLERANCE).all():
            coefficients = (start.item(), *slopes.tolist())
            return coefficients if sum(map(abs, coefficients)) < CANCELLATION * coefficients[0] else None
    return None


def power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of x in [0, 1], a new tensor or x changed in place; whole exponents by repeated squaring."""
    if exponent > 1e30:
        return torch.zeros_like(x)  # what stands before it is then exactly 1 or does not count
    if exponent != int(exponent) or exponent > 4096:
        return x.log2_().mul_(exponent).exp2_()  # half the time of pow; 0 gives 0
    result, rest = None, int(exponent)
    while rest:
        if rest % 2:
            result = x.clone() if result is None else result.mul_(x)
        rest //= 2
        if rest:
            x.square_()
    assert result is not None
    return result
