"""Measured updates beside the bounds of their rules, and shocks of every kind in the report, on real short runs."""

import itertools
import math

import pandas as pd
import pytest

from s3bench.record.shock_kinds import KINDS, shock_label
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.update_bounds import bound_table
from s3bench.report.analysis.update_rules import adam, betas
from s3bench.report.figures.available import drawings
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from tests.records import tables, written

SHORT = ["task=quadratic", "schedule=constant", "horizon=40", "eval_every=40", "measure_every=1"]
GRADIENT = "shock={kind: gradient, step: 30, dose: 100}"


def train(folder, *overrides):
    assert run(run_config([*overrides, f"results_dir={folder}"])) == "finished"


def test_a_later_update_never_has_a_smaller_bound_and_none_overflows():
    for pair in itertools.product((0.0, 0.5, 0.9, 0.95, 0.99), (0.0, 0.9, 0.95, 0.99, 0.999)):
        bounds = [adam(*pair, updates) for updates in (*range(1, 300), 10**4, 10**6, math.inf)]
        assert bounds[0] == pytest.approx(1)
        assert all(later >= earlier * (1 - 1e-9) for earlier, later in itertools.pairwise(bounds))
    assert adam(0.99, 0.9, 10**6) == math.inf
    assert adam(0.9, 0.81, 4) == pytest.approx(0.1 / (1 - 0.9**4) * math.sqrt(4 * (1 - 0.81**4) / 0.19))


def test_the_betas_of_configs():
    assert betas({"_target_": "torch.optim.AdamW", "betas": [0.5, 0.9]}) == (0.5, 0.9)
    assert betas({"_target_": "optimizers.S3", "beta": 0.9}) == (0.9, 0.9)
    first, second = betas({"_target_": "optimizers.SignSGD", "momentum": 0.95})
    assert first == 0.95
    assert math.isnan(second)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for seed, shock in itertools.product((0, 1), ("shock={kind: none}", GRADIENT)):
        for pair in ("[0.0,0.9]", "[0.9,0.999]", "[0.95,0.9]"):
            train(folder, *SHORT, "optimizer=adamw", f"optimizer.betas={pair}", f"seed={seed}", shock)
        for name in ("s3", "lion"):  # of lion no bound is known
            train(folder, *SHORT, f"optimizer={name}", f"seed={seed}", shock)
    train(folder, "task=nonconvex", "horizon=20", "eval_every=20", "optimizer=s3")
    return folder


def test_no_measured_update_is_beyond_its_bound(grid):
    table = bound_table(read_results(grid))
    assert set(table.task) == {"quadratic"}
    assert len(table) == 4 * 2
    assert set(table.shock) == {"none", "gradient × 100 at 30"}
    assert (table.n == 2).all()
    assert (table.own_update > 0).all()
    assert (table.own_update <= table.worst_step_in_run * (1 + 1e-5)).all()
    assert (table.own_update <= table.update_max).all()
    assert table.worst_step_in_run.is_monotonic_increasing
    rows = table[table.shock == "none"].set_index(["beta1", "beta2"])
    assert rows.loc[(0.95, 0.95)].optimizer == "s3"
    assert rows.worst_step_in_run[(0.9, 0.999)] == pytest.approx(adam(0.9, 0.999, 40))
    assert rows.worst_step.to_dict() == pytest.approx(
        {(0.95, 0.95): 1, (0.9, 0.999): 7.2703, (0.0, 0.9): 10**0.5, (0.95, 0.9): math.inf}, rel=1e-4
    )


def test_the_largest_update_over_the_seeds_is_that_of_the_runs(grid):
    results = read_results(grid)
    row = bound_table(results).set_index(["optimizer", "shock"]).loc[("s3", "gradient × 100 at 30")]
    found = [pair.run.own_update for pair in results.pairs if pair.run.optimizer == "s3"]
    assert len(found) == 2
    assert row.own_update == max(found)


@pytest.mark.usefixtures("undrawn")
def test_the_bounds_have_a_figure_and_a_section(grid):
    page, read = written(grid)
    assert "Updates and their bounds" in page
    assert len(read["bounds"]) == 8
    (axes,) = drawings(read_results(grid))["bounds_quadratic"].draw().axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "s3"
    assert len(labels) == 4


@pytest.mark.usefixtures("undrawn")
def test_a_single_pair_of_betas_has_neither(tmp_path):
    for name in ("adamw", "adamw_95", "s3"):
        train(tmp_path, *SHORT, f"optimizer={name}")
    results = read_results(tmp_path)
    assert bound_table(results).empty
    assert "bounds_quadratic" not in drawings(results)
    assert "Updates and their bounds" not in written(tmp_path)[0]


def test_every_kind_of_shock_is_in_the_tables_and_the_figure(tmp_path):
    vit = ["task=digits_vit", "task.build.width=16", "task.build.depth=1", "horizon=30", "eval_every=30"]
    train(tmp_path, *vit, "optimizer=adamw")
    for kind, facts in KINDS.items():
        dose = ["shock.dose=20"] if facts.has_dose else []
        shock = [f"shock.kind={kind}", "shock.step=10", "shock.length=3", *dose]
        train(tmp_path, *vit, "optimizer=adamw", *shock)
    table = tables(tmp_path)["shocks"]
    assert len(table) == len(KINDS)
    assert set(table.kind) == set(KINDS)
    assert (table.n == 1).all()
    assert table.peak.notna().all()
    in_batch = table.kind.isin(["noise", "labels", "token"])
    assert set(table.window[in_batch]) == {30 - 13}
    assert set(table.window[~in_batch]) == {30 - 11}
    bounds = table.set_index("kind").worst_step_then
    assert bounds[["lr", "stale", "reset"]].tolist() == pytest.approx(
        [adam(0.9, 0.999, 11), adam(0.9, 0.999, 8), adam(0.9, 0.999, 1)]
    )
    figure = drawings(read_results(tmp_path))["shock_digits_vit"].draw()
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(ticks) == len(KINDS)
    assert {"gradient × 20 (3 steps)", "reset (3 steps)"} <= set(ticks)
    assert len(figure.axes) == 3  # peak, area, and one shock over time
    figure.draw_without_rendering()


def test_shocks_have_short_names():
    assert shock_label(None) == "none"
    assert shock_label({"kind": "lr", "step": 70, "length": 3, "dose": 50.0}) == "lr × 50 (3 steps) at 70"
    assert shock_label({"kind": "noise", "step": 70, "length": 1, "dose": 1.0}) == "noise at 70"


def test_an_empty_table_has_its_columns(tmp_path):
    train(tmp_path, *SHORT, "optimizer=sgd")
    table = bound_table(read_results(tmp_path))
    assert isinstance(table, pd.DataFrame)
    assert "worst_step_in_run" in table
