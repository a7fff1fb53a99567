"""What each shock does, against values computed by hand or another way, for optimizers with all sorts of states."""

import os
import signal
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch

from s3bench import record
from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import ShockConfig
from s3bench.run.distributed import Processes
from s3bench.run.one_run import run
from s3bench.run.shock import Shock, check_processes
from tests.conftest import ROOT
from tests.s3bench.run.interrupted import configs, same, stopped_at

ONE = ["task=quadratic", "schedule=constant", "measure_every=1", "horizon=6", "eval_every=6"]
ONE += ["task.build.dim=1", "task.build.condition=1", "task.build.noise=0", "task.lr=0.001"]
VIT = ["task=digits_vit", "task.build.width=16", "task.build.depth=1", "horizon=12", "eval_every=5"]


def recorded(tmp_path, *overrides):
    """Train a run, and return its rows of all steps."""
    config = run_config([*overrides, f"results_dir={tmp_path}"])
    assert run(config) == "finished"
    return record.load_steps(tmp_path / config.run_id)


@pytest.fixture(scope="module")
def twin_of(tmp_path_factory):
    """Return a function that gives the rows of an optimizer's run without a shock, which it trains once."""
    return cache(lambda optimizer: recorded(tmp_path_factory.mktemp("twin"), *VIT, f"optimizer={optimizer}"))


def parameters(*shapes):
    """Parameters with gradients of normal noise; the gradients' copies."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape)
    return params, [param.grad.clone() for param in params]


def disturbed(params, kind, step=4, seed=0, rank=0, dose=7.0):
    Shock(ShockConfig(kind, 4, length=3, dose=dose), None, seed, rank).on_gradients(step, params)
    return [param.grad for param in params]


def test_one_coordinate_of_each_tensor_gets_the_dose_in_units_of_the_tensors_gradient():
    shapes = [(5, 7), (3,), (), (2, 3, 4, 5)]
    params, before = parameters(*shapes)
    params[3].grad = before[3].contiguous(memory_format=torch.channels_last)
    params.append(torch.nn.Parameter(torch.ones(3)))  # without a gradient
    for after, old in zip(disturbed(params, "coordinate"), before, strict=False):
        changed = after != old
        assert changed.sum() == 1
        assert after[changed].item() == pytest.approx(7 * old.square().mean().sqrt().item(), rel=1e-5)


def test_a_coordinate_without_a_gradient_gets_one():
    params, _ = parameters((1, 2))
    hit = set()
    for seed in range(9):
        params[0].grad = torch.tensor([[0.0, 3.0]])
        hit |= {tuple(round(value, 3) for value in disturbed(params, "coordinate", seed=seed)[0][0].tolist())}
    assert hit == {(14.849, 3.0), (0.0, 14.849)}  # 7 √(9/2)


def test_one_layer_is_scaled_and_no_bias():
    hit = set()
    for seed in range(12):
        params, before = parameters((4, 4), (4,), (2, 3), ())
        after = disturbed(params, "layer", seed=seed)
        scaled = [index for index, old in enumerate(before) if not torch.equal(after[index], old)]
        assert len(scaled) == 1
        assert torch.equal(after[scaled[0]], 7 * before[scaled[0]])
        hit |= set(scaled)
    assert hit == {0, 2}
    params, before = parameters((3,))
    assert torch.allclose(disturbed(params, "layer")[0], 7 * before[0])  # a model of vectors alone


@pytest.mark.parametrize("kind", ["coordinate", "layer"])
def test_what_is_drawn_depends_on_seed_and_step_and_is_the_same_in_all_processes(kind):
    def drawn(**where):
        params, before = parameters(*[(9, 9)] * 6)
        state = torch.get_rng_state()
        after = disturbed(params, kind, **where)
        assert torch.equal(state, torch.get_rng_state())
        return torch.cat([(new != old).flatten() for new, old in zip(after, before, strict=True)])

    assert torch.equal(drawn(), drawn(rank=3))
    assert any(not torch.equal(drawn(), drawn(seed=seed)) for seed in (1, 2, 3))
    assert any(not torch.equal(drawn(), drawn(step=step)) for step in (5, 6))
    assert not drawn(step=3).any()
    assert not drawn(step=7).any()


def test_a_larger_learning_rate_makes_the_update_of_sgd_larger_and_is_recorded(tmp_path):
    sgd = [*ONE, "optimizer=sgd", "optimizer.momentum=0"]
    lr = recorded(tmp_path, *sgd, "shock.kind=lr", "shock.step=2", "shock.length=3", "shock.dose=50")
    assert lr.lr.tolist() == pytest.approx([0.001] * 2 + [0.05] * 3 + [0.001])
    x = [*lr.grad_norm]  # the curvature is 1 and the optimum 0
    assert x[1:] == pytest.approx([x[step] * (1 - lr.lr[step]) for step in range(5)], rel=1e-5)
    assert lr.update_max.tolist() == pytest.approx(x, rel=1e-3)  # over the step's own learning rate


def by_hand_adam(x, steps, memory, lr=0.3, beta1=0.9, beta2=0.999):
    """Adam's updates over lr on x²/2; `memory`: the number of an update -> which of the gradients so far it knows."""
    gradients, updates = [], []
    for step in range(steps):
        gradients = [*memory.get(step, lambda so_far: so_far)(gradients), x]
        m = v = 0.0
        for gradient in gradients:
            m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        updates.append((m / (1 - beta1 ** len(gradients))) / (v / (1 - beta2 ** len(gradients))) ** 0.5)
        x -= lr * updates[-1]
    return [abs(update) for update in updates]


def test_a_lost_and_an_old_state_have_the_updates_that_adams_rule_says(tmp_path):
    one = [*ONE, "optimizer=adam", "lr_multiplier=300", "shock.step=4"]  # a rate at which the gradients differ much
    twin = recorded(tmp_path, *one)
    lost = recorded(tmp_path, *one, "shock.kind=reset")
    old = recorded(tmp_path, *one, "shock.kind=stale", "shock.length=3")
    for rows, memory in ((twin, {}), (lost, {4: lambda _: []}), (old, {4: lambda so_far: so_far[:1]})):
        assert rows.update_max.tolist() == pytest.approx(by_hand_adam(twin.grad_norm[0], 6, memory), rel=1e-3)
    assert lost.update_max[4] == pytest.approx(1, rel=1e-3)
    assert len({round(float(rows.update_max[4]), 3) for rows in (twin, lost, old)}) == 3


def test_parameters_are_those_of_bfloat16_for_as_long_as_asked():
    params, _ = parameters((5, 7), (3,))
    shock = Shock(ShockConfig("bf16", 4, length=2))
    for step, rounded in ((3, False), (4, True), (5, True), (6, False)):
        torch.manual_seed(step)
        for param in params:
            param.data.copy_(torch.randn(param.shape))
        kept = [param.detach().clone() for param in params]
        shock.on_parameters(step, params)
        for param, old in zip(params, kept, strict=True):
            assert torch.equal(param, old.bfloat16().float() if rounded else old)
            assert param.requires_grad


def test_rounding_is_no_part_of_the_measured_update(tmp_path):
    size = recorded(tmp_path, *VIT, "measure_every=1", "shock.kind=bf16", "shock.step=3").update_max
    assert size[3] == recorded(tmp_path, *VIT, "measure_every=1").update_max[3]


@pytest.mark.parametrize("task", [["task=source_gpt"], pytest.param(["task=source_ngram"], marks=pytest.mark.slow)])
def test_a_repeated_token_fills_the_batch_in_all_processes_alike(task):
    made = build_parts(run_config(task)).task
    batch = next(iter(made.batches(0)))

    def shocked(**where):
        (windows,) = Shock(ShockConfig("token", 0, length=20), made, 0, where.get("rank", 0)).batch(
            where["step"], batch
        )
        assert (windows.shape, windows.dtype) == (batch[0].shape, batch[0].dtype)
        assert len(windows.unique()) == 1
        return windows[0, 0].item()

    assert shocked(step=3) == shocked(step=3, rank=1)
    assert len({shocked(step=step) for step in range(20)}) > 10
    assert max(shocked(step=step) for step in range(20)) < made.facts["vocabulary"]


def test_a_repeated_image_fills_the_batch_with_its_label():
    made = build_parts(run_config(["task=digits_vit"])).task
    images, labels = batch = next(iter(made.batches(0)))
    others, same_labels = Shock(ShockConfig("token", 0), made).batch(0, batch)
    assert all(torch.equal(image, images[0]) for image in others)
    assert set(same_labels.tolist()) == {labels[0].item()}
    assert (others.shape, same_labels.shape) == (images.shape, labels.shape)
    assert not torch.equal(images[0], images[1])


STATES = ["s3", "adamw", "sgd", "signsgd", "muon", "soap", "ademamix", "adan", "mars", "adafactor", "lion"]


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("kind", ["reset", "stale"])
def test_every_optimizer_loses_its_state_and_resumes_bit_for_bit(tmp_path, twin_of, kind, optimizer):
    asked = [*VIT, f"optimizer={optimizer}", "shock.step=8", f"shock.kind={kind}", "shock.length=4"]
    whole, cut, there, here = configs(tmp_path, *asked)
    assert run(whole) == "finished"
    assert stopped_at(cut, 2) == "stopped"
    assert record.steps_so_far(here) < 8
    assert run(cut) == "finished"
    assert same(there, here)
    twin, shocked = twin_of(optimizer), record.load_steps(there)
    assert (twin.loss == shocked.loss)[:9].all()
    assert (twin.loss == shocked.loss)[9:].all() == (optimizer == "signsgd")  # which has no state to lose
    assert (twin.lr == shocked.lr).all()


def test_a_lost_state_is_that_of_a_new_optimizer():
    made = build_parts(run_config(["task=digits_vit", "optimizer=soap"])).optimizer
    params, _ = parameters((4, 4), (4,))
    optimizer, fresh = made(params, lr=0.1), made(params, lr=0.1)
    shock = Shock(ShockConfig("reset", 3))
    shock.begin(optimizer, None)
    for _ in range(3):
        optimizer.step()
    assert optimizer.state_dict()["state"]
    shock.on_state(3, optimizer)
    assert optimizer.state_dict() == fresh.state_dict()
    assert shock.kept is None


@pytest.mark.parametrize("kind", ["reset", "stale"])
def test_a_schedule_free_optimizer_refuses_to_lose_its_weights(kind):
    message = (
        "optimizer schedulefree_adamw: its state holds weights that a shock cannot replace; shock.kind must be grad"
    )
    with pytest.raises(UserError, match=message) as caught:
        build_parts(run_config([*VIT, "optimizer=schedulefree_adamw", f"shock.kind={kind}", "shock.step=5"]))
    assert "\n" not in str(caught.value)
    assert f"{kind}" not in str(caught.value).split("must be")[1]


@pytest.mark.parametrize("kind", ["gradient", "coordinate", "layer", "lr", "token", "bf16"])
@pytest.mark.parametrize("optimizer", ["schedulefree_adamw", "muon", "soap"])
def test_other_shocks_work_with_unusual_optimizers(tmp_path, twin_of, optimizer, kind):
    dose = ["shock.dose=9"] if kind in ("gradient", "coordinate", "layer", "lr") else []
    twin = twin_of(optimizer)
    shocked = recorded(tmp_path, *VIT, f"optimizer={optimizer}", f"shock.kind={kind}", "shock.step=5", *dose)
    assert (twin.loss == shocked.loss)[:5].all()
    assert (twin.loss != shocked.loss)[6:].all()


def test_parts_of_parameters_are_refused_before_the_run():
    for kind, allowed in (("coordinate", False), ("stale", False), ("layer", True), ("reset", True)):
        config = run_config([*VIT, f"shock.kind={kind}", "shock.step=5", "parallel=fsdp2"])
        check_processes(config, Processes())
        if allowed:
            check_processes(config, Processes(0, 2))
        else:
            with pytest.raises(
                UserError, match=f"shock.kind is {kind}; with parallel=fsdp2 it must be gradient, layer, "
            ):
                check_processes(config, Processes(0, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallel", "kind"), [("ddp", "coordinate"), ("ddp", "stale"), ("fsdp2", "layer"), ("fsdp2", "reset")]
)
def test_two_processes_are_shocked_as_one_is_and_resume(tmp_path, parallel, kind):
    asked = ["task=digits_vit", "horizon=80", "eval_every=20", f"shock.kind={kind}", "shock.step=50", "shock.length=15"]
    asked += ["shock.dose=20"] if kind in ("coordinate", "layer") else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "s3bench.cli"]
    command += ["run", *asked, f"parallel={parallel}", "device=cpu"]
    texts = {"env": environment, "text": True, "cwd": tmp_path}
    for name in ("whole", "cut"):
        process = subprocess.Popen([*command, f"results_dir={name}"], stdout=subprocess.PIPE, **texts)
        for line in process.stdout:
            if name == "cut" and line.startswith("step 40/"):
                process.send_signal(signal.SIGTERM)
                break
        process.communicate(timeout=120)
    (there,), (here,) = record.folders(tmp_path / "whole"), record.folders(tmp_path / "cut")
    assert (record.state(there), record.state(here)) == ("finished", "missing")
    again = subprocess.run([*command, "results_dir=cut"], capture_output=True, timeout=300, check=False, **texts)
    assert again.returncode == 0, again.stderr[-3000:]
    assert same(there, here)
    np.testing.assert_allclose(record.load_steps(there).loss, recorded(tmp_path / "one", *asked).loss, rtol=0.05)
