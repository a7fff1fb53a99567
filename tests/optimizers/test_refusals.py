"""What cannot be updated or loaded is refused as a whole, in a line; what looks odd but is right is updated right."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from optimizers import ADOPT, S3, AdamAtan2, CautiousAdamW, Muon, SignSGD

HOW = [{}, {"fused": True}, {"foreach": True}, {"foreach": False}]
ways = pytest.mark.parametrize("how", HOW)
rules = pytest.mark.parametrize(("kind", "rule"), [(S3, {}), (SignSGD, {}), (SignSGD, {"momentum": 0.9})])


def stepped(optimizer):
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones_like(param)
    optimizer.step()
    return optimizer


@ways
def test_without_momentum_there_is_no_state(how):
    optimizer = stepped(SignSGD([nn.Parameter(torch.ones(2))], **how))
    assert optimizer.state_dict()["state"] == {}
    saved = optimizer.state_dict() | {"state": {0: {}}}  # as older versions saved it
    optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["state"] == {}


@ways
@pytest.mark.parametrize(("kind", "rule"), [(S3, {}), (SignSGD, {}), (SignSGD, {"momentum": 0.9}), (Muon, {})])
def test_a_parameter_that_is_marked_as_negated_falls_where_its_gradient_is_positive(kind, rule, how):
    if how and kind is Muon:
        pytest.skip("it has one way")
    marked = [torch.tensor([[1 + 2j] * 8] * 4).conj().imag, torch.tensor([1 + 2j] * 3).conj().imag]
    marked += [torch._neg_view(torch.full((size,), 2.0)) for size in (5, 2**17)]  # contiguous: small and large
    one = [nn.Parameter(x.detach()) for x in marked]
    other = [nn.Parameter(x.detach().resolve_neg().clone()) for x in marked]
    assert all(x.is_neg() for x in one)
    for params in (one, other):
        optimizer = kind(params, lr=0.1, **rule, **how)
        for _ in range(3):
            stepped(optimizer)
        for state in optimizer.state.values():  # a state may be marked too, as that of a gradient's imaginary part
            for name in ("exp_avg", "norm"):
                if name in state:
                    state[name] = torch.complex(torch.zeros_like(state[name]), -state[name]).conj().imag
        again = kind(params, lr=0.1, **rule, **how)
        again.load_state_dict(optimizer.state_dict())
        stepped(again)
    assert all((x < -2).all() for x in one)
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x.detach().resolve_neg(), y.detach(), rtol=0, atol=1e-6)


@ways
@pytest.mark.parametrize("kind", [S3, lambda params, **how: SignSGD(params, momentum=0.9, **how)])
def test_another_models_state_is_refused_when_it_is_loaded_and_nothing_has_changed(kind, how):
    saved = stepped(kind(nn.Linear(4, 6).parameters(), **how)).state_dict()
    optimizer = stepped(kind(nn.Linear(6, 4).parameters(), **how))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"exp_avg has the shape \(6, 4\), its parameter \(4, 6\)"):
        optimizer.load_state_dict(saved)
    assert str(optimizer.state_dict()) == str(before)


@ways
@pytest.mark.parametrize("shape", [(6, 4), (24,), (1, 6), (5, 5)])
def test_a_state_of_another_shape_is_refused_before_anything_moves(shape, how):
    good, bad = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4, 6))
    optimizer = S3([{"params": [good]}, {"params": [bad]}], **how)
    optimizer.state[bad] = {"exp_avg": torch.zeros(4, 6), "norm": torch.zeros(shape)}
    with pytest.raises(RuntimeError, match=r"shape .* its parameter \(4, 6\)"):
        stepped(optimizer)
    assert (good == 1).all()
    assert (bad == 1).all()


@ways
@rules
def test_a_parameter_that_changed_its_size_is_refused_before_anything_moves(kind, rule, how):
    good, bad = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4))
    optimizer = stepped(kind([good, bad], **rule, **how))
    before = good.detach().clone()
    bad.data = torch.zeros(8)  # its gradient keeps the old size
    with pytest.raises(RuntimeError, match=r"shape \(4,\), its parameter \(8,\)"):
        optimizer.step()
    assert torch.equal(good, before)


def complex_parameter():
    param = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    return param


def complex_gradient():
    param = nn.Parameter(torch.ones(3))
    if not hasattr(param, "grad_dtype"):
        pytest.skip("this torch lets a gradient have no type of its own")
    param.grad_dtype = None
    param.grad = 1j * torch.ones(3, dtype=torch.complex64)
    return param


def complex_parameter_with_a_real_gradient():
    param = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    if not hasattr(param, "grad_dtype"):
        pytest.skip("this torch lets a gradient have no type of its own")
    param.grad_dtype = None
    param.grad = torch.ones(3)
    return param


def sparse_gradient():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    return embedding.weight


def another_precision():
    param = nn.Parameter(torch.ones(3, dtype=torch.float64))
    param.grad = torch.ones_like(param)
    return param


@ways
@rules
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "make",
    [
        complex_parameter,
        complex_gradient,
        complex_parameter_with_a_real_gradient,
        sparse_gradient,
        another_precision,
    ],
)
def test_a_step_is_refused_before_anything_has_moved(make, groups, kind, rule, how):
    good, bad = nn.Parameter(torch.ones(3)), make()
    good.grad = torch.ones(3)
    optimizer = kind([{"params": [good]}, {"params": [bad]}] if groups == 2 else [good, bad], **rule, **how)
    if make is another_precision:
        if not optimizer.rule(optimizer.param_groups[-1])[1]:
            pytest.skip("without a state there is no precision that it could have")
        optimizer.state[bad] = {name: torch.zeros(3) for name in optimizer.rule(optimizer.param_groups[-1])[1]}
    with pytest.raises(RuntimeError, match=r"does not support (sparse|complex)|load the optimizer's state_dict"):
        optimizer.step()
    assert (good == 1).all()


@pytest.mark.parametrize("fused", [True, None])
def test_a_kernel_that_cannot_be_made_is_refused_before_another_group_moves(fused):
    class Tangent(SignSGD):
        def rule(self, group):
            return (lambda grad: grad.tan()) if group["lr"] == 2 else super().rule(group)[0], (), {}

    good, bad = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    optimizer = Tangent([{"params": [good]}, {"params": [bad], "lr": 2}], fused=fused)
    if fused:
        with pytest.raises(RuntimeError, match="this call of tan cannot be fused"):
            stepped(optimizer)
        assert (good == 0).all()
    else:
        stepped(optimizer)
        assert (good != 0).all()


@pytest.mark.parametrize("make", [complex_gradient, sparse_gradient])
def test_muon_refuses_before_anything_has_moved(make):
    matrix, vector, bad = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2)), make()
    optimizer = Muon([{"params": [matrix, vector]}, {"params": [bad], "matrices": False}])
    matrix.grad, vector.grad = torch.ones(2, 2), torch.ones(2)
    with pytest.raises(RuntimeError, match="does not support"):
        optimizer.step()
    assert (matrix == 1).all()
    assert (vector == 1).all()


def test_muon_takes_no_complex_matrix():
    matrix, bad = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    with pytest.raises(RuntimeError, match="complex matrices"):
        stepped(Muon([matrix, bad]))
    assert (matrix == 1).all()


OTHERS = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda params: torch.optim.SGD(params, momentum=0.9),
    "s3": S3,
    "signum": lambda params: SignSGD(params, momentum=0.9),
    "muon": Muon,
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["s3", "signum", "muon"])
def test_another_optimizers_state_is_refused_and_nothing_has_changed(name, other):
    def params():  # of one group each in Muon too
        return [nn.Parameter(torch.ones(2, 2)) for _ in range(2)]

    optimizer = stepped(OTHERS[name](params()))
    before, groups = copy.deepcopy(optimizer.state_dict()), [id(group) for group in optimizer.param_groups]
    saved = stepped(OTHERS[other](params())).state_dict()
    if name == other:
        return optimizer.load_state_dict(saved)
    with pytest.raises(ValueError, match=f"this state_dict is not of {type(optimizer).__name__}"):
        optimizer.load_state_dict(saved)
    assert str(optimizer.state_dict()) == str(before)
    assert [id(group) for group in optimizer.param_groups] == groups
    stepped(optimizer)
    return None


def test_muon_refuses_a_state_of_other_matrices():
    optimizer = stepped(Muon(nn.Linear(6, 4).parameters()))
    before = str(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"momentum_buffer has the shape \(6, 4\), its parameter \(4, 6\)"):
        optimizer.load_state_dict(stepped(Muon(nn.Linear(4, 6).parameters())).state_dict())
    saved = stepped(Muon(nn.Linear(6, 4).parameters())).state_dict()
    saved["param_groups"][0]["ns_steps"] = 1000
    vector = stepped(Muon([{"params": [nn.Parameter(torch.ones(6))]}, {"params": [nn.Parameter(torch.ones(4))]}]))
    with pytest.raises(ValueError, match=r"2D|shape|not of Muon"):
        vector.load_state_dict(saved)
    assert str(optimizer.state_dict()) == before


@pytest.mark.parametrize("kind", [S3, SignSGD, Muon, AdamAtan2, CautiousAdamW, ADOPT])
@pytest.mark.parametrize("copied", [copy.deepcopy, None])
def test_groups_without_torchs_flags_get_their_defaults(kind, copied):
    model, same = nn.Linear(3, 2), nn.Linear(3, 2)
    same.load_state_dict(model.state_dict())
    old, undisturbed = kind(model.parameters()), kind(same.parameters())
    saved = stepped(old).state_dict()
    stepped(undisturbed)
    groups = old.param_groups if copied else saved["param_groups"]
    for group in groups:
        for name in ("maximize", "foreach", "fused", "capturable"):
            group.pop(name, None)
    if copied:
        model, new = copied((model, old))
    else:
        new = kind(model.parameters())
        new.load_state_dict(saved)
    stepped(new)
    stepped(undisturbed)
    for group, as_made in zip(new.param_groups, undisturbed.param_groups, strict=True):
        assert group.keys() == as_made.keys()
    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), same.parameters(), strict=True))


@ways
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (S3, {}),
        (S3, {"p": 1.0}),
        (S3, {"p": math.inf}),
        (S3, {"p": 2.7, "nesterov": False}),
        (S3, {"denominator_beta": 0.99}),
        (S3, {"beta": 0.0}),
        (S3, {"beta": 0.999}),
        (SignSGD, {}),
        (SignSGD, {"momentum": 0.9}),
        (Muon, {}),
    ],
)
def test_a_gradient_that_is_not_finite_is_seen_in_the_parameter_as_with_adamw(kind, rule, value, how):
    if how and kind is Muon:
        pytest.skip("it has one way")
    param, same = nn.Parameter(torch.ones(40)), nn.Parameter(torch.ones(40))
    optimizer, adamw = kind([param], **rule, **how), torch.optim.AdamW([same])
    for step in range(4):
        param.grad = torch.ones(40)
        if step == 2:
            param.grad[::3] = value
        same.grad = param.grad.clone()
        optimizer.step()
        adamw.step()
    assert torch.equal(param.isnan(), same.isnan())
    assert param.isnan()[0]


SCHEDULES = {
    "one cycle": lambda optimizer, **cycle: OneCycleLR(optimizer, 0.1, total_steps=10, **cycle),
    "cyclic": lambda optimizer, **cycle: CyclicLR(optimizer, 0.01, 0.1, **cycle),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("kind", [S3, SignSGD])
def test_schedulers_that_cycle_the_momentum_are_told_where_there_is_none(kind, make):
    params = [nn.Parameter(torch.ones(2))]
    optimizer = kind(params)
    with pytest.raises(ValueError, match="cycle_momentum"):
        make(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    schedule = make(optimizer, cycle_momentum=False)
    stepped(optimizer)
    schedule.step()
    assert all(group.get("momentum", 0) == 0 for group in optimizer.param_groups)


def test_signums_momentum_can_be_cycled_and_its_groups_get_their_default():
    optimizer = SignSGD([nn.Parameter(torch.ones(2))], momentum=0.7)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    assert [group["momentum"] for group in optimizer.param_groups] == [0.7, 0.7]
    schedule = OneCycleLR(optimizer, 0.1, total_steps=10)
    stepped(optimizer)
    schedule.step()
    assert 0.85 < optimizer.param_groups[0]["momentum"] < 0.95


@ways
def test_beta_p_and_momentum_may_be_tensors_that_change(how):
    one, other = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    for kind, tensors in ((S3, {"beta": 0.9, "p": 2.7, "denominator_beta": 0.95}), (SignSGD, {"momentum": 0.9})):
        given = {name: torch.tensor(value, dtype=torch.float64) for name, value in tensors.items()}
        plain, with_tensors = kind([one], **tensors, **how), kind([other], **given, **how)
        for _ in range(3):
            stepped(plain)
            stepped(with_tensors)
            for name, value in given.items():
                value.sub_(0.01)
                plain.param_groups[0][name] = value.item()
    assert torch.equal(one, other)


def test_tensors_without_memory_are_not_blamed_on_a_compiler():
    param = nn.Parameter(torch.zeros(3, device="meta"))
    with pytest.raises(RuntimeError, match="is on meta") as error:
        stepped(S3([param], fused=True))
    assert "C++" not in str(error.value)
