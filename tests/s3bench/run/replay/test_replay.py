"""An arm of a replay is its run, bit for bit, up to its departure; from there, one thing is changed."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from s3bench import cli, record
from s3bench.errors import UserError
from s3bench.report.analysis.results import read_results
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.loop import train
from s3bench.run.one_run import run
from s3bench.run.replay import departure
from s3bench.run.replay.arms import arm_config, find_arms
from s3bench.run.replay.departure import Arm, NotReproduced, check_state, depart
from s3bench.run.replay.source import LEAD, Episode, Source, find_sources
from s3bench.spikes import Spike
from tests.conftest import flip
from tests.s3bench.run.interrupted import same, stopped_at

SPIKE = ["shock={kind: gradient, step: 150, dose: 300}", "horizon=320"]  # one of SGD's losses, at step 151
LATE = ["task=quadratic", "optimizer=sgd", "shock={kind: gradient, step: 350, dose: 300}", "horizon=520"]
FAST = ["task=quadratic", "optimizer=sgd", *SPIKE]


def trained(results, *overrides):
    """Train a run; return its config and its record."""
    config = run_config([*overrides, f"results_dir={results}"])
    assert run(config) in ("finished", "diverged")
    return config, Path(results, config.run_id)


def source(config, folder, *onsets, after=15):
    """Return a run whose spikes are said to begin at these steps, whatever its loss is."""
    spikes = [Spike(onset=onset, peak=onset, end=onset + 1, height=1.0, kind="blip") for onset in onsets]
    episodes = [
        Episode(number=number, spike=spike, until=min(spike.onset + after, config.horizon))
        for number, spike in enumerate(spikes, start=1)
    ]
    steps = record.step_arrays(folder, ["loss", "grad_norm", "update_rms"])
    return Source(folder=folder, config=config, steps=steps, episodes=episodes)


def arms_of(origin, *names):
    """Return the arms of these names, of all episodes, planned."""
    configs = [
        arm_config(origin, one, name, file) for one in origin.episodes for name, file in find_arms(list(names)).items()
    ]
    return [Arm(config=config, folder=record.plan(as_dict(config))) for config in configs]


def departed(origin, *names):
    """Return the arms of these names, of all episodes, each with its first state."""
    arms = arms_of(origin, *names)
    depart(origin, arms)
    return arms


def first_state(arm):
    """Return the checkpoint that an arm starts from."""
    (file,) = record.checkpoints(arm.folder)
    return torch.load(file, weights_only=True)


def is_exact(arm, folder):
    """Train an arm, and return whether its steps and evaluations are those of the run."""
    run(arm.config)
    until = arm.config.replay.until
    columns = ["step", "loss", "lr", "grad_norm"]
    mine, own = (record.load_steps(place)[columns] for place in (arm.folder, folder))
    evals, own_evals = (record.load_evals(place) for place in (arm.folder, folder))
    before = evals[evals.step < until].reset_index(drop=True)  # one more follows the arm's last step
    return mine.equals(own.iloc[:until]) and before.equals(own_evals[own_evals.step < until].reset_index(drop=True))


def own_arm(monkeypatch, folder, name, content):
    """Write a YAML file of an arm into ./configs of a folder, which becomes the current one."""
    file = Path(folder, "configs", "arm", f"{name}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    monkeypatch.chdir(folder)


SMALL = ["task=digits_mlp", "horizon=60", "eval_every=16"]


@pytest.mark.parametrize("optimizer", ["s3", "adamw", "signum", "muon", "sgd", "schedulefree_adamw", "adan", "soap"])
def test_same_is_the_run_bit_for_bit_with_every_kind_of_optimizer(tmp_path, optimizer):
    config, folder = trained(tmp_path, *SMALL, f"optimizer={optimizer}")
    (arm,) = departed(source(config, folder, 40), "same")
    assert first_state(arm)["step"] == 20
    assert is_exact(arm, folder)


NGRAM = ["task=source_ngram", "task.build.windows=64", "task.build.batch=16", "task.build.depth=2"]
DROPPING = ["task=regression", "task.build._target_=tests.s3bench.run.interrupted.Dropping", "~task.build.width"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["task=digits_deep", "eval_every=25", "optimizer=adamw", "task.build.depth=3", "schedule=cosine"],
        [*NGRAM, "eval_every=60", "optimizer=adamw"],
        ["task=source_gpt", "eval_every=60", "task.build.width=16", "task.build.depth=1", "clip_norm=0.5"],
        ["task=digits_vit", "eval_every=25", "accumulate=2", "stop_diverged=5", "optimizer=muon", "decay=matrices"],
        ["task=digits_cnn", "eval_every=25", "shock={kind: labels, step: 30, length: 5}"],  # running statistics
        [*DROPPING, "eval_every=25"],
    ],
)
def test_same_is_the_run_bit_for_bit_on_every_kind_of_task(tmp_path, overrides):
    if "regression" in overrides[0]:  # a user's own task, whose model draws random numbers
        build = run_config(["task=regression"]).task.build
        overrides = [*overrides[:2], *(f"~task.build.{key}" for key in build if key not in ("_target_", "seed"))]
    config, folder = trained(tmp_path, "horizon=60", *overrides)
    (arm,) = departed(source(config, folder, 38), "same")
    assert is_exact(arm, folder)


def test_spikes_whose_episodes_overlap_are_reached_in_one_pass(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    origin = source(config, folder, 150, 160, 290, after=150)
    arms = departed(origin, "same")
    assert [first_state(arm)["step"] for arm in arms] == [130, 140, 270]
    assert [arm.config.replay.until for arm in arms] == [300, 310, 320]
    assert all(is_exact(arm, folder) for arm in arms)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_kept_checkpoint_saves_the_steps_before_it_unless_it_is_damaged(tmp_path, damaged, monkeypatch):
    config, folder = trained(tmp_path, *LATE, "keep_before_spikes=1")
    ((onset, file),) = record.kept(folder).items()
    assert (onset, file.name) == (352, "before_spike.000000000352.000000000200.pt")
    if damaged:
        flip(file)
    trained_from = []

    def spied(*args, first_step, **more):
        trained_from.append(first_step)
        return train(*args, first_step=first_step, **more)

    monkeypatch.setattr(departure, "train", spied)
    (arm,) = departed(source(config, folder, 352), "same")
    assert trained_from == [0 if damaged else 200]
    assert is_exact(arm, folder)


@pytest.mark.parametrize("optimizer", ["adamw", "s3", "muon", "schedulefree_adamw", "adan"])
def test_an_optimizer_that_watched_every_gradient_has_the_runs_own_state(tmp_path, monkeypatch, optimizer):
    own_arm(monkeypatch, tmp_path, "mine", {"optimizer": optimizer, "replay": {"state": "watched"}})
    config, folder = trained(tmp_path, *SMALL, f"optimizer={optimizer}", "clip_norm=1.0", "decay=matrices")
    (arm,) = departed(source(config, folder, 40), "mine")
    assert is_exact(arm, folder)


def test_a_watcher_sees_the_last_hundred_gradients_and_no_more(tmp_path):
    config, folder = trained(tmp_path, "task=quadratic", "optimizer=sgd", "horizon=200")
    (arm,) = departed(source(config, folder, 170), "adamw_95_watched")
    (watched,) = first_state(arm)["optimizer"]["state"].values()
    assert watched["step"] == 100
    assert run(arm.config) == "finished"


def test_a_fresh_optimizer_has_no_state_and_trains(tmp_path, monkeypatch):
    own_arm(monkeypatch, tmp_path, "mine", {"optimizer": "schedulefree_adamw", "replay": {"state": "fresh"}})
    config, folder = trained(tmp_path, *SMALL, "optimizer=adamw")
    arms = departed(source(config, folder, 40), "s3_fresh", "mine")
    for arm in arms:
        assert first_state(arm)["optimizer"]["state"] == {}
        assert run(arm.config) == "finished"
    assert [arm.config.names.optimizer for arm in arms] == ["s3", "schedulefree_adamw"]


def test_changed_betas_change_nothing_else_in_the_state(tmp_path):
    config, folder = trained(tmp_path, *SMALL, "optimizer=adamw", "decay=matrices")
    before, after = (first_state(arm) for arm in departed(source(config, folder, 40), "same", "beta2_95"))
    assert before["optimizer"]["state"].keys() == after["optimizer"]["state"].keys()
    for key, state in before["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, after["optimizer"]["state"][key][name])
    for one, other in zip(before["optimizer"]["param_groups"], after["optimizer"]["param_groups"], strict=True):
        assert tuple(one.pop("betas")) == (0.9, 0.999)
        assert tuple(other.pop("betas")) == (0.9, 0.95)
        one.pop("lr"), other.pop("lr")  # the loop sets it at each step
        assert one == other
    for name, value in before["model"].items():
        assert torch.equal(value, after["model"][name])


def test_the_placebo_changes_every_parameter_by_a_millionth_and_nothing_else(tmp_path):
    config, folder = trained(tmp_path, "task=source_gpt", "task.build.width=16", "horizon=30", "eval_every=30")
    plain, disturbed = departed(source(config, folder, 25), "same", "placebo")
    before, after = first_state(plain), first_state(disturbed)
    assert before["optimizer"].keys() == after["optimizer"].keys()
    for key, state in before["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["optimizer"]["state"][key][name]))
    model = build_parts(config).task.model()
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, value in before["model"].items():
        if name in names:
            relative = ((after["model"][name] - value) / value)[value != 0].double()
            assert 0.5e-6 < relative.std() < 1.5e-6, name
            assert abs(relative).max() < 6e-6
        else:
            assert torch.equal(value, after["model"][name])
    model.load_state_dict(after["model"])  # tied weights have several names, and one value
    for name, param in model.named_parameters(remove_duplicate=False):
        assert torch.equal(param, after["model"][name])
    assert run(disturbed.config) == "finished"
    mine, own = (record.load_steps(place).loss for place in (disturbed.folder, folder))
    assert mine[:5].equals(own[:5])
    assert 0 < (mine[5:] - own[5:]).abs().max() < 1e-3


def test_other_batches_come_from_later_steps(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    origin = source(config, folder, 151, after=20)
    seen = {}
    for arm in departed(origin, "same", "skipped_batches", "other_batches"):
        task = build_parts(arm.config).task
        state, step, ahead = first_state(arm), arm.config.replay.step, arm.config.replay.ahead
        model = task.model()
        model.load_state_dict(state["model"])
        with torch.no_grad():
            expected = task.loss(model, next(task.batches(step + ahead))).item()
        run(arm.config)
        assert record.load_steps(arm.folder).loss[step] == expected
        seen[arm.config.replay.arm] = ahead
    assert seen == {"same": 0, "skipped_batches": LEAD + 1, "other_batches": 320}


def test_an_arm_has_one_thing_changed_and_the_rest_is_the_runs(tmp_path):
    config, folder = trained(tmp_path, *FAST, "seed=3", "lr_multiplier=2")
    origin = source(config, folder, 151, after=150)
    arms = {arm.config.replay.arm: arm.config for arm in arms_of(origin, "same", "half_lr", "tenth_lr")}
    plain = as_dict(arms["same"])
    for name, change in (("half_lr", 1.0), ("tenth_lr", 0.2)):
        changed = as_dict(arms[name])
        assert changed["lr_multiplier"] == pytest.approx(change)
        assert {key for key in plain if plain[key] != changed[key]} == {"lr_multiplier", "replay", "run_id"}
    assert "-sgd.half_lr-x1-s3-" in arms["half_lr"].run_id
    assert {key for key, value in as_dict(config).items() if value != plain[key]} == {
        "measure_every",
        "replay",
        "results_dir",
        "run_id",
    }
    assert plain["results_dir"] == str(tmp_path / "replays")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"lr_multiplyer": 1}, "unknown key of arm mine 'lr_multiplyer'. Did you mean lr_multiplier?"),
        ({"run_id": "x"}, "unknown key of arm mine 'run_id'"),
        ({"optimizer": "adamx"}, "unknown optimizer of arm mine 'adamx'"),
        (
            {"replay": {"step": 3}},
            "key of replay in arm mine 'step'. Did you mean state? Choose from: ahead, noise, state",
        ),
        ({"replay": {"state": "old"}}, "unknown replay.state 'old'"),
        ({"replay": 3}, "arm mine: replay is 3; it must hold state, noise, ahead"),
        ({"replay": {"noise": -1}}, "replay.noise is -1"),
        ({"lr_multiplier": -1}, "lr_multiplier is -1"),
        ({"lr_multiplier": "${run.lr}"}, "run.lr"),
        ({"lr_multiplier": "${usual.something}"}, "usual.something"),
        ({"optimizer": {"betas": ["${run.optimizer.betas.0}", 0.95]}}, "betas"),
        ("- a list\n", "must hold settings of a run"),
        ("{", "cannot be read"),
    ],
)
def test_a_mistake_in_an_arms_file_is_one_line_that_names_the_arm(tmp_path, monkeypatch, content, said):
    own_arm(monkeypatch, tmp_path, "mine", content)
    config = run_config([*FAST, f"results_dir={tmp_path}"])
    spike = Spike(onset=151, peak=151, end=152, height=1.0, kind="blip")
    values = {name: np.ones(320) for name in ("loss", "grad_norm", "update_rms")}
    origin = Source(
        folder=tmp_path / config.run_id,
        config=config,
        steps=values,
        episodes=[Episode(number=1, spike=spike, until=300)],
    )
    with pytest.raises(UserError) as mistake:
        arms_of(origin, "mine")
    assert said in str(mistake.value)
    assert "arm mine" in str(mistake.value)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    ("optimizer", "content", "said"),
    [
        ("sgd", {"optimizer": "adamw"}, "its optimizer adamw needs exp_avg, exp_avg_sq, step"),
        ("muon", {"optimizer": "adamw"}, "its optimizer adamw needs"),
        ("adamw", {"decay": "matrices"}, "its parameters are grouped by decay=matrices"),
        ("adamw", {"optimizer": {"eps": 1e-3}}, None),
        ("muon", {"optimizer": {"momentum": 0.5}}, None),
        ("adamw", {"optimizer": "lion"}, None),
        ("sgd", {"optimizer": "adamw", "replay": {"state": "fresh"}}, None),
    ],
)
def test_a_state_that_an_arm_cannot_keep_is_refused_before_training(tmp_path, monkeypatch, optimizer, content, said):
    own_arm(monkeypatch, tmp_path, "mine", content)
    config, folder = trained(tmp_path, *SMALL, f"optimizer={optimizer}")
    (arm,) = arms_of(origin := source(config, folder, 40), "mine")
    parts, own = build_parts(arm.config), build_parts(config)
    if said is None:
        check_state(arm.config, parts, config, own)
        depart(origin, [arm])
        assert run(arm.config) == "finished"
        return
    with pytest.raises(
        UserError, match=f"arm mine cannot keep the run's state: {said}.*; set replay.state to fresh or"
    ):
        check_state(arm.config, parts, config, own)


def test_a_run_whose_losses_are_not_reproduced_is_refused_at_the_first_that_differs(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    origin = source(config, folder, 151)
    loss = origin.steps["loss"].copy()
    loss[77] = np.nextafter(np.float32(loss[77]), np.float32(9))
    origin.steps["loss"] = loss
    with pytest.raises(NotReproduced, match="is not reproduced here: its loss at step 77 is"):
        departed(origin, "same")


def test_an_arm_without_its_first_state_never_trains_from_the_first_step(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    (arm,) = departed(source(config, folder, 151), "half_lr")
    flip(record.checkpoints(arm.folder)[0])
    with pytest.raises(UserError, match="no intact first state; run the same s3bench replay again"):
        run(arm.config)
    depart(source(config, folder, 151), [arm])
    assert run(arm.config) == "finished"


def test_an_interrupted_arm_resumes_bit_for_bit(tmp_path):
    config, folder = trained(tmp_path, *FAST)
    (arm,) = departed(source(config, folder, 151, after=150), "half_lr")
    other = dataclasses.replace(arm.config, results_dir=str(tmp_path / "other"))
    shutil.copytree(arm.folder, tmp_path / "other" / arm.config.run_id)
    assert run(arm.config) == "finished"
    assert stopped_at(other, 3) == "stopped"
    assert run(other) == "finished"
    assert same(arm.folder, tmp_path / "other" / arm.config.run_id)
    assert [one["step"] for one in record.load_record(arm.folder)["summary"]["resumed"]] == [131]


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
    for change in (lambda config: config.pop("code"), lambda config: config.update(unheard_of=1)):
        edited(folder, change)
        assert "made by another version of s3bench" in refused(capsys, results, "--run", "*-s0-*")


def test_spikes_too_near_the_start_cannot_be_replayed(results, capsys, monkeypatch):
    near = [Spike(onset=onset, peak=onset, end=onset + 1, height=1.0, kind="blip") for onset in (10, LEAD, LEAD + 1)]
    monkeypatch.setattr("s3bench.run.replay.source.find_spikes", lambda *_, **__: near)
    assert "no such spike after step 20; choose from: 3, all" in refused(
        capsys, results, "--run", "*-s0-*", "--spike", "2"
    )
    (chosen,) = find_sources(results, "*-s0-*", "all")
    assert [(episode.number, episode.step) for episode in chosen.episodes] == [(3, 1)]
    near.pop()
    assert "no run in results has a spike after step 20" in refused(capsys, results)


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
