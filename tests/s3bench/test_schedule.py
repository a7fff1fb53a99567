"""Schedules: their factors at the steps that matter."""

from itertools import pairwise

import pytest

from s3bench.schedule import constant, cosine, linear


def test_the_warmup_rises_to_1_and_no_update_is_empty():
    assert [constant(step, horizon=100, warmup=0.04) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert constant(0, horizon=100, warmup=0) == 1


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_the_factor_decays_from_1_to_final_at_the_horizon(schedule):
    factors = [schedule(step, horizon=100, warmup=0.1, final=0.2) for step in range(101)]
    assert factors[10] == 1
    assert factors[100] == pytest.approx(0.2)
    assert factors[55] == pytest.approx(0.6)  # half-way, for both
    assert all(one >= other for one, other in pairwise(factors[10:]))


def test_the_shape_does_not_depend_on_the_horizon():
    short = [cosine(step, horizon=100, warmup=0.1, final=0.01) for step in range(20, 100)]
    long = [cosine(10 * step, horizon=1000, warmup=0.1, final=0.01) for step in range(20, 100)]
    assert short == pytest.approx(long)
