"""An arm of a replay is its run, bit for bit, up to its departure; from there, one thing is changed."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from s3bench import record
from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.loop import train
from s3bench.run.one_run import run
from s3bench.run.replay import departure
from s3bench.run.replay.arms import find_arms
from s3bench.run.replay.departure import NotReproduced, check_state, depart
from s3bench.run.replay.source import LEAD, Episode, Source
from s3bench.spikes import Spike
from tests.conftest import flip
from tests.s3bench.run.interrupted import same, stopped_at
from tests.s3bench.run.replay.arms import FAST, LATE, arms_of, departed, first_state, is_exact, own_arm, source, trained

SLOW = pytest.mark.slow
SMALL = ["task=digits_mlp", "horizon=60", "eval_every=16"]


@pytest.mark.parametrize(
    "optimizer",
    ["s3", "adamw", "muon", "schedulefree_adamw", pytest.param("signum", marks=SLOW), pytest.param("adan", marks=SLOW)],
)
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
        pytest.param([*NGRAM, "eval_every=60", "optimizer=adamw"], marks=SLOW),  # prepares its own data
        pytest.param(
            ["task=source_gpt", "eval_every=60", "task.build.width=16", "task.build.depth=1", "clip=global_norm"],
            marks=SLOW,
        ),
        ["task=digits_vit", "eval_every=25", "accumulate=2", "stop_diverged=5", "optimizer=muon", "decay=matrices"],
        ["task=digits_cnn", "eval_every=25", "shock={kind: labels, step: 30, length: 5}"],  # running statistics
        [*DROPPING, "eval_every=25"],
        ["task=digits_mlp", "eval_every=25", "clip=zclip"],  # clips that remember earlier gradients
        pytest.param(["task=digits_mlp", "eval_every=25", "clip=adagc"], marks=SLOW),
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
    config, folder = trained(tmp_path, *SMALL, f"optimizer={optimizer}", "clip=global_norm", "decay=matrices")
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


def test_every_arm_of_the_package_trains_where_it_suits_the_run(tmp_path):
    config, folder = trained(tmp_path, "task=digits_deep", "task.build.depth=2", "optimizer=adamw", "horizon=60")
    origin = source(config, folder, 40, after=3)
    names = find_arms(None).keys() - {"float64_loss"}  # that is an argument of other tasks
    arms = departed(origin, *names)
    assert {arm.config.replay.arm: run(arm.config) for arm in arms} == dict.fromkeys(names, "finished")
    own = record.load_steps(folder).loss
    losses = {arm.config.replay.arm: record.load_steps(arm.folder).loss for arm in arms}
    assert all(loss[:20].equals(own[:20]) and len(loss) == 43 for loss in losses.values())
    assert losses["same"].equals(own[:43])
    for name in ("half_lr", "tenth_lr", "beta2_95", "s3_fresh", "s3_watched", "adamw_95_watched", "other_batches"):
        assert not losses[name].equals(own[:43]), name
