"""Muon and AdamW in one optimizer: which parameters get which."""

import copy
import math
import pickle

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from optimizers import Muon


def parameters():
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (3,), (2, 3, 1, 1))]


def one_step(optimizer, params):
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()


def test_its_steps_are_those_of_torchs_two():
    torch.manual_seed(0)
    params = parameters()
    own, others = copy.deepcopy(params), params
    one = Muon(own, lr=0.1, weight_decay=0.2)
    muon = torch.optim.Muon(others[:1], lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others[1:], lr=0.1, betas=(0.9, 0.95), weight_decay=0.2)
    for _ in range(3):
        one_step(one, own)
        one_step(muon, others)
        one_step(adamw, others)
    assert all(torch.equal(a, b) for a, b in zip(own, others, strict=True))


def test_hooks_of_every_optimizers_step_hear_of_one_step():
    heard = []
    kinds = (register_optimizer_step_pre_hook, register_optimizer_step_post_hook)
    hooks = [register(lambda optimizer, *_: heard.append(optimizer)) for register in kinds]
    params = parameters()
    optimizer = Muon(params)
    try:
        one_step(optimizer, params)
    finally:
        for hook in hooks:
            hook.remove()
    assert heard == [optimizer] * 2


def test_a_group_can_give_its_matrices_to_adamw_and_has_its_own_settings():
    head, hidden = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([{"params": [hidden]}, {"params": head, "matrices": False, "weight_decay": 0.0}], lr=0.1)
    one_step(optimizer, [hidden, head])
    assert set(optimizer.state[hidden]) == {"momentum_buffer"}
    assert {"exp_avg", "exp_avg_sq"} <= set(optimizer.state[head])
    assert torch.allclose(head, torch.tensor(0.9))  # without weight decay
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
    assert [group["matrices"] for group in optimizer.param_groups] == [True, False, False]


def test_named_parameters_keep_their_names():
    model = torch.nn.Linear(3, 2)
    optimizer = Muon(model.named_parameters(), lr=0.1)
    assert [group["param_names"] for group in optimizer.param_groups] == [["weight"], ["bias"]]
    one_step(optimizer, list(model.parameters()))
    assert set(optimizer.state[model.weight]) == {"momentum_buffer"}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_steps_as_the_original_does(duplicate):
    params = parameters()
    optimizer = Muon(params, lr=0.1)
    one_step(optimizer, params)
    twin, twins = duplicate((optimizer, params))
    one_step(optimizer, params)
    one_step(twin, twins)
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1},
        {"eps": -1},
        {"weight_decay": -1},
        {"weight_decay": math.inf},
        {"momentum": 1},
        {"betas": (0.9, 1)},
        {"ns_steps": 0},
    ],
)
def test_a_value_outside_its_range_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} "):
        Muon(parameters(), **wrong)


def test_a_setting_that_is_a_tensor_has_one_element():
    with pytest.raises(ValueError, match=r"lr is a tensor of shape \(2,\); it must have one element"):
        Muon(parameters(), lr=torch.tensor([0.1, 0.2]))
    one, other = (parameters() for _ in range(2))
    for param, same in zip(one, other, strict=True):
        same.data.copy_(param.data)
    one_step(Muon(one, lr=0.1), one)
    one_step(Muon(other, lr=torch.tensor([0.1])), other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_number_of_steps_that_is_no_tensor_is_loaded():
    params = parameters()
    optimizer = Muon(params, lr=0.1)
    one_step(optimizer, params)
    saved = copy.deepcopy(optimizer.state_dict())
    counts = [state for state in saved["state"].values() if "step" in state]
    for state in counts:
        state["step"] = int(state["step"])
    optimizer.load_state_dict(saved)
    one_step(optimizer, params)
    assert (
        [state["step"].item() for state in optimizer.state.values() if "step" in state] == [2] * len(counts) == [2, 2]
    )


@pytest.mark.parametrize("settings", [{"lr": -1}, {"weight_decay": math.inf}, {"momentum": 1}])
def test_a_refused_group_leaves_everything_as_it_was(settings):
    known, new, bias = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2, 2), (3,)))
    optimizer = Muon([known], lr=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [new, bias, known]})
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        optimizer.add_param_group({"params": [new, bias], **settings})
    with pytest.raises(TypeError, match="sets"):
        optimizer.add_param_group({"params": {new, bias}})
    with pytest.raises(TypeError, match="Tensors"):
        optimizer.add_param_group({"params": [new, 3]})
    assert [group["params"] for group in optimizer.param_groups] == [[known]]
    optimizer.add_param_group({"params": [new, bias]})
    one_step(optimizer, [known, new, bias])
    assert all((param != 1).all() for param in (known, new, bias))
