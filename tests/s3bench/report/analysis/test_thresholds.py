"""Ramps in a results folder: their thresholds, fixed rates beside them, and that no other table has them."""

import math

import numpy as np
import pytest

from s3bench.cli import main
from s3bench.errors import UserError
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.results_folder import read_runs
from s3bench.report.analysis.seen import seen
from s3bench.report.analysis.thresholds import COLUMNS, threshold_table
from s3bench.report.figures.available import drawings
from s3bench.report.formatting import format_table
from tests.records import RAMP_HORIZON, make, make_fixed, make_ramp, tables, written

OF_RAMPS = ("thresholds", "ramps")


def multiplier_before(step):
    """Return the multiplier of the last update before a step of make_ramp's ramps."""
    return 0.3 * 1e4 ** ((step - 1 - 50) / 550)


def thresholds(results):
    table = threshold_table(read_results(results))
    assert list(table) == COLUMNS
    return table.set_index("optimizer")


def test_thresholds_are_geometric_means_and_their_ratios_are_of_pairs(tmp_path):
    for seed, adamw, s3 in ((0, 300, 355), (1, 310, 365), (2, 290, 400)):
        make_ramp(tmp_path, "adamw", seed, adamw)
        make_ramp(tmp_path, "s3", seed, s3)
    make_ramp(tmp_path, "s3", 3, 100)  # without a pair
    table = thresholds(tmp_path)
    adamw, s3 = table.loc["adamw"], table.loc["s3"]
    assert adamw.threshold == pytest.approx(multiplier_before(300))
    logs = np.log([multiplier_before(step) for step in (300, 310, 290)])
    half = 4.302653 * logs.std(ddof=1) / math.sqrt(3)  # t(.975, 2)
    assert adamw.threshold_low == pytest.approx(adamw.threshold * math.exp(-half))
    assert adamw.threshold_high == pytest.approx(adamw.threshold * math.exp(half))
    assert (adamw.n, adamw.censored, adamw.early, s3.n, s3.pairs, s3.reference) == (3, 0, 0, 4, 3, "adamw")
    assert math.isnan(adamw.ratio)
    assert s3.ratio == pytest.approx(1e4 ** ((55 + 55 + 110) / 3 / 550))
    assert s3.ratio_low < s3.ratio < s3.ratio_high


def test_a_run_that_never_left_leaves_a_bound_and_no_mean(tmp_path):
    make_ramp(tmp_path, "adamw", 0, 300)
    make_ramp(tmp_path, "s3", 0, None)
    make_ramp(tmp_path, "s3", 1, 300)
    make_ramp(tmp_path, "signum", 0, 45)  # within the calm steps
    table = thresholds(tmp_path)
    last = multiplier_before(RAMP_HORIZON)
    s3, signum = table.loc["s3"], table.loc["signum"]
    assert (s3.n, s3.censored, signum.early) == (2, 1, 1)
    assert math.isnan(s3.threshold)
    assert math.isnan(s3.threshold_low)
    assert s3.threshold_least == pytest.approx(math.sqrt(last * multiplier_before(300)))
    assert s3.threshold_most == math.inf
    assert (s3.pairs, s3.ratio_least, s3.ratio_most) == (1, pytest.approx(last / multiplier_before(300)), math.inf)
    assert (signum.threshold_least, signum.threshold_most) == (0, pytest.approx(0.3))
    shown = format_table("thresholds", table.reset_index()).set_index("optimizer")
    assert shown.loc["s3", "n"] == "2 (1 never left)"
    assert shown.loc["s3", "threshold [95%]"] == f"≥ {s3.threshold_least:.4g}"
    assert shown.loc["signum", "threshold [95%]"] == "≤ 0.3"
    assert "headroom" not in shown
    assert seen(read_results(tmp_path)) == (
        f"Thresholds on quadratic: adamw ×19.4, s3 above ×{s3.threshold_least:.3g}, signum at most ×0.3"
    )


@pytest.mark.parametrize(
    ("left_at", "check"),
    [
        ({9: (None, None), 100: (200, 300)}, "holds"),
        ({9: (None, None)}, "holds below"),
        ({100: (200, 200)}, "holds above"),
        ({9: (None, 200), 100: (200, 200)}, "misleads at ×9"),
        ({9: (None, None), 100: (200, None)}, "misleads at ×100"),
        ({10: (None, 200), 45: (None, 200)}, "not checked"),  # within a factor of two of a threshold
        ({}, "not checked"),
    ],
)
def test_fixed_rates_bear_a_ramp_out_or_the_table_says_where_they_do_not(tmp_path, left_at, check):
    make_ramp(tmp_path, "s3", 0, 300)  # ×19.4
    make_ramp(tmp_path, "s3", 1, 310)  # ×23.0
    for multiplier, steps in left_at.items():
        for seed, step in enumerate(steps):
            make_fixed(tmp_path, "s3", multiplier, seed, step)
        make_fixed(tmp_path, "s3", multiplier, 2, 200)  # a seed without a ramp
    s3 = thresholds(tmp_path).loc["s3"]
    assert s3.check == check
    counts = [f"×{multiplier}: {steps.count(None)} of 2" for multiplier, steps in left_at.items()]
    assert s3.stable == ", ".join(counts)


def test_a_fixed_rate_at_which_the_loss_never_comes_down_is_not_stable(tmp_path):
    make_ramp(tmp_path, "s3", 0, 300)
    make_fixed(tmp_path, "s3", 100, 0, left_at=1)  # jumps from 2 to 3 and stays: before it the loss has not come down
    make_fixed(tmp_path, "s3", 3, 0)
    assert thresholds(tmp_path).loc["s3"].check == "holds"


def test_runs_of_another_schedule_warmup_horizon_or_size_check_nothing(tmp_path):
    make_ramp(tmp_path, "s3", 0, 300)
    for other in ({"warmup": 0.02}, {"horizon": 300}, {"overrides": ["task.build.dim=16"]}):
        make_fixed(tmp_path, "s3", 10, 0, 200, **other)
    make(tmp_path, "s3", 10, 0, horizon=RAMP_HORIZON)  # cosine
    assert thresholds(tmp_path).loc["s3"].check == "not checked"


def test_no_other_table_has_a_ramp(tmp_path):
    for seed in range(3):
        for multiplier in (1, 3):
            make(tmp_path, "adamw", multiplier, seed, final=0.01 * multiplier, spikes=[50])
            make(tmp_path, "s3", multiplier, seed, final=0.02 * multiplier)
    before = tables(tmp_path)
    for seed in range(3):
        make_ramp(tmp_path, "adamw", seed, 300)
        make_ramp(tmp_path, "s3", seed, 400)
    after = tables(tmp_path)
    assert set(after) - set(before) == set(OF_RAMPS)
    for name, table in before.items():
        if name == "environment":
            assert after[name].runs.sum() == table.runs.sum() + 6
        elif name != "field":
            assert after[name].equals(table), name
    results = read_results(tmp_path)
    assert [name for name in drawings(results) if name.startswith("loss_")] == ["loss_quadratic"]
    assert {len(results.runs), len(results.with_result)} == {12}


def test_the_field_has_the_threshold_of_the_same_setup_and_optimizer(tmp_path):
    for seed in range(2):
        for multiplier in (1, 3, 10):
            for optimizer in ("adamw", "s3"):
                final = 0.01 * abs(math.log(multiplier / 3)) + 0.01  # best at ×3
                make(tmp_path, optimizer, multiplier, seed, final=final)
        make_ramp(tmp_path, "s3", seed, 300 + 10 * seed)
        make_ramp(tmp_path, "adamw", seed, 200, ["task.build.dim=16"])  # another task
    assert {run.task_label for run in read_results(tmp_path).ramps} == {"quadratic", "quadratic (dim=16)"}
    field = tables(tmp_path)["field"].set_index("optimizer")
    assert field.loc["s3"].threshold == pytest.approx(multiplier_before(305))
    assert math.isnan(field.loc["adamw"].threshold)
    shown = format_table("field", field.reset_index()).set_index("optimizer")["quadratic: threshold of the ramp"]
    assert shown["s3"].startswith(f"{multiplier_before(305):.4g} [")
    assert shown["adamw"] == "-"
    row = thresholds(tmp_path).loc["s3"]
    assert row.headroom == pytest.approx(multiplier_before(305) / 3)


def test_neither_the_fixed_rates_nor_the_edge_of_a_grid_give_a_headroom(tmp_path):
    make_ramp(tmp_path, "s3", 0, 300)
    for seed in range(2):
        for multiplier in (3, 30, 300):
            make_fixed(tmp_path, "s3", multiplier, seed, 200 if multiplier == 300 else None)
    assert math.isnan(thresholds(tmp_path).loc["s3"].headroom)
    for seed in range(2):
        make(tmp_path, "s3", 1, seed, final=0.01)
        make(tmp_path, "s3", 3, seed, final=0.02)
    assert math.isnan(thresholds(tmp_path).loc["s3"].headroom)


def test_two_kinds_of_ramps_on_one_setup_are_two_tasks(tmp_path):
    make_ramp(tmp_path, "s3", 0, 300)
    make_ramp(tmp_path, "s3", 1, 300)
    make_ramp(tmp_path, "s3", 0, 300, ["schedule.start=1e-3"])
    table = threshold_table(read_results(tmp_path))
    assert table.task.tolist() == ["quadratic", "quadratic (start=0.001)"]


@pytest.mark.usefixtures("undrawn")
def test_a_ramp_that_failed_or_never_began_is_a_hole_and_no_threshold(tmp_path):
    make_ramp(tmp_path, "s3", 0, state="missing")
    assert thresholds(tmp_path).empty
    assert tables(tmp_path)["holes"].state.tolist() == ["missing"]
    assert format_table("thresholds", tables(tmp_path)["thresholds"]).empty
    assert seen(read_results(tmp_path)) == "No run is over"
    page, _ = written(tmp_path)
    assert "0 runs; 1 ramp." in page


def test_a_folder_of_nothing_but_ramps_has_a_whole_report(tmp_path):
    for seed in range(2):
        make_ramp(tmp_path, "adamw", seed, 300)
        make_ramp(tmp_path, "s3", seed, None if seed else 320)
    page, saved = written(tmp_path)
    assert "0 runs; 4 ramps." in page
    assert 'No curves: all runs are <a href="#ramps">ramps</a>.' in page
    assert "No run has a result." not in page
    assert "schedule=ramp horizon=600 optimizer=adamw,s3 lr_multiplier=3000 seed=0,1" in page
    assert len(saved["ramps"]) == 4
    figures = sorted(file.name for file in (tmp_path / "report" / "figures").iterdir())
    assert figures == ["thresholds.pdf", "thresholds.png", "thresholds.svg"]


def test_a_ramp_with_a_shock_is_refused(tmp_path):
    make_ramp(tmp_path, "s3", 0, 300, ["shock={kind: gradient, step: 100, dose: 30}"])
    with pytest.raises(UserError, match="is a ramp with a shock, for which there is no score"):
        read_runs(tmp_path)


def test_a_ramp_is_not_held_against_runs_with_other_data(tmp_path):
    make(tmp_path, "s3")
    folder = make_ramp(tmp_path, "s3", 0, 300)
    text = (folder / "summary.json").read_text()
    (folder / "summary.json").write_text(text.replace('"fingerprint": "f"', '"fingerprint": "g"'))
    with pytest.raises(UserError, match="differ in their data"):
        read_runs(tmp_path)


def test_gradient_descent_leaves_a_quadratic_where_theory_says(tmp_path):
    """Gradient descent on a curvature of 1 is stable below a learning rate of 2; the task's is 0.03, so ×66.7."""
    common = ["task=quadratic", "optimizer=sgd", "optimizer.momentum=0", f"results_dir={tmp_path}"]
    common += ["horizon=1200", "eval_every=1200", "task.targets=[]", "measure_every=1200"]
    assert main(["run", *common, "schedule=ramp", "lr_multiplier=3000"]) == 0
    for multiplier in (30, 160):
        fixed = ["schedule=constant", "schedule.warmup=0.0833", f"lr_multiplier={multiplier}"]
        assert main(["run", *common, *fixed]) == 0
    (row,) = threshold_table(read_results(tmp_path)).to_dict("records")
    assert 2 / 0.03 < row["threshold"] < 1.2 * 2 / 0.03
    assert (row["stable"], row["check"]) == ("×30: 1 of 1, ×160: 0 of 1", "holds")
