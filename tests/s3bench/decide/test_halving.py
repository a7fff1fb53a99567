"""Tests how learning rates are chosen: by successive halving on the tuning seeds."""

import math

from hypothesis import given
from hypothesis import strategies as st

from s3bench.decide.halving import FIRST, LATER, WIDENED, frozen, wanted
from s3bench.report.claims.registered import GRID


def chosen(grid, loss):
    """Train whatever is wanted, with the log loss of a function of rate and seed; return the rates and all losses."""
    losses = {}
    while todo := wanted(grid, losses):
        assert not set(todo) & set(losses), "nothing is trained twice"
        losses |= {(rate, seed): loss(rate, seed) for rate, seed in todo}
    return frozen(losses), losses


def parabola(at):
    return lambda rate, _: (math.log(rate) - math.log(at)) ** 2


def test_the_best_rate_is_refined_by_the_root_of_three():
    found, losses = chosen(GRID, parabola(1.6))
    assert (found.best, found.second) == (1.73, 1.0)
    assert len(losses) == len(GRID) + 2 + 4  # the grid, the two neighbours, two more seeds for the best two


def test_the_grid_is_widened_while_the_best_is_at_its_edge():
    found, _ = chosen(GRID, parabola(100))
    assert (found.best, found.second) == (100, 173)
    low, _ = chosen(GRID, parabola(1e-9))
    assert low.best == 0.00173  # at most WIDENED steps, to 0.003, and its neighbour
    assert WIDENED == 4


def test_two_more_seeds_can_turn_the_choice_over():
    def loss(rate, seed):
        lucky = rate == 3.0 and seed == FIRST
        return parabola(1.0)(rate, seed) - 1.5 * lucky

    found, _ = chosen(GRID, loss)
    assert found.best != 3.0


def test_a_diverged_run_is_never_the_best():
    found, _ = chosen(GRID, lambda rate, _: math.inf if rate > 0.5 else -rate)
    assert found.best <= 0.5


@given(st.floats(-3, 3))
def test_the_choice_ends_and_is_near_the_best(log_best):
    found, losses = chosen(GRID, parabola(10**log_best))
    assert len(losses) <= len(GRID) + 2 * WIDENED + 2 + 4
    within = min(max(log_best, -2.5), 2.5)
    assert abs(math.log10(found.best) - within) < 0.27
    assert {seed for _, seed in losses} <= {FIRST, *LATER}
