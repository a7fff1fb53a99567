"""The scores: tiny cases worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from s3bench import score


def test_steps_to_target_is_the_first_evaluation_that_reached_it():
    steps, loss = [0, 10, 20, 30], [3.0, 2.0, 1.0, 2.5]
    assert score.steps_to_target(steps, loss, at_most=2.0) == 10
    assert score.steps_to_target(steps, loss, at_most=0.5) is None
    assert score.steps_to_target(steps, loss, at_least=3.0) == 0
    assert score.steps_to_target(steps, [math.nan] * 4, at_most=2.0) is None
    assert score.steps_to_target([], [], at_most=2.0) is None
    with pytest.raises(ValueError, match="exactly one"):
        score.steps_to_target(steps, loss)


def test_a_target_that_was_not_reached_is_infinite_in_the_median():
    assert score.median_steps([10, 30, None]) == 30
    assert score.median_steps([10, 30]) == 20
    assert score.median_steps([10, None]) == math.inf
    assert score.median_steps([None, None]) == math.inf
    assert math.isnan(score.median_steps([]))


def test_the_poisson_interval_is_the_exact_one():
    # Garwood 1936: no event gives an upper bound of -ln(0.025) = 3.689, three give [0.619, 8.767].
    assert score.poisson_interval(0, 10_000) == (0, pytest.approx(3.689, abs=1e-3))
    assert score.poisson_interval(3, 20_000) == (pytest.approx(0.619 / 2, abs=1e-3), pytest.approx(8.767 / 2, abs=1e-3))
    assert all(math.isnan(end) for end in score.poisson_interval(0, 0))


def test_the_poisson_interval_covers_the_truth_at_least_95_times_in_100():
    counts = np.random.default_rng(0).poisson(4.0, size=2000)
    covered = [low <= 4.0 <= high for low, high in (score.poisson_interval(int(n), 10_000) for n in counts)]
    assert 0.95 <= np.mean(covered) <= 0.99


def runs(entries):
    """Rows of (optimizer, multiplier, seed, final loss), with all else filled in."""
    table = pd.DataFrame(entries, columns=["optimizer", "lr_multiplier", "seed", "final_loss"])
    table["task"] = "t"
    table["state"] = np.where(np.isinf(table.final_loss), "diverged", "finished")
    table.loc[table.final_loss.isna(), "state"] = "failed"
    return table.assign(steps=100, spikes=1, update_max=0.5)


def test_cells_keep_holes_and_divergences_apart():
    table = runs([("a", 1.0, 0, 1.0), ("a", 1.0, 1, 3.0), ("a", 1.0, 2, math.inf), ("a", 1.0, 3, math.nan)])
    (cell,) = score.cells(table).to_dict("records")
    assert (cell["n"], cell["holes"], cell["diverged"]) == (3, 1, 1)
    assert (cell["final_loss_mean"], cell["final_loss_min"], cell["final_loss_max"]) == (2.0, 1.0, 3.0)
    assert cell["final_loss_sd"] == pytest.approx(math.sqrt(2))
    assert (cell["spikes"], cell["steps"], cell["spikes_per_10k"]) == (3, 300, 100)


def test_the_learning_rate_is_never_picked_on_the_seed_it_is_reported_on():
    # Seed 0 is best at 1 and seed 1 at 10: each is reported where the *other* was best.
    table = runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0), ("a", 1.0, 1, 9.0), ("a", 10.0, 1, 3.0)])
    (best,) = score.tuned(table).to_dict("records")
    assert best["n"] == 2
    assert best["final_loss_mean"] == pytest.approx((2.0 + 9.0) / 2)
    assert best["best_multiplier"] == 10.0
    assert best["edge"]


def test_a_diverged_run_rules_its_learning_rate_out():
    table = runs([(o, m, s, loss) for o in "a" for s in (0, 1, 2) for m, loss in ((0.1, 3.0), (1.0, 2.0), (10.0, 1.0))])
    table.loc[(table.lr_multiplier == 10.0) & (table.seed == 0), "final_loss"] = math.inf
    (best,) = score.tuned(table).to_dict("records")
    assert best["best_multiplier"] == 1.0
    assert not best["edge"]
    assert best["final_loss_mean"] == math.inf  # seed 0, reported where the others were best, diverged there


def test_one_seed_gives_no_tuned_score():
    (best,) = score.tuned(runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0)])).to_dict("records")
    assert best["n"] == 0
    assert math.isnan(best["final_loss_mean"])
    assert best["best_multiplier"] == 1.0


def test_seeds_without_a_result_everywhere_do_not_count():
    table = runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0), ("a", 1.0, 1, 1.0), ("a", 10.0, 1, math.nan)])
    (best,) = score.tuned(table).to_dict("records")
    assert best["n"] == 0


def test_the_running_median_leaves_non_finite_values_out():
    assert score.running_median([1, 5, math.inf, 3], 3).tolist() == [1, 3, 3, 4]
