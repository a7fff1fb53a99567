"""The field: each optimizer at its own best learning rate, at 3 and at 10 times it, on hand-made records."""

import math

import pytest

from s3bench.report.analysis.field import COLUMNS, field_table
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.seen import seen
from s3bench.report.formatting import format_table
from tests.records import make, make_arm, make_replayed


def field(results):
    return field_table(read_results(results)).set_index("optimizer")


def test_each_optimizer_is_counted_at_multiples_of_its_own_best_rate(tmp_path):
    for seed in (0, 1):
        make(tmp_path, "adamw_95", 1, seed, final=0.01)
        make(tmp_path, "adamw_95", 3, seed, final=0.02, spikes=[60] if seed else [])
        make(tmp_path, "adamw_95", 10, seed, final=0.5, state="diverged")
        make(tmp_path, "s3", 0.3, seed, final=0.01)
        make(tmp_path, "s3", 1, seed, final=0.02, spikes=[50, 80])
    table = field(tmp_path)
    reference, s3 = table.loc["adamw_95"], table.loc["s3"]
    assert (reference.best_multiplier, bool(reference.edge), reference.n) == (1, True, 2)
    assert (reference.spikes_best, reference.spikes_x3, reference.steps_x3) == (0, 1, 200)
    assert reference.per_10k_x3 == 50
    assert reference.burden_x3 == pytest.approx(50, rel=0.05)  # one spike of height 1 and one step
    assert math.isinf(reference.burden_x10)
    assert math.isinf(reference.loss_x10)
    assert reference.largest_without_spike == 1
    assert (s3.best_multiplier, s3.spikes_best, s3.spikes_x3) == (0.3, 0, 4)  # ×1 counts as three times ×0.3
    assert math.isnan(s3.spikes_x10)
    assert (s3.step_time, s3.reference) == (pytest.approx(1, rel=0.7), "adamw_95")


def test_a_run_whose_loss_stays_at_a_guess_does_not_stand_its_rate(tmp_path):
    for seed in (0, 1):
        make(tmp_path, "s3", 1, seed)
        make(tmp_path, "s3", 10, seed, final=0.99)
    assert field(tmp_path).loc["s3"].largest_without_spike == 1


def test_an_optimizer_at_one_rate_is_not_in_the_field(tmp_path):
    for seed in (0, 1):
        make(tmp_path, "s3", 1, seed)
        make(tmp_path, "adamw", 1, seed)
        make(tmp_path, "adamw", 3, seed, final=0.02)
    assert list(field(tmp_path).index) == ["adamw"]


def test_without_a_result_the_table_is_empty_and_has_its_columns(tmp_path):
    make(tmp_path, state="missing")
    table = field_table(read_results(tmp_path))
    assert table.empty
    assert list(table) == COLUMNS
    assert format_table("field", table).empty


def test_the_table_has_a_row_per_optimizer_and_columns_per_task(tmp_path):
    for seed in (0, 1):
        for multiplier in (1, 3):
            make(tmp_path, "adamw", multiplier, seed, final=0.01 * multiplier)
            make(tmp_path, "adamw", multiplier, seed, final=0.01 * multiplier, overrides=["task=nonconvex"])
    shown = format_table("field", field_table(read_results(tmp_path)))
    assert len(shown) == 1
    row = shown.iloc[0]
    assert row["nonconvex: spikes per 10,000 steps"] == "0 / 0 / -"
    assert row["quadratic: best ×; largest without a spike"] == "1 (edge); 3"


def test_the_line_says_who_spiked_late_and_what_prevented_the_replayed_spikes(tmp_path):
    for seed in (0, 1):
        make(tmp_path, "s3", 1, seed, spikes=[3])  # not late
        make(tmp_path, "sgd", 1, seed, spikes=[60] if seed else [])
        make(tmp_path, "sgd", 10, seed, state="diverged")  # not at ×1
    line = seen(read_results(tmp_path))
    assert line == (
        "Spikes after the first 5% of the steps on quadratic at ×1: s3 in 0 of 2 runs, "
        "sgd in 1 of 2 runs (up to +0.987)"
    )


def test_the_line_names_the_arms(tmp_path):
    run = make_replayed(tmp_path)
    for name, spikes in {"same": {150: 4.0}, "half_lr": {}, "s3_fresh": {150: 3.0}}.items():
        make_arm(tmp_path, run, name, spikes)
    results = read_results(tmp_path)
    assert seen(results).endswith("These prevented the replayed spike: half_lr; these did not: s3_fresh")


def test_a_folder_without_a_result_says_so(tmp_path):
    make(tmp_path, state="missing")
    assert seen(read_results(tmp_path)) == "No run is over"
