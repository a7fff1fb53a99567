"""`s3bench replay`: what it refuses, and what it does the first time and again."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from s3bench import cli, record
from s3bench.report.analysis.results import read_results
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.one_run import run
from s3bench.run.replay.source import LEAD, find_sources
from s3bench.spikes import Spike
from tests.records import make_replayed, tables
from tests.s3bench.run.replay.arms import FAST, departed, own_arm, trained


def replay(*arguments):
    """Call the command line in this process."""
    return cli.main(["replay", *map(str, arguments)])


def refused(capsys, *arguments):
    """Return the one line that a mistake prints."""
    capsys.readouterr()
    assert replay(*arguments) == 2
    out, said = capsys.readouterr()
    assert said.count("\n") == 1, said
    assert out == ""
    return said


@pytest.fixture(scope="module")
def spiky(tmp_path_factory):
    """A results folder with a run that spikes once, and one without a spike."""
    results = tmp_path_factory.mktemp("spiky") / "results"
    trained(results, *FAST)
    trained(results, "task=quadratic", "optimizer=sgd", "horizon=60", "seed=7")
    return results


@pytest.fixture
def results(spiky, tmp_path, monkeypatch):
    """A copy of that folder, in the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(spiky, "results")
    return Path("results")


def test_an_impossible_wish_is_one_line_that_says_what_is_possible(results, capsys):
    only = f"no such spike after step {LEAD}; choose from: 1, all"
    assert only in refused(capsys, results, "--spike", "9")
    assert only in refused(capsys, results, "--spike", "x")
    assert "unknown arm 'sane'. Did you mean same? Choose from:" in refused(capsys, results, "arm=sane")
    assert "unknown arm ''" in refused(capsys, results, "arm=")
    assert "unknown key 'lr'. Choose from: arm, device" in refused(capsys, results, "lr=1")
    assert "unknown key 'same'" in refused(capsys, results, "same")
    assert "has no run 'adamw'" in refused(capsys, results, "--run", "adamw")
    assert "there is no results folder nowhere" in refused(capsys, "nowhere")
    assert "has no spike after step 20, so nothing can be replayed" in refused(capsys, results, "--run", "*-s7-*")
    assert "arm beta2_95 does not suit the run" in refused(capsys, results, "arm=same,beta2_95")
    assert "jobs" in refused(capsys, results, "--jobs", "0")
    assert not (results / "replays").exists()


def test_a_run_without_a_result_is_not_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = run_config([*FAST, "results_dir=results"])
    folder = record.plan(as_dict(config))
    text = "is {}; only a run that is over can be replayed"
    assert text.format("missing") in refused(capsys, "results")
    with record.leased(folder):
        assert text.format("running") in refused(capsys, "results")
    record.write_error(folder, "RuntimeError: boom")
    assert text.format("failed: RuntimeError: boom") in refused(capsys, "results", "--run", "quadratic-sgd")
    record.plan(as_dict(run_config([*FAST, "results_dir=results", "seed=1"])))
    assert "no run in results is over; only then can it be replayed" in refused(capsys, "results")


def edited(folder, change):
    """Change the config in a record."""
    config = record.load_config(folder)
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def test_a_record_of_other_code_or_another_version_is_not_replayed(results, capsys):
    (folder,) = results.glob("*-s0-*")
    edited(folder, lambda config: config["code"].update(task="0" * 12, schedule="1" * 12))
    line = refused(capsys, results, "--run", "*-s0-*")
    assert "was trained by other code of its task and schedule; it cannot be replayed" in line
    config = run_config([*FAST, "seed=1", f"results_dir={results}"])
    run(config)  # the run of other code does not keep another one from being replayed
    (chosen,) = find_sources(results, None, None)
    assert chosen.folder.name == config.run_id
    assert "left out: the run" in capsys.readouterr().err
    intact = (folder / "config.yaml").read_text()
    for change in (lambda config: config.pop("code"), lambda config: config.update(unheard_of=1)):
        (folder / "config.yaml").write_text(intact)
        edited(folder, change)
        assert "made by another version of s3bench" in refused(capsys, results, "--run", "*-s0-*")


def test_spikes_too_near_the_start_cannot_be_replayed(results, capsys, monkeypatch):
    near = [Spike(onset=onset, peak=onset, end=onset + 1, height=1.0, kind="blip") for onset in (10, LEAD, LEAD + 1)]
    monkeypatch.setattr("s3bench.run.replay.source.spikes_of", lambda *_, **__: near)
    assert "no such spike after step 20; choose from: 3, all" in refused(
        capsys, results, "--run", "*-s0-*", "--spike", "2"
    )
    (chosen,) = find_sources(results, "*-s0-*", "all")
    assert [(episode.number, episode.step) for episode in chosen.episodes] == [(3, 1)]
    near.pop()
    assert "no run in results has a spike after step 20" in refused(capsys, results)


@pytest.mark.parametrize("delta", [None, 2.0, 3.5])
@pytest.mark.parametrize("exact", [True, False])
def test_a_spike_has_the_number_that_it_has_in_the_report(tmp_path, capsys, delta, exact):
    resumed = [{"step": 60, "exact": exact}]
    make_replayed(tmp_path, height=3.0, others={60: 4.0, 230: 1.0, 270: 4.0}, resumed=resumed)
    if delta is not None:
        (tmp_path / "judge.yaml").write_text(f"quadratic: {{spikes: {{k: 6.0, delta: {delta}}}}}")
    found = {None: [60, 150, 230, 270], 2.0: [60, 150, 270], 3.5: [60, 270]}[delta]
    onsets = found if exact else found[1:]
    shown = tables(tmp_path)["spikes"]
    assert list(zip(shown.number, shown.onset, strict=True)) == list(enumerate(onsets, start=1))
    (source,) = find_sources(tmp_path, None, "all")
    assert [(episode.number, episode.spike.onset) for episode in source.episodes] == list(enumerate(onsets, start=1))
    (source,) = find_sources(tmp_path, None, "2" if exact else "1")
    assert [episode.spike.onset for episode in source.episodes] == [onsets[1] if exact else onsets[0]]
    assert f"choose from: {', '.join(map(str, range(1, len(onsets) + 1)))}, all" in refused(
        capsys, tmp_path, "--spike", "9"
    )


def test_a_mistake_in_judge_yaml_is_one_line(results, capsys):
    for text, said in {
        "quadratc: {}": "unknown task in results/judge.yaml 'quadratc'. Did you mean quadratic?",
        "quadratic: {spikes: {kk: 3}}": "the detector parameters in judge.yaml cannot be used",
        "{": "results/judge.yaml cannot be read",
    }.items():
        (results / "judge.yaml").write_text(text)
        assert said in refused(capsys, results, "--run", "*-s0-*")


def test_the_run_with_the_highest_spike_is_chosen_and_a_pattern_chooses_several(results):
    trained(results, "task=quadratic", "optimizer=sgd", "horizon=320", "shock={kind: gradient, step: 150, dose: 600}")
    (chosen,) = find_sources(results, None, None)
    assert chosen.config.shock.dose == 600
    assert len(find_sources(results, "quadratic-sgd", None)) == 2
    assert len(find_sources(results, "*-s0-*", "1")) == 2


def test_a_run_whose_data_are_gone_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S3BENCH_DATA", str(tmp_path / "data"))
    settings = as_dict(run_config(["task=cifar10_resnet18", "optimizer=sgd", "horizon=200", "results_dir=results"]))
    folder = record.plan(settings)
    with record.Writer(folder, settings) as writer:
        loss = np.where(np.arange(200) == 150, 9.0, 2.0)
        writer.add_steps([{"step": t, "loss": loss[t], "lr": 0.1, "grad_norm": 1.0} for t in range(200)])
        writer.add_eval({"step": 0, "loss": 2.0, "accuracy": 0.1})
        writer.finish({"state": "finished", "steps": 200})
    assert "cifar" in refused(capsys, "results").lower()
    assert "cifar" in refused(capsys, "results", "arm=half_lr").lower()
    assert not Path("results", "replays").exists()


@pytest.mark.parametrize("name", ["steps.parquet", "evals.parquet", "config.yaml", "summary.json"])
def test_a_record_with_a_file_that_is_gone_or_damaged_is_one_line(results, capsys, name):
    (folder,) = results.glob("*-s0-*")
    file = folder / name
    file.write_bytes(file.read_bytes()[:100].replace(b":", b""))
    assert f"{folder} is damaged, in {name}" in refused(capsys, results, "--run", "*-s0-*", "arm=half_lr")
    file.unlink()
    said = {"config.yaml": "has no run '*-s0-*'", "summary.json": "is missing; only a run that is over"}
    expected = said.get(name, f"{folder} is damaged, in {name}")
    assert expected in refused(capsys, results, "--run", "*-s0-*", "arm=half_lr")
    assert not (results / "replays").exists()


def test_an_arm_whose_optimizer_cannot_take_the_state_is_one_line_before_anything_is_trained(
    results, tmp_path, monkeypatch, capsys
):
    own_arm(monkeypatch, tmp_path, "mine", {"optimizer": "adamw"})
    line = refused(capsys, results, "--run", "*-s0-*", "arm=same,mine")
    assert "arm mine cannot keep the run's state: its optimizer adamw needs exp_avg, exp_avg_sq, step; set" in line
    assert not (results / "replays").exists()


def test_data_that_were_moved_are_looked_for_where_they_are_now(results, monkeypatch):
    from s3bench.run.replay.replay import _moved, asked

    (chosen,) = find_sources(results, None, None)
    task = dataclasses.replace(chosen.config.task, build={**chosen.config.task.build, "data_dir": "/gone"})
    chosen = dataclasses.replace(chosen, config=dataclasses.replace(chosen.config, data_dir="/gone", task=task))
    monkeypatch.setenv("S3BENCH_DATA", "/here")
    moved = _moved(chosen, asked("results", ["device=cpu"], run=None, spike=None, jobs=3)).config
    assert (moved.data_dir, moved.task.build["data_dir"]) == ("/here", "/here")
    assert (moved.device, moved.launcher["jobs"]) == ("cpu", 3)


def test_a_diverged_run_can_be_replayed(tmp_path):
    _, folder = trained(
        tmp_path, "task=regression", "optimizer=sgd", "horizon=320", "shock={kind: gradient, step: 150, dose: 1e30}"
    )
    assert record.state(folder) == "diverged"
    (found,) = find_sources(tmp_path, None, None)
    assert len(found.episodes) == 1
    arms = departed(found, "same", "tenth_lr")
    assert [run(arm.config) for arm in arms] == ["diverged", "diverged"]
    assert record.load_steps(arms[0].folder).loss.equals(record.load_steps(folder).loss)


@pytest.mark.slow
@pytest.mark.usefixtures("results")
def test_the_command_trains_what_is_missing_and_says_what_became_of_the_spike(s3bench):
    first = s3bench("replay", "results", "arm=same,half_lr", "--jobs", "1")
    assert first.returncode == 0, first.stderr
    assert "2 arms in results/replays, 2 to be trained" in first.stdout
    assert not first.stderr
    folders = {folder.name.split("-")[1]: folder for folder in record.folders("results/replays")}
    assert set(folders) == {"sgd.same", "sgd.half_lr"}
    kept = {file: file.stat().st_mtime_ns for file in Path("results").rglob("*") if file.is_file()}

    again = s3bench("replay", "results", "arm=same,half_lr")
    assert again.returncode == 0
    assert "2 arms in results/replays, 0 to be trained" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in Path("results").rglob("*") if file.is_file()} == kept

    (folders["sgd.half_lr"] / "summary.json").unlink()
    more = s3bench("replay", "results", "arm=same,half_lr,tenth_lr")
    assert more.returncode == 0, more.stderr
    assert "3 arms in results/replays, 2 to be trained" in more.stdout
    assert (folders["sgd.same"] / "summary.json").stat().st_mtime_ns == kept[folders["sgd.same"] / "summary.json"]

    arms = record.load_records("results/replays")
    assert list(arms.state) == ["finished"] * 3
    assert list(arms.first_step) == [0] * 3
    assert [one["resumed"] for one in arms.summary] == [[{"step": 131, "exact": True}]] * 3
    assert len(record.load_records("results")) == 2  # the arms are no runs of their own
    assert not any(".same-" in one.run_id for one in read_results(Path("results")).runs)
    assert "is itself an arm of a replay" in s3bench("replay", "results/replays").stderr
    assert s3bench("replay", "results/replays").returncode == 2


@pytest.mark.slow
def test_a_run_that_is_not_reproduced_is_one_line_and_no_arm_trains(results, s3bench):
    (folder,) = results.glob("*-s0-*")
    settings, steps, evals = record.load_config(folder), record.load_steps(folder), record.load_evals(folder)
    steps.loc[40, "loss"] *= 1 + 1e-6
    summary = json.loads((folder / "summary.json").read_text())
    record.write_result(folder, steps.to_dict("list"), evals.to_dict("list"), summary)
    result = s3bench("replay", "results", "arm=same,half_lr")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "is not reproduced here: its loss at step 40 is" in result.stderr
    assert settings["run_id"] in result.stderr
    assert not list(record.load_records("results/replays").query("state != 'missing'").index)
