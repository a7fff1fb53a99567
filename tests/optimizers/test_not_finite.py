"""A gradient that is infinite or NaN is seen in the parameter, with every optimizer but those listed here."""

import math
from functools import cache

import pytest
import torch
from torch import nn

from optimizers import ADOPT, AdamAtan2, CautiousAdamW
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from tests.conftest import ROOT
from tests.optimizers.formulas import HORIZON, STEPS
from tests.optimizers.test_configs import SETTINGS, SHAPES

INFINITE, NAN = "infinite", "NaN"
FIRST, LATER = "first", "later"  # gradients
SILENT = {  # optimizers of a library that hide such a gradient: which ones, and why
    "lion": ({INFINITE, NAN}, "the sign of an infinite average is ±1, and that of NaN is 0 to torch"),
    "spam": ({(INFINITE, LATER)}, "from step grad_accu_steps on it is clipped to a multiple of the second moment"),
    "stable_spam": ({NAN}, "a tensor whose gradient has no norm above 0 is left out, and then in every later step too"),
    "soap": (
        {(INFINITE, FIRST), (NAN, FIRST)},
        "the first gradient only sets the preconditioner, which vectors have none of",
    ),
}


def is_silent(name, value, when):
    found = SILENT.get(name, ((), ""))[0]
    kind = NAN if math.isnan(value) else INFINITE
    return kind in found or (kind, when) in found


@cache
def maker_of(name):
    """Return what makes the optimizer of a YAML from parameters and a learning rate."""
    return build_parts(run_config([f"optimizer={name}", f"horizon={HORIZON}", *SETTINGS.get(name, [])])).optimizer


def is_seen(name, value, bad_step, which):
    """Return whether a bad gradient in one coordinate makes it not finite in the same step, or is refused."""
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]
    optimizer = maker_of(name)(params, lr=0.05)
    for step in range(1, bad_step + 1):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=param.dtype)
        if step == bad_step:
            params[which].grad.view(-1)[1] = value
        try:
            optimizer.step()
        except RuntimeError as error:  # the run fails, and says so
            return "linalg" in str(error)
    return not params[which].view(-1)[1].isfinite()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", STEPS)
def test_a_gradient_that_is_not_finite_does_not_pass_in_silence(name, value):
    for when, bad_step in ((FIRST, 1), (LATER, 4)):
        seen = [is_seen(name, value, bad_step, which) for which in (0, 1)]
        assert all(seen) != is_silent(name, value, when), (when, seen)


def test_the_docs_name_the_optimizers_that_hide_such_a_gradient():
    text = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    (line,) = [part for part in text.split("\n- ") if part.startswith("**Gradients that are not finite**")]
    assert all(f"`{name}`" in line for name in SILENT)


@pytest.mark.parametrize("kind", [AdamAtan2, ADOPT, CautiousAdamW])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("arguments", [{}, {"maximize": True}])
def test_the_same_coordinates_are_nan_as_with_adamw_and_no_others(kind, value, arguments):
    for bad_step in range(3):
        params = [nn.Parameter(torch.ones(40)) for _ in range(2)]
        optimizers = [made([param], **arguments) for made, param in zip((kind, torch.optim.AdamW), params, strict=True)]
        for step in range(4):
            for param, optimizer in zip(params, optimizers, strict=True):
                param.grad = torch.full((40,), 1e30 if step == 3 else 1.0)  # a finite one is not hidden by rounding
                if step == bad_step:
                    param.grad[::3] = value
                optimizer.step()
                if step == bad_step:
                    assert param.isnan().tolist() == [number % 3 == 0 for number in range(40)]
        assert torch.equal(*(param.isnan() for param in params))


@pytest.mark.parametrize("kind", [AdamAtan2, ADOPT, CautiousAdamW])
@pytest.mark.parametrize("arguments", [{}, {"maximize": True}])
def test_a_view_with_the_negative_bit_is_updated_as_any_other_parameter(kind, arguments):
    numbers = torch.randn(5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    one, other = nn.Parameter(numbers.conj().imag), nn.Parameter(-numbers.imag.clone())
    assert one.is_neg()
    both = nn.Parameter(torch.ones(3))
    optimizers = [kind([one, both], lr=0.1, **arguments), kind([other], lr=0.1, **arguments)]
    for step in range(4):
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(step))
        one.grad, other.grad, both.grad = gradient, gradient.clone(), torch.ones(3)
        if step == 2:  # which has the negative bit itself
            one.grad = torch.complex(gradient, -gradient).conj().imag
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(one.detach(), other.detach())
    assert torch.equal(one.detach(), -numbers.imag)  # it is still a view
