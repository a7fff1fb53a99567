"""Powers and roots: the polynomials that are compiled, and the continued fractions that are not, against float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.engine.roots import TOLERANCE, Power, Root

ROUNDING = 4e-7  # of a few operations in float32, whose unit in the last place is 1.2e-7


def evaluate(x, coefficients):
    """Evaluate a polynomial in float64."""
    return sum(coefficient * x**k for k, coefficient in enumerate(coefficients))


@settings(deadline=None)
@given(st.floats(1, 60), st.just(0.0) | st.floats(1e-6, 0.999), st.sampled_from([5e-8, TOLERANCE, 7e-7]))
def test_roots_are_as_exact_as_float32_in_either_form(p, beta, tolerance):
    for base, largest in ((1.0, 1.0), (beta, 1 + beta)):
        root = Root.of(base, 1 / p, largest, tolerance)
        x = torch.linspace(0, largest, 1001)
        exact = (root.base + x.double()) ** root.exponent
        positive = exact > 0
        assert ((root(x) / exact - 1)[positive].abs() < tolerance + ROUNDING).all()
        if root.coefficients is not None:
            above, below = (evaluate(x.double(), coefficients) for coefficients in root.coefficients)
            assert (above / below / exact - 1).abs().max() < 1.1 * tolerance
            assert root.coefficients[0][0] == base ** (1 / p)  # so nothing adds up where x is 0


@settings(deadline=None)
@given(st.floats(1, 60))
def test_powers_are_within_the_tolerance_of_1_in_either_form(exponent):
    power, x = Power.of(exponent), torch.cat([torch.logspace(-30, 0, 1001), torch.zeros(1)])
    exact = x.double() ** exponent
    assert (power(x.clone()) - exact).abs().max() < TOLERANCE + ROUNDING * exponent
    if power.coefficients is not None:
        above, below = (evaluate(x.double(), coefficients) for coefficients in power.coefficients)
        found = x.double() ** math.floor(exponent) * above / below
        assert (found - exact).abs().max() < 1.1 * TOLERANCE
        assert found[-1] == 0
        assert found.min() >= 0


@pytest.mark.parametrize("exponent", [1.8, 1.95, 2.01, 2.7, 3.3, 7.7, 50.1])
def test_orders_from_1_point_8_on_need_no_logarithm_when_compiled(exponent):
    assert Power.of(exponent).coefficients is not None
