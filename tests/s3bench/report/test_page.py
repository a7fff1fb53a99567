"""Tests the report page in headless Chromium, as a reader opens it; skipped if there is no Chromium."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.tables import make_tables
from s3bench.report.page import page as page_text
from s3bench.report.write import write_report
from scripts import bench_report
from tests.records import make

HOSTILE = '</script><img src=x onerror="window.broken = 1"><!--<script>'
VERDICT = {
    "id": "C1",
    "verdict": "not supported",
    "statement": "S3 has no spikes",
    "effect": -1.25,
    "interval": [-2, 0.5],
}
VERDICT |= {
    "n": 8,
    "test": "a confidence sequence",
    "grade": "contradicted",
    "scale": "laptop",
    "sentence": f"It has. {HOSTILE}",
    "cells": ["a", "b"],
}
OPEN = {"id": "C9", "verdict": "undecided", "n": 0}


@pytest.fixture
def visit(browser):
    """Open a page; at the end, assert that the console has no messages and that only the file was requested."""
    messages, requests, contexts = [], [], []

    def open_page(file, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: messages.append(message.text))
        opened.on("pageerror", lambda error: messages.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(file.resolve().as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [url for url in requests if "index.html" in url]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write the report of two optimizers at two multipliers with two seeds."""
    results = tmp_path_factory.mktemp("results")
    for seed in (0, 1):
        make(results, "s3", 1, seed, 0.01 + 0.01 * seed, spikes=[60])
        make(results, "s3", 10, seed, 0.2)
        make(results, "adamw", 1, seed, 0.04, spikes=[40, 70])
        make(results, "adamw", 10, seed, state="diverged" if seed else "finished", final=0.3)
    return write_report(results)


def settings(opened):
    """Open how the curves are drawn, which is folded at first."""
    opened.click("#drawing summary")


def drawn(opened):
    """Return the labels of the drawn lines."""
    return opened.evaluate("chart.drawn")


def drag(opened, *ends):
    """Drag over the curves from one point to another, given as shares of the width and the height."""
    area = opened.locator("#chart .u-over")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    (x0, y0), (x1, y1) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ends]
    opened.mouse.move(x0, y0)
    opened.mouse.down()
    opened.mouse.move(x1, y1, steps=3)
    opened.mouse.up()


def limits(opened):
    return [int(opened.input_value(f"#{end}-step")) for end in ("from", "to")]


def column(opened, label, index):
    return opened.locator(f"[aria-label='{label}'] tbody tr td:nth-child({index})").all_inner_texts()


def test_pointing_at_a_curve_shows_its_run_step_and_loss(visit, report):
    opened = visit(report)
    opened.select_option("#multiplier", label="×1")
    opened.uncheck("#optimizers label:has-text('adamw') input")
    opened.locator("#chart .u-over").hover()
    found = re.fullmatch(r"s3 ×1 seed 0: step (\d+), loss ([\d.]+)", opened.inner_text("#readout"))
    step = int(found[1])
    assert 48 <= step <= 51
    assert float(found[2]) == pytest.approx(np.geomspace(1, 0.01, 101)[step], rel=1e-4)


def test_the_arrow_keys_move_the_cursor(visit, report):
    opened = visit(report)
    opened.focus("#chart")
    seen = []
    for _ in range(2):
        for _ in range(5):
            opened.keyboard.press("ArrowRight")
        seen.append(int(re.search(r"step (\d+),", opened.inner_text("#readout"))[1]))
    assert 50 < seen[0] < seen[1] < 65


def test_the_drawn_curves_are_those_that_were_picked(visit, report):
    opened = visit(report)
    assert drawn(opened) == ["adamw ×1 seed 0", "s3 ×1 seed 0"]  # each one's best multiplier, its median seed
    opened.uncheck("#optimizers label:has-text('adamw') input")
    assert drawn(opened) == ["s3 ×1 seed 0"]
    opened.select_option("#multiplier", label="×10")
    opened.select_option("#seed", "1")
    assert drawn(opened) == ["s3 ×10 seed 1"]
    opened.check("#optimizers label:has-text('adamw') input")
    opened.select_option("#multiplier", "all")
    opened.select_option("#seed", "all")
    assert len(drawn(opened)) == 8
    assert opened.inner_text("#drawn") == "8 of the task's 8 runs drawn; ▼ 7 spikes; ✕ 1 diverged."
    for box in opened.locator("#optimizers input").all():
        box.uncheck()
    assert drawn(opened) == []
    assert opened.inner_text("#drawn").startswith("0 of the task's 8 runs drawn")


def test_a_drag_zooms_in_and_reset_or_a_double_click_zooms_out(visit, report):
    opened = visit(report)
    settings(opened)
    assert limits(opened) == [0, 99]
    drag(opened, (0.25, 0.5), (0.5, 0.52))
    assert limits(opened) == pytest.approx([25, 50], abs=2)
    opened.check("#log-step")  # another axis: the window stays
    assert limits(opened) == pytest.approx([25, 50], abs=2)
    opened.click("#reset")
    assert limits(opened) == [1, 99]
    opened.uncheck("#log-step")
    opened.fill("#to-step", "30")
    opened.press("#to-step", "Enter")
    assert opened.evaluate("[chart.plot.scales.x.min, chart.plot.scales.x.max]") == [0, 30]
    opened.locator("#chart .u-over").dblclick()
    assert limits(opened) == [0, 99]


def test_both_axes_can_be_logarithmic_or_not(visit, report):
    opened = visit(report)
    scales = "[chart.plot.scales.x.distr, chart.plot.scales.y.distr, chart.plot.data[1][0][0]]"
    assert opened.evaluate(scales) == [1, 3, 0]
    settings(opened)
    opened.check("#log-step")
    opened.uncheck("#log-loss")
    assert opened.evaluate(scales) == [3, 1, 1]


@pytest.mark.usefixtures("undrawn")
def test_every_spikes_peak_is_among_the_drawn_points(visit, tmp_path):
    for seed in range(3):
        make(tmp_path, seed=seed, horizon=12_000, spikes=[1000 + seed, 1013 + seed, 5000, 11_998])
    opened = visit(write_report(tmp_path))
    opened.select_option("#multiplier", "all")
    opened.select_option("#seed", "all")
    spikes = pd.read_csv(tmp_path / "report" / "tables" / "spikes.csv")
    assert len(spikes) >= 12
    for label, (steps, losses) in zip(drawn(opened), opened.evaluate("chart.plot.data.slice(1)"), strict=True):
        assert len(steps) < 1100
        of_run = spikes[spikes.seed == int(label[-1])]
        assert set(of_run.peak) <= set(steps)
        assert all(losses[steps.index(peak)] > 0.9 for peak in of_run.peak)


def test_a_click_on_a_header_sorts_by_number(visit, report):
    opened = visit(report)
    header = opened.locator("[aria-label='table cells'] th", has_text="final loss")
    place = header.evaluate("(cell) => cell.cellIndex + 1")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    up = [float(re.match(r"[\d.]+", text)[0]) for text in column(opened, "table cells", place)]
    assert len(up) == 4
    assert up == sorted(up)
    header.locator("button").focus()
    opened.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    down = [float(re.match(r"[\d.]+", text)[0]) for text in column(opened, "table cells", place)]
    assert down == up[::-1]


def test_numbers_sort_as_numbers_and_missing_values_come_last(visit, report):
    opened = visit(report)
    texts = ["-", "10 of 50", "9 of 50", "1,234", "∞", "-0.5", "≥ 2", "2.5e-07", "adamw", "0.168 ± 0.066 (n = 8)"]
    sort = (
        "([texts, way]) => texts.map((t) => [sortKey(t), t]).sort((a, b) => compare(a[0], b[0], way)).map((p) => p[1])"
    )
    up = ["-0.5", "2.5e-07", "0.168 ± 0.066 (n = 8)", "≥ 2", "9 of 50", "10 of 50", "1,234", "∞", "adamw", "-"]
    assert opened.evaluate(sort, [texts, 1]) == up
    assert opened.evaluate(sort, [texts, -1]) == [*up[:8][::-1], "adamw", "-"]


def test_tables_are_copied_as_csv_latex_and_markdown(visit, report):
    opened = visit(report, permissions=["clipboard-read", "clipboard-write"])
    copies = {}
    for kind in ("CSV", "LaTeX", "Markdown"):
        opened.get_by_label(f"Copy overview of quadratic as {kind}").click()
        opened.get_by_text("2 rows copied").first.wait_for()
        copies[kind] = opened.evaluate("navigator.clipboard.readText()").splitlines()
    assert copies["CSV"][0].startswith('optimizer,final loss at its best learning rate,"at the largest, ×10"')
    assert [line.split(",")[0] for line in copies["CSV"][1:]] == ["adamw", "s3"]
    assert copies["Markdown"][1] == "| --- | --- | --- | --- | --- |"
    assert len(copies["Markdown"]) == 4
    assert copies["LaTeX"][1:3] == ["\\begin{tabular}{lrrrl}", "\\toprule"]
    assert "\\pm$" in copies["LaTeX"][6]
    assert copies["LaTeX"][-1] == "\\end{tabular}"


@pytest.mark.usefixtures("undrawn")
def test_html_in_a_name_stays_text(visit, tmp_path):
    for seed in (0, 1):
        folder = make(tmp_path, seed=seed, spikes=[60])
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("optimizer: s3\n", f"optimizer: {json.dumps(HOSTILE)}\n"))
    opened = visit(write_report(tmp_path))
    assert drawn(opened) == [f"{HOSTILE} ×1 seed 0"]
    assert opened.inner_text("#optimizers label") == HOSTILE
    opened.locator("#chart .u-over").hover()
    assert opened.inner_text("#readout").startswith(HOSTILE)
    opened.locator("[aria-label='table cells'] th button").first.click()
    assert opened.evaluate("window.broken") is None
    assert opened.locator("img[src=x]").count() == 0


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("state", ["missing", "failed", "diverged"])
def test_the_page_opens_if_no_run_finished(visit, tmp_path, state):
    make(tmp_path, state=state)
    opened = visit(write_report(tmp_path))
    assert opened.locator("#chart").count() == (state == "diverged")
    if state == "diverged":
        assert "✕ 1 diverged" in opened.inner_text("#drawn")
    else:
        assert "No run has a result." in opened.inner_text("body")


def test_answers_come_first_then_the_verdicts_with_their_numbers(visit, report, tmp_path):
    results = read_results(report.parents[1])
    file = tmp_path / "index.html"
    tables = make_tables(results)
    file.write_text(page_text("results", results, tables, {}, [VERDICT, {"id": "C2", "verdict": "undecided"}, OPEN]))
    opened = visit(file)
    assert opened.locator("h2").all_inner_texts()[:3] == [
        "What these runs show",
        "Loss curves",
        "Verdicts at scale laptop",
    ]
    assert opened.locator(".answers dt").first.inner_text() == "Who spikes?"
    opened.get_by_text("The numbers behind the verdicts").click()
    assert opened.locator(".verdicts li").first.inner_text().splitlines()[0] == "C1: ✗ contradicted"
    assert HOSTILE in opened.locator(".verdicts li").first.inner_text()
    numbers = opened.locator("[aria-label='table verdicts'] tbody tr").all_inner_texts()
    assert numbers[0].split("\t") == ["C1", "not supported", "-1.25 [-2, 0.5]", "8", "a confidence sequence", "a; b"]
    assert numbers[1].split("\t")[2:] == ["-"] * 4
    assert opened.locator(".verdicts li").count() == 2
    assert "One more claim: run s3bench decide." in opened.inner_text("body")
    assert "s3bench decide --scale laptop --results results" in opened.inner_text("body")
    file.write_text(page_text("results", results, tables, {}, [OPEN] * 10))
    opened = visit(file)
    assert opened.locator(".verdicts").count() == 0
    assert "Ten claims of the S3 paper: run s3bench decide." in opened.inner_text("body")


def test_a_phone_shows_everything_without_scrolling_sideways(visit, report):
    opened = visit(report, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    box = opened.locator("#chart canvas").bounding_box()
    assert 300 < box["width"] <= 360
    opened.locator("#chart .u-over").tap()
    assert "step" in opened.inner_text("#readout")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_with_the_background(visit, report, scheme):
    opened = visit(report, color_scheme=scheme)
    style = "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.body))"
    text, ground = (luminance(colour) for colour in opened.evaluate(style))
    assert (ground < 0.05) == (scheme == "dark")
    assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) > 7  # WCAG 2, level AAA
    shown = opened.locator("figure img").first.evaluate("(image) => getComputedStyle(image)['filter']")
    assert shown.startswith("invert(0.9)" if scheme == "dark" else "none")  # black on white becomes light on dark


def luminance(colour):
    """Return the relative luminance of "rgb(r, g, b)" (WCAG 2)."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(visit, report):
    opened = visit(report)
    nameless = """[...document.querySelectorAll('select, input, button')].filter((one) =>
        !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()) || one.tabIndex < 0).length"""
    assert opened.evaluate(nameless) == 0
    opened.focus("#task")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.id") == "multiplier"
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_javascript_the_figures_and_tables_stay(visit, report):
    opened = visit(report, java_script_enabled=False)
    assert not opened.locator("#curves").is_visible()
    opened.get_by_text("All curves of quadratic").click()
    assert opened.locator("img[alt^='quadratic'][alt*='the raw training loss']").first.is_visible()
    assert opened.locator("[aria-label='table cells'] tbody tr").count() == 4
    assert opened.locator("th button").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(visit, report, scheme):
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install '.[dev]'")
    opened = visit(report, color_scheme=scheme)
    opened.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
    found = sync_playwright.Axe().run(opened, options={"runOnly": tags, "resultTypes": ["violations"]})
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_the_first_tab_leads_to_a_link_that_skips_to_the_answers(visit, report):
    opened = visit(report)
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the answers"
    assert opened.locator(".skip").bounding_box()["x"] >= 0
    opened.keyboard.press("Enter")
    assert opened.url.endswith("#shown")


def test_print_opens_what_is_folded_and_hides_the_controls(visit, report):
    opened = visit(report)
    folded = opened.locator("details:not([open])").count()
    assert folded > 3
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("details:not([open])").count() == 0
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.locator("details:not([open])").count() == folded
    opened.emulate_media(media="print")
    for hidden in ("nav", ".controls", ".bar"):
        assert not opened.locator(hidden).first.is_visible()


@pytest.mark.usefixtures("undrawn")
def test_many_optimizers_are_found_by_name_and_long_tables_drawn_when_asked_for(visit, tmp_path):
    for index in range(40):
        make(
            tmp_path,
            final=0.01 + index / 1000,
            overrides=[f"optimizer.p={1 + index}"],
            spikes=[60] if index > 37 else [],
        )
    opened = visit(write_report(tmp_path), permissions=["clipboard-read", "clipboard-write"])
    assert set(drawn(opened)) == {f"s3 (p={p}) ×1 seed 0" for p in (1, 2, 3, 4, 39, 40)}  # the lowest and the spikiest
    opened.fill("#find-optimizer", "p=7)")
    assert opened.locator("#optimizers label:visible").all_inner_texts() == ["Find", "s3 (p=7)"]
    opened.click("#pick-none")
    opened.click("#pick-all")
    assert drawn(opened) == ["s3 (p=7) ×1 seed 0"]
    rows = opened.locator("[aria-label='table cells'] tbody tr")
    assert rows.count() == 30
    opened.get_by_label("Filter table cells").fill("p=1")
    assert rows.count() == 11  # 1 and 10 to 19
    opened.get_by_label("Copy table cells as CSV").click()
    opened.get_by_text("11 rows copied").wait_for()
    opened.get_by_label("Filter table cells").fill("")
    assert opened.get_by_text("30 of 40 rows").count() > 1
    opened.locator("[aria-label='table cells'] th button", has_text="final loss").click()
    opened.get_by_label("Show all rows of table cells").click()
    losses = [float(text) for text in column(opened, "table cells", 6)]
    assert len(losses) == 40
    assert losses == sorted(losses)


@pytest.mark.slow
def test_200_runs_are_under_10_mb_and_draw_in_3_seconds(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_report, "WARMUPS", (0.1,))  # one task: all 200 in one picture
    bench_report.write_all(200, 2000, str(tmp_path))
    file = write_report(tmp_path)
    assert file.stat().st_size < 10e6
    opened = visit(file)
    opened.select_option("#multiplier", "all")
    painted = """async () => {
        const began = performance.now();
        const seed = document.getElementById('seed');
        seed.value = 'all';
        seed.dispatchEvent(new Event('change'));
        for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
        return performance.now() - began;
    }"""
    assert opened.evaluate(painted) < 3000
    assert len(drawn(opened)) == 200
    loaded = opened.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded < 3000
