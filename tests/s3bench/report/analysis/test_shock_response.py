"""The response to a shock on made losses, and the bounds of update rules against hand-computed and searched ones."""

import math

import numpy as np
import pytest
import torch

from optimizers import S3
from s3bench.record.shock_kinds import updates_remembered
from s3bench.report.analysis.shock_response import BACK, SMOOTH, WINDOW, first_step, response, running_mean
from s3bench.report.analysis.update_rules import adam, s3, worst_step
from s3bench.report.stats.censored import NEVER

FALLING = np.linspace(4, 2, 300)


def shocked_by(excess, at=100):
    """Losses that are above the falling ones by the excess, from a step on."""
    losses = FALLING.copy()
    losses[at : at + len(excess)] += excess
    return losses


def test_a_rectangle_of_excess_has_its_height_area_and_width():
    found = response(shocked_by([2.0] * 20), FALLING, 100, limit=0.1)
    assert found.window == WINDOW == 100
    assert found.peak == pytest.approx(2)
    assert found.area == pytest.approx(40)
    assert found.recovery == (20, 20)  # from there on no mean of ten steps is above 0.1


def test_a_single_step_counts_with_its_share_of_the_smoothing():
    found = response(shocked_by([0, 0, 3.0]), FALLING, 100, limit=0.1)
    assert found.peak == pytest.approx(3 / SMOOTH)
    assert found.area == pytest.approx(3)
    assert found.recovery.high == 3
    assert response(shocked_by([0, 0, 3.0]), FALLING, 100, limit=3 / BACK + 1e-9).recovery == (0, 0)


def test_what_comes_before_and_what_both_runs_have_does_not_count():
    noise = np.random.default_rng(0).normal(size=300)
    losses = shocked_by([1.0] * 10) + noise
    losses[:100] = 77
    losses[200:] = 77
    found = response(losses, FALLING + noise, 100, limit=0.05)
    assert (found.peak, found.area, found.recovery.high) == pytest.approx((1, 10, 10))


def test_a_run_that_is_not_back_is_censored_and_one_that_comes_back_again_counts_from_there():
    never = response(shocked_by([1.0] * 200), FALLING, 100, limit=0.1)
    assert never.recovery == (91, math.inf)
    assert not never.recovery.reached
    twice = response(shocked_by([1.0] * 5 + [0.0] * 20 + [1.0] * 5), FALLING, 100, limit=0.05)
    assert twice.recovery.high == 30


def test_a_gain_is_a_negative_area():
    found = response(shocked_by([-1.0] * 100), FALLING, 100, limit=0.1)
    assert (found.peak, found.area, found.recovery.high) == pytest.approx((-1, -100, 0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_is_infinite_and_never_back(value):
    broken = shocked_by([value])
    for losses, diverged in ((broken, False), (broken[:110], True), (FALLING[:110], False), (FALLING, True)):
        found = response(losses, FALLING, 100, limit=0.1, diverged=diverged)
        assert (found.peak, found.area, found.recovery) == (math.inf, math.inf, NEVER)


def test_a_window_that_the_run_cuts_short_and_none_at_all():
    found = response(shocked_by([1.0] * 4, at=296), FALLING, 296, limit=0.1)
    assert (found.window, found.peak, found.area) == (4, pytest.approx(1), pytest.approx(4))
    assert found.recovery == (1, math.inf)
    nothing = response(FALLING, FALLING, 300, limit=0.1)
    assert nothing.window == 0
    assert math.isnan(nothing.peak)
    assert math.isnan(nothing.area)
    assert not nothing.recovery.reached


def test_the_response_begins_with_the_first_loss_that_says_something_of_the_model():
    assert first_step("gradient", 50, 3) == 51  # loss[t] is measured before update t
    assert {first_step(kind, 50, 3) for kind in ("coordinate", "layer", "lr", "reset", "stale", "bf16")} == {51}
    assert first_step("noise", 50, 3) == first_step("labels", 50, 3) == first_step("token", 50, 3) == 53


def test_the_bound_at_a_shock_is_of_the_updates_that_the_state_remembers():
    def remembered(kind):
        return updates_remembered({"kind": kind, "step": 50, "length": 3})

    assert {kind: remembered(kind) for kind in ("gradient", "reset", "stale")} == {
        "gradient": 50,
        "reset": 0,
        "stale": 47,
    }


def test_running_means_by_hand():
    assert running_mean(np.array([1.0, 2.0, 6.0]), 2).tolist() == [1.5, 4.0]
    assert running_mean(np.array([1.0, 2.0]), 5).tolist() == [1.5]


def test_the_bounds_are_those_of_the_paper_page():
    assert adam(0.9, 0.999) == pytest.approx(7.27, abs=0.005)
    assert adam(0.9, 0.95) == pytest.approx(1.165, abs=0.0005)
    assert adam(0.95, 0.95) == pytest.approx(1)
    first = {1: 1.0, 2: 0.312, 3: 0.212, 5: 0.155}  # S3's first step
    assert {p: s3(0.95, p, 1) for p in first} == pytest.approx(first, abs=0.0006)
    assert s3(0.95, 3) == s3(0.95, 1, 7) == 1
    assert adam(0.9, 0.81) == adam(0.9, 0.0) == math.inf
    assert adam(0.0, 0.0) == 1


def test_the_bounds_of_configs():
    def of(target, **settings):
        return worst_step({"_target_": target, "_partial_": True, **settings})

    assert of("torch.optim.AdamW", betas=[0.9, 0.95]) == of("torch.optim.Adam", betas=[0.9, 0.95]) == adam(0.9, 0.95)
    assert of("torch.optim.AdamW") == adam(0.9, 0.999)
    assert (
        of("optimizers.S3", beta=0.95, p=3.0, denominator_beta=None) == of("optimizers.S3", denominator_beta=0.95) == 1
    )
    assert of("optimizers.S3", beta=0.95, denominator_beta=0.999) is None
    assert of("optimizers.SignSGD", momentum=0.95) == 1
    assert of("torch.optim.SGD", momentum=0.9) is None
    assert worst_step({"_target_": "optimizers.S3", "beta": 0.95, "p": 3.0, "nesterov": False}, 1) == pytest.approx(
        0.05 ** (2 / 3)
    )


@pytest.mark.parametrize("updates", [1, 3, 20, 100])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95), (0.95, 0.95)])
def test_no_gradients_take_adam_beyond_its_bound_and_the_worst_ones_reach_it(betas, updates):
    ages = np.arange(updates)[::-1].astype(float)
    worst = (betas[0] / betas[1]) ** ages  # equality in Cauchy and Schwarz: g_i in proportion to w_i / u_i
    bound = adam(*betas, updates)
    assert last_step(torch.optim.Adam, worst, betas=betas, eps=0) == pytest.approx(bound, rel=1e-6)
    for seed in range(5):
        assert last_step(torch.optim.Adam, searched(updates, seed), betas=betas, eps=0) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("updates", [1, 3, 20, 100])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("nesterov", [True, False])
def test_no_gradients_take_s3_beyond_its_bound_and_constant_ones_reach_it(p, updates, nesterov):
    bound = s3(0.95, p, updates, nesterov=nesterov)
    settings = {"beta": 0.95, "p": p, "nesterov": nesterov, "weight_decay": 0}
    assert last_step(S3, np.ones(updates), **settings) == pytest.approx(bound, rel=1e-6)
    for seed in range(5):
        assert last_step(S3, searched(updates, seed), **settings) <= bound * (1 + 1e-9)


def searched(updates, seed):
    """Gradients with heavy tails."""
    return np.random.default_rng(seed).standard_t(1.5, size=updates)


def last_step(optimizer, gradients, **settings):
    """The size of the update that these gradients end with, over lr."""
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    made = optimizer([x], lr=1.0, **settings)
    for gradient in gradients:
        before = x.item()
        x.grad = torch.tensor([gradient], dtype=torch.float64)
        made.step()
    return abs(x.item() - before)
