"""The scores: tiny cases worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from s3bench.report.analysis import cells, loss_curve
from s3bench.report.stats import rates


def test_the_poisson_interval_is_the_exact_one():
    # Garwood 1936: no event gives an upper bound of -ln(0.025) = 3.689, three give [0.619, 8.767].
    assert rates.poisson_interval(0, 10_000) == (0, pytest.approx(3.689, abs=1e-3))
    assert rates.poisson_interval(3, 20_000) == (pytest.approx(0.619 / 2, abs=1e-3), pytest.approx(8.767 / 2, abs=1e-3))
    assert all(math.isnan(end) for end in rates.poisson_interval(0, 0))


def test_the_poisson_interval_covers_the_truth_at_least_95_times_in_100():
    counts = np.random.default_rng(0).poisson(4.0, size=2000)
    covered = [low <= 4.0 <= high for low, high in (rates.poisson_interval(int(n), 10_000) for n in counts)]
    assert 0.95 <= np.mean(covered) <= 0.99


def runs(entries):
    """Rows of (optimizer, multiplier, seed, final loss), with all else filled in."""
    table = pd.DataFrame(entries, columns=["optimizer", "lr_multiplier", "seed", "final_loss"])
    table["task"] = "t"
    table["state"] = np.where(np.isinf(table.final_loss), "diverged", "finished")
    table.loc[table.final_loss.isna(), "state"] = "failed"
    return table.assign(steps=100, spikes=1, dead=False, update_max=0.5)


def test_cells_keep_holes_and_divergences_apart():
    table = runs([("a", 1.0, 0, 1.0), ("a", 1.0, 1, 3.0), ("a", 1.0, 2, math.inf), ("a", 1.0, 3, math.nan)])
    (cell,) = cells.cell_table(table).to_dict("records")
    assert (cell["n"], cell["holes"], cell["diverged"]) == (3, 1, 1)
    assert (cell["final_loss_mean"], cell["final_loss_min"], cell["final_loss_max"]) == (2.0, 1.0, 3.0)
    assert cell["final_loss_sd"] == pytest.approx(math.sqrt(2))
    assert (cell["spikes"], cell["steps"], cell["spikes_per_10k"]) == (3, 300, 100)


def test_a_run_that_is_dead_above_the_best_rate_does_not_stand_its_rate():
    table = runs([("a", m, s, loss) for s in (0, 1) for m, loss in ((0.1, 2.2), (1.0, 0.5), (3.0, 1.0), (10.0, 2.3))])
    calm = table.assign(spikes=0)
    assert cells.largest_without_spike(calm) == 10
    calm["dead"] = calm.final_loss > 2  # at 0.1 it is slow
    assert cells.largest_without_spike(calm) == 3
    calm.loc[(calm.lr_multiplier == 3.0) & (calm.seed == 1), "state"] = "diverged"
    assert cells.largest_without_spike(calm) == 1
    assert cells.cell_table(calm)[["lr_multiplier", "dead"]].to_numpy().tolist() == [[0.1, 2], [1, 0], [3, 0], [10, 2]]


def test_the_learning_rate_is_never_picked_on_the_seed_it_is_reported_on():
    # Seed 0 is best at 1 and seed 1 at 10: each is reported where the *other* was best.
    table = runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0), ("a", 1.0, 1, 9.0), ("a", 10.0, 1, 3.0)])
    (best,) = cells.best_rates(table).to_dict("records")
    assert best["n"] == 2
    assert best["final_loss_mean"] == pytest.approx((2.0 + 9.0) / 2)
    assert best["picks"] == "1 (1), 10 (1)"
    assert best["best_multiplier"] == 10.0
    assert best["edge"]


def test_a_diverged_run_rules_its_learning_rate_out():
    table = runs([(o, m, s, loss) for o in "a" for s in (0, 1, 2) for m, loss in ((0.1, 3.0), (1.0, 2.0), (10.0, 1.0))])
    table.loc[(table.lr_multiplier == 10.0) & (table.seed == 0), "final_loss"] = math.inf
    (best,) = cells.best_rates(table).to_dict("records")
    assert best["best_multiplier"] == 1.0
    assert not best["edge"]
    assert best["final_loss_mean"] == math.inf  # seed 0, reported where the others were best, diverged there


def test_one_seed_gives_no_tuned_score():
    (best,) = cells.best_rates(runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0)])).to_dict("records")
    assert best["n"] == 0
    assert math.isnan(best["final_loss_mean"])
    assert best["best_multiplier"] == 1.0


def test_seeds_without_a_result_everywhere_do_not_count():
    table = runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0), ("a", 1.0, 1, 1.0), ("a", 10.0, 1, math.nan)])
    (best,) = cells.best_rates(table).to_dict("records")
    assert best["n"] == 0


def test_the_running_median_leaves_non_finite_values_out():
    values = np.random.default_rng(0).standard_normal(300)
    values[[0, 1, 2, 150, 200]] = [math.nan, math.inf, math.nan, -math.inf, math.nan]
    values[250:280] = math.nan
    steps = np.array([0, 1, 2, 3, 10, 149, 150, 151, 170, 175, 260, 275, 279, 299])
    all_of_them = pd.Series(values).replace([math.inf, -math.inf], math.nan).rolling(7, min_periods=1).median()
    np.testing.assert_array_equal(loss_curve.running_median(steps, values, 7), all_of_them.to_numpy()[steps])


def test_the_picked_runs_are_those_that_the_tuned_score_is_of():
    table = runs([("a", 1.0, 0, 1.0), ("a", 10.0, 0, 2.0), ("a", 1.0, 1, 9.0), ("a", 10.0, 1, 3.0)])
    assert cells.runs_at_best(table)[["seed", "lr_multiplier", "final_loss"]].to_numpy().tolist() == [
        [0, 10, 2],
        [1, 1, 9],
    ]
    assert cells.runs_at_best(table[table.seed == 0]).empty


def test_sensitivity_is_the_mean_over_the_grid_above_its_best():
    # min(loss, initial 4): 1, 2, 4 (worse than at the start), so 7/3 - 1; all diverged: 4 everywhere, 0.
    final = [[1.0, 2.0, 9.0], [math.inf] * 3, [1.0, 1.0, math.nan]]
    assert cells.sensitivity(final, [[4.0] * 3] * 3).tolist() == pytest.approx([4 / 3, 0, math.nan], nan_ok=True)


def test_the_largest_multiplier_without_an_event_is_below_the_first_that_had_one():
    assert cells.largest_without([1, 1, 3, 10, 30], [0, 0, 0, 2, 0]) == 3
    assert cells.largest_without([1, 3], [0, 0]) == 3
    assert math.isnan(cells.largest_without([1, 3], [1, 0]))
