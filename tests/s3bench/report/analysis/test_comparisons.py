"""Comparisons with the baseline: tables of runs whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest

from s3bench.report.analysis import cells, comparisons

INF = math.inf


def runs(optimizers, seeds, loss, *, multipliers=(1.0,), horizons=(100,), tasks=("t",)):
    """A row per run, `loss` of its optimizer, seed, multiplier and horizon."""
    rows = []
    for task in tasks:
        for horizon in horizons:
            label = f"{task} (horizon={horizon})" if len(horizons) > 1 else task
            for optimizer in optimizers:
                for multiplier in multipliers:
                    for seed in range(seeds):
                        end = loss(optimizer, seed, multiplier, horizon)
                        state = "diverged" if math.isinf(end) else "finished"
                        rows.append([label, task, optimizer, multiplier, seed, horizon, state, horizon, 0, end, 4.0])
    columns = ["task", "ladder", "optimizer", "lr_multiplier", "seed", "horizon", "state", "steps", "spikes"]
    return pd.DataFrame(rows, columns=[*columns, "final_loss", "initial_loss"]).assign(dead=False)


def times(entries):
    """A row per run: (optimizer, seed, low, high)."""
    table = pd.DataFrame(entries, columns=["optimizer", "seed", "low", "high"])
    return table.assign(task="t", target="loss ≤ 1", lr_multiplier=1.0, horizon=100, spent=100)


def one(table):
    (row,) = table.to_dict("records")
    return row


def test_the_baseline_is_adamw_95_else_adamw_else_none():
    assert comparisons.reference_among(["s3", "adamw", "adamw_95"]) == "adamw_95"
    assert comparisons.reference_among(["s3", "adamw"]) == "adamw"
    assert comparisons.reference_among(["s3", "adam"]) is None


def test_final_losses_are_compared_in_pairs_of_equal_seeds():
    table = runs(["s3", "adamw"], 8, lambda o, seed, *_: seed + (0.5 if o == "s3" else 1.0 + 0.01 * seed))
    row = one(comparisons.final_losses(table))
    assert (row["optimizer"], row["baseline"], row["n"]) == ("s3", "adamw", 8)
    assert row["difference"] == pytest.approx(-0.535)
    assert row["difference_low"] < -0.535 < row["difference_high"] < -0.5
    assert (row["p"], row["verdict"]) == (2 / 256, "differs")


def test_a_diverged_run_is_the_largest_difference_not_a_hole():
    table = runs(["s3", "adamw"], 6, lambda o, seed, *_: INF if o == "adamw" and seed == 0 else 1.0 if o == "s3" else 2)
    row = one(comparisons.final_losses(table))
    assert (row["difference"], row["p"], row["verdict"]) == (-INF, 2 / 64, "differs")


def test_only_what_was_not_tuned_is_said_not_to_be():
    table = runs(["s3", "signum", "adamw"], 8, lambda *_: INF)  # no difference is known
    assert comparisons.final_losses(table).verdict.tolist() == ["no difference known in 8 pairs"] * 2
    found = comparisons.final_losses(table, {("t", "signum")}).set_index("optimizer")
    assert found.verdict["s3"] == "no difference known in 8 pairs"
    assert found.verdict["signum"] == "not tuned: at one learning rate"
    assert set(comparisons.final_losses(table, {("t", "adamw")}).verdict) == {"not tuned: at one learning rate"}


def test_two_pairs_are_no_verdict_and_no_baseline_is_no_comparison():
    table = runs(["s3", "adamw"], 2, lambda o, *_: 1.0 if o == "s3" else 2.0)
    assert one(comparisons.final_losses(table))["verdict"] == "n = 2 pairs cannot reach 0.05 (6 needed)"
    assert comparisons.final_losses(table.replace("adamw", "adam")).empty
    assert comparisons.final_losses(table.iloc[:0]).empty


def test_a_speedup_is_bounded_by_the_evaluations_and_the_horizon():
    pairs = [("s3", seed, 10, 20) for seed in range(6)] + [("adamw", seed, 30, 40) for seed in range(5)]
    row = one(comparisons.speedups(times([*pairs, ("adamw", 5, 100, INF)])))
    assert (row["n"], row["faster"], row["slower"]) == (6, 6, 0)
    assert (row["speedup_low"], row["speedup_high"]) == pytest.approx((1.5, 4))
    assert row["interval_low"] == pytest.approx(1.5)
    assert row["interval_high"] == INF
    assert (row["p"], row["verdict"]) == (2 / 64, "differs")


def test_pairs_in_which_neither_reached_the_target_say_nothing():
    missed = [(optimizer, seed, 100, INF) for optimizer in ("s3", "adamw") for seed in range(6)]
    row = one(comparisons.speedups(times(missed)))
    assert (row["faster"], row["slower"], row["p"], row["verdict"]) == (0, 0, 1, "no difference known in 6 pairs")
    assert (row["speedup_low"], row["speedup_high"]) == (0, INF)


def test_spike_rates_are_paired_by_seed_and_multiplier():
    table = runs(["s3", "adamw"], 6, lambda *_: 1.0, multipliers=(1.0, 10.0))
    table.loc[(table.optimizer == "adamw") & (table.lr_multiplier == 10.0), "spikes"] = [1, 1, 1, 1, 1, 3]
    table["dead"] = (table.optimizer == "s3") & (table.lr_multiplier == 10.0) & table.seed.isin([0, 1, 5])
    calm, wild = comparisons.spike_rates(table).to_dict("records")
    assert (calm["dead"], wild["dead"], wild["baseline_dead"]) == (0, 3, 0)
    assert (calm["difference"], calm["p"], calm["verdict"]) == (0, 1, "no difference known in 6 pairs")
    assert (wild["spikes"], wild["baseline_spikes"]) == (0, 8)
    assert wild["difference"] == pytest.approx(-1e4 * 8 / 600)
    assert (wild["ratio"], wild["p"], wild["verdict"]) == (0, 2 / 64, "differs")
    assert wild["p_poisson"] == pytest.approx(2 / 2**8)


def test_sensitivity_is_compared_over_the_multipliers_of_both():
    ends = {"s3": {1.0: 1.0, 10.0: 2.0}, "adamw": {1.0: 1.0, 10.0: INF, 30.0: INF}}
    table = pd.concat(runs([o], 6, lambda o, _, m, __: ends[o][m], multipliers=tuple(ends[o])) for o in ends)
    s3, adamw = comparisons.sensitivity(table).to_dict("records")
    assert (s3["sensitivity_mean"], adamw["sensitivity_mean"]) == (0.5, 2.0)
    assert (s3["difference"], s3["n"]) == (0.5 - 1.5, 6)
    assert (s3["largest_without_divergence"], adamw["largest_without_divergence"]) == (10, 1)
    assert (s3["p"], s3["verdict"]) == (2 / 64, "differs")
    assert math.isnan(adamw["p"])


def test_half_the_steps_are_found_where_they_are_true():
    def loss(optimizer, seed, _, horizon):
        return 9 - math.log(2 * horizon if optimizer == "s3" else horizon) + 0.01 * (seed * horizon % 7)

    table = runs(["s3", "adamw"], 6, loss, horizons=(50, 100, 200))
    short, middle, long = comparisons.horizons(table).to_dict("records")
    assert short["speedup_low"] == pytest.approx(2, rel=0.05)
    assert short["interval_low"] <= 2 <= short["interval_high"]
    assert middle["speedup_low"] == pytest.approx(2, rel=0.05)
    assert (long["speedup_low"], long["speedup_high"]) == (1, INF)  # no horizon of AdamW's gets there
    assert comparisons.horizons(table[table.horizon == 100]).empty


def test_across_tasks_is_a_geometric_mean_and_needs_two_tasks():
    table = runs(["s3", "adamw"], 2, lambda o, *_: 1.0 if o == "s3" else 2.0, tasks=("t", "u"))
    table.loc[(table.task == "u") & (table.optimizer == "s3"), "final_loss"] = 4.0
    steps = times([(o, seed, low, 2 * low) for o, low in (("s3", 10), ("adamw", 40)) for seed in (0, 1)])
    row = one(comparisons.across(table, pd.concat([steps, steps.assign(task="u")])))
    assert (row["tasks"], row["n"]) == (2, 4)
    assert row["loss_ratio"] == pytest.approx(1)  # a half and two
    assert (row["speedup_low"], row["speedup_high"]) == pytest.approx((2, 8))
    assert comparisons.across(table[table.task == "t"], steps).empty


def test_only_the_longest_horizon_of_a_task_counts_across_tasks():
    table = runs(["s3"], 1, lambda *_: 1.0, horizons=(50, 100))
    assert set(comparisons.longest(table).horizon) == {100}


def test_profile_ratios_are_of_what_all_optimizers_have():
    steps = times([("s3", 0, 0, 10), ("adamw", 0, 10, 20), ("s3", 1, 0, 10), ("adamw", 1, 100, INF), ("s3", 2, 0, 5)])
    optimizers, tasks, ratios = comparisons.profile_ratios(steps)
    expected = dict(zip(optimizers, np.array(ratios).T.tolist(), strict=True))
    assert expected == {"s3": [1, 1], "adamw": [2, INF]}
    assert tasks == ["t", "t"]


def test_a_tuned_comparison_is_of_the_picked_runs():
    # The baseline's best multiplier differs by seed: each is compared where the *other* seeds were best.
    ends = {("s3", 0): 1.0, ("s3", 1): 1.0, ("adamw", 0): 2.0, ("adamw", 1): 3.0}
    table = runs(
        ["s3", "adamw"], 2, lambda o, seed, m, _: ends[o, seed] + (m - 1) * (1 - 2 * seed), multipliers=(1, 1.5)
    )
    picked = cells.runs_at_best(table)
    assert picked[picked.optimizer == "adamw"].lr_multiplier.tolist() == [1.5, 1]
    assert one(comparisons.final_losses(picked))["n"] == 2
