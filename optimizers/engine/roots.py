"""Computes powers and roots of numbers near 1 in kernels: faster than by logarithms, as accurate as float32."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .calls import power_
from .recording import is_compiled

TOLERANCE = 3e-7  # relative; float32's unit in the last place is 1.2e-7
DEGREES = ((1, 0), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3))  # of a root's fraction, tried in this order
DEGREE = 7  # of a power's polynomial
LARGEST = 4096  # exponent up to which powers are computed by multiplication

Coefficients = tuple[float, ...]


@dataclass(frozen=True)
class Root:
    """Computes (base + x)^exponent for x in [0, largest].

    In float32 it is the fraction of two short polynomials if these are accurate enough.
    """

    base: float
    exponent: float
    coefficients: tuple[Coefficients, Coefficients] | None

    @classmethod
    def of(cls, base: float, exponent: float, largest: float = 1.0, tolerance: float = TOLERANCE) -> "Root":
        """Return the root with its polynomials, which take a millisecond to fit; `tolerance` is of their fraction."""
        if base < 0.5 or exponent in (0.5, 1):  # a square root is faster
            return cls(base, exponent, None)
        return cls(base, exponent, _fit_root(base, exponent, largest, tolerance))

    def __call__(self, x: Tensor) -> Tensor | float:
        """Return each element's root: a new tensor, or x changed in place; a number if it is the same for all."""
        above, below = self.fraction(x)
        return above if below is None else above / below

    def divide(self, n: Tensor, norm: Tensor, x: Tensor) -> Tensor:
        """Return n / (norm * root) for the root of each element of x, in the place of n."""
        above, below = self.fraction(x)
        b = above.mul_(norm) if isinstance(above, Tensor) else norm * above
        return (n if below is None else n.mul_(below)).div_(b)

    def fraction(self, x: Tensor) -> tuple[Tensor | float, Tensor | float | None]:
        """Return the numerator and denominator of each element's root as __call__ does; None for a denominator of 1."""
        if self.coefficients is None or x.dtype != torch.float32:
            x.add_(self.base)
            if self.base < 0.5:  # as a denominator: a product of small numerators could be 0
                return 1.0, x.clamp_min_(torch.finfo(x.dtype).smallest_normal).pow_(-self.exponent)
            return x.pow_(self.exponent), None
        numerator, denominator = self.coefficients
        return _polynomial(x, numerator), None if denominator == (1.0,) else _polynomial(x, denominator)


@dataclass(frozen=True)
class Power:
    """Computes x^exponent for x in [0, 1].

    Whole and half exponents are computed by repeated squaring, others as the exponential of a logarithm, where x may be
    a little above 1. Compiled and in float32, the others take a third of that time: they are

        X - X (1 - u) C(u), with u = sqrt(x), X = x^(whole - 1) and a polynomial C.

    This is exact at 1. Next to 0 the power is not smooth, and C is not close, but there X is small. Below an exponent
    of 2, sqrt(x) takes the place of x, and is X too. The error is at most TOLERANCE of 1, to which the rule adds the
    power; next to 0 the power can be that much below 0.
    """

    exponent: float
    coefficients: Coefficients | None  # of C

    @classmethod
    def of(cls, exponent: float) -> "Power":
        """Return the power with its polynomial, if it has one, exact at points that lie closer towards 1."""
        if not 1 < exponent < LARGEST or (2 * exponent).is_integer():
            return cls(exponent, None)
        order = 4 * exponent - 2 if exponent < 2 else 2 + 2 * (exponent % 1)  # the power is X u^order
        points = [((1 + math.cos(math.pi * k / (DEGREE + 2))) / 2) ** 0.8 for k in range(1, DEGREE + 2)]
        rows = [[*(u**k for k in range(DEGREE + 1)), (1 - u**order) / (1 - u)] for u in points]
        return cls(exponent, tuple(_solve(rows)))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the power: a new tensor, or x changed in place."""
        exponent = self.exponent
        if exponent * torch.finfo(x.dtype).eps > 2:
            return torch.zeros_like(x)  # the root of this order that it goes into is then 1 in any case
        fast = x.dtype == torch.float32 and is_compiled()
        if fast and self.coefficients is not None:
            return self._by_polynomial(x, self.coefficients)
        if fast and exponent >= LARGEST:
            unit = 4.0 ** (math.frexp(exponent)[1] - 13)  # rounded to it, it needs 25 products; the root stays to 1e-7
            return _whole_power(x, int(unit * round(exponent / unit)))
        if exponent >= LARGEST or not (2 * exponent).is_integer():
            return power_(x, exponent)
        return _whole_power(x, int(exponent)) if exponent.is_integer() else _whole_power(x.sqrt_(), int(2 * exponent))

    def _by_polynomial(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        """Return the power as a new tensor."""
        if self.exponent < 2:
            x = x.sqrt()
        start = _whole_power(x.clone(), max(1, math.floor(self.exponent) - 1))
        even, odd = (_polynomial(x, coefficients[first::2]) for first in (0, 1))
        u = x.sqrt()  # takes as long as the two polynomials, which do not wait for it
        return start - (start - start * u) * (even + odd * u)


def _whole_power(x: Tensor, exponent: int) -> Tensor:
    """Return x^exponent for an exponent of at least 1: a new tensor, or x changed in place."""
    if exponent == 3:
        return x.pow_(3)  # one call
    result = None
    while exponent > 1:
        if exponent % 2:
            result = x.clone() if result is None else result.mul_(x)
        exponent //= 2
        x.square_()
    return x if result is None else x.mul_(result)


def _polynomial(x: Tensor, coefficients: Coefficients) -> Tensor | float:
    """Return the sum of c_k x^k, a new tensor unless it is a number."""
    if len(coefficients) == 1:
        return coefficients[0]
    *others, last = coefficients
    result = x * last
    for coefficient in others[:0:-1]:
        result.add_(coefficient).mul_(x)
    return result.add_(others[0]) if others[0] else result


def _fit_root(
    base: float, exponent: float, largest: float, tolerance: float
) -> tuple[Coefficients, Coefficients] | None:
    """Return the coefficients of the shortest fraction within the tolerance of (base + x)^exponent on [0, largest].

    The fraction is exact at 0. None if no fraction in DEGREES is close enough. Computed with Python's numbers, because
    an optimizer may be made where tensors have no memory (torch's meta device).

    It meets the root where x = largest r z / (1 + (r - 1) z), with r = sqrt(base / (base + largest)), for Chebyshev
    nodes z. As 1 - z in place of z makes of base + x a multiple of its reciprocal, neither end is harder to fit.
    """
    test = [(x, (base + x) ** exponent) for x in (largest * k / 500 for k in range(501))]
    r = math.sqrt(base / (base + largest))
    for above, below in DEGREES:
        *nodes, last = _nodes(above + below + 1)  # of which the last becomes 0
        scaled = ((node - last) / (1 - last) for node in nodes)
        points = [largest * r * z / (1 + (r - 1) * z) for z in scaled]
        found = _interpolate([(x, (base + x) ** exponent) for x in points], base**exponent, above)
        if all(abs(_evaluate(x, found[0]) / _evaluate(x, found[1]) / y - 1) < tolerance for x, y in test):
            return found
    return None


def _nodes(count: int) -> list[float]:
    """Return the Chebyshev nodes of [0, 1]."""
    return [(1 + math.cos(math.pi * (k + 0.5) / count)) / 2 for k in range(count)]


def _interpolate(points: list[tuple[float, float]], start: float, above: int) -> tuple[Coefficients, Coefficients]:
    """Return the fraction through these points and (0, start) whose numerator has degree `above`."""
    powers = range(1, len(points) - above + 1)  # start + Σ a_k x^k = y (1 + Σ b_k x^k)
    rows = [[x**k for k in range(1, above + 1)] + [-y * x**k for k in powers] + [y - start] for x, y in points]
    solved = _solve(rows)
    return (start, *solved[:above]), (1.0, *solved[above:])


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
