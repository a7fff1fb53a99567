"""Shocked runs in the report: beside their undisturbed twins, in tables and a figure of their own."""

import math

import pandas as pd
import pytest

from s3bench.cli import main
from s3bench.report.analysis.results_folder import read_runs
from tests.records import GRADIENT, tables, written
from tests.records import SHOCKED_HORIZON as HORIZON
from tests.records import make_shocked as make

NOISE = "shock={kind: noise, step: 100, length: 3}"


def one(table):
    (row,) = table.to_dict("records")
    return row


def test_the_response_is_the_known_one(tmp_path):
    for seed in range(6):
        make(tmp_path, seed=seed)
        make(tmp_path, GRADIENT, seed=seed, excess=[1.0 + 0.1 * seed] * 20, final=0.75)
    page, read = written(tmp_path)
    row = one(read["shocks"])
    assert [row[key] for key in ("task", "optimizer", "lr_multiplier")] == ["quadratic", "s3", 1]
    assert [row[key] for key in ("kind", "step", "length", "dose")] == ["gradient", 100, 1, 30]
    assert [row[key] for key in ("n", "diverged", "holes", "without_twin", "twin_diverged", "window")] == [
        *[6, 0, 0, 0, 0, 100]
    ]
    assert row["peak"] == pytest.approx(1.25)
    assert 1 < row["peak_low"] < 1.25 < row["peak_high"] < 1.5
    assert row["area"] == pytest.approx(25)
    assert (row["recovered"], row["median_recovery"]) == (6, 20)
    assert row["lasting"] == pytest.approx(0.25)
    assert (row["spikes"], row["twin_spikes"]) == (6, 0)
    assert (row["worst_step"], row["update_max"]) == (1, 3)
    assert row["worst_step_then"] == pytest.approx((1 - 0.95**102) ** (2 / 3))
    assert read["holes"].empty
    assert "response to a shock" in page
    assert (tmp_path / "report" / "figures" / "shock_quadratic.svg").exists()
    shown = (tmp_path / "report" / "tables" / "shocks.md").read_text()
    assert "| 6 of 6 | 20 |" in shown


def test_shocked_runs_are_in_no_ordinary_table_and_change_none(tmp_path):
    for seed in (0, 1):
        for optimizer in ("s3", "adamw"):
            make(tmp_path / "plain", optimizer=optimizer, seed=seed)
            make(tmp_path / "both", optimizer=optimizer, seed=seed)
            for shock in (GRADIENT, NOISE):
                make(tmp_path / "both", shock, optimizer, seed, excess=[2.0] * 30, final=0.9)
    plain = tables(tmp_path / "plain")
    both = tables(tmp_path / "both")
    assert plain.keys() == both.keys()
    for name, table in plain.items():
        if name not in ("shocks", "shock_tests"):
            pd.testing.assert_frame_equal(table, both[name])
    assert plain["shocks"].empty
    assert len(both["shocks"]) == 4
    shocked = [run.shock is not None for run in read_runs(tmp_path / "both")]
    assert (shocked.count(False), shocked.count(True)) == (4, 8)


def test_every_optimizer_is_compared_with_the_baseline_in_pairs_of_seeds(tmp_path):
    for seed in range(6):
        for optimizer, height in (("s3", 0.5), ("adamw", 2.0), ("adamw_95", 1.0)):
            make(tmp_path, optimizer=optimizer, seed=seed)
            make(tmp_path, GRADIENT, optimizer, seed, excess=[height + 0.01 * seed] * 10)
    read = tables(tmp_path)
    tests = read["shock_tests"].set_index(["measure", "optimizer"])
    assert set(tests.baseline) == {"adamw_95"}
    assert tests.loc[("peak", "adamw")].difference == pytest.approx(1)
    assert tests.loc[("peak", "s3")].difference == pytest.approx(-0.5)
    assert tests.loc[("area", "s3")].difference == pytest.approx(-5)
    assert tests.loc[("peak", "s3")].n == 6
    assert tests.loc[("peak", "s3")].p == pytest.approx(2 / 64)
    assert tests.loc[("peak", "s3")].p_holm == pytest.approx(4 / 64)
    assert tests.loc[("peak", "s3")].verdict == "n = 6 pairs cannot reach 0.05 (7 needed)"
    bounds = read["shocks"].set_index("optimizer").worst_step
    assert bounds.to_dict() == pytest.approx({"adamw": 7.27, "adamw_95": 1.165, "s3": 1.0}, abs=0.001)


def test_a_diverged_run_counts_and_its_twins_losses_do_not(tmp_path):
    for seed in range(3):
        make(tmp_path, seed=seed)
        make(tmp_path, GRADIENT, seed=seed, excess=[1.0] * 20, state="diverged" if seed == 0 else "finished")
        make(tmp_path, optimizer="adamw", seed=seed)
        make(tmp_path, GRADIENT, "adamw", seed=seed)
    read = tables(tmp_path)
    row = one(read["shocks"][read["shocks"].optimizer == "s3"])
    assert (row["n"], row["diverged"], row["recovered"]) == (3, 1, 2)
    assert (row["peak"], row["area"], row["lasting"]) == pytest.approx((1, 20, 0))
    tests = read["shock_tests"].set_index("measure")
    assert tests.loc["peak"].difference == math.inf  # it ranks highest
    assert tests.loc["peak"].p == pytest.approx(2 / 8)


@pytest.mark.usefixtures("undrawn")
def test_missing_failed_and_diverged_twins_are_said(tmp_path):
    states = {0: "finished", 1: None, 2: "failed", 3: "missing", 4: "diverged"}
    for seed, state in states.items():
        if state:
            make(tmp_path, seed=seed, state=state)
        make(tmp_path, GRADIENT, seed=seed, excess=[1.0] * 20)
    make(tmp_path, GRADIENT, seed=5, state="failed")
    page, read = written(tmp_path)
    row = one(read["shocks"])
    assert [row[key] for key in ("n", "holes", "without_twin", "twin_diverged")] == [1, 1, 3, 1]
    assert row["peak"] == pytest.approx(1)
    assert math.isnan(row["peak_low"])  # of one
    causes = read["holes"].cause.value_counts().to_dict()
    twin = "its undisturbed twin, shock.kind=none, is"
    assert causes[f"{twin} missing"] == 2  # one was never asked for
    assert causes[f"{twin} failed"] == causes[f"{twin} diverged"] == 1
    assert causes["RuntimeError: boom"] == 2
    assert f"{twin} diverged" in page


def test_a_report_of_shocked_runs_alone_says_that_their_twins_are_missing(tmp_path, capsys):
    for seed in (0, 1):
        make(tmp_path, NOISE, seed=seed)
    assert main(["report", str(tmp_path)]) == 0
    assert not capsys.readouterr().err
    row = one(pd.read_csv(tmp_path / "report" / "tables" / "shocks.csv"))
    assert (row["n"], row["without_twin"]) == (0, 2)
    assert math.isnan(row["peak"])
    assert len(pd.read_csv(tmp_path / "report" / "tables" / "holes.csv")) == 2
    assert "0 runs; 2 more with a shock" in (tmp_path / "report" / "index.html").read_text()


def test_the_noise_itself_is_no_spike_and_no_response(tmp_path):
    make(tmp_path)
    make(tmp_path, NOISE, excess=[5.0, 5.0])  # at steps 101 and 102, of the three that are noise
    row = one(tables(tmp_path)["shocks"])
    assert (row["peak"], row["area"], row["spikes"], row["recovered"]) == pytest.approx((0, 0, 0, 1))


def test_other_settings_have_twins_of_their_own(tmp_path):
    for warmup, height in ((0.02, 1.0), (0.3, 2.0)):
        make(tmp_path, overrides=[f"schedule.warmup={warmup}"])
        make(tmp_path, GRADIENT, excess=[height] * 10, overrides=[f"schedule.warmup={warmup}"])
    found = tables(tmp_path)["shocks"].set_index("task").peak.to_dict()
    assert found == pytest.approx({"quadratic (warmup=0.02)": 1, "quadratic (warmup=0.3)": 2})


@pytest.mark.slow
def test_the_figure_of_several_kinds_steps_and_multipliers_is_drawn(tmp_path):
    shocks = [f"shock={{kind: gradient, step: {step}, dose: {dose}}}" for step in (20, 100) for dose in (3, 100)]
    shocks += [NOISE, "shock={kind: labels, step: 100, length: 2}", f"shock={{kind: noise, step: {HORIZON - 1}}}"]
    for multiplier in (1, 10):
        for optimizer in ("s3", "lion"):
            make(tmp_path, optimizer=optimizer, overrides=[f"lr_multiplier={multiplier}"])
            for number, shock in enumerate(shocks):
                state = "diverged" if number == 3 and optimizer == "lion" else "finished"
                make(tmp_path, shock, optimizer, 0, [0.5] * 40, state, overrides=[f"lr_multiplier={multiplier}"])
    _, read = written(tmp_path)
    drawn = sorted(file.stem for file in (tmp_path / "report" / "figures").glob("shock_*.svg"))
    assert drawn == ["shock_quadratic__1", "shock_quadratic__10"]
    last = read["shocks"][read["shocks"].step == HORIZON - 1]
    assert (last.window == 0).all()
    assert last.peak.isna().all()
    assert last.lasting.notna().all()
    assert read["shocks"].worst_step.isna().sum() == 2 * len(shocks)  # of lion none is known
    assert read["shock_tests"].empty  # there is no baseline


@pytest.mark.slow
def test_a_real_sweep_of_shocks_has_a_report(s3bench, tmp_path):
    shocks = "shock={kind: none},{kind: gradient, step: 30, dose: 100},{kind: noise, step: 30, length: 2}"
    sweep = ["task=quadratic", "optimizer=s3,adamw", "seed=0,1", "horizon=80", shocks, "results_dir=r"]
    assert "12 runs: 12 finished" in s3bench("sweep", *sweep).stdout
    assert s3bench("report", "r").returncode == 0
    table = pd.read_csv(tmp_path / "r" / "report" / "tables" / "shocks.csv")
    assert table.n.tolist() == [2] * 4
    assert (table.peak > 0).all()
    assert set(pd.read_csv(tmp_path / "r" / "report" / "tables" / "cells.csv").n) == {2}
