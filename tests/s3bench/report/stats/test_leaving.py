"""When a loss has left, and at which rate: curves computed by hand, and what holds for all curves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3bench.report.stats.leaving import (
    RISE,
    WINDOW,
    Mean,
    Threshold,
    end_level,
    geometric_mean,
    is_stable,
    largest_stable,
    left_at,
    next_rate,
    ratios,
    threshold,
)

CALM = np.concatenate([np.linspace(3, 1, 20), np.ones(40)])
MAJORITY = WINDOW // 2 + 1
losses = st.lists(st.floats(0, 5, width=32), min_size=1, max_size=60)


def followed_by(*losses):
    return np.concatenate([CALM, losses])


def test_a_loss_leaves_at_the_first_of_the_losses_that_are_more_than_the_rise_above():
    assert left_at(followed_by(*[1.6] * MAJORITY)) == 60
    assert left_at(followed_by(1.6, *[1] * 7, *[1.6] * 7)) == 60  # eight of the last fifteen lie above
    assert left_at(followed_by(1.6, *[1] * 8, *[1.6] * 8)) == 69  # the first has left the window


def test_a_short_spike_and_a_low_rise_are_not_leaving():
    assert left_at(followed_by(*[9] * (MAJORITY - 1), *[1] * 30)) is None
    assert left_at(followed_by(*[1 + RISE] * 100)) is None


def test_it_leaves_from_the_lowest_level_so_far():
    assert left_at(np.concatenate([CALM, np.zeros(15), [0.6] * MAJORITY])) == 75
    slow = np.concatenate([CALM, np.linspace(1, 2, 101)])
    assert slow[left_at(slow)] == pytest.approx(1.51)  # the first loss above 1.5


def test_a_loss_that_is_not_finite_has_left_at_once():
    for value in (math.nan, math.inf):
        assert left_at(followed_by(value)) == 60
        assert left_at(followed_by(4, value)) == 60  # it began with the loss before
    assert left_at([math.nan]) == 0
    assert left_at(followed_by()) is None
    assert left_at([]) is None


def test_a_loss_that_only_rises_leaves_from_its_first_value():
    assert left_at(np.linspace(1, 11, 101)) == 6  # 1.6


def test_a_run_at_a_fixed_rate_ends_at_the_median_of_its_last_losses_or_has_left():
    assert end_level(followed_by(*np.linspace(1, 1.3, 15))) == pytest.approx(1.15)
    assert end_level(CALM, diverged=True) == math.inf
    assert end_level(followed_by(*[2] * 20, *[1] * 20)) == math.inf  # that it came back does not count
    assert end_level([*CALM, math.nan]) == math.inf


def test_it_is_stable_if_it_ends_no_higher_than_a_ramp_may_rise():
    assert is_stable(end_level(CALM), lowest=0.5)
    assert not is_stable(end_level(CALM), lowest=0.49)
    assert not is_stable(end_level(np.full(100, 2.3)), lowest=1)  # stays at a guess
    assert not is_stable(math.inf, lowest=math.inf)


def test_the_threshold_is_the_rate_of_the_update_before_the_first_loss_above():
    rates = np.arange(1.0, 101)
    found = threshold(followed_by(*[2] * 40), rates)
    assert found == Threshold(60, 1, 60, 60)  # it left from 1; update 59 has the rate 60
    assert found.is_known


def test_what_is_not_known_of_a_threshold_has_bounds():
    rates = np.concatenate([np.ones(70), np.arange(2.0, 32)])
    assert threshold(followed_by(*[1] * 40), rates) == Threshold(math.inf, 1, 31, math.inf)  # never left
    assert threshold(followed_by(*[2] * 40), rates) == Threshold(60, 1, 0, 1)  # before the rate had grown
    step, *nothing = threshold(np.full(100, 2.3), rates)  # had nowhere to leave from
    assert (math.isnan(step), nothing) == (True, [2.3, 0, math.inf])
    step, *little = threshold(np.full(100, 2.3), rates, diverged=True)
    assert (math.isnan(step), little) == (True, [2.3, 0, 31])


def test_means_are_geometric_with_students_interval_of_the_logarithms():
    mean = geometric_mean([(10, 10), (1000, 1000)])
    assert (mean.value, mean.least, mean.most) == pytest.approx((100, 100, 100))
    half = 12.7062 * math.log(100) / math.sqrt(2) / math.sqrt(2)  # t(.975, 1); the deviation of two is |a - b| / √2
    assert (mean.low, mean.high) == pytest.approx((100 * math.exp(-half), 100 * math.exp(half)), rel=1e-4)
    one = geometric_mean([(7, 7)])
    assert one.value == pytest.approx(7)
    assert math.isnan(one.low)
    assert math.isnan(geometric_mean([]).value)


def test_no_mean_is_known_over_a_run_that_is_not():
    never = geometric_mean([(10, 10), (1000, math.inf)])
    assert math.isnan(never.value)
    assert never[:2] == (pytest.approx(100), math.inf)
    early = geometric_mean([(10, 10), (0, 0.3)])
    assert early[:2] == (0, pytest.approx(math.sqrt(3)))
    assert isinstance(early, Mean)
    assert math.isnan(early.low)


def test_ratios_of_pairs_have_bounds():
    known, other = Threshold(5, 1, 8, 8), Threshold(5, 1, 2, 2)
    never, early = Threshold(math.inf, 1, 100, math.inf), Threshold(5, 1, 0, 0.5)
    found = ratios([known, never, known, early, never], [other, other, early, never, never])
    assert found.tolist() == [[4, 4], [50, math.inf], [16, math.inf], [0, 0.005], [0, math.inf]]
    assert ratios([], []).shape == (0, 2)


@given(losses, st.integers(1, 50))
def test_calm_steps_before_a_calm_beginning_shift_it_and_change_nothing_else(loss, more):
    calm = [2.0] * WINDOW
    first = left_at([*calm, *loss])
    assert left_at([*calm, *[2.0] * more, *loss]) == (None if first is None else first + more)


@given(losses, losses)
def test_what_comes_after_it_left_changes_nothing(loss, after):
    curve = np.array([*CALM, *loss])
    left = left_at(curve)
    if left is not None:
        assert left_at([*curve, *after]) == left


@given(losses, st.integers(-8, 8))
def test_the_level_of_the_loss_does_not_matter(loss, shift):
    eighths = np.round(np.array(loss) * 8) / 8  # so that sums are exact
    assert left_at(eighths + shift) == left_at(eighths)


@given(losses, st.floats(0.01, 100))
def test_the_unit_of_the_rate_is_that_of_the_threshold(loss, unit):
    curve = [*CALM, *loss]
    rates = np.geomspace(1, 100, len(curve))
    step, lowest, least, most = threshold(curve, rates)
    bounds = (pytest.approx(unit * least), pytest.approx(unit * most))
    assert threshold(curve, unit * rates) == (pytest.approx(step, nan_ok=True), lowest, *bounds)


@given(st.floats(1, 900), st.integers(200, 3000))
def test_a_slower_ramp_finds_the_same_threshold_more_exactly(truth, horizon):
    rates = 0.3 * 1e4 ** (np.arange(horizon) / horizon)
    before = np.concatenate([[rates[0]], rates[:-1]])  # the rate of the update before each loss
    loss = np.where(before > truth, 3.0, np.linspace(2, 1, horizon))
    loss[: horizon // 50] = 2.0
    found = threshold(loss, rates)
    assert found.is_known
    assert truth < found.least <= truth * 1e4 ** (1 / horizon) * (1 + 1e-12)


def searched(edge, ramp=10.0, first=0.3, last=3000.0, tried=()):
    """Search a largest stable rate that is known; return its bounds and the rates that were tried, in order."""
    stable = {rate: rate <= edge for rate in tried}
    order = []
    left = Threshold(100, 0.5, ramp, ramp)
    while (rate := next_rate(stable, left, first, last)) is not None:
        stable[rate] = rate <= edge
        order.append(rate)
    return largest_stable(stable), order


def test_a_bisection_by_hand():
    assert searched(50) == ((45.3, 64), [11.3, 45.3, 181, 90.5, 64])  # up by fours, then halfway in logarithms
    assert searched(5) == ((4, 5.66), [11.3, 2.83, 5.66, 4])
    assert searched(50, tried=(3, 30, 300)) == ((45.3, 64), [90.5, 45.3, 64])  # from what is there already


def test_a_bisection_ends_at_the_rates_of_the_ramp():
    assert searched(1e9)[0] == (2896 * 1.0, math.inf) or searched(1e9)[0] == (2900, math.inf)
    assert searched(0.01)[0] == (0, 0.354)


def test_rates_too_low_to_learn_are_no_bound_and_neither_are_stable_ones_above_an_unstable_one():
    assert largest_stable({}) == (0, math.inf)
    assert largest_stable({0.3: False, 3: True, 30: False}) == (3, 30)
    assert largest_stable({3: True, 30: False, 90: True, 300: False}) == (3, 30)
    assert largest_stable({3: False, 30: False}) == (0, 3)
    assert largest_stable({3: True, 30: True}) == (30, math.inf)


@given(st.floats(0.6, 2000), st.floats(0.3, 3000), st.sets(st.floats(0.5, 2500), max_size=3))
def test_a_bisection_encloses_the_edge_within_a_factor_of_two(edge, ramp, tried):
    (least, most), order = searched(edge, ramp, tried=tried)
    assert least <= edge < most <= 2 * least
    assert len(order) == len(set(order)) <= 12
