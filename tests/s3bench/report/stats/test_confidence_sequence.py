"""Confidence sequences: cases worked by hand, and simulations in which one looks after every block."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from s3bench.report.stats.confidence_sequence import (
    blocks_needed,
    fewest_blocks,
    intersected,
    mean_e_value,
    mean_intervals,
    mean_sequence,
    rate_ratio_sequence,
    share_intervals,
    share_sequence,
)

INF = math.inf
BLOCKS = st.lists(st.floats(-100, 100), min_size=5, max_size=30).filter(lambda values: np.std(values) > 0.01)


def ever_misses(intervals, truth):
    """The share of samples of which any interval misses the truth."""
    return np.mean(((intervals[..., 0] > truth) | (intervals[..., 1] < truth)).any(axis=-1))


def test_the_interval_of_a_mean_is_the_hand_worked_one():
    c = (6 * 400) ** (1 / 5)  # 1 to 5: mean 3, sd² 2.5, ν = 4, k = 6
    half = math.sqrt(2.5 / 5) * math.sqrt(4 * (c - 1) / (1 - c / 6))
    assert mean_sequence([1, 2, 3, 4, 5]) == pytest.approx((3 - half, 3 + half))


@given(BLOCKS, st.sampled_from([0.05, 0.05 / 9, 0.3]))
def test_the_ends_are_the_points_whose_e_value_is_one_over_alpha(values, alpha):
    for end in mean_sequence(values, alpha):
        assert math.isinf(end) or mean_e_value(values, end) == pytest.approx(1 / alpha, rel=1e-6)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_e_value_of_the_true_mean_is_1_on_average(n):
    # Of n values with mean 0 and the t statistic t: ±1 n times would do, were n large; here sd 1 and mean t / sqrt(n)
    spread = np.resize([1.0, -1.0], n) if n % 2 == 0 else np.array([1.0, -1.0] * (n // 2) + [0.0])
    spread /= spread.std(ddof=1)

    def weighted(t):
        return mean_e_value(spread + t / math.sqrt(n), 0.0) * stats.t.pdf(t, n - 1)

    assert 2 * integrate.quad(weighted, 0, INF, limit=400)[0] == pytest.approx(1, abs=1e-6)


@given(BLOCKS, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_the_interval_follows_a_change_of_unit(values, shift, scale):
    ends = np.array(mean_sequence(values))
    moved = mean_sequence(np.array(values) * scale + shift)
    assert moved == pytest.approx(ends * scale + shift, rel=1e-6, abs=1e-6 * scale)


def test_the_intervals_after_each_block_are_those_of_the_blocks_so_far():
    values = np.random.default_rng(0).normal(1e6, 1e-3, (3, 20))
    path = mean_intervals(values)
    assert path.shape == (3, 20, 2)
    for n in (1, 4, 5, 20):
        expected = [mean_sequence(row[:n] - 1e6) for row in values]
        assert path[:, n - 1] - 1e6 == pytest.approx(np.array(expected), abs=1e-7)


def test_nothing_is_known_of_few_blocks_and_of_equal_ones():
    assert (fewest_blocks(0.05), fewest_blocks(0.05 / 9)) == (5, 7)
    assert mean_sequence([]) == mean_sequence([1, 2, 3, 4]) == mean_sequence([0.3] * 50) == (-INF, INF)
    assert mean_e_value([0.3] * 50, 0.0) == mean_e_value([], 0.0) == 1
    assert all(map(math.isfinite, mean_sequence([1, 2, 3, 4, 5])))


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        mean_sequence([1.0, INF])
    with pytest.raises(ValueError, match="alpha is 1"):
        mean_sequence([1.0], 1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        share_sequence([1.2])
    with pytest.raises(ValueError, match="steps above 0"):
        rate_ratio_sequence([[1, 0, 1, 5]])


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_no_interval_of_64_misses_the_mean_of_normal_blocks_but_in_alpha_of_the_samples(alpha):
    values = np.random.default_rng(0).normal(2, 3, (4000, 64))
    missed = ever_misses(mean_intervals(values, alpha), 2)
    assert alpha / 4 < missed < alpha
    assert ever_misses(intersected(mean_intervals(values, alpha)), 2) == missed


def test_an_intersection_never_widens_and_shows_blocks_that_exclude_each_other():
    path = mean_intervals(np.random.default_rng(1).normal(0, 1, (50, 40)))
    within = intersected(path)
    assert (within[:, 1:, 0] >= within[:, :-1, 0]).all()
    assert (within[:, 1:, 1] <= within[:, :-1, 1]).all()
    assert intersected([[-INF, INF], [0, 2], [1, 3], [2.5, 4]]).tolist() == [[-INF, INF], [0, 2], [1, 2], [2.5, 2]]


@given(st.floats(0.1, 5), st.sampled_from([0.05, 0.05 / 9]))
def test_the_blocks_needed_are_the_fewest_whose_interval_is_narrow_enough(effect, alpha):
    needed = int(blocks_needed(effect, 1.0, alpha))

    def half(n):  # of blocks with sd 1
        values = np.resize([1.0, -1.0], n)
        low, high = mean_sequence(values / values.std(ddof=1), alpha)
        return (high - low) / 2

    assert half(needed) < effect <= half(needed - 1)


def test_the_blocks_needed_are_about_the_median():
    values = np.random.default_rng(2).normal(-0.9, 1, (2000, 200))
    first = (mean_intervals(values)[..., 1] < 0).argmax(axis=1) + 1
    assert 0.8 * blocks_needed(0.9, 1.0) <= np.median(first) <= blocks_needed(0.9, 1.0)


def test_what_no_number_of_blocks_can_tell_needs_infinitely_many():
    assert blocks_needed(0.0, 1.0) == blocks_needed(1e-9, 1.0) == blocks_needed(math.nan, 1.0) == INF
    assert blocks_needed(0.1, 0.0) == INF  # while all blocks are equal
    assert blocks_needed(1e9, 1.0) == fewest_blocks()


def test_the_interval_of_a_share_is_the_hand_worked_one():
    # Against 1/2, n hits in a row have the e-value 2^n / (n + 1): 170 for 11, 315 for 12; a ninth of 5% needs 180
    assert share_sequence([1] * 11, 0.05 / 9)[0] < 0.5 < share_sequence([1] * 12, 0.05 / 9)[0]
    low, high = share_sequence([1] * 12)
    assert low**12 == pytest.approx(0.05 / 13)  # e = 1 / (13 low^12) = 20
    assert high == 1
    assert share_sequence([0] * 12) == pytest.approx((0, 1 - low))


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40), st.randoms())
def test_a_share_lies_in_its_interval_whatever_the_order(shares, random):
    low, high = share_sequence(shares)
    assert 0 <= low <= np.mean(shares) <= high <= 1
    random.shuffle(shares)
    assert share_sequence(shares) == pytest.approx((low, high))


@pytest.mark.parametrize("truth", [0.5, 0.07])
def test_no_interval_of_64_misses_a_share_but_in_5_of_100_samples(truth):
    hits = np.random.default_rng(3).random((1000, 64)) < truth
    assert ever_misses(share_intervals(hits), truth) < 0.05


def test_outcomes_that_are_alike_within_a_block_count_as_one_share():
    random = np.random.default_rng(4)
    hits = random.binomial(4, random.beta(0.5, 0.5, (500, 32)))
    outcomes = np.repeat(hits / 4, 4, axis=1) >= np.tile([0.25, 0.5, 0.75, 1.0], 32)
    assert ever_misses(share_intervals(outcomes), 0.5) > 0.2
    assert ever_misses(share_intervals(hits / 4), 0.5) < 0.05


def test_without_events_nothing_is_known_of_a_ratio_of_rates():
    assert rate_ratio_sequence([]) == rate_ratio_sequence([[0, 600, 0, 600]]) == (0, INF)
    low, high = rate_ratio_sequence([[0, 600, 8, 600]])
    assert low == 0
    assert 0 < high < 1
    swapped = rate_ratio_sequence([[8, 600, 0, 600]])
    assert (1 / swapped[0], swapped[1]) == (pytest.approx(high), INF)


def test_at_equal_steps_a_ratio_of_rates_is_that_of_the_events_shares():
    low, high = share_sequence([1] * 30 + [0] * 100)
    found = rate_ratio_sequence([[10, 600, 60, 600], [20, 300, 40, 300]])
    assert found == pytest.approx((low / (1 - low), high / (1 - high)), rel=1e-4)


def test_a_ratio_of_rates_counts_the_steps():
    counts = np.array([[10, 600, 60, 600], [20, 300, 40, 900]])
    low, high = rate_ratio_sequence(counts)
    assert rate_ratio_sequence(counts * [1, 4, 1, 1]) == pytest.approx((low / 4, high / 4), rel=0.1)  # mixtures differ
    assert rate_ratio_sequence(counts[:, [2, 3, 0, 1]]) == pytest.approx((1 / high, 1 / low))


def test_no_interval_misses_a_ratio_of_rates_of_blocks_of_all_lengths_but_in_5_of_100_samples():
    random = np.random.default_rng(5)
    missed = 0
    for _ in range(40):
        steps = random.integers(100, 1000, (12, 2))
        level = random.gamma(1, 0.01, 12)  # every block has a rate of its own
        counts = np.stack(
            [random.poisson(level * steps[:, 0] / 3), steps[:, 0], random.poisson(level * steps[:, 1]), steps[:, 1]],
            axis=1,
        )
        found = [rate_ratio_sequence(counts[:n]) for n in (3, 12)]
        missed += any(not low <= 1 / 3 <= high for low, high in found)
    assert missed <= 6  # of 40; were it 5 in 100, so few with a probability of 0.997


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 9])
def test_no_interval_of_a_thousand_misses_the_mean_but_in_alpha_of_the_samples(alpha):
    missed = 0.0
    for seed in range(10):
        values = np.random.default_rng([6, seed]).normal(0, 1, (2000, 1000))
        missed += ever_misses(mean_intervals(values, alpha), 0) / 10
    assert missed < alpha
