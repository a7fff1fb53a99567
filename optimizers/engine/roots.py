"""Powers and roots of numbers near 1: several times faster than torch.pow, and as accurate as float32."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 3e-7  # relative; float32's unit in the last place is 1.2e-7
DEGREES = ((1, 0), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3))  # tried in this order

Coefficients = tuple[float, ...]


@dataclass(frozen=True)
class Root:
    """Computes (base + x)^exponent for x in [0, largest] as a fraction, so that one division can serve several roots.

    In float32 the fraction consists of two short polynomials if these are accurate enough. On a CPU that costs half as
    much as a single polynomial, which needs more coefficients, and every coefficient is loaded again for every few
    coordinates.
    """

    base: float
    exponent: float
    coefficients: tuple[Coefficients, Coefficients] | None

    @classmethod
    def of(cls, base: float, exponent: float, largest: float = 1.0) -> "Root":
        """Return the root with its polynomials, which take a millisecond to fit."""
        if base < 0.5 or exponent in (0.5, 1):  # a square root is faster
            return cls(base, exponent, None)
        return cls(base, exponent, _fit_fraction(lambda x: (base + x) ** exponent, largest))

    def __call__(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return the numerator and denominator of each element's root, as new tensors."""
        if self.coefficients is None or x.dtype != torch.float32:
            x = x + self.base
            if self.base < 0.5:  # as a denominator: a product of small numerators could be 0
                return 1.0, x.clamp_min_(torch.finfo(x.dtype).smallest_normal).pow_(-self.exponent)
            return x.pow_(self.exponent), 1.0
        numerator, denominator = self.coefficients
        return _polynomial(x, numerator), _polynomial(x, denominator)


def _polynomial(x: Tensor, coefficients: Coefficients) -> Tensor | float:
    """Return the sum of c_k x^k."""
    if len(coefficients) == 1:
        return coefficients[0]
    result = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        result.add_(coefficient).mul_(x)
    return result.add_(coefficients[0])


def _fit_fraction(function: Callable[[float], float], largest: float) -> tuple[Coefficients, Coefficients] | None:
    """Return the coefficients of the shortest fraction that is within TOLERANCE of the function on [0, largest].

    The fraction is exact at 0. None if no fraction in DEGREES is close enough. Computed with Python's numbers, because
    an optimizer may be made where tensors have no memory (torch's meta device).
    """
    start = function(0.0)
    test = [(largest * k / 500, function(largest * k / 500)) for k in range(501)]
    for above, below in DEGREES:
        count = above + below
        nodes = [largest * (1 + math.cos(math.pi * (k + 0.5) / count)) / 2 for k in range(count)]  # Chebyshev nodes
        # f(0) + Σ a_k x^k = f(x) (1 + Σ b_k x^k) at the nodes
        solved = _solve(
            [
                [x**k for k in range(1, above + 1)] + [-y * x**k for k in range(1, below + 1)] + [y - start]
                for x, y in ((x, function(x)) for x in nodes)
            ]
        )
        numerator, denominator = (start, *solved[:above]), (1.0, *solved[above:])
        if all(abs(_evaluate(x, numerator) / _evaluate(x, denominator) / y - 1) < TOLERANCE for x, y in test):
            return numerator, denominator
    return None


def _solve(rows: list[list[float]]) -> list[float]:
    """Solve A x = b by Gaussian elimination; each row of A has its element of b at its end."""
    if not rows:
        return []
    *others, first = sorted(rows, key=lambda row: abs(row[0]))
    rest = _solve([[x - row[0] / first[0] * y for x, y in zip(row, first, strict=True)][1:] for row in others])
    known = sum(a * x for a, x in zip(first[1:-1], rest, strict=True))
    return [(first[-1] - known) / first[0], *rest]


def _evaluate(x: float, coefficients: Coefficients) -> float:
    """Return the sum of c_k x^k for one number."""
    return sum(coefficient * x**k for k, coefficient in enumerate(coefficients))


def power(x: Tensor, exponent: float) -> Tensor:
    """Return x^exponent for x in [0, 1]: a new tensor, or x changed in place.

    Whole and half exponents are computed by repeated squaring.
    """
    if exponent > 1e30:
        return torch.zeros_like(x)  # the root of this order that it goes into is then 1 in any case
    if exponent != int(exponent) and exponent * 2 == int(exponent * 2):
        x, exponent = x.sqrt_(), exponent * 2
    if exponent != int(exponent) or exponent > 4096:
        return x.log2_().mul_(exponent).exp2_()  # takes half as long as pow; 0 gives 0
    result, rest = None, int(exponent)
    while rest:
        if rest % 2:
            result = x.clone() if result is None else result.mul_(x)
        rest //= 2
        if rest:
            x.square_()
    assert result is not None
    return result
