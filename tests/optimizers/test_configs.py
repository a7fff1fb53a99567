"""Every YAML of configs/optimizer: three steps by hand, unknown arguments, and that it optimizes."""

import math

import pytest
import torch

from s3bench import catalog
from s3bench.build import build_parts
from s3bench.config import run_config
from s3bench.errors import UserError

LR, DECAY, START, GRADIENTS = 0.1, 0.01, 1.0, (2.0, -1.0, 0.5)


def s3(p):
    """S3 at β = 0.95, with look-ahead."""

    def rule(state, g):
        state["m"] = 0.95 * state.get("m", 0) + 0.05 * g
        state["s"] = 0.95 * state.get("s", 0) + 0.05 * abs(g) ** p
        return (0.95 * state["m"] + 0.05 * g) / (0.95 * state["s"] + 0.05 * abs(g) ** p) ** (1 / p)

    return rule


def adam(beta_1, beta_2):
    """Adam with bias correction (Kingma & Ba 2015)."""

    def rule(state, g):
        state["t"] = state.get("t", 0) + 1
        state["m"] = beta_1 * state.get("m", 0) + (1 - beta_1) * g
        state["v"] = beta_2 * state.get("v", 0) + (1 - beta_2) * g * g
        m, v = state["m"] / (1 - beta_1 ** state["t"]), state["v"] / (1 - beta_2 ** state["t"])
        return m / (math.sqrt(v) + 1e-8)

    return rule


def sign(momentum):
    """The sign of the gradient's average."""

    def rule(state, g):
        state["m"] = momentum * state.get("m", 0) + (1 - momentum) * g
        return math.copysign(1, state["m"])

    return rule


# name: (update rule, decoupled weight decay)
RULES = {
    "s3": (s3(3), DECAY),
    "s3_p1": (s3(1), DECAY),
    "s3_p2": (s3(2), DECAY),
    "s3_p4": (s3(4), DECAY),
    "adam": (adam(0.9, 0.999), 0),
    "adamw": (adam(0.9, 0.999), DECAY),
    "adamw_95": (adam(0.9, 0.95), DECAY),
    "adamw_same": (adam(0.95, 0.95), DECAY),
    "signsgd": (sign(0), DECAY),
    "signum": (sign(0.95), DECAY),
}


def test_every_optimizer_has_a_rule_here():
    assert set(RULES) == set(catalog.choices("optimizer"))


@pytest.mark.parametrize("name", RULES)
def test_three_steps_are_those_of_the_formula(name):
    rule, decay = RULES[name]
    parameter = torch.nn.Parameter(torch.tensor([START], dtype=torch.float64))
    optimizer = build_parts(run_config([f"optimizer={name}"])).optimizer([parameter], lr=LR)
    state: dict[str, float] = {}
    x = START
    for g in GRADIENTS:
        parameter.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        x = x * (1 - LR * decay) - LR * rule(state, g)
        assert parameter.item() == pytest.approx(x, abs=1e-7)


@pytest.mark.parametrize("name", RULES)
def test_it_reaches_the_quadratics_optimum(name):
    config = run_config([f"optimizer={name}"])
    parts = build_parts(config)
    torch.manual_seed(0)
    model = parts.task.model()
    optimizer = parts.optimizer(model.parameters(), lr=0.01)
    before = parts.task.evaluate(model)["loss"]
    for _, batch in zip(range(400), parts.task.batches(0), strict=False):
        optimizer.zero_grad()
        parts.task.loss(model, batch).backward()
        optimizer.step()
    assert parts.task.evaluate(model)["loss"] < 0.05 * before


@pytest.mark.parametrize("name", RULES)
def test_an_argument_that_the_optimizer_lacks_is_named(name):
    with pytest.raises(UserError, match=r"unknown argument of optimizer .*'bogus'"):
        build_parts(run_config([f"optimizer={name}", "+optimizer.bogus=1"]))
