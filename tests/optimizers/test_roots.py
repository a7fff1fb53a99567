"""Powers and roots against float64: the polynomials that are compiled, and what is computed otherwise."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from optimizers import SignSGD
from optimizers.engine.calls import power_, root_
from optimizers.engine.recording import record
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
        assert ((root(x.clone()) / exact - 1)[positive].abs() < tolerance + ROUNDING).all()
        if base == 1:
            assert (root_(x.clone(), 1 / p) / exact - 1).abs().max() < ROUNDING
        if root.coefficients is not None:
            above, below = (evaluate(x.double(), coefficients) for coefficients in root.coefficients)
            assert (above / below / exact - 1).abs().max() < 1.1 * tolerance
            assert root.coefficients[0][0] == base ** (1 / p)  # so nothing adds up where x is 0


@settings(deadline=None)
@given(st.floats(1, 2) | st.floats(1, 60))
@example(math.nextafter(1, 2))
@example(math.nextafter(2, 1))
@example(1.1)  # about the hardest one for the polynomial
def test_powers_are_within_the_tolerance_of_1_in_either_form(exponent):
    power, x = Power.of(exponent), torch.cat([torch.logspace(-44, 0, 1001), torch.linspace(0, 1, 1001)])
    exact = x.double() ** exponent
    assert (power(x.clone()) - exact).abs().max() < TOLERANCE + ROUNDING * exponent
    if power.coefficients is not None:
        y = x.double().sqrt() if exponent < 2 else x.double()
        start, u = y ** max(1, math.floor(exponent) - 1), y.sqrt()
        found = start - start * (1 - u) * evaluate(u, power.coefficients)
        assert (found - exact).abs().max() < TOLERANCE
        assert found[-1] == 1
        assert found[1001] == 0


@settings(deadline=None)
@given(st.floats(1, 60), st.sampled_from([torch.float32, torch.float64]))
def test_plain_roots_hold_from_0_to_the_largest_number(p, dtype):
    x = torch.cat([torch.zeros(1), torch.logspace(-44, 38, 1001)]).to(dtype)
    exact = (1 + x.double()) ** (1 / p)
    unit = torch.finfo(dtype).eps
    assert ((root_(x.clone(), 1 / p).double() / exact - 1).abs() < unit * (4 + 2 * exact.log2())).all()


@settings(deadline=None)
@given(st.floats(1, 1e6))
def test_plain_powers_go_a_little_above_1(exponent):
    x = (1 + torch.linspace(-0.5, 25, 1001) * math.log(2) / exponent).clamp_min(0)
    exact = x.double() ** exponent
    units = 4 + exponent + exact.log2().abs().clamp_max(30)
    assert ((power_(x.clone(), exponent).double() - exact).abs() <= 1e-7 + 1.2e-7 * exact * units).all()


@pytest.mark.parametrize(
    "exponent", [1.00001, 1.02, 1.1, 1.25, 1.3, 1.45, 1.6, 1.75, 1.999, 2.001, 2.7, 3.9, 20.3, 500.1]
)
def test_kernels_compute_powers_as_exactly_as_float32(exponent):
    class Own(SignSGD):
        def rule(self, group):
            return Power.of(exponent), (), {}

    x = torch.cat([torch.logspace(-44, 0, 10_000), torch.linspace(0, 1, 10_000)])
    param = nn.Parameter(torch.zeros_like(x))
    param.grad = x.clone()
    Own([param], lr=1.0, weight_decay=0.0, fused=True).step()
    assert (-param.detach().double() - x.double() ** exponent).abs().max() < TOLERANCE + 3e-8 * exponent
    assert param[-1] == -1
    assert param[10_000] == 0


@pytest.mark.parametrize("exponent", [4095.9, 4096, 5000.5, 7321.3, 1e5 / 3, 1e6 / 3, 16_777_215.0, 16_777_217.0, 1e30])
def test_powers_so_high_that_kernels_round_their_exponent_leave_the_root_as_it_is(exponent):
    x = 1 - torch.logspace(-7, -2, 1001).clamp_max(50 / exponent)
    exact = (1 + x.double() ** exponent) ** (1 / exponent)
    assert (Power.of(exponent)(x.clone()).double().add(1) ** (1 / exponent) - exact).abs().max() < 1e-7
    compiled = x.clone()
    record(lambda: compiled.copy_(Power.of(exponent)(compiled.clone())), {"x": compiled})
    assert (compiled.double().add(1) ** (1 / exponent) - exact).abs().max() < 1e-7


@pytest.mark.parametrize("exponent", [1.01, 1.3, 1.8, 2.7, 3.3, 50.1, 5000.1, math.inf])
def test_kernels_take_no_logarithm(exponent):
    x = torch.ones(2)
    recording = record(lambda: x.copy_(Power.of(exponent)(x.clone())), {"x": x})
    assert {operation.name for operation in recording.operations} <= {"add", "sub", "mul", "sqrt"}
