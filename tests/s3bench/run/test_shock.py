"""Shocks disturb only the steps asked for, in the same way for every optimizer, and shocked runs can be resumed."""

import functools
import math

import numpy as np
import pytest
import torch

from s3bench import record
from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.record.shock_kinds import KINDS
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import ShockConfig, as_dict
from s3bench.run.one_run import run
from s3bench.run.shock import Shock
from tests.s3bench.run.interrupted import configs, same, stopped_at

VIT = ["task=digits_vit", "horizon=16", "eval_every=8"]
GPT = ["task=source_gpt", "horizon=12", "eval_every=6", "task.build.width=16", "task.build.depth=1"]
QUADRATIC = ["task=quadratic", "schedule=constant", "measure_every=1", "horizon=12"]
IN_BATCH = ["noise", "labels", "token"]
OTHERS = ["gradient", "coordinate", "layer", "lr", "reset", "stale", "bf16"]


def shock(kind, step, length, dose=30):
    """Return a shock as overrides, with a dose if the kind has one."""
    strength = [f"shock.dose={dose}"] if KINDS[kind].has_dose else []
    return [f"shock.kind={kind}", f"shock.step={step}", f"shock.length={length}", *strength]


def recorded(tmp_path, *overrides):
    """Train a run, and return its rows of all steps."""
    config = run_config([*overrides, f"results_dir={tmp_path}"])
    assert run(config) == "finished"
    return record.load_steps(tmp_path / config.run_id)


@pytest.fixture(scope="module")
def twin_of(tmp_path_factory):
    """Return a function that trains the undisturbed run of a task once."""

    @functools.cache
    def rows(*task):
        return recorded(tmp_path_factory.mktemp("twin"), *task)

    return rows


@pytest.mark.parametrize(
    ("task", "kind", "first"),
    [
        *((task, kind, 6) for task in (VIT, GPT, QUADRATIC) for kind in OTHERS),  # loss[t] is measured before update t
        *((task, kind, 5) for task in (VIT, GPT) for kind in IN_BATCH),
        (QUADRATIC, "noise", 5),
    ],
)
def test_a_run_equals_its_twin_bit_for_bit_before_the_shock_and_differs_after_it(twin_of, tmp_path, task, kind, first):
    twin = twin_of(*task)
    shocked = recorded(tmp_path, *task, *shock(kind, 5, 2))
    assert (twin.loss == shocked.loss).tolist() == [step < first for step in range(len(twin))]
    assert (twin.grad_norm == shocked.grad_norm)[:5].all()
    assert (twin.grad_norm[5] != shocked.grad_norm[5]) == (kind in (*IN_BATCH, "gradient", "coordinate", "layer"))
    raised = [30 if kind == "lr" and step in (5, 6) else 1 for step in range(len(twin))]
    assert (twin.lr * raised == shocked.lr).all()


def test_the_gradient_is_scaled_before_it_is_recorded_and_clipped(tmp_path):
    given = shock("gradient", 3, 2, dose=50)
    sgd = [*QUADRATIC, "optimizer=sgd", "task.lr=0.01", "optimizer.momentum=0"]
    twin, shocked = recorded(tmp_path, *sgd), recorded(tmp_path, *sgd, *given)
    assert shocked.grad_norm[3] == pytest.approx(50 * twin.grad_norm[3])
    assert shocked.update_rms[3] == pytest.approx(50 * twin.update_rms[3], rel=1e-4)
    clipped = recorded(tmp_path, *sgd, *given, "clip=global_norm", "clip.max_norm=0.1")
    assert clipped.grad_norm[3] > 1  # before clipping
    assert clipped.update_rms[3] * math.sqrt(32) == pytest.approx(0.1, rel=1e-3)


def test_s3_and_adam_respond_to_a_shock_as_their_rules_say(tmp_path):
    """Compute the updates by hand, from the recorded gradients of a noiseless quadratic with one coordinate."""
    one = [*QUADRATIC[:-1], "horizon=4", "task.build.dim=1", "task.build.condition=1", "task.build.noise=0"]
    one += ["task.lr=0.001"]
    given = shock("gradient", 3, 1, dose=100)
    s3 = recorded(tmp_path, *one, "optimizer=s3", "optimizer.weight_decay=0", *given)
    adam = recorded(tmp_path, *one, "optimizer=adam", *given)
    for rows, update in ((s3, by_hand_s3), (adam, by_hand_adam)):
        gradients = [*rows.grad_norm]  # the curvature is 1 and x does not change its sign: they are those of the rule
        assert gradients[3] == pytest.approx(100 * math.sqrt(2 * rows.loss[3]), rel=1e-5)
        assert rows.update_max[3] == pytest.approx(update(gradients), rel=1e-3)


def by_hand_s3(gradients, beta=0.95, p=3):
    m = s = 0.0
    for gradient in gradients:
        m, s = beta * m + (1 - beta) * gradient, beta * s + (1 - beta) * gradient**p
    return (beta * m + (1 - beta) * gradient) / (beta * s + (1 - beta) * gradient**p) ** (1 / p)


def by_hand_adam(gradients, beta1=0.9, beta2=0.999):
    m = v = 0.0
    for gradient in gradients:
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
    steps = len(gradients)
    return (m / (1 - beta1**steps)) / math.sqrt(v / (1 - beta2**steps))


def disturbed(kind, task, step=4, seed=0, rank=0):
    """Return batch 4 of a task, disturbed and undisturbed."""
    config = run_config([*task, f"seed={seed}"])
    made = build_parts(config).task
    batch = next(iter(made.batches(step)))
    kept = [tensor.clone() for tensor in batch]
    shocked = Shock(ShockConfig(kind, step), made, seed, rank).batch(step, batch)
    assert all(torch.equal(one, other) for one, other in zip(batch, kept, strict=True)), "disturbed in place"
    return shocked, batch


def test_noise_images_keep_the_mean_the_deviation_and_the_labels_of_the_batch():
    for task in (["task=digits_vit"], ["task=digits_mlp"], ["task=glyphs_resnet"]):
        (images, labels), (pixels, truth) = disturbed("noise", task)
        assert images.shape == pixels.shape
        assert images.dtype == pixels.dtype
        assert torch.equal(labels, truth)
        assert images.mean().item() == pytest.approx(pixels.mean().item(), abs=0.1)
        assert images.std().item() == pytest.approx(pixels.std().item(), rel=0.1)
        assert abs(np.corrcoef(images.flatten(), pixels.flatten())[0, 1]) < 0.1


def test_images_in_bytes_become_noise_in_bytes():
    class Bytes:
        pass

    pixels = torch.randint(100, 140, (8, 3, 8, 8), dtype=torch.uint8)
    images, labels = Shock(ShockConfig("noise", 0), Bytes()).batch(0, (pixels, torch.arange(8)))
    assert images.dtype == torch.uint8
    assert images.float().mean().item() == pytest.approx(120, abs=3)
    assert torch.equal(labels, torch.arange(8))


def test_noise_text_is_uniform_over_the_vocabulary_in_inputs_and_next_tokens():
    (windows,), (text,) = disturbed("noise", [*GPT, "task.build.batch=64"])
    assert windows.shape == text.shape
    assert windows.dtype == text.dtype
    counts = torch.bincount(windows.flatten(), minlength=512)
    assert len(counts) == 512
    assert counts.max() < 4 * counts.float().mean()
    assert torch.bincount(text.flatten()).max() > 10 * counts.float().mean()


@pytest.mark.parametrize("task", [VIT, ["task=regression"]])
def test_permuted_labels_are_those_of_the_batch_in_another_order(task):
    (inputs, labels), (same_inputs, truth) = disturbed("labels", task)
    assert torch.equal(inputs, same_inputs)
    assert torch.equal(labels.flatten().sort().values, truth.flatten().sort().values)
    assert not torch.equal(labels, truth)


def test_permuted_next_tokens_are_those_of_the_batch_and_the_text_stays():
    (windows, following), (text,) = disturbed("labels", GPT)
    assert torch.equal(windows, text)
    assert torch.equal(following.flatten().sort().values, text[:, 1:].flatten().sort().values)
    assert (following != text[:, 1:]).float().mean() > 0.5


@pytest.mark.parametrize("task", [VIT, GPT])
@pytest.mark.parametrize("kind", ["noise", "labels"])
def test_draws_depend_on_seed_step_and_process_alone_and_leave_torchs_random_state(task, kind):
    before = torch.get_rng_state()
    drawn = [disturbed(kind, task)[0] for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    batch = disturbed(kind, task)[1]
    made = build_parts(run_config(task)).task

    def last(seed, step, rank):
        return Shock(ShockConfig(kind, 4, length=2), made, seed, rank).batch(step, batch)[0 if kind == "noise" else -1]

    others = [last(1, 4, 0), last(0, 5, 0), last(0, 4, 1)]
    assert not any(torch.equal(last(0, 4, 0), other) for other in others)


def test_every_optimizer_sees_the_same_noise(tmp_path):
    given = [*shock("noise", 0, 1), "lr_multiplier=1e-6"]
    losses = [recorded(tmp_path, *VIT, f"optimizer={name}", *given).loss[0] for name in ("s3", "adamw", "signum")]
    assert len(set(losses)) == 1


@pytest.mark.parametrize("kind", [*IN_BATCH, *OTHERS])
@pytest.mark.parametrize("task", [VIT, GPT])
def test_a_run_that_is_stopped_within_its_shock_resumes_bit_for_bit(tmp_path, kind, task):
    step = 8 if kind == "stale" else 4  # it is stopped between the copy of the state and its use, or within the shock
    asked = [*task[:1], *task[3:], "horizon=16", "eval_every=5", *shock(kind, step, 4, dose=20)]
    whole, cut, there, here = configs(tmp_path, *asked)
    assert run(whole) == "finished"
    assert stopped_at(cut, 2) == "stopped"
    assert record.steps_so_far(here) == 6
    assert run(cut) == "finished"
    assert same(there, here)


@pytest.mark.parametrize("kind", [*IN_BATCH, "gradient", "coordinate", "layer", "lr"])
@pytest.mark.parametrize("task", [VIT, GPT])
def test_pieces_and_batch_workers_do_not_change_a_shock(tmp_path, kind, task):
    asked = [*task, *shock(kind, 3, 3, dose=3 if kind == "lr" else 20)]
    plain = recorded(tmp_path, *asked)
    pieces = recorded(tmp_path / "pieces", *asked, "accumulate=2")
    np.testing.assert_allclose(plain.loss, pieces.loss, rtol=1e-4)
    workers = recorded(tmp_path / "workers", *asked, "workers=1")
    assert plain.equals(workers)


def test_without_a_kind_a_run_is_the_ordinary_one():
    base = run_config(["task=quadratic"])
    for override in ("shock.step=7", "shock.dose=100", "shock={kind: none, length: 9}", "shock.length=100000"):
        assert run_config(["task=quadratic", override]) == base
    assert not {"shock", "replay"} & identity.settings(as_dict(base)).keys()
    assert base.run_id.startswith("quadratic-s3-x1-s0-506f956318-")  # as before shocks existed


def test_a_grid_of_shocks_has_one_undisturbed_twin():
    doses = run_configs(["shock.kind=none,gradient", "shock.step=5", "shock.dose=3,10,100", "seed=0,1"])
    assert len(doses) == 2 * (1 + 3)
    whole = run_configs(["shock={kind: none},{kind: gradient, step: 5, dose: 3},{kind: noise, step: 9}", "seed=0,1"])
    assert [(config.shock.kind, config.seed) for config in whole] == [
        (kind, seed) for kind in ("none", "gradient", "noise") for seed in (0, 1)
    ]
    assert {config.run_id for config in doses} & {config.run_id for config in whole} == {
        config.run_id
        for config in run_configs(["shock.kind=none,gradient", "shock.step=5", "shock.dose=3", "seed=0,1"])
    }


@pytest.mark.parametrize("other", ["shock.kind=noise", "shock.step=6", "shock.length=2", "shock.dose=11"])
def test_every_part_of_a_shock_makes_another_run(other):
    given = {"shock.kind": "gradient", "shock.step": "5", "shock.dose": "10"}
    key, value = other.split("=")
    changed = {**given, key: value} | ({"shock.dose": "1"} if value == "noise" else {})
    ids = {run_config([f"{key}={value}" for key, value in some.items()]).run_id for some in (given, changed)}
    assert len(ids) == 2
    assert run_config(["shock={kind: gradient, step: 5, dose: 10}"]).run_id in ids


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["shock.kind=gradent"],
            "unknown shock.kind 'gradent'. Did you mean gradient\\? Choose from: bf16, coordinate, gradient, lab",
        ),
        (["shock.kind=noise", "shock.step=200"], "shock.step is 200; it must be from 0 to 199, within the horizon"),
        (["shock.kind=noise", "shock.step=-1"], "shock.step is -1; it must be from 0 to 199"),
        (["shock.kind=noise", "shock.length=0"], "shock.length is 0; it must be from 1 to 200"),
        (
            ["shock.kind=noise", "shock.step=190", "shock.length=11"],
            "shock.length is 11; it must be from 1 to 10, because",
        ),
        (["shock.kind=gradient", "shock.dose=0"], "shock.dose is 0.0; it must be a number above 0"),
        (["shock.kind=gradient", "shock.dose=-3"], "shock.dose is -3.0"),
        (["shock.kind=gradient", "shock.dose=inf"], "shock.dose is inf"),
        (["shock.kind=gradient", "shock.dose=nan"], "shock.dose is nan"),
        (
            ["shock.kind=noise", "shock.dose=10"],
            "shock.dose is 10; only a shock of kind gradient, coordinate, layer or lr has a dose, not noise",
        ),
        (
            ["shock.kind=stale", "shock.step=5", "shock.length=6"],
            "shock.length is 6; it must be at least 1 and at most shock.step, 5, because the state",
        ),
        (["shock={kind: noise, stp: 3}"], "Key 'stp' not in"),
        (["shock=3"], "shock=3: "),
        (["shock=null"], "shock=null: "),
        (["shock.kind=noise", "shock.step=1.5"], "shock.step=1.5: .*Integer"),
    ],
)
def test_an_impossible_shock_is_reported_on_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        run_config(overrides)
    assert "\n" not in str(caught.value)


def test_a_kind_that_does_not_suit_a_task_is_reported_before_the_run():
    labels = run_config(["task=quadratic", "shock.kind=labels"])
    allowed = "gradient, coordinate, layer, lr, {}reset, stale or bf16"
    for config in (labels, run_config(["task=quadratic", "shock.kind=token"])):
        with pytest.raises(
            UserError, match=f"quadratic: its batches have no labels; .* must be {allowed.format('noise, ')}$"
        ):
            build_parts(config)
    ids = (torch.zeros(4, 9, dtype=torch.int64),)
    with pytest.raises(ValueError, match=f"torch.int64 and it has no method shocked; .* must be {allowed.format('')}$"):
        Shock(ShockConfig("noise"), object()).batch(0, ids)


def test_a_sweep_reports_it_before_its_first_run(s3bench, tmp_path):
    result = s3bench("sweep", "task=quadratic", "shock={kind: none},{kind: labels, step: 3}", "results_dir=r")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "task quadratic: its batches have no labels" in result.stderr
    assert not (tmp_path / "r").exists()
