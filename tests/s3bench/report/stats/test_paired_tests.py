"""Tests and intervals: cases worked by hand, and simulations whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from s3bench.report.stats import bootstrap, paired_tests, rates
from s3bench.report.stats.censored import Steps, log_step_ratios


def covers(truth, intervals):
    """How often an interval holds the truth."""
    return np.mean([low <= truth <= high for low, high in intervals])


def test_five_pairs_cannot_reach_005_and_six_can():
    assert paired_tests.smallest_p(5) == 0.0625
    assert paired_tests.smallest_p(6) == 0.03125
    assert paired_tests.smallest_p(0) == 1
    assert paired_tests.pairs_needed() == 6
    assert paired_tests.pairs_needed(0.05 / 4) == 8


def test_sign_flips_are_the_hand_worked_ones():
    # 1, 2, 4: means of all eight signs are ±7, ±5, ±3, ±1 (over 3).
    assert paired_tests.sign_flip_p([1, 2, 4]) == 2 / 8
    assert paired_tests.sign_flip_p([-1, 2, 4]) == 4 / 8
    assert paired_tests.sign_flip_p([1, 2, -4]) == 1
    assert paired_tests.sign_flip_p([0, 0]) == 1
    assert paired_tests.sign_flip_p([0.1] * 6) == paired_tests.smallest_p(6)
    assert math.isnan(paired_tests.sign_flip_p([]))
    with pytest.raises(ValueError, match="not finite"):
        paired_tests.sign_flip_p([1, math.inf])


def test_sign_flips_agree_with_scipy():
    values = np.random.default_rng(0).normal(0.5, 1, 9)
    theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=1000)
    assert paired_tests.sign_flip_p(values) == pytest.approx(theirs.pvalue)


def test_drawn_sign_flips_agree_with_all_of_them(monkeypatch):
    values = np.random.default_rng(0).normal(0.4, 1, 13)
    exact = paired_tests.sign_flip_p(values)
    monkeypatch.setattr(paired_tests, "EXACT_PAIRS", 12)
    assert paired_tests.sign_flip_p(values) == pytest.approx(exact, abs=0.02)


def test_signed_ranks_agree_with_scipy_and_take_infinite_differences():
    values = np.array([0.3, -0.1, 0.8, 1.2, 0.5, -0.2, 0.9])
    assert paired_tests.signed_rank_p(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)
    assert paired_tests.signed_rank_p([1, 2, math.inf]) == 0.25
    assert paired_tests.signed_rank_p([1, 2, math.nan, 0]) == 0.5
    assert paired_tests.signed_rank_p([math.nan]) == 1


def test_the_sign_test_leaves_ties_out():
    assert paired_tests.sign_test_p(6, 0) == paired_tests.smallest_p(6)
    assert paired_tests.sign_test_p(3, 1) == 10 / 16
    assert paired_tests.sign_test_p(0, 0) == 1


def test_under_no_difference_a_p_below_005_comes_at_most_5_times_in_100():
    random = np.random.default_rng(3)
    ps = [(paired_tests.sign_flip_p(x), paired_tests.signed_rank_p(x)) for x in random.normal(size=(600, 8))]
    assert (np.mean(np.array(ps) <= 0.05, axis=0) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 600)).all()
    assert (np.mean(np.array(ps) <= 0.05, axis=0) > 0.02).all()


def test_holm_is_the_hand_worked_one():
    # 0.01 * 3, 0.02 * 2, 0.04 * 1, each at least the one before; NaN is no test.
    assert paired_tests.holm([0.04, 0.01, math.nan, 0.02]) == [0.04, 0.03, pytest.approx(math.nan, nan_ok=True), 0.04]
    assert paired_tests.holm([0.5, 0.9]) == [1, 1]
    assert paired_tests.holm([]) == []


def test_holm_keeps_the_chance_of_any_false_verdict_below_005():
    random = np.random.default_rng(4)
    false = [min(paired_tests.holm(ps)) <= 0.05 for ps in random.random((4000, 5))]
    assert np.mean(false) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_too_few_pairs_give_no_verdict():
    assert paired_tests.verdict(0.5, 2, 1) == "n = 2 pairs cannot reach 0.05 (6 needed)"
    assert paired_tests.verdict(1.0, 1, 1) == "n = 1 pair cannot reach 0.05 (6 needed)"
    assert paired_tests.verdict(0.12, 6, 4) == "n = 6 pairs cannot reach 0.05 (8 needed)"
    assert paired_tests.verdict(0.5, 8, 1, unequal=3) == "3 unequal of 8 pairs cannot reach 0.05 (6 needed)"
    assert paired_tests.verdict(1.0, 8, 1, unequal=0) == "no difference known in 8 pairs"
    assert paired_tests.verdict(0.03, 7, 4) == "differs"  # beside three tests of more pairs, which Holm corrects first
    assert paired_tests.verdict(math.nan, 0, 1) == "no pairs"
    assert paired_tests.verdict(0.03, 8, 4) == "differs"
    assert paired_tests.verdict(0.06, 8, 4) == "not told apart"


@pytest.mark.parametrize("n", [6, 10, 30])
def test_the_interval_of_a_mean_covers_the_truth_95_times_in_100(n):
    random = np.random.default_rng(n)
    found = covers(0.3, [bootstrap.mean_interval(random.normal(0.3, 2, n)) for _ in range(400)])
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 400) <= found <= 0.99


@pytest.mark.parametrize("n", [6, 12])
def test_the_interval_of_a_median_of_censored_log_ratios_covers_the_truth(n):
    # Steps around 100, the other optimizer 1.5 times faster; evaluated every 10 steps, watched until 110.
    random = np.random.default_rng(n)

    def evaluated(truth):
        return [Steps(10 * (t // 10), 10 * (t // 10 + 1)) if t < 110 else Steps(110, math.inf) for t in truth]

    intervals = []
    for _ in range(300):
        base, own = 100 * np.exp(random.normal(0, 0.2, n)), 100 / 1.5 * np.exp(random.normal(0, 0.2, n))
        intervals.append(bootstrap.median_interval(log_step_ratios(evaluated(base), evaluated(own))))
    assert covers(math.log(1.5), intervals) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300)


def test_medians_of_bounds_are_the_hand_worked_ones():
    inf = math.inf
    assert bootstrap.median_bounds([[1, 2], [2, 4], [3, inf]]) == (2, 4)
    assert bootstrap.median_bounds([[1, 2], [2, 4], [-inf, inf]]) == (1, 4)
    assert bootstrap.median_bounds([[1, 2], [3, 6]]) == (2, 4)
    assert bootstrap.median_bounds([[1, 2], [3, inf]]) == (2, inf)
    assert bootstrap.median_bounds([[-inf, -inf], [inf, inf]]) == (-inf, inf)
    assert all(math.isnan(end) for end in bootstrap.median_bounds([]))


def test_fewer_than_six_seeds_have_no_interval():
    assert all(math.isnan(end) for end in bootstrap.mean_interval([1.0, 2, 3, 4, 5]))
    assert all(math.isnan(end) for end in bootstrap.median_interval([[1.0, 1]] * 5))
    assert bootstrap.mean_interval([2.0] * 6) == (2, 2)
    assert all(math.isnan(end) for end in bootstrap.mean_interval([2.0] * 6 + [math.inf]))


def test_two_rates_compare_as_worked_by_hand():
    # 0 against 4 events in equal steps: each event falls on either with 1/2, so p = 2 / 2^4.
    assert rates.rates_p([0], [100], [4], [100]) == pytest.approx(2 / 16)
    assert rates.rates_p([0, 0], [100, 100], [2, 2], [100, 100]) == pytest.approx(2 / 16)
    assert rates.rates_p([0], [100], [0], [100]) == 1
    assert rates.rates_p([1, 0], [100, 50], [2, 0], [300, 20]) == pytest.approx(
        stats.binomtest(1, 3, 0.25).pvalue  # a pair without events says nothing
    )


def test_the_ratio_of_rates_is_the_exact_one():
    middle, low, high = rates.rate_ratio(2, 100, 4, 400)
    shares = stats.binomtest(2, 6).proportion_ci()
    assert (middle, low) == pytest.approx((2, shares.low / (1 - shares.low) * 4))
    assert high == pytest.approx(shares.high / (1 - shares.high) * 4)
    assert rates.rate_ratio(0, 100, 3, 100)[:2] == (0, 0)
    assert rates.rate_ratio(3, 100, 0, 100)[::2] == (math.inf, math.inf)
    assert rates.rate_ratio(0, 100, 0, 100)[1:] == (0, math.inf)


def test_the_ratio_of_rates_covers_the_truth_at_least_95_times_in_100():
    counts = np.random.default_rng(5).poisson([4, 6], (800, 2))
    intervals = [rates.rate_ratio(int(a), 1000, int(b), 3000)[1:] for a, b in counts]
    assert covers(2, intervals) >= 0.95


def test_rates_that_vary_from_seed_to_seed_give_no_false_verdict():
    random = np.random.default_rng(6)
    per_100 = random.gamma(0.5, 4, (500, 6))
    own, base = random.poisson(per_100), random.poisson(2 * per_100)  # twice the steps, the same rate
    ps = [rates.rates_p(a, [100] * 6, b, [200] * 6) for a, b in zip(own, base, strict=True)]
    assert np.mean(np.array(ps) <= 0.05) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 500)
