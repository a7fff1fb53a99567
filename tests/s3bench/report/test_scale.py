"""Many runs and long tables: what the page keeps, and what it says that it leaves out."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from s3bench.report import page, page_data
from s3bench.report.analysis.loss_curve import CURVE_POINTS, Curve, fewer, thinned
from s3bench.report.analysis.results import gather, read_results
from s3bench.report.analysis.runs import read_run
from s3bench.report.figures import overview
from s3bench.report.figures.available import drawings
from s3bench.report.page_data import curve_data
from tests.records import make, written


def test_a_curve_of_fewer_points_keeps_extremes_peaks_and_ends():
    loss = np.sin(np.arange(10_007) / 50) + 2
    loss[[1234, 5003, 5006, 7000]] = [50, 3.5, 5, -3]
    loss[10_000:] = math.nan
    whole = thinned(loss, [5003, 5006], diverged=True)
    curve = fewer(whole, 100)
    assert 50 <= len(curve.steps) <= 100 + 5
    last_finite = int(whole.steps[np.isfinite(whole.loss)][-1])
    assert {0, 1234, 5003, 5006, 7000, last_finite, 10_006} <= set(curve.steps.tolist())
    assert (np.diff(curve.steps) > 0).all()
    places = np.searchsorted(whole.steps, curve.steps)
    np.testing.assert_array_equal(curve.loss, whole.loss[places])
    np.testing.assert_array_equal(curve.trend, whole.trend[places])
    assert (curve.peaks, curve.diverged) == (whole.peaks, True)
    assert fewer(whole, len(whole.steps)) is whole


def test_a_curve_without_a_finite_loss_keeps_its_ends():
    none = np.full(50, np.nan, dtype=np.float32)
    curve = fewer(Curve(steps=np.arange(50), loss=none, trend=none), 10)
    assert {0, 49} <= set(curve.steps.tolist())
    assert len(curve.steps) <= 10


@pytest.mark.usefixtures("undrawn")
def test_with_many_runs_curves_have_fewer_points_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page_data, "POINTS", 300)
    for seed in range(4):
        make(tmp_path, multiplier=1, seed=seed, spikes=[61])
        make(tmp_path, multiplier=10, seed=seed, final=0.3, spikes=[31, 35, 71])
    html, _ = written(tmp_path)
    data = json.loads(re.search(r'id="curve-data">(.*?)</script>', html, re.DOTALL)[1])
    sizes = {True: [], False: []}
    for run in data["runs"]:
        steps = np.cumsum(run["steps"]).tolist()
        assert {0, 99, *(peak for peak, _ in run["spikes"])} <= set(steps)
        assert [run["loss"][steps.index(peak)] for peak, _ in run["spikes"]] == [loss for _, loss in run["spikes"]]
        sizes[run["best"] and run["median"]].append(len(steps))
    assert sizes[True] == [100]  # it is drawn at first, and no more than half of the points
    assert all(20 <= size <= 28 + 6 for size in sizes[False])
    assert data["thinned"] == {"first": 100, "others": 28}
    assert "the curves drawn at first have about 100 such points each, and the others about 28." in html.replace(
        "\n", " "
    )


@pytest.mark.usefixtures("undrawn")
def test_with_few_runs_every_curve_is_whole_and_the_page_says_nothing(tmp_path):
    make(tmp_path)
    html, _ = written(tmp_path)
    assert '"thinned":null' in html
    assert "There are so many runs" not in html


def test_the_curves_of_3000_long_runs_take_less_than_6_mb(tmp_path):
    run = read_run(make(tmp_path, spikes=[60]))
    random = np.random.default_rng(0)
    curve = thinned(random.random(20_000), [700, 15_000], diverged=False)
    assert len(curve.steps) > 0.9 * CURVE_POINTS
    labels = [f"o{index % 300}" for index in range(3000)]
    named = ({"optimizer_label": label, "seed": index, "run_id": str(index)} for index, label in enumerate(labels))
    runs = [replace(run, curve=curve, **names) for names in named]
    assert len(json.dumps(curve_data(gather(runs)), separators=(",", ":"))) < 6e6


@pytest.mark.usefixtures("undrawn")
def test_a_long_table_has_its_first_rows_on_the_page_and_all_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LONGEST", 2)
    for seed in range(3):
        make(tmp_path, seed=seed, spikes=[40, 60])
    html, tables = written(tmp_path)
    assert len(tables["spikes"]) == 6
    assert "All 6 spikes" in html
    shown = re.search(r'aria-label="table spikes">.*?</table></div>(.*?)</p>', html, re.DOTALL)
    assert shown[0].count("<tr>") == 1 + 2
    text = " ".join(re.sub("<.*?>", " ", shown[1]).split())
    assert text == "These are the first 2 rows; 4 more are in tables/spikes.csv , beside this page."
    assert re.search(r'aria-label="table cells">.*?</table></div>(.*?)<h2', html, re.DOTALL)[1].strip() == ""


def test_the_picture_of_all_curves_has_at_most_so_many_optimizers_and_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "COLUMNS", 2)
    for optimizer, final in (("s3", 0.2), ("adamw", 0.1), ("signum", 0.3)):
        make(tmp_path, optimizer, final=final)
    drawing = drawings(read_results(tmp_path))["loss_quadratic"]
    assert "Only the 2 of 3 optimizers whose best run ends lowest are drawn." in drawing.caption
    assert "2 runs" in drawing.caption
    titles = {axes.get_title() for axes in drawing.draw().axes}
    assert titles == {"s3", "adamw"}
