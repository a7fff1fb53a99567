"""Steps to target: cases worked by hand, and estimates of a truth that is known."""

import math

import numpy as np
import pytest

from s3bench.report.stats.censored import (
    NEVER,
    Steps,
    expected_running_time,
    kaplan_meier,
    log_step_ratios,
    median_steps,
    steps_to_target,
)

MISSED = Steps(100, math.inf)


def at(*steps):
    return [Steps(step - 10, step) for step in steps]


def test_a_target_is_reached_at_the_first_of_two_evaluations_in_a_row():
    steps = [0, 10, 20, 30, 40]
    assert steps_to_target(steps, [3.0, 2.0, 2.5, 1.9, 1.0], at_most=2.0) == (20, 30)  # 10 was one lucky evaluation
    assert steps_to_target(steps, [3.0, 2.0, 2.5, 1.9, 1.0], at_most=2.0, in_a_row=1) == (0, 10)
    assert steps_to_target(steps, [0.1, 0.6, 0.7, 0.2, 0.9], at_least=0.6) == (0, 10)
    assert steps_to_target(steps, [1.0] * 5, at_most=2.0) == (0, 0)


def test_what_is_not_confirmed_by_a_second_evaluation_is_not_reached():
    assert steps_to_target([0, 10, 20], [3.0, 2.5, 1.0], at_most=2.0) == (10, math.inf)  # at 20 perhaps, at 10 not
    assert steps_to_target([0, 10, 20], [3.0, 1.0, 2.5], at_most=2.0) == (20, math.inf)
    assert steps_to_target([0, 10, 20], [math.nan] * 3, at_most=2.0) == (20, math.inf)
    assert steps_to_target([], [], at_most=2.0) == (0, math.inf)


def test_a_target_needs_exactly_one_bound():
    with pytest.raises(ValueError, match="exactly one"):
        steps_to_target([0], [1.0])
    with pytest.raises(ValueError, match="in_a_row is 0"):
        steps_to_target([0], [1.0], at_most=1, in_a_row=0)


def test_a_target_that_was_not_reached_is_infinite_in_the_median():
    assert median_steps([*at(10, 30), MISSED]) == 30
    assert median_steps(at(10, 30)) == 20
    assert median_steps([*at(10), MISSED]) == math.inf
    assert median_steps([NEVER, MISSED]) == math.inf
    assert math.isnan(median_steps([]))


def test_the_expected_running_time_charges_the_runs_that_missed():
    # (20 + 40 + 100 + 60) / 2 reached: the diverged run had spent 60 steps.
    assert expected_running_time([*at(20, 40), MISSED, NEVER], [100, 100, 100, 60]) == 110
    assert expected_running_time([MISSED], [100]) == math.inf
    assert math.isnan(expected_running_time([], []))


def test_the_expected_running_time_is_that_of_starting_again():
    # A run reaches the target at step 30 with a chance of a quarter, else it costs 100: 30 + 100 * 3 expected.
    lucky = np.random.default_rng(0).random(20_000) < 0.25
    times = [Steps(20, 30) if luck else MISSED for luck in lucky]
    assert expected_running_time(times, [100] * len(times)) == pytest.approx(330, rel=0.03)


def test_the_kaplan_meier_curve_is_the_hand_worked_one():
    # Five runs: at 10 one of five; one leaves after 15; at 20 two of the three left; the last never.
    steps, share = kaplan_meier([Steps(0, 10), Steps(15, math.inf), *at(20, 20), MISSED])
    assert steps.tolist() == [0, 10, 20]
    assert share.tolist() == pytest.approx([0, 0.2, 1 - 0.8 / 3])


def test_a_diverged_run_stays_among_those_that_have_not_reached_the_target():
    _, share = kaplan_meier([*at(10, 20), NEVER])
    assert share.tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert [part.tolist() for part in kaplan_meier([NEVER, MISSED])] == [[0], [0]]


def test_the_kaplan_meier_curve_finds_the_truth_behind_censoring():
    random = np.random.default_rng(1)
    truth, watched = random.exponential(50, 4000), random.uniform(20, 120, 4000)
    times = [Steps(0, t) if t <= w else Steps(w, math.inf) for t, w in zip(truth, watched, strict=True)]
    steps, share = kaplan_meier(times)
    for step in (10, 40, 80):
        assert share[np.searchsorted(steps, step) - 1] == pytest.approx(1 - math.exp(-step / 50), abs=0.03)


def test_log_ratios_say_what_is_known_and_no_more():
    base = [Steps(30, 40), MISSED, Steps(30, 40), MISSED, NEVER, Steps(30, 40), NEVER]
    own = [Steps(10, 20), Steps(10, 20), MISSED, MISSED, Steps(10, 20), NEVER, NEVER]
    expected = [[1.5, 4], [5, math.inf], [0, 0.4], [0, math.inf], [math.inf] * 2, [0, 0], [0, math.inf]]
    assert np.exp(log_step_ratios(base, own)) == pytest.approx(np.array(expected))


def test_the_bounds_of_a_log_ratio_hold_the_truth():
    random = np.random.default_rng(2)
    base, own = random.uniform(5, 300, (2, 500))

    def evaluated(truth):  # every 20 steps, until 200
        return [Steps(20 * (t // 20), 20 * (t // 20 + 1)) if t < 200 else Steps(200, math.inf) for t in truth]

    bounds = log_step_ratios(evaluated(base), evaluated(own))
    truth = np.log(base / own)
    assert ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).all()
