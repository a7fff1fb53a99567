"""Checks of what intervals of means assume: they seldom warn without a reason, and mostly with one."""

import numpy as np
import pytest

from s3bench.report.stats.assumptions import cautions, dependence, skewness

RANDOM = np.random.default_rng(0)


def share_flagged(p_values):
    return np.mean([p <= 0.05 for _, p in p_values])


@pytest.mark.parametrize("n", [8, 16])
def test_each_check_warns_of_5_in_100_samples_that_are_as_assumed(n):
    samples = np.random.default_rng(1).normal(size=(200, n))
    for check in (skewness, dependence):
        assert 0.005 < share_flagged(map(check, samples)) < 0.11


def test_order_alone_makes_no_skewed_values_dependent():
    samples = np.random.default_rng(2).exponential(size=(200, 12))
    assert share_flagged(map(dependence, samples)) < 0.1


def test_skewed_blocks_are_named_with_the_side_to_which_the_interval_errs():
    values = np.random.default_rng(3).exponential(size=40)
    (said,) = cautions(values, 0.05 / 9)
    assert said.startswith("the blocks are skewed (skewness ")
    assert said.endswith("the interval may err more often than 0.56%, and then lies too low")
    assert cautions(-values)[0].endswith("more often than 5%, and then lies too high")


def test_blocks_that_drift_are_dependent():
    values = np.linspace(0, 1, 20) + 0.1 * np.random.default_rng(4).normal(size=20)
    (said,) = cautions(values)
    assert said.startswith("the blocks depend on those before (correlation 0.")
    shuffled = np.random.default_rng(5).permutation(values)
    assert cautions(shuffled) == ()


def test_the_correlation_is_the_hand_worked_one():
    # residuals 1, 1, -1, -1, ... over 8: products 1 -1 1 -1 1 -1 1, whose mean is 1/7
    assert dependence([1, 1, -1, -1, 1, 1, -1, -1])[0] == pytest.approx(1 / 7)
    assert dependence([1, -1] * 6)[1] < 0.02


def test_few_blocks_and_equal_blocks_are_no_sample_to_check():
    assert cautions([]) == cautions([1.0]) == cautions(RANDOM.exponential(size=7)) == ()
    assert cautions([0.0] * 9) == ("all 9 blocks are equal: nothing is known of their spread",)
