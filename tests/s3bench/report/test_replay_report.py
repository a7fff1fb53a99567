"""Tests what the report shows of replays: tables, figures, and the section of the page."""

import math
import shutil
from pathlib import Path

import pytest
from markupsafe import escape

from s3bench import record
from s3bench.cli import main
from s3bench.errors import UserError
from s3bench.report.analysis.replays import FOLDER, OUTCOMES, arm_table
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.results_folder import read_runs
from s3bench.report.analysis.tables import make_tables
from s3bench.report.figures.available import drawings
from s3bench.report.figures.replay_plots import OUTCOME_COLOURS
from s3bench.report.formatting import format_table
from s3bench.report.page import page
from s3bench.report.replay_table import show
from s3bench.report.replay_text import changes, sentences
from s3bench.report.write import write_figures
from tests.records import REPLAYED, make, make_arm, make_replayed, tables

HEIGHT = 4.0
ARMS = {  # what becomes of the spike: its steps and heights
    "same": {150: HEIGHT},
    "placebo": {151: HEIGHT},
    "half_lr": {},
    "beta2_95": {160: 1.0},
    "s3_watched": {200: HEIGHT},
    "larger_eps": {140: HEIGHT},
}
BECAME = dict(zip(ARMS, ("persisted", "persisted", "vanished", "smaller", "delayed", "persisted"), strict=True))
HOSTILE = "[red]$<script>window.broken = 1</script>"
QUESTION = "What would have prevented the spikes?"


def make_replay(results, seed=0, arms=ARMS, **values):
    run = make_replayed(results, seed=seed, height=HEIGHT, **values)
    for arm, spikes in arms.items():
        make_arm(results, run, arm, spikes, **values)
    return run


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """Two runs with a spike each; of the second only the arm with which it vanishes, and the placebo."""
    results = tmp_path_factory.mktemp("results")
    make_replay(results)
    make_replay(results, seed=1, arms={"half_lr": {150: HEIGHT}, "placebo": {}})
    return results


@pytest.fixture(scope="module")
def table(replayed):
    return tables(replayed)


def page_of(results, folder):
    """Return the page with the true captions; the figures themselves are not drawn."""
    files = [folder / "figure.svg", folder / "figure.png"]
    for file in files:
        file.write_text("<svg/>")
    read = read_results(results)
    images = {name: (drawing.caption, files) for name, drawing in drawings(read).items()}
    return page("results/x", read, make_tables(read), images)


def test_the_tables_count_what_became_of_the_spikes(table):
    arms = table["replay"].set_index("arm")
    assert list(arms.index) == ["same", "placebo", "beta2_95", "half_lr", "larger_eps", "s3_watched"]
    for name, outcome in BECAME.items():
        first = 1 if name in ("placebo", "half_lr") else 0  # the spike of the second run
        counts = dict.fromkeys(OUTCOMES, 0)
        counts[outcome] += 1
        if first:
            counts["vanished" if name == "placebo" else "persisted"] += 1
        assert arms.loc[name, list(OUTCOMES)].to_dict() == counts
        assert arms.loc[name, ["n", "runs"]].tolist() == [1 + first, 1 + first]
    assert arms.loc["half_lr", ["share", "share_low", "share_high"]].tolist() == pytest.approx(
        [0.5, 0.0126, 0.9874], abs=1e-4
    )
    assert arms.exact.to_dict()["same"] == 1
    spikes = table["replay_spikes"]
    assert len(spikes) == 8
    assert spikes[spikes.arm == "beta2_95"][["onset", "height", "arm_height", "arm_onset"]].to_numpy().tolist() == [
        [150, HEIGHT, 1, 160]
    ]


def test_a_formatted_table_has_its_counts_beside_their_n(table):
    texts = format_table("replay", table["replay"])
    row = texts.set_index("arm").loc["half_lr"]
    assert row[list(OUTCOMES)].tolist() == ["1 of 2", "0 of 2", "0 of 2", "1 of 2"]
    assert row["share vanished [95%]"] == "0.5 [0.01258, 0.9874]"
    assert row["loss at the end over the run's"] == "1"
    assert "exact" not in texts


def test_arms_are_no_runs_of_the_sweep(replayed):
    runs = read_runs(replayed)
    assert len(runs) == 2
    assert not [run for run in runs if run.config["replay"]["run"]]
    results = read_results(replayed)
    assert len(results.table) == 2
    assert {replay.task for replay in results.replays} == {"quadratic"}


def test_a_replay_has_the_labels_of_its_run(tmp_path):
    make_replay(tmp_path, arms={"same": {150: HEIGHT}})
    make(tmp_path, "adamw", horizon=100, overrides=["task.spikes={k: 6.0, delta: 0.1}", "task.targets=[]"])
    (replay,) = read_results(tmp_path).replays
    assert replay.task == "quadratic (horizon=300)"
    assert "replay_quadratic__horizon_300_" in drawings(read_results(tmp_path))


def test_an_arm_that_is_not_over_counts_nowhere_and_one_that_diverged_persisted(tmp_path):
    run = make_replay(tmp_path, arms={})
    make_arm(tmp_path, run, "half_lr", state="missing")
    assert not read_results(tmp_path).replays
    make_arm(tmp_path, run, "tenth_lr", {180: 1.0}, state="diverged")
    (row,) = tables(tmp_path)["replay"].to_dict("records")
    assert (row["arm"], row["persisted"], row["end_loss_ratio"]) == ("tenth_lr", 1, math.inf)
    drawings(read_results(tmp_path))["replay_quadratic"].draw().draw_without_rendering()


def test_two_records_of_one_arm_are_refused(tmp_path):
    run = make_replay(tmp_path)
    folder = make_arm(tmp_path, run, "half_lr")
    shutil.copytree(folder, folder.with_name(f"{folder.name}-copy"))
    with pytest.raises(UserError, match="are the same arm for the same spike; move one of them away"):
        read_results(tmp_path)


def test_without_replays_there_is_no_table_no_figure_and_no_section(tmp_path_factory):
    results, folder = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("files")
    make_replay(results, arms={})
    before = page_of(results, folder)
    (results / FOLDER).mkdir()
    assert page_of(results, folder) == before
    assert "replay" not in before
    assert QUESTION not in before
    assert not [name for name in (*tables(results), *drawings(read_results(results))) if "replay" in name]
    for name in ("replay", "replay_outcomes"):
        with pytest.raises(UserError, match=f"these records lack what {name} needs: a spike that was replayed"):
            write_figures(results, name)


def test_a_replayed_spike_that_is_none_by_judge_yaml_counts_nowhere_and_the_page_says_so(tmp_path, capsys):
    make_replay(tmp_path, arms={"half_lr": {}})
    make_arm(tmp_path, make_replayed(tmp_path, seed=1, height=9.0), "half_lr")
    judge, note = tmp_path / "judge.yaml", "Left out: {} replayed {} none by <code>judge.yaml</code>."
    judge.write_text("quadratic: {spikes: {k: 6.0, delta: 6.0}}")
    text, (row,) = page_of(tmp_path, tmp_path), tables(tmp_path)["replay"].to_dict("records")
    assert (row["arm"], row["n"], row["vanished"]) == ("half_lr", 1, 1)
    assert note.format(1, "spike that is") in " ".join(text.split())
    assert "k = 6.0, delta = 6.0" in drawings(read_results(tmp_path))["replay_quadratic"].caption
    show(tmp_path)
    assert "1 of 1" in capsys.readouterr().out
    judge.write_text("quadratic: {spikes: {k: 6.0, delta: 20.0}}")
    text = page_of(tmp_path, tmp_path)
    assert "replay" not in tables(tmp_path)
    assert note.format(2, "spikes that are") in " ".join(text.split())
    assert QUESTION in text
    show(tmp_path)
    assert not capsys.readouterr().out


def test_the_folder_of_the_arms_is_no_results_folder(replayed, monkeypatch, capsys):
    line = "holds arms of replays, which count with the runs that they come from: s3bench report"
    for command in (["report"], ["status"], ["status", "--json"], ["figure", "loss"]):
        assert main([*command, str(replayed / FOLDER)]) == 2
        out, said = capsys.readouterr()
        assert not out
        assert said.count("\n") == 1
        assert line in said
    monkeypatch.chdir(replayed.parent)
    assert main(["report", str(Path(replayed.name, FOLDER))]) == 2
    assert f"{line} {replayed.name}\n" in capsys.readouterr().err
    monkeypatch.chdir(replayed / FOLDER)
    assert main(["status", "."]) == 2
    assert f"{line} ..\n" in capsys.readouterr().err


def test_the_name_of_a_figure_draws_that_figure_alone(replayed, tmp_path):
    for name, drawn in (("replay_outcomes", "replay_outcomes"), ("replay", "replay_quadratic")):
        (caption,) = write_figures(replayed, name, tmp_path / "one.svg")
        assert caption == drawings(read_results(replayed))[drawn].caption


def test_the_page_has_the_outcomes_then_their_sentence_the_table_and_the_curves(replayed, tmp_path):
    text = page_of(replayed, tmp_path)
    section = text[text.index('<h2 id="replays">') :]
    section = section[: section.index("<h2", 1)]
    places = [
        section.index(part)
        for part in (
            QUESTION,
            "What became of 2 spikes of 2 runs",
            "quadratic with adamw, 2 spikes of 2 runs.",
            "table replay",
            "the highest replayed spike of adamw, which begins at step 150 and has the height 4.",
            "table replay spikes",
        )
    ]
    assert places == sorted(places)
    assert f'<li><a href="#replays">{QUESTION}</a></li>' in text
    assert escape("The parameters are multiplied by 1 + 1e-6 × normal numbers") in section


def test_the_sentence_names_the_arms_by_what_they_did(replayed):
    (text,) = sentences(arm_table(read_results(replayed).replays))
    assert text == (
        "quadratic with adamw, 2 spikes of 2 runs. Some vanished with half_lr (1 of 2). "
        "None vanished, but some became smaller or came later, with beta2_95 (1 of 1) and s3_watched (1 of 1). "
        "Every spike persisted with larger_eps. With nothing changed, 1 of 1 came again bit for bit. "
        "With the placebo, a change that means nothing, 1 of 2 vanished."
    )


def test_arms_that_prevent_all_are_named_first(tmp_path):
    make_replay(tmp_path, arms={"half_lr": {}, "tenth_lr": {}, "s3_fresh": {}, "larger_eps": {150: HEIGHT}})
    (text,) = sentences(arm_table(read_results(tmp_path).replays))
    assert "1 spike of 1 run. Every spike vanished with half_lr, s3_fresh and tenth_lr. Every spike persisted" in text


def test_the_figure_of_outcomes_stacks_the_counts(replayed):
    drawing = drawings(read_results(replayed))["replay_outcomes"]
    assert "n: quadratic, 2 runs, 2 seeds" in drawing.caption
    assert "k = 6.0, delta = 0.1" in drawing.caption
    (axes,) = drawing.draw().axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["same (no change)", "placebo (chance)", "half_lr", "beta2_95", "s3_watched", "larger_eps"]
    assert [patch.get_width() for patch in axes.patches] == [1, 1, 1, 1, 1, 1, 1, 1]
    texts = [text.get_text() for text in axes.texts]
    assert "1 of 2 [1%, 99%]" in texts
    assert "0 of 1 [0%, 98%]" in texts


def test_the_figure_of_a_spike_has_a_panel_per_arm_by_outcome(replayed):
    figure = drawings(read_results(replayed))["replay_quadratic"].draw()
    unchanged, updates, *panels = figure.axes
    assert [text.get_text() for text in unchanged.get_legend().get_texts()] == [
        "the run",
        "same: persisted, bit for bit",
        "placebo: persisted",
    ]
    assert [axes.get_title("left") for axes in panels] == ["half_lr", "beta2_95", "s3_watched", "larger_eps"]
    for axes in panels:
        run, arm = axes.lines[:2]
        outcome = BECAME[axes.get_title("left")]
        assert arm.get_color() == OUTCOME_COLOURS[outcome]
        assert outcome in [text.get_text() for text in axes.texts]
        assert arm.get_xdata()[0] == REPLAYED["step"] - REPLAYED["onset"]
        assert run.get_xdata()[0] == -40
        assert run.get_xdata()[run.get_ydata().argmax()] == 0
    largest, mean = updates.lines[:2]
    assert max(largest.get_ydata()) == pytest.approx(4 * max(mean.get_ydata()))
    assert unchanged.get_yscale() == "linear"  # from 1 to 5


def test_losses_over_more_than_a_decade_are_on_a_logarithmic_axis(tmp_path):
    run = make_replayed(tmp_path, height=40)
    make_arm(tmp_path, run, "half_lr", {155: 1e6})
    figure = drawings(read_results(tmp_path))["replay_quadratic"].draw()
    loss, updates, _ = figure.axes
    assert loss.get_yscale() == "log"
    assert loss.get_ylim()[1] < 1000
    assert updates.lines[0].get_xdata()[0] == -40  # of the run, since the unchanged arm is missing


def test_each_optimizer_has_the_figure_of_its_highest_spike(tmp_path):
    for seed, height in ((0, 2.0), (1, 9.0)):
        make_arm(tmp_path, make_replayed(tmp_path, seed=seed, height=height), "half_lr")
    make_replay(tmp_path, arms={"same": {150: HEIGHT}}, optimizer="adamw_95")
    drawn = drawings(read_results(tmp_path))
    assert {name for name in drawn if name.startswith("replay")} == {
        "replay_outcomes",
        "replay_quadratic_adamw",
        "replay_quadratic_adamw_95",
    }
    assert "has the height 9." in drawn["replay_quadratic_adamw"].caption
    assert len(drawn["replay_outcomes"].draw().axes) == 2
    assert len(write_figures(tmp_path, "replay_quadratic_adamw", tmp_path / "one.svg")) == 1  # and not that of adamw_95


def test_a_hostile_name_of_an_arm_stays_text(tmp_path, capsys):
    run = make_replayed(tmp_path)
    settings = record.load_config(make_arm(tmp_path, run, "half_lr"))
    settings["replay"]["arm"] = HOSTILE
    folder = record.folder_of(settings)
    (folder / "config.yaml").unlink()
    record.plan(settings)
    text, read = page_of(tmp_path, tmp_path), tables(tmp_path)
    assert read["replay"].arm.tolist() == [HOSTILE]
    assert HOSTILE not in text
    assert str(escape(HOSTILE)) in text
    assert not changes(read["replay"])
    show(tmp_path)
    assert HOSTILE in capsys.readouterr().out
    for name in ("replay_outcomes", "replay_quadratic"):
        drawings(read_results(tmp_path))[name].draw().draw_without_rendering()


def test_the_same_replays_give_the_same_figures(replayed, tmp_path):
    files = [tmp_path / f"{time}.svg" for time in ("first", "second")]
    for file in files:
        write_figures(replayed, "replay_quadratic", file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"<image" not in files[0].read_bytes()
