"""The report: what the page, the tables and the figures say of records whose truth is known."""

import base64
import itertools
import json
import math
import re
import shlex
import shutil
import time
from hashlib import sha256
from html import unescape

import numpy as np
import pandas as pd
import pytest

from s3bench import record
from s3bench.cli import parse
from s3bench.errors import UserError
from s3bench.report.analysis.loss_curve import CURVE_POINTS, thinned
from s3bench.report.analysis.results import read_results, run_table
from s3bench.report.analysis.results_folder import read_runs
from s3bench.report.figures.available import drawings
from s3bench.report.formatting import format_table, markdown
from s3bench.report.write import write_report
from s3bench.run.config.grid import run_configs
from tests.records import make, tables, written


@pytest.mark.usefixtures("undrawn")
def test_the_tables_hold_the_truth(tmp_path):
    for seed, final in ((0, 0.01), (1, 0.03)):
        make(tmp_path, "s3", 1, seed, final, spikes=[60] if seed else [])
        make(tmp_path, "s3", 10, seed, 0.2)
        make(tmp_path, "adamw", 1, seed, 0.04)
        make(tmp_path, "adamw", 10, seed, state="diverged" if seed else "finished", final=0.3)
    page, read = written(tmp_path)
    cells = read["cells"].set_index(["optimizer", "lr_multiplier"])
    assert cells.loc[("s3", 1.0)].final_loss_mean == pytest.approx(0.02)
    assert cells.loc[("s3", 1.0)].spikes == 1
    assert cells.loc[("s3", 1.0)].spikes_per_10k == 50
    assert cells.loc[("adamw", 10.0), ["n", "diverged", "steps"]].tolist() == [2, 1, 160]
    assert cells.loc[("adamw", 10.0)].final_loss_mean == pytest.approx(0.3)
    tuned = read["tuned"].set_index("optimizer")
    assert tuned.loc["s3"].final_loss_mean == pytest.approx(0.02)
    assert tuned.loc["s3", ["best_multiplier", "edge", "n"]].tolist() == [1.0, True, 2]
    targets = read["targets"].set_index(["optimizer", "lr_multiplier", "target"])
    assert targets.loc[("s3", 1.0, "loss ≤ 0.05"), ["reached", "n", "median_steps"]].tolist() == [2, 2, 90]
    assert targets.loc[("s3", 10.0, "loss ≤ 0.05")].median_steps == math.inf
    columns = "task optimizer lr_multiplier seed number onset peak end height kind sigmas area"
    assert read["spikes"].columns.tolist() == columns.split()
    assert {"number in its run", "peak", "area"} <= set(format_table("spikes", read["spikes"]))
    spikes = read["spikes"][["optimizer", "lr_multiplier", "seed", "onset", "kind"]].to_numpy().tolist()
    assert spikes == [["adamw", 10, 1, 59, "diverged"], ["s3", 1, 1, 60, "blip"]]
    assert read["holes"].empty
    assert "7 finished, 1 diverged" in re.sub(r"\s+", " ", page)


@pytest.mark.parametrize(("exact", "spikes"), [(True, 1), (False, 0)])
def test_a_jump_where_a_run_went_on_inexactly_is_no_spike(tmp_path, exact, spikes):
    folder = make(tmp_path, spikes=[60])
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"resumed": [{"step": 60, "exact": exact}]}))
    (run,) = read_runs(tmp_path)
    assert run_table([run]).spikes.item() == len(run.spikes) == spikes


def test_a_diverged_run_never_reached_the_target(tmp_path):
    make(tmp_path, final=0.01)
    make(tmp_path, seed=1, final=0.01, state="diverged")  # its evaluation at step 50 was at the target
    read = tables(tmp_path)
    reached = read["targets"].set_index("target").loc["loss ≤ 0.5"]
    assert (reached.reached, reached.n) == (1, 2)


@pytest.mark.usefixtures("undrawn")
def test_missing_and_failed_runs_are_listed_and_count_as_holes(tmp_path):
    make(tmp_path)
    make(tmp_path, seed=1, state="failed")
    folder = make(tmp_path, seed=2, state="missing")
    page, read = written(tmp_path)
    assert read["cells"][["n", "holes"]].to_numpy().tolist() == [[1, 2]]
    assert set(read["holes"].state) == {"failed", "missing"}
    assert folder.name in page
    assert "2 runs without a result are listed" in re.sub(r"\s+", " ", page)
    assert "&lt;b&gt;boom&lt;/b&gt;" in page
    assert "<b>boom" not in page


@pytest.mark.parametrize("state", ["missing", "failed", "diverged"])
def test_a_report_without_any_finished_run_says_so_and_does_not_crash(tmp_path, state):
    make(tmp_path, state=state)
    page, _ = written(tmp_path)
    assert f"1 {state}" in page


def test_the_page_needs_no_network_and_no_other_file(tmp_path):
    make(tmp_path)
    page, _ = written(tmp_path)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    scripts = re.findall("<script>(.*?)</script>", page, flags=re.DOTALL)
    allowed = re.search('script-src ([^"]*)', page)[1].split()
    assert allowed == [f"'sha256-{base64.b64encode(sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert page.count("data:image/svg+xml;base64,") == 4


@pytest.mark.usefixtures("undrawn")
def test_the_commands_on_the_page_make_the_same_runs(tmp_path):
    made = {make(tmp_path, *axes).name for axes in itertools.product(("s3", "adamw"), (0.3, 10), (0, 1))}
    page, _ = written(tmp_path)
    shown = unescape(re.search("<pre><code>(.*?)</code>", page, re.DOTALL)[1])
    sweep, report = [shlex.split(line) for line in shown.strip().splitlines()]
    assert {config.run_id for config in run_configs(parse(sweep[1:]).overrides)} == made
    assert report == ["s3bench", "report", str(tmp_path)]


@pytest.mark.usefixtures("undrawn")
def test_the_commands_on_the_page_name_the_clip(tmp_path):
    made = make(tmp_path, overrides=["clip=agc"]).name
    shown = unescape(re.search("<pre><code>(.*?)</code>", written(tmp_path)[0], re.DOTALL)[1])
    (config,) = run_configs(parse(shlex.split(shown.strip().splitlines()[0])[1:]).overrides)
    assert config.run_id == made


def test_two_spikes_close_together_are_both_among_a_thinned_curves_points():
    loss = np.ones(10_000)
    loss[[5003, 5006, 5009]] = [3, 5, 4]  # in one stretch of 20
    assert {5003, 5006, 5009} <= set(thinned(loss, [5003, 5006, 5009], diverged=False).steps.tolist())


def test_one_name_with_two_configs_is_told_apart(tmp_path):
    make(tmp_path)
    make(tmp_path, overrides=["optimizer.p=2.5"])
    read = tables(tmp_path)
    assert set(read["cells"].optimizer) == {"s3 (p=3)", "s3 (p=2.5)"}
    assert set(read["cells"].n) == {1}


def test_what_is_clipped_belongs_to_the_optimizers_label(tmp_path):
    make(tmp_path, "adamw")
    make(tmp_path, "adamw", overrides=["clip=zclip"])
    make(tmp_path, "adamw", overrides=["clip=global_norm"])
    make(tmp_path, "s3", overrides=["clip=global_norm", "clip.max_norm=0.5"])
    make(tmp_path, "s3")
    cells = tables(tmp_path)["cells"]
    assert set(cells.task) == {"quadratic"}
    clipped = {"adamw (clip=ZClip)", "adamw (clip=GlobalNorm, max_norm=1)", "s3 (clip=GlobalNorm, max_norm=0.5)"}
    assert set(cells.optimizer) == {"adamw", "s3", *clipped}


def test_a_record_of_before_0_3_has_a_clip_norm_and_stands_beside_the_clip_that_does_the_same(tmp_path):
    for seed, clip_norm in enumerate(("null", "1.0")):
        folder = make(tmp_path, seed=seed)
        text = (folder / "config.yaml").read_text()
        old = re.sub(r"^clip:\n(  .*\n)+", f"clip_norm: {clip_norm}\n", text, flags=re.MULTILINE)
        (folder / "config.yaml").write_text(old)
        assert "\nclip_norm: " in old
    make(tmp_path, seed=2)
    make(tmp_path, seed=3, overrides=["clip=global_norm"])
    cells = tables(tmp_path)["cells"]
    assert dict(zip(cells.optimizer, cells.n, strict=True)) == {"s3": 2, "s3 (clip=GlobalNorm)": 2}


@pytest.mark.usefixtures("undrawn")
def test_other_settings_than_the_optimizers_make_another_task(tmp_path):
    make(tmp_path)
    make(tmp_path, overrides=["schedule.warmup=0.3"])
    make(tmp_path, "adamw", overrides=["+optimizer.amsgrad=true"])
    _, read = written(tmp_path)
    assert set(read["cells"].task) == {"quadratic", "quadratic (warmup=0.3)"}
    assert len(list((tmp_path / "report" / "figures").glob("loss_*.svg"))) == 2


@pytest.mark.parametrize("override", ["task.spikes.delta=0.9", "task.targets=[{metric: loss, at_most: 0.3}]"])
def test_runs_held_to_different_measures_never_stand_in_one_table(tmp_path, override):
    make(tmp_path)
    make(tmp_path, seed=1, overrides=[override])
    with pytest.raises(UserError, match=r"the records of quadratic differ in their .* put into judge\.yaml"):
        write_report(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_other_targets_and_another_idea_of_a_spike_need_no_retraining(tmp_path):
    make(tmp_path, spikes=[60])
    make(tmp_path, seed=1, overrides=["task.spikes.delta=0.9", "task.targets=[{metric: loss, at_most: 0.3}]"])
    judge = tmp_path / "judge.yaml"
    judge.write_text("quadratic: {targets: [{metric: loss, at_most: 0.4}], spikes: {delta: 5.0}}")
    page, read = written(tmp_path)
    assert set(read["targets"].target) == {"loss ≤ 0.4"}
    assert read["targets"].n.tolist() == [2]
    assert read["spikes"].empty  # of height 1
    assert "From <code>judge.yaml</code>, not from the records: quadratic: spikes, quadratic: targets." in page
    for text, message in {
        "quadratc: {targets: []}": "unknown task in .*judge.yaml 'quadratc'. Did you mean quadratic",
        "quadratic: {target: []}": r"it must be \{TASK: \{targets",
        "[1]": r"it must be \{TASK: \{targets",
        "quadratic: {targets: [{metric: loss}]}": "quadratic.targets has .*; it must be {metric, at_most}",
        "quadratic: {spikes: {kk: 3}}": "the detector parameters in judge.yaml cannot be used",
        "quadratic: {targets: [{metric: los, at_least: 1}]}": "metric of a target in judge.yaml .* 'los'. Did you mean",
        "{": "judge.yaml cannot be read",
    }.items():
        judge.write_text(text)
        with pytest.raises(UserError, match=message):
            write_report(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_written_elsewhere_but_over_nothing_that_is_no_report(tmp_path):
    make(tmp_path / "r")
    elsewhere = tmp_path / "elsewhere"
    for _ in range(2):  # the second time over the first
        assert write_report(tmp_path / "r", output=elsewhere) == elsewhere / "index.html"
    assert not (tmp_path / "r" / "report").exists()
    for other in (tmp_path, tmp_path / "r"):
        with pytest.raises(UserError, match="is there, and not a report: name a new folder"):
            write_report(tmp_path / "r", output=other)


def test_a_copied_record_is_not_another_seed(tmp_path):
    make(tmp_path)
    shutil.copytree(record.folders(tmp_path)[0], tmp_path / "a_copy")
    with pytest.raises(UserError, match="is a copy of"):
        write_report(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_a_task_without_targets_has_a_report(tmp_path):
    make(tmp_path, overrides=["task.targets=[]"])
    page, read = written(tmp_path)
    assert "The tasks have no targets" in page
    assert read["targets"].empty


def test_equal_losses_and_huge_and_infinite_spikes_can_be_drawn(tmp_path):
    for seed in range(3):  # the mean of three 0.1 is not 0.1
        make(tmp_path, seed=seed, final=0.1)
    folder = make(tmp_path, "adamw")
    rows = record.load_steps(folder)
    rows.loc[50, "loss"] = 1e9
    rows.loc[60, "loss"] = math.inf
    summary = json.loads((folder / "summary.json").read_text())
    record.write_result(folder, rows.to_dict("list"), record.load_evals(folder).to_dict("list"), summary)
    _, read = written(tmp_path)
    assert read["spikes"].peak.tolist() == [50, 60]


def test_a_hole_takes_the_seed_out_of_the_tuned_score_and_the_table_says_so(tmp_path):
    for seed in (0, 1, 2):
        make(tmp_path, seed=seed)
        make(tmp_path, multiplier=10, seed=seed, state="failed" if seed == 0 else "finished")
        make(tmp_path, "adamw", 10, seed, state="failed")
        make(tmp_path, "adamw", 1, seed)
    read = tables(tmp_path)
    tuned = read["tuned"].set_index("optimizer")
    assert tuned.loc["s3", ["n", "seeds", "grid"]].tolist() == [2, 3, "1, 10"]
    assert tuned.loc["adamw", ["n", "seeds"]].tolist() == [0, 3]
    assert math.isnan(tuned.loc["adamw"].best_multiplier)


def test_names_with_html_and_formulas_are_only_text(tmp_path):
    folder = make(tmp_path)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("optimizer: s3\n", "optimizer: <i>$x_{1$|\n"))
    page, read = written(tmp_path)
    assert read["cells"].optimizer.tolist() == ["<i>$x_{1$|"]
    assert set(read["published"].optimizer) == {"<i>$x_{1$|"}
    assert "<i>$x" not in page


@pytest.mark.usefixtures("undrawn")
def test_what_may_not_be_concluded_is_said_with_the_numbers(tmp_path):
    make(tmp_path)
    make(tmp_path, seed=1)
    page = re.sub(r"\s+", " ", written(tmp_path)[0])
    assert "a model of 32 parameters, trained for 100 steps with 2 seeds" in page
    assert "With 2 paired seeds a two-sided sign test cannot give a p below 0.5: no paired difference" in page


def test_the_same_records_give_the_same_figures_byte_for_byte(tmp_path):
    make(tmp_path, spikes=[60])
    first = {file.name: file.read_bytes() for file in (write_report(tmp_path).parent / "figures").iterdir()}
    time.sleep(1.1)
    second = {file.name: file.read_bytes() for file in (write_report(tmp_path).parent / "figures").iterdir()}
    assert len(first) == 12
    assert first == second


def test_markdown_escapes_pipes():
    assert markdown(pd.DataFrame({"a": ["x|y"]})) == "| a |\n| --- |\n| x\\|y |\n"


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    make(tmp_path)
    page = write_report(tmp_path)
    before = page.read_text()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s3bench.report.figures.style.save", full)
    with pytest.raises(Exception, match="cannot be written: No space left"):
        write_report(tmp_path)
    assert page.read_text() == before
    assert not list(tmp_path.glob(".report*"))


@pytest.mark.usefixtures("undrawn")
def test_the_page_compares_with_the_baseline_at_each_ones_best_learning_rate(tmp_path):
    for seed in range(6):
        make(tmp_path, "s3", seed=seed, final=0.01)
        make(tmp_path, "adamw", seed=seed, final=0.04, spikes=[60])
    read = tables(tmp_path)
    assert read["final_losses"].verdict.tolist() == ["not tuned: at one learning rate"]
    assert read["final_losses"].p.isna().all()
    for optimizer, seed in itertools.product(("s3", "adamw"), range(6)):
        make(tmp_path, optimizer, 10, seed=seed, final=0.5)
    page, read = written(tmp_path)
    assert read["final_losses"][["optimizer", "baseline", "n", "verdict"]].to_numpy().tolist() == [
        ["s3", "adamw", 6, "differs"]
    ]
    assert read["speedups"].set_index("target").loc["loss ≤ 0.05", ["faster", "slower", "n"]].tolist() == [6, 0, 6]
    assert read["spike_rates"].difference.tolist() == [-100, 0]
    assert read["sensitivity"].empty is False
    assert read["horizons"].empty
    assert "cannot reach" not in page
    assert 'alt="Runs that have reached the target' in page


@pytest.mark.usefixtures("undrawn")
def test_published_definitions_stand_beside_ours(tmp_path):
    for seed in (0, 1):
        make(tmp_path, "s3", 3, seed, final=0.97, spikes=range(80, 90) if seed else [])
        make(tmp_path, "s3", 1, seed, final=0.97)
    page, read = written(tmp_path)
    table = read["published"].set_index(["lr_multiplier", "definition", "series"])
    assert len(table) == 2 * (1 + 6 + 5)  # cells × ours, on the loss, on the gradient norm
    ours = table.loc[(3.0, "s3bench", "loss")]
    assert (ours.score, ours.unit, ours.events, ours.flagged) == (50, "per 10,000 steps", 1, 10)
    qwen = table.loc[(3.0, "Qwen", "loss")]
    assert (qwen.score, qwen.flagged, qwen.events, qwen.events_per_10k) == (500, 10, 1, 50)
    assert table.loc[(1.0, "Qwen", "loss")].flagged == 0
    skipped = table.loc[(3.0, "OLMo-core, skipped steps", "loss")]
    assert (skipped.n, skipped.runs, skipped.steps) == (2, 2, 200)
    assert skipped.score == pytest.approx(100 * skipped.flagged / 200)
    assert skipped.events_per_10k == pytest.approx(1e4 * skipped.events / 200)
    assert "<summary>quadratic: the gradient norm</summary>" in page
    for source in ("arXiv 2501.00656", "llm-foundry, callbacks/kill_loss_spike_callback.py", "arXiv 2501.06842"):
        assert source in page
    assert "SPAM</strong>, which cannot be computed from a record" in page


@pytest.mark.usefixtures("undrawn")
def test_a_run_too_short_for_a_definition_has_no_score_and_the_page_says_why(tmp_path):
    make(tmp_path)
    make(tmp_path, seed=1, state="diverged")  # 60 steps
    page, read = written(tmp_path)
    table = read["published"].set_index(["definition", "series"])
    assert table.loc[("OLMo 2", "loss"), ["n", "runs", "steps"]].tolist() == [0, 2, 0]
    assert math.isnan(table.loc[("OLMo 2", "loss")].score)
    assert table.loc[("OLMo-core, skipped steps", "loss"), ["n", "runs", "steps"]].tolist() == [1, 2, 100]
    shown = (tmp_path / "report" / "tables" / "published.md").read_text().splitlines()
    (row,) = [line.split(" | ") for line in shown if "| loss |" in line]
    assert row[6] == "-"
    assert row[8] == "0 (0; n = 1)"
    assert "cannot judge the first steps (OLMo 2: 1,000; OLMo-core, monitor: 128;" in re.sub(r"\s+", " ", page)


def test_a_profile_has_bands_from_six_seeds_on(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("s3bench.report.figures.plots.profile", lambda *given: drawn.append(given[2]))
    for seeds, named in (([0, 1], set()), ([2, 3, 4, 5], {"s3", "adamw"})):
        for optimizer, seed, multiplier in itertools.product(("s3", "adamw"), seeds, (1, 10)):
            make(tmp_path, optimizer, multiplier, seed, final=0.01 * multiplier)
            make(tmp_path, optimizer, multiplier, seed, final=0.01 * multiplier, overrides=["schedule.warmup=0.3"])
        drawings(read_results(tmp_path))["profile"].draw()
        assert set(drawn.pop()) == named


def test_runs_at_several_horizons_are_a_ladder(tmp_path):
    for seed in (0, 1):
        for horizon, final in ((50, 0.04), (100, 0.02), (200, 0.01)):
            for multiplier in (1, 10):
                make(tmp_path, "adamw", multiplier, seed=seed, final=final * multiplier, horizon=horizon)
        for multiplier in (1, 10):
            make(tmp_path, "s3", multiplier, seed=seed, final=0.02 * multiplier, horizon=50)
    read = tables(tmp_path)
    row = read["horizons"].iloc[0]
    assert (row.task, row.optimizer, row.horizon, row.n) == ("quadratic", "s3", 50, 2)
    assert (row.speedup_low, row.speedup_high) == pytest.approx((2, 2))
    assert set(read["cells"].task) == {f"quadratic (horizon={horizon})" for horizon in (50, 100, 200)}


def test_many_records_read_by_several_processes_give_the_same_tables(tmp_path, monkeypatch):
    for seed in range(3):
        make(tmp_path, seed=seed, spikes=[40])
        make(tmp_path, "adamw", seed=seed, state="failed" if seed else "diverged")
    alone = tables(tmp_path)
    monkeypatch.setattr("s3bench.report.analysis.results_folder.MANY", 2)
    together = tables(tmp_path)
    for name, table in alone.items():
        pd.testing.assert_frame_equal(table, together[name])


def test_a_damaged_record_among_many_is_named(tmp_path, monkeypatch):
    make(tmp_path)
    folder = make(tmp_path, seed=1)
    (folder / "evals.parquet").write_bytes(b"")
    monkeypatch.setattr("s3bench.report.analysis.results_folder.MANY", 2)
    with pytest.raises(UserError, match=folder.name):
        write_report(tmp_path)


def test_a_thinned_curve_keeps_every_extreme():
    loss = np.sin(np.arange(10_007) / 50) + 2
    loss[[0, 1234, 1235, 9999]] = [9, 50, -3, math.nan]
    curve = thinned(loss, [1234], diverged=False)
    assert len(curve.steps) <= CURVE_POINTS + 2
    assert {0, 1234, 1235, 9999, 10_006} <= set(curve.steps.tolist())
    assert (np.diff(curve.steps) > 0).all()
    assert curve.peaks == [(1234, 50.0)]


def test_a_target_of_a_metric_that_is_not_evaluated_is_named(tmp_path):
    make(tmp_path, overrides=["task.targets=[{metric: accuracy, at_least: 0.5}]"])
    with pytest.raises(UserError, match=r"unknown metric of a target .* 'accuracy'"):
        write_report(tmp_path)


def test_an_ablation_on_one_of_two_tasks_leaves_the_optimizers_name_to_the_usual_settings(tmp_path):
    make(tmp_path, "s3")
    make(tmp_path, "s3", overrides=["optimizer.p=3"], horizon=200)  # the same as 3.0
    make(tmp_path, "s3", overrides=["optimizer.p=2"], horizon=200)
    assert sorted({run.optimizer_label for run in read_runs(tmp_path)}) == ["s3", "s3 (p=2)"]


def test_a_tasks_usual_settings_need_no_name_but_a_horizon_does(tmp_path):
    for seed in range(2):
        make(tmp_path, seed=seed)
        make(tmp_path, seed=seed, horizon=200)
    make(tmp_path, horizon=50, overrides=["task.build.dim=16", "schedule=constant"])
    assert {(run.ladder, run.task_label) for run in read_runs(tmp_path)} == {
        ("quadratic", "quadratic (horizon=100)"),
        ("quadratic", "quadratic (horizon=200)"),
        ("quadratic (dim=16, schedule=constant)", "quadratic (dim=16, schedule=constant, horizon=50)"),
    }
