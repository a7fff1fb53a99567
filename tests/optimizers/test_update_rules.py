"""S3 and SignSGD follow the paper's formulas in float64, and have the properties that follow from them."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optimizers import S3, SignSGD


def s3_reference(
    gradients: Sequence[float],
    x: float,
    *,
    lr: float,
    beta: float,
    p: float,
    nesterov: bool,
    denominator_beta: float | None,
    weight_decay: float,
) -> list[float]:
    """Return the parameter after each step of the paper's rule: one number, in float64."""
    beta_2 = beta if denominator_beta is None else denominator_beta
    m = s = 0.0
    trajectory = []
    for g in gradients:
        m = beta * m + (1 - beta) * g
        s = beta_2 * s + (1 - beta_2) * abs(g) ** p
        n = beta * m + (1 - beta) * g if nesterov else m
        b = (beta_2 * s + (1 - beta_2) * abs(g) ** p if nesterov else s) ** (1 / p)
        x = x - lr * ((n / b if b > 0 else 0.0) + weight_decay * x)
        trajectory.append(x)
    return trajectory


def trajectory(optimizer_class, gradients, x=0.5, **arguments):
    """Return the parameter after each step of the real optimizer."""
    parameter = torch.nn.Parameter(torch.tensor([x]))
    optimizer = optimizer_class([parameter], **arguments)
    values = []
    for g in gradients:
        parameter.grad = torch.tensor([g])
        optimizer.step()
        values.append(parameter.item())
    return values


@pytest.mark.parametrize("p", [1.0, 1.3, 1.5, 2.0, 2.7, 3.0, 4.0, 8.0])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("denominator_beta", [None, 0.5, 0.999])
@pytest.mark.parametrize("foreach", [None, False])
def test_s3_follows_the_papers_rule_for_100_steps(p, nesterov, denominator_beta, foreach):
    gradients = np.random.default_rng(0).standard_t(2, size=100).tolist()
    arguments = {"lr": 0.01, "beta": 0.95, "p": p, "nesterov": nesterov, "weight_decay": 0.1}
    arguments["denominator_beta"] = denominator_beta
    expected = s3_reference(gradients, 0.5, **arguments)
    # β is off by 3e-8 in float32, which adds up over 100 steps
    assert trajectory(S3, gradients, foreach=foreach, **arguments) == pytest.approx(expected, rel=5e-6, abs=3e-6)


def test_s3_by_hand():
    # β = 0.5, p = 2, lr = 1, no decay. g = 1: m = .5, s = .5, n = .75, b² = .75. g = -3: m = -1.25, s = 4.75,
    # n = -2.125, b² = 6.875.
    first, second = -0.75 / math.sqrt(0.75), 2.125 / math.sqrt(6.875)
    got = trajectory(S3, [1.0, -3.0], x=0.0, lr=1.0, beta=0.5, p=2.0, weight_decay=0.0)
    assert got == pytest.approx([first, first + second], abs=1e-6)


@pytest.mark.parametrize(("p", "size"), [(1.0, 1.0), (2.0, 0.3122), (3.0, 0.2118), (5.0, 0.1553)])
def test_s3s_first_step_has_the_size_that_the_theory_gives(p, size):
    assert trajectory(S3, [7.0], x=0.0, lr=1.0, p=p, weight_decay=0.0) == pytest.approx([-size], abs=1e-4)


def test_signsgd_and_signum_by_hand():
    # Decay first: x (1 - .1·.5) = .95 x. Signum, μ = .5: m = .5, -.25, -1.125: signs +, -, -.
    sign = trajectory(SignSGD, [1.0, -1.0, 0.0], x=1.0, lr=0.1, weight_decay=0.5)
    assert sign == pytest.approx([0.85, 0.85 * 0.95 + 0.1, (0.85 * 0.95 + 0.1) * 0.95])
    signum = trajectory(SignSGD, [1.0, -1.0, -2.0], x=1.0, lr=0.1, momentum=0.5, weight_decay=0.0)
    assert signum == pytest.approx([0.9, 1.0, 1.1])


def test_s3_with_beta_0_is_signsgd():
    gradients = [3.0, -1e-4, 0.0, 2.0]
    for p in (1.0, 3.0):
        got = trajectory(S3, gradients, lr=0.1, beta=0.0, p=p)
        assert got == pytest.approx(trajectory(SignSGD, gradients, lr=0.1), abs=1e-6)


def test_s3_with_p_2_and_no_look_ahead_is_adam_without_bias_correction():
    gradients = np.random.default_rng(1).normal(size=30).tolist()
    m = v = x = 0.0
    expected = []
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.9 * v + 0.1 * g * g
        x -= 0.01 * m / math.sqrt(v)
        expected.append(x)
    got = trajectory(S3, gradients, x=0.0, lr=0.01, beta=0.9, p=2.0, nesterov=False, weight_decay=0.0)
    assert got == pytest.approx(expected, abs=1e-6)


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
orders = st.sampled_from([1.0, 1.3, 1.5, 2.0, 3.0, 8.0, 64.0, 1e39, math.inf]) | st.floats(min_value=1, max_value=100)
betas = st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.95, 0.999]) | st.floats(min_value=0, max_value=0.999)


def updates(gradients, **arguments):
    """Return the update n/b of each step."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = S3([parameter], lr=1.0, weight_decay=0.0, **arguments)
    values = []
    for g in gradients:
        parameter.data.zero_()
        parameter.grad = torch.tensor([g])
        optimizer.step()
        values.append(-parameter.item())
    return np.array(values)


@settings(max_examples=300, deadline=None)
@given(st.lists(finite, min_size=1, max_size=30), orders, betas, st.booleans())
@example([4.0, 0.0, 0.0], 1.0, 5.630810080717457e-18, True)  # n becomes a denormal number
def test_s3s_update_is_within_1_for_every_gradient_sequence(gradients, p, beta, nesterov):
    assert (np.abs(updates(gradients, p=p, beta=beta, nesterov=nesterov)) <= 1 + 1e-5).all()  # fails for NaN too


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 8.0])
def test_s3s_update_on_a_constant_gradient_tends_to_1_and_stays_there_up_to_rounding(p):
    steps = updates([0.7] * 2000, p=p)
    assert steps[-1] == pytest.approx(1, abs=1e-5)
    assert (steps <= 1 + 1e-5).all()


@pytest.mark.parametrize("p", [1.0, 3.0])
@pytest.mark.parametrize("how", [{"foreach": False}, {"fused": True}])
def test_rounding_does_not_add_up_over_the_steps_of_a_beta_near_1(p, how):
    parameter = torch.nn.Parameter(torch.zeros(64))
    optimizer = S3([parameter], lr=1.0, weight_decay=0.0, beta=0.999, p=p, **how)
    parameter.grad = torch.linspace(0.1, 1.3, 64)
    optimizer.step()
    for state in optimizer.state[parameter].values():
        state.copy_(0.99 * 2**24 * parameter.grad)  # as after 5,000 equal gradients
    for _ in range(5000):
        parameter.data.zero_()
        optimizer.step()
    assert (parameter <= -0.99).all()
    assert (parameter >= -1 - 1e-6).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=1, max_size=30), orders, betas, betas, st.booleans())
def test_s3_with_different_betas_is_unbounded_but_never_nan(gradients, p, beta, denominator_beta, nesterov):
    assert np.isfinite(updates(gradients, p=p, beta=beta, denominator_beta=denominator_beta, nesterov=nesterov)).all()


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 64.0, 1e39, math.inf])
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-9, 1e9, 1e18, 1e30])
def test_s3_does_not_depend_on_the_gradients_scale(p, scale):
    # Whole multiples of the smallest float, so that denormal gradients are exact.
    smallest = 2.0**-149
    gradients = np.random.default_rng(2).integers(-1000, 1000, size=100).astype(float)
    gradients *= max(round(scale / 1000 / smallest), 1) * smallest
    arguments = {"p": p, "weight_decay": 0.0, "x": 0.0, "lr": 0.01}
    expected = trajectory(S3, (gradients / np.abs(gradients).max()).tolist(), **arguments)
    # The plain rule's least norm is a term of its sums, which counts below p = 2 beside denormal gradients.
    tolerance = 1e-4 if scale == 1e-42 and 1 < p < 2 else 2e-6
    assert trajectory(S3, gradients.tolist(), **arguments) == pytest.approx(expected, abs=tolerance)


def test_scales_65_orders_of_magnitude_apart_do_not_disturb_each_other_in_one_tensor():
    scales = torch.logspace(-36, 29, 66)
    factors = np.random.default_rng(0).normal(size=60)
    for p in (1.0, 3.0, 64.0):
        parameter = torch.nn.Parameter(torch.zeros(66))
        optimizer = S3([parameter], lr=0.1, p=p, weight_decay=0.0)
        for factor in factors:
            parameter.grad = float(factor) * scales
            optimizer.step()
        assert (parameter - parameter[36]).abs().max() < 1e-5


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 8.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_too_large_for_the_state_count_as_the_largest_that_is_not(p, dtype):
    # The largest is 2^100 in float32 and 2^967 in float64; larger ones act like it, with their sign.
    largest = 2.0 ** (100 if dtype == torch.float32 else 967)
    huge = torch.finfo(dtype).max
    signs = np.random.default_rng(4).choice([-1.0, 1.0], size=50)

    def moved(sizes):
        parameter = torch.nn.Parameter(torch.zeros(len(sizes), dtype=dtype))
        optimizer = S3([parameter], lr=0.01, p=p, weight_decay=0.0)
        for sign in signs:
            parameter.grad = torch.tensor([sign * size for size in sizes], dtype=dtype)
            optimizer.step()
        return parameter

    beyond = moved([largest, 2 * largest, huge])
    assert (beyond == beyond[0]).all()
    assert beyond.tolist() == pytest.approx(moved([1.0]).tolist() * 3, abs=2e-6)


@pytest.mark.parametrize("p", [1.0, 3.0, 8.0])
def test_a_coordinate_whose_gradient_has_stopped_comes_to_rest(p):
    assert updates([1.0] * 20 + [0.0] * 3000, p=p)[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("p", [1.5, 3.0, math.inf])
def test_float64_parameters_follow_the_rule_in_float64(p):
    gradients = np.random.default_rng(3).normal(size=50) * 1e-200
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = S3([parameter], lr=0.01, p=p, weight_decay=0.0)
    for g in gradients:
        parameter.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    arguments = {"lr": 0.01, "beta": 0.95, "p": p, "nesterov": True, "denominator_beta": None, "weight_decay": 0.0}
    if math.isinf(p):
        arguments["p"] = 2000.0  # equals infinity here to 1e-3
    expected = s3_reference((gradients / np.abs(gradients).max()).tolist(), 0.0, **arguments)[-1]
    assert parameter.item() == pytest.approx(expected, abs=1e-3 if math.isinf(p) else 1e-13)


def test_a_coordinate_without_any_gradient_does_not_move_also_where_denormals_are_flushed():
    for flush in (False, True):
        torch.set_flush_denormal(flush)
        try:
            assert trajectory(S3, [0.0, 0.0], x=0.5, lr=1.0, weight_decay=0.0) == [0.5, 0.5]
        finally:
            torch.set_flush_denormal(False)


@pytest.mark.parametrize("make", [S3, lambda params: SignSGD(params, momentum=0.9)])
def test_a_restored_optimizer_goes_on_as_the_undisturbed_one(make, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = make(model.parameters())
    inputs = torch.randn(20, 4, 3)

    def train(model, optimizer, part):
        for x in part:
            optimizer.zero_grad()
            model(x).pow(2).mean().backward()
            optimizer.step()

    train(model, optimizer, inputs[:10])
    torch.save(optimizer.state_dict(), tmp_path / "state")
    restored_model = copy.deepcopy(model)
    restored = make(restored_model.parameters())
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    train(model, optimizer, inputs[10:])
    train(restored_model, restored, inputs[10:])
    for one, other in zip(model.parameters(), restored_model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_maximize_closures_groups_and_tensor_lr_work_as_in_torch():
    parameter = torch.nn.Parameter(torch.zeros(2))
    other = torch.nn.Parameter(torch.zeros(2))
    lr = torch.tensor(0.5)
    optimizer = S3([{"params": [parameter]}, {"params": [other], "maximize": True}], lr=lr, p=1.0, weight_decay=0.0)

    def closure():
        optimizer.zero_grad()
        loss = (parameter + other).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0
    assert torch.allclose(parameter, torch.full((2,), -0.5))
    assert torch.allclose(other, torch.full((2,), 0.5))


@pytest.mark.parametrize(
    ("optimizer", "argument", "value"),
    [
        (S3, "lr", -1.0),
        (S3, "beta", 1.0),
        (S3, "p", 0.5),
        (S3, "p", math.nan),
        (S3, "denominator_beta", -0.1),
        (S3, "weight_decay", -0.1),
        (SignSGD, "lr", math.nan),
        (SignSGD, "momentum", 1.0),
        (SignSGD, "weight_decay", -0.1),
        (S3, "fused", 2),
        (S3, "foreach", 0.5),
        (SignSGD, "maximize", None),
    ],
)
def test_an_argument_outside_its_range_is_named_with_its_value(optimizer, argument, value):
    with pytest.raises(ValueError, match=f"{argument} is {value}; it must be"):
        optimizer([torch.nn.Parameter(torch.zeros(1))], **{argument: value})


@pytest.mark.parametrize("how", [{}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("optimizer", [S3, SignSGD])
def test_sparse_and_complex_gradients_raise(optimizer, how):
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{optimizer.__name__} does not support sparse"):
        optimizer(embedding.parameters(), **how).step()
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.complex64))
    parameter.grad = torch.ones_like(parameter)
    with pytest.raises(RuntimeError, match=f"{optimizer.__name__} does not support complex"):
        optimizer([parameter], **how).step()
