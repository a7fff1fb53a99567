"""Tests which figures records allow, what they and their captions show, and the command that draws one."""

import itertools
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from markupsafe import escape

from s3bench import record
from s3bench.cli import main
from s3bench.errors import UserError
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.spike_onsets import AROUND, traces
from s3bench.report.figures.available import drawings
from s3bench.report.figures.captions import CAPTIONS, NEEDS
from s3bench.report.write import write_figures, write_report
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from tests.records import GRADIENT, make_shocked, summary

ADAMS = ("adamw", "adamw_95", "adamw_same")
VARIANTS = list(itertools.product((1, 2, 3, 4), ("null", "0.999"), ("true", "false")))
PARTS = ("p=3", "p=1", "denominator_beta=0.999", "nesterov=false")
GENERAL = {"final_loss", "spike_rate", "steps_to_target"}


def make_cells(
    results,
    *overrides,
    multipliers=(1.0,),
    seeds=2,
    horizon=120,
    final=0.1,
    spikes=(),
    state="finished",
    gradient=None,
    measure_every=1,
):
    """Write records of one optimizer: the loss falls to about `final`, the updates triple just before spikes."""
    base = [f"horizon={horizon}", "task.spikes={k: 6.0, delta: 0.3}", f"results_dir={results}"]
    config = as_dict(run_config([*base, f"measure_every={measure_every}", *overrides]))
    for multiplier, seed in itertools.product(multipliers, range(seeds)):
        own = config | {"lr_multiplier": multiplier, "seed": seed, "scale": "laptop"}
        own["run_id"] = f"{config['run_id']}-x{multiplier}-s{seed}"
        _write(own, np.random.default_rng([seed, len(config["run_id"])]), multiplier, final, spikes, state, gradient)


def _write(config, random, multiplier, final, spikes, state, gradient):
    horizon = config["horizon"]
    steps = horizon if state == "finished" else horizon // 2
    loss = (
        final
        + 2 / (1 + np.arange(horizon + 1))
        + 0.01 * abs(math.log(multiplier))
        + random.normal(0, 0.01, horizon + 1)
    )
    size = 0.2 + random.normal(0, 0.01, horizon + 1)
    for spike in spikes:
        loss[spike : spike + 3] += [2, 1, 0.5]
        size[spike - 4 : spike + 10] *= 3
    if state == "diverged":
        loss[steps - 1] = math.nan
    columns = {"step": np.arange(steps), "loss": loss[:steps], "lr": np.full(steps, 0.1), "grad_norm": np.ones(steps)}
    columns |= {"update_rms": size[:steps], "update_max": 4 * size[:steps]}
    columns |= {"update_above_1": np.clip(size[:steps] - 0.3, 0, 1), "param_max": np.ones(steps)}
    at = np.linspace(0, steps, 5).astype(int)
    evals = {"step": at, "loss": np.nan_to_num(loss[at], nan=1.0), "distance": np.ones(5)}
    if gradient:
        evals["grad_norm"] = gradient * horizon**-0.3 * (1 + np.arange(5)[::-1]) * (1 + random.normal(0, 0.02))
    record.write_result(record.plan(config), columns, evals, summary(state, steps, parameters=1234))


def make_ablation(results, seeds=2, multipliers=(0.1, 1.0), **values):
    """Write records of the sixteen variants of S3; p = 3, one β and the look-ahead are best."""
    for p, other, nesterov in VARIANTS:
        worse = 0.02 * abs(p - 3) + 0.03 * (other != "null") + 0.01 * (nesterov == "false")
        settings = (f"optimizer.p={p}", f"optimizer.denominator_beta={other}", f"optimizer.nesterov={nesterov}")
        make_cells(
            results,
            "optimizer=s3",
            *settings,
            seeds=seeds,
            multipliers=multipliers,
            **{"final": 0.1 + worse, **values},
        )


def make_everything(results, seeds=2):
    """Write records that allow every figure but those of the ablation and of shocks."""
    for name, optimizer in itertools.product(("quadratic", "nonconvex"), ("s3", *ADAMS)):
        spikes = {"s3": (), "adamw": (60, 90), "adamw_95": (70,), "adamw_same": ()}[optimizer]
        for horizon in (120, 240):
            make_cells(
                results,
                f"task={name}",
                f"optimizer={optimizer}",
                multipliers=(1.0, 10.0),
                seeds=seeds,
                horizon=horizon,
                final=0.1 + 10 / horizon,
                spikes=spikes,
                gradient=3 if name == "nonconvex" else None,
            )


def allowed(results):
    return drawings(read_results(results))


def texts(file):
    """Return the texts of an SVG, which matplotlib keeps as comments next to their outlines."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    return [n.text.strip() for n in ElementTree.parse(file, parser).iter() if n.tag is ElementTree.Comment]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    make_everything(folder)
    return folder


@pytest.fixture(scope="module")
def of_everything(everything):
    return allowed(everything)


def test_a_figure_of_each_claim_is_drawn_with_its_caption(of_everything):
    drawn = of_everything
    names = {"fig2", "horizons", "rate", "sensitivity", "reached", "profile", *GENERAL}
    assert names <= set(drawn)
    assert {name.split("__")[0] for name in set(drawn) - names} == {
        "fig6_quadratic",
        "fig6_nonconvex",
        "loss_quadratic",
        "loss_nonconvex",
    }
    assert (
        "nonconvex: adamw 16 spikes in 8 runs, adamw_95 8 spikes in 8 runs; quadratic: adamw" in drawn["fig2"].caption
    )
    about = "n: nonconvex, 32 runs, 2 seeds (1,234 parameters, 120 to 240 steps, scale laptop)."
    assert drawn["rate"].caption.endswith(about)
    assert drawn["loss_quadratic__horizon_120_"].caption.startswith("quadratic (horizon=120), at most 10 seeds of each")


def test_every_caption_says_its_n_and_every_figure_says_what_it_needs(of_everything):
    assert set(CAPTIONS) == set(NEEDS)
    for drawing in of_everything.values():
        assert " n: " in drawing.caption
        assert "{" not in drawing.caption


def test_updates_around_onsets_are_those_of_the_records():
    steps = {name: np.ones(200) for name in ("update_rms", "update_above_1", "loss")}
    steps["update_rms"][95:105], steps["loss"][100:], steps["update_above_1"][99] = 4.0, 3.0, 0.5
    ((size, share, loss),) = traces(steps, [10, 100])  # before step 10 there is nothing usual to compare with
    assert size[AROUND - 6 : AROUND - 4].tolist() == [1, 4]
    assert share[AROUND - 1] == 0.5
    assert loss[AROUND - 1 : AROUND + 1].tolist() == [0, 2]
    assert traces(steps | {"update_rms": np.where(np.arange(200) % 10, np.nan, 1.0)}, [100]).shape == (0, 3, 101)


def test_traces_at_a_runs_end_and_of_infinite_losses_have_gaps():
    steps = {name: np.ones(120) for name in ("update_rms", "update_above_1", "loss")}
    steps["loss"][110:] = math.inf
    ((size, _, loss),) = traces(steps, [100])
    assert np.isfinite(size).sum() == AROUND + 20
    assert np.isfinite(loss).sum() == AROUND + 10


def test_memory_of_spikes_is_bounded():
    steps = {name: np.ones(5000) for name in ("update_rms", "update_above_1", "loss")}
    assert traces(steps, range(60, 4900, 10)).nbytes < 61_000


def test_only_runs_with_every_update_measured_have_traces_around_spikes(tmp_path):
    make_cells(tmp_path, "optimizer=adamw", spikes=(60,), measure_every=10)
    results = read_results(tmp_path)
    assert all(run.spikes and not len(run.traces) for run in results.runs)
    with pytest.raises(UserError, match="these records lack what fig2 needs: a spike at step 30 or later"):
        write_figures(tmp_path, "fig2")


def test_the_ablation_shows_every_variant(tmp_path):
    make_ablation(tmp_path)
    drawn = allowed(tmp_path)
    (axes,) = drawn["ablation"].draw().axes
    assert axes.get_xlabel() == "order p"
    fig5 = drawn["fig5_quadratic"]
    panels = fig5.draw().axes
    assert [axes.get_title() for axes in panels[:4]] == ["p = 1", "p = 2", "p = 3", "p = 4"]
    assert [len(axes.lines) for axes in panels] == 16 * [2 * 2]  # a loss and its median, two seeds
    assert "at the learning rate 0.003 (×0.1)" in fig5.caption  # the other one is 0.03


def test_missing_cells_of_the_ablation_are_empty_panels(tmp_path):
    for setting in PARTS:
        make_cells(tmp_path, "optimizer=s3", f"optimizer.{setting}")
    panels = allowed(tmp_path)["fig5_quadratic"].draw().axes
    assert sum("no runs" in [text.get_text() for text in axes.texts] for axes in panels) == 4
    assert len(panels) == 8


def test_the_slope_of_the_rate_is_that_of_the_claim(of_everything):
    (axes,) = of_everything["rate"].draw().axes
    (guide,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    x, y = np.log(guide.get_data())
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(-0.25)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_sensitivity_compares_only_equal_grids(tmp_path):
    make_cells(tmp_path, "optimizer=s3", multipliers=(0.1, 1.0, 10.0, 100.0))
    make_cells(tmp_path, "optimizer=adamw", multipliers=(0.1, 1.0, 10.0))
    make_cells(tmp_path, "optimizer=adam", multipliers=(1.0,))
    (axes,) = allowed(tmp_path)["sensitivity"].draw().axes
    assert axes.get_title() == "quadratic: ×0.1 to ×10"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["adamw", "s3"]


@pytest.mark.parametrize(
    ("seeds", "state"),
    [
        (1, "diverged"),
        pytest.param(1, "finished", marks=pytest.mark.slow),
        pytest.param(2, "diverged", marks=pytest.mark.slow),
    ],
)
def test_few_or_only_diverged_runs_give_figures_or_a_clear_line(tmp_path, seeds, state):
    """Figures that these records allow can be drawn; the errors for the others say what is lacking."""
    for horizon in (120, 240):
        values = {"seeds": seeds, "state": state, "horizon": horizon, "gradient": 1.0, "multipliers": (1.0, 10.0)}
        make_cells(tmp_path, "task=nonconvex", "optimizer=adamw_same", **values)
    for setting in PARTS:
        make_cells(tmp_path, "optimizer=s3", f"optimizer.{setting}", seeds=seeds, state=state)
    drawn = allowed(tmp_path)
    assert {*GENERAL, "fig5_quadratic", "sensitivity"} <= set(drawn)
    for drawing in drawn.values():
        drawing.draw().draw_without_rendering()
    for name in NEEDS:
        if not any(key == name or key.startswith(f"{name}_") for key in drawn):
            with pytest.raises(UserError, match=f"these records lack what {name} needs: "):
                write_figures(tmp_path, name)


@pytest.mark.slow
def test_the_same_records_give_the_same_svg_byte_for_byte(everything, tmp_path):
    for name in ("fig2", "rate", "sensitivity", "fig6_quadratic__horizon_120_"):
        files = [tmp_path / f"{time}.svg" for time in ("first", "second")]
        for file in files:
            write_figures(everything, name, file)
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_the_command_draws_one_figure_and_prints_its_caption(everything, capsys):
    assert main(["figure", str(everything)]) == 0
    assert {"fig2", "rate", "fig6_quadratic__horizon_120_"} <= set(capsys.readouterr().out.split())
    assert main(["figure", "fig2", str(everything)]) == 0
    folder = everything / "report" / "figures"
    assert {file.name for file in folder.iterdir()} >= {"fig2.svg", "fig2.png", "fig2.pdf"}
    said = capsys.readouterr().out
    assert f"wrote {folder / 'fig2.svg'}\n" in said
    assert "Updates and loss around the onsets of spikes" in said
    assert "steps from the onset of a spike" in texts(folder / "fig2.svg")


@pytest.mark.usefixtures("undrawn")
def test_a_name_means_the_figures_of_all_tasks(everything, tmp_path, capsys):
    assert len(write_figures(everything, "fig6_quadratic_")) == 2
    one = tmp_path / "one.pdf"
    assert main(["figure", "fig6_quadratic__horizon_120_", str(everything), "--output", str(one)]) == 0
    assert one.read_bytes().startswith(b"%PDF")
    assert main(["figure", "fig6", str(everything), "--output", str(one)]) == 2
    assert "is one file, and fig6 is several figures: fig6_" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["figure2"], "unknown figure 'figure2'. Did you mean fig2?"),
        (["fig5"], "these records lack what fig5 needs: S3 on one task with another order p"),
        (["loss_c4"], "unknown figure 'loss_c4'. Choose from: "),
        (["fig2", "--output", "x.gif"], "--output x.gif: the suffix must be one of .png, .svg, .pdf"),
        (["fig2", "--output", "none/x.svg"], "there is no folder none"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_line(everything, capsys, arguments, said):
    assert main(["figure", arguments[0], str(everything), *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_records_without_a_result_have_no_figure(tmp_path, capsys):
    record.plan(as_dict(run_config([f"results_dir={tmp_path}"])))
    assert main(["figure", str(tmp_path)]) == 2
    assert "has a result: there is nothing to draw" in capsys.readouterr().err
    assert main(["figure", "loss", str(tmp_path)]) == 2
    assert "these records lack what loss needs: a run with a result" in capsys.readouterr().err


def test_shocks_have_their_figure_by_the_same_command(tmp_path):
    for shock in (None, GRADIENT):
        make_shocked(tmp_path, shock, excess=[0.5, 0.2] if shock else ())
    (caption,) = write_figures(tmp_path, "shock")
    assert caption.startswith("quadratic: response to a shock")
    assert "1 run, 1 seed" in caption


@pytest.mark.usefixtures("undrawn")
def test_the_page_shows_the_figures_with_their_captions(tmp_path):
    for horizon in (120, 240):
        values = {"horizon": horizon, "multipliers": (1.0, 10.0), "spikes": (60,), "gradient": 1.0}
        make_cells(tmp_path, "task=nonconvex", "optimizer=adamw_same", **values)
    text, drawn = write_report(tmp_path).read_text(encoding="utf-8"), allowed(tmp_path)
    assert {"fig2", "rate", "horizons", "sensitivity", "fig6_nonconvex__horizon_120_"} <= set(drawn)
    for drawing in drawn.values():
        assert escape(drawing.caption) in text
