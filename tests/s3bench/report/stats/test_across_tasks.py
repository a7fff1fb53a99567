"""Across tasks and across horizons: cases worked by hand, and simulations whose truth is known."""

import math

import numpy as np
import pytest

from s3bench.report.stats.across_tasks import (
    geometric_mean,
    geometric_mean_bounds,
    performance_profile,
    performance_ratios,
    profile_bands,
)
from s3bench.report.stats.bootstrap import mean_interval
from s3bench.report.stats.horizon_speedup import equal_horizon, horizon_speedup

INF = math.inf


def test_performance_ratios_are_to_the_best_on_the_problem():
    ratios = performance_ratios([[10, 20, INF], [30, 30, 15], [INF, INF, INF]])
    assert ratios.tolist() == [[1, 2, INF], [2, 2, 1], [INF, INF, INF]]
    with pytest.raises(ValueError, match="not above 0"):
        performance_ratios([[0.0, 1.0]])
    with pytest.raises(ValueError, match="not above 0"):
        performance_ratios([[math.nan, 1.0]])


def test_a_profile_weighs_tasks_alike():
    ratios = [[1, 2], [1, INF], [1, INF], [3, 1]]
    profile = performance_profile(ratios, ["a", "a", "a", "b"], [1, 2, 3])
    assert profile.tolist() == [[0.5, 0.5], [0.5, pytest.approx((1 / 3 + 1) / 2)], [1, pytest.approx(2 / 3)]]


def test_a_band_covers_its_line_and_is_narrow_where_all_seeds_agree():
    random, within = np.random.default_rng(0), np.linspace(1, 4, 30)
    tasks = ["a"] * 8 + ["b"] * 6
    ratios = np.where(random.random((14, 3)) < 0.2, INF, random.uniform(1, 4, (14, 3)))
    ratios[:, 2] = 2.0
    lines, bands = performance_profile(ratios, tasks, within), profile_bands(ratios, tasks, within)
    assert bands.shape == (3, 30, 2)
    assert ((bands[:, :, 0] <= lines.T) & (bands[:, :, 1] >= lines.T)).all()
    assert ((bands >= 0) & (bands <= 1)).all()
    assert (np.ptp(bands, axis=2)[:2] > 0.2).any()
    assert (np.ptp(bands, axis=2)[2] == 0).all()


def test_a_band_is_the_interval_of_a_mean_within_one_task():
    ratios = np.array([[1.0]] * 4 + [[9.0]] * 6)
    (band,) = profile_bands(ratios, ["a"] * 10, [2.0])
    assert tuple(band[0]) == pytest.approx(mean_interval((ratios[:, 0] <= 2).astype(float)))


@pytest.mark.parametrize("seeds", [1, 5])
def test_with_few_seeds_in_one_task_there_is_no_band(seeds):
    ratios, tasks = np.ones((seeds + 8, 2)), ["a"] * seeds + ["b"] * 8
    assert len(profile_bands(ratios, tasks, [1.0, 2.0])) == 0


def test_a_geometric_mean_is_over_tasks():
    middle, low, high = geometric_mean([np.log([2.0, 2.0, 2.0]), np.log([8.0])])
    assert middle == pytest.approx(4)
    assert math.isnan(low)
    assert math.isnan(high)
    assert geometric_mean([np.log([2.0] * 6), [INF]])[0] == INF
    assert math.isnan(geometric_mean([])[0])


def test_the_interval_of_a_geometric_mean_covers_the_truth_95_times_in_100():
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        _, low, high = geometric_mean([random.normal(0.1, 0.5, 6), random.normal(0.3, 0.2, 9)])
        found.append(low <= math.exp(0.2) <= high)
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300) <= np.mean(found) <= 1


def test_bounds_of_a_geometric_mean_stay_bounds():
    low, high = geometric_mean_bounds([np.log([[2, 4], [2, 4]]), np.log([[1, 9]])])
    assert (low, high) == (pytest.approx(math.sqrt(2)), pytest.approx(6))
    assert geometric_mean_bounds([[[0.0, INF]], [[0.0, 0.0]]]) == (1, INF)
    assert geometric_mean_bounds([[[-INF, -INF]], [[INF, INF]]]) == (0, INF)


def test_the_equal_horizon_is_interpolated_in_log_steps():
    ladder = [100, 200, 400], [3.0, 2.0, 1.0]
    assert equal_horizon(*ladder, 1.5) == pytest.approx((200 * math.sqrt(2),) * 2)
    assert equal_horizon(*ladder, 2.0) == pytest.approx((200, 200))
    assert equal_horizon(*ladder, 3.0) == (100, 100)
    assert equal_horizon(*ladder, 1.0) == pytest.approx((400, 400))


def test_outside_of_the_ladder_only_a_bound_is_known():
    ladder = [100, 200, 400], [3.0, 2.0, 1.0]
    assert equal_horizon(*ladder, 0.9) == (400, INF)
    assert equal_horizon(*ladder, 3.1) == (0, 100)
    assert equal_horizon(*ladder, INF) == (0, 100)
    assert equal_horizon(*ladder, math.nan) == (0, INF)
    assert equal_horizon([100, 200], [INF, 2.0], 2.5) == (100, 200)


def test_of_several_crossings_the_first_counts():
    assert equal_horizon([100, 200, 400], [3.0, 1.0, 2.0], 2.0) == pytest.approx((100 * math.sqrt(2),) * 2)


def test_the_interval_of_a_horizon_speedup_covers_the_truth():
    # The baseline ends at 5 - ln(horizon); the optimizer's 100 steps end where the baseline's 160 do.
    random, horizons = np.random.default_rng(1), np.array([50, 100, 200, 400])
    found = []
    for _ in range(40):
        seed = random.normal(0, 0.2, (8, 1))
        base = 5 - np.log(horizons) + seed + random.normal(0, 0.1, (8, 4))
        own = 5 - math.log(160) + seed[:, 0] + random.normal(0, 0.1, 8)
        bounds, (low, high) = horizon_speedup(own, 100, horizons, base)
        assert bounds[0] == bounds[1]
        found.append(low <= 1.6 <= high)
    assert np.mean(found) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 40)


def test_a_horizon_speedup_beyond_the_ladder_stays_a_bound():
    bounds, ends = horizon_speedup([0.5, 0.5], 100, [50, 100, 200], [[3, 2, 1], [3, 2, 1]])
    assert bounds == (2, INF)
    assert all(math.isnan(end) for end in ends)
