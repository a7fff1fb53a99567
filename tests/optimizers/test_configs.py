"""Every YAML of configs/optimizer: its steps follow the paper, its weight decay, state, arguments, and it optimizes."""

import numpy as np
import pytest
import torch

from s3bench import catalog, record
from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from tests.optimizers.formulas import HORIZON, STEPS

SETTINGS = {  # so that what comes rarely comes within a few steps
    "soap": ["optimizer.precondition_frequency=2"],
    "adagc": ["optimizer.warmup_steps=4", "optimizer.lambda_abs=1000000.0"],  # test_clipping.py has the global norm
    "stable_spam": ["optimizer.update_proj_gap=5"],
    "spam": [
        f"optimizer.{name}" for name in ("update_proj_gap=5", "warmup_epoch=2", "grad_accu_steps=2", "threshold=2")
    ],
}
TOLERANCE = {("muon", 2): 0.01}  # for matrices: torch's Newton-Schulz iterates in bfloat16
# Loss on a quadratic after 400 steps, relative to the first. RAdam takes small steps for its first thousand, and
# AdEMAMix keeps old gradients in its slow average.
REACHED = {"radam": 0.2, "ademamix": 0.4}
FIRST_STEP_MOVES_NOTHING = ("soap", "adopt")
SHAPES = (3, 2), (4,)  # a matrix and a vector


def built(name, *overrides, seed=0, dtype=torch.float64):
    """Return the optimizer of a YAML over a matrix and a vector, and these two parameters."""
    generator = torch.Generator().manual_seed(seed)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]
    config = run_config([f"optimizer={name}", f"horizon={HORIZON}", *overrides])
    return build_parts(config).optimizer(params, lr=0.05), params


def steps(optimizer, params, times, seed=1):
    """Take steps on random gradients, each at another learning rate set as the harness does; yield (gradients, lr)."""
    generator = torch.Generator().manual_seed(seed)
    for t in times:
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * t
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=param.dtype)
        gradients = [param.grad.numpy().copy() for param in params]  # some optimizers overwrite the gradient
        optimizer.step()
        yield gradients, 0.05 * t


def test_every_optimizer_has_its_formula():
    assert set(STEPS) == set(catalog.choices("optimizer"))


@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize("name", STEPS)
def test_eight_steps_are_those_of_the_formula(name, decay):
    step, kind = STEPS[name]
    overrides = SETTINGS.get(name, []) + ([f"optimizer.weight_decay={decay}"] if decay else [])
    decay = decay or {"decoupled": 0.01, "L2": 0}[kind]
    optimizer, params = built(name, *overrides)
    expected = [param.detach().numpy().copy() for param in params]
    states = [{"t": 0}, {"t": 0}]
    for gradients, lr in steps(optimizer, params, range(1, 9)):
        for i, (state, gradient) in enumerate(zip(states, gradients, strict=True)):
            state["t"] += 1
            expected[i] = step(state, expected[i], gradient, lr, decay)
            assert params[i].detach().numpy() == pytest.approx(
                expected[i], abs=TOLERANCE.get((name, gradient.ndim), 1e-6)
            )


@pytest.mark.parametrize("name", STEPS)
def test_the_yaml_says_what_its_weight_decay_is(name):
    text = catalog.choices("optimizer")[name].read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("weight_decay:")]
    assert "# decoupled" in line or "(L2)" in line
    assert ("# decoupled" in line) == (STEPS[name][1] == "decoupled")


@pytest.mark.parametrize("name", [name for name, (_, kind) in STEPS.items() if kind == "decoupled"])
def test_without_a_gradient_decoupled_weight_decay_shrinks_the_parameter_by_its_factor(name):
    optimizer, params = built(name, "optimizer.weight_decay=0.3")
    before = [param.detach().clone() for param in params]
    for _ in range(2 if name in FIRST_STEP_MOVES_NOTHING else 1):
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
    for param, start in zip(params, before, strict=True):
        assert torch.allclose(param, start * (1 - 0.05 * 0.3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", STEPS)
def test_a_saved_and_loaded_state_goes_on_as_though_undisturbed(name, tmp_path):
    # In float32, like runs: loading converts NAdam's mu_product, which is always float32, to the parameters' dtype.
    optimizer, params = built(name, *SETTINGS.get(name, []), dtype=torch.float32)
    list(steps(optimizer, params, range(1, 6)))
    torch.save({"params": [param.data for param in params], "optimizer": optimizer.state_dict()}, tmp_path / "state")
    list(steps(optimizer, params, range(6, 13), seed=2))

    other, loaded = built(name, *SETTINGS.get(name, []), seed=7, dtype=torch.float32)
    saved = torch.load(tmp_path / "state", weights_only=True)
    for param, data in zip(loaded, saved["params"], strict=True):
        param.data.copy_(data)
    other.load_state_dict(saved["optimizer"])
    list(steps(other, loaded, range(6, 13), seed=2))
    assert all(torch.equal(one, two) for one, two in zip(params, loaded, strict=True))


@pytest.mark.parametrize("name", STEPS)
def test_it_reaches_the_quadratics_optimum(name):
    config = run_config([f"optimizer={name}", "horizon=400"])
    parts = build_parts(config)
    torch.manual_seed(0)
    model = parts.task.model()
    optimizer = parts.optimizer(model.parameters(), lr=0.01)
    before = parts.task.evaluate(model)["loss"]
    for _, batch in zip(range(400), parts.task.batches(0), strict=False):
        optimizer.zero_grad()
        parts.task.loss(model, batch).backward()
        optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    assert parts.task.evaluate(model)["loss"] < REACHED.get(name, 0.05) * before


@pytest.mark.parametrize("name", STEPS)
def test_the_harness_trains_with_it_and_measures_its_updates(name, tmp_path):
    short = ["task=digits_vit", "task.build.depth=1", "horizon=13", "measure_every=3", "eval_every=5", "decay=matrices"]
    config = run_config([*short, f"optimizer={name}", f"results_dir={tmp_path}"])
    assert run(config) != "failed"  # it need not learn in so few steps
    measured = record.load_steps(tmp_path / config.run_id).iloc[::3]
    assert len(measured) == 5
    assert np.isfinite(measured[["loss", "grad_norm", "update_rms", "update_max"]]).all(axis=None)
    assert (measured.update_rms > 0).tolist() == [name not in FIRST_STEP_MOVES_NOTHING, *[True] * 4]
    assert (measured.update_max >= measured.update_rms).all()


@pytest.mark.parametrize("name", STEPS)
def test_an_argument_that_the_optimizer_lacks_is_named(name):
    with pytest.raises(UserError, match=r"unknown argument of optimizer .*'bogus'"):
        build_parts(run_config([f"optimizer={name}", "+optimizer.bogus=1"]))
