"""Describes S3, SignSGD and Muon to torch's own suite of tests, in the private classes that the suite has for that."""

import copy
import functools
import importlib
import math
import os
import sys
from unittest import mock

import hypothesis
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from optimizers import S3, Muon, SignSGD

PRIVATE = "torch.testing._internal.common_optimizers"
NEEDED = [
    "OptimizerInfo",
    "OptimizerInput",
    "ErrorOptimizerInput",
    "OptimizerErrorEnum",
    "DecorateInfo",
    "TensorTracker",
    "optim_db",
    "get_error_inputs_for_all_optims",
    "_get_optim_inputs_including_global_cliquey_kwargs",
]
COMMON = [{}, {"lr": 0.01}, {"lr": torch.tensor(0.001)}, {"weight_decay": 0.1}]
ELEMENTWISE = [*COMMON, {"weight_decay": 0.1, "maximize": True}, {"lr": torch.tensor(0.001), "capturable": True}]
INPUTS = {
    S3: [
        *ELEMENTWISE,
        {"p": 1.0, "weight_decay": 0.1},
        {"p": 2.5, "nesterov": False},
        {"p": math.inf, "beta": 0.8},
        {"denominator_beta": 0.99},
    ],
    SignSGD: [*ELEMENTWISE, {"momentum": 0.9}, {"momentum": 0.9, "maximize": True}],
    Muon: [*COMMON, {"momentum": 0.8}, {"ns_steps": 6}, {"nesterov": False}, {"betas": (0.8, 0.9), "eps": 1e-6}],
}
WRONG = {  # arguments that are refused, and what the refusal says
    S3: [
        ({"p": 0.5}, r"p is 0\.5"),
        ({"beta": 1.0}, r"beta is 1\.0"),
        ({"foreach": True, "fused": True}, "choose one"),
    ],
    SignSGD: [({"momentum": 1.0}, r"momentum is 1\.0"), ({"lr": -1.0}, r"lr is -1\.0")],
    Muon: [({"ns_steps": 100}, "ns_steps is 100"), ({"betas": (0.9, 1.0)}, "betas is"), ({"lr": -1.0}, r"lr is -1\.0")],
}
SCHEDULES = [
    [lambda optimizer: StepLR(optimizer, gamma=0.9, step_size=10)],
    [lambda optimizer: StepLR(optimizer, gamma=0.9, step_size=10), ReduceLROnPlateau],
    [lambda optimizer: CosineAnnealingLR(optimizer, 40), lambda optimizer: StepLR(optimizer, 7)],
]

kinds = pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.__name__)
kinds_with_flags = pytest.mark.parametrize("kind", [S3, SignSGD], ids=lambda kind: kind.__name__)  # foreach, fused


@functools.cache
def private():
    """Import the private module, without what that does to the other tests of this process; skip if it is not there."""
    hypothesis.settings.register_profile("as it was", hypothesis.settings.default)
    with (
        mock.patch("torch.backends.disable_global_flags"),  # else nobody could set allow_tf32 any more
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", sys.argv[:1]),  # which it takes for its own
    ):
        try:
            module = pytest.importorskip(PRIVATE, exc_type=ImportError)
        finally:
            hypothesis.settings.load_profile("as it was")
    if missing := [name for name in NEEDED if not hasattr(module, name)]:
        pytest.skip(f"{PRIVATE} of this torch has no {', '.join(missing)}")
    return module


@functools.cache
def case():
    """Return torch's own TestCase, whose assertEqual takes whole state_dicts."""
    private()
    return importlib.import_module("torch.testing._internal.common_utils").TestCase()


def check_same(found, expected):
    """Fail unless two state_dicts are the same, bit by bit."""
    case().assertEqual(found, expected, rtol=0, atol=0)  # noqa: PT009


@functools.cache
def describe(kind):
    """Return the OptimizerInfo of an optimizer."""
    suite, flags = private(), () if kind is Muon else ("foreach", "fused")

    def inputs(device, dtype=None):  # noqa: ARG001 (torch gives them)
        return [suite.OptimizerInput(None, copy.deepcopy(kwargs), desc=str(kwargs)) for kwargs in INPUTS[kind]]

    def errors(device, dtype):
        found = suite.get_error_inputs_for_all_optims(device, dtype)
        for kwargs, said in WRONG[kind]:
            given = suite.OptimizerInput([nn.Parameter(torch.ones(2, 2))], kwargs)
            found.append(suite.ErrorOptimizerInput(given, error_type=ValueError, error_regex=said))
        return found

    return suite.OptimizerInfo(
        kind,
        optim_inputs_func=inputs,
        optim_error_inputs_func=errors,
        scheduler_inputs=SCHEDULES,
        supported_impls=flags,
        not_og_supported_flags=("foreach", "fused", "maximize", "capturable"),
        has_capturable_arg=bool(flags),
        supports_complex=False,
        supports_fused_on=("cpu", "cuda") if flags else (),
    )


def every(kind):
    """Return all configurations of an optimizer, made anew: each as it is, with foreach, with fused, with neither."""
    make = private()._get_optim_inputs_including_global_cliquey_kwargs
    return [given.kwargs for given in make("cpu", torch.float32, describe(kind))]


def regression(device="cpu", contiguous=True):
    """Return a weight, a bias, and a function that sets their gradients and returns their loss."""
    generator = torch.Generator().manual_seed(0)
    gaps = 1 if contiguous else 2
    weight, bias = (
        nn.Parameter(torch.randn(*size, gaps, generator=generator).to(device)[..., 0]) for size in ((10, 5), (10,))
    )
    x = torch.randn(5, generator=generator).to(device)

    def closure():
        weight.grad = bias.grad = None
        loss = (weight.mv(x) + bias).square().sum()
        loss.backward()
        return loss

    return weight, bias, closure


def pair():
    """Return a matrix and a vector, of which Muon makes two groups."""
    return [nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)), nn.Parameter(torch.ones(2))]


def named(params):
    return [(f"name{place}", param) for place, param in enumerate(params)]


def fed(params, steps, seed=0):
    """Give the parameters random gradients, which depend on their place and the step; yield once a step."""
    for step in range(steps):
        for place, param in enumerate(params):
            generator = torch.Generator().manual_seed(1000 * seed + 100 * step + place)
            grad = torch.randn(param.shape, generator=generator, dtype=torch.float32)
            param.grad = grad.to(param.device, param.dtype)
        yield step


def trained(optimizer, params, steps=3, seed=0):
    """Return the optimizer after some steps on random gradients."""
    for _ in fed(params, steps, seed):
        optimizer.step()
    return optimizer


def run_schedules(schedules, loss):
    for schedule in schedules:
        schedule.step(*[loss.item()] * isinstance(schedule, ReduceLROnPlateau))
