"""What torch's own suite asks of every optimizer's state_dict, copies and hooks, asked of S3, SignSGD and Muon."""

import copy
import inspect
import io
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from optimizers import Muon, SignSGD
from tests.optimizers.torch_suite import check_same, describe, every, kinds, named, pair, trained
from tests.optimizers.training import devices, distance

pytestmark = pytest.mark.slow  # torch's private module alone takes some seconds to load


@kinds
def test_an_optimizer_can_be_printed(kind):
    for kwargs in every(kind):
        assert f"{kind.__name__} (" in repr(kind(pair(), **kwargs))


@pytest.mark.parametrize("names", list(itertools.product([True, False], repeat=2)))
@kinds
def test_a_state_dict_is_the_same_after_it_was_loaded_and_keeps_names(kind, names):
    def make(has_names, kwargs):
        params = pair()
        given = named(params) if has_names else params
        return params, kind(given, **copy.deepcopy(kwargs))

    def unnamed(optimizer):
        state = copy.deepcopy(optimizer.state_dict())
        names = [name for group in state["param_groups"] for name in group.pop("param_names", [])]
        return state, names

    for kwargs in every(kind):
        (one, of_one), (other, of_other) = (make(has_names, kwargs) for has_names in names)
        trained(of_one, one)
        saved = of_one.state_dict()
        of_other.load_state_dict(copy.deepcopy(saved))  # torch shares what is not copied
        assert unnamed(of_other)[1] == (["name0", "name1"] if any(names) else [])
        for param, same in zip(other, one, strict=True):
            param.data.copy_(same.data)
        trained(of_one, one, seed=1)
        trained(of_other, other, seed=1)
        assert distance(one, other) == 0
        check_same(unnamed(of_one)[0], unnamed(of_other)[0])
        of_other.param_groups.extend(of_other.param_groups)
        assert unnamed(of_one)[0]["param_groups"][-1] == unnamed(of_other)[0]["param_groups"][-1]


@kinds
def test_a_state_dict_from_before_torchs_flags_is_loaded(kind):
    for kwargs in every(kind):
        model = nn.Sequential(nn.Conv2d(4, 2, 1, stride=2), nn.BatchNorm2d(2))
        params = list(model.parameters())
        optimizer = trained(kind(params, **kwargs), params)
        old = copy.deepcopy(optimizer.state_dict())
        for group in old["param_groups"]:
            for flag in describe(kind).not_og_supported_flags:
                group.pop(flag, None)
        optimizer.load_state_dict(old)
        trained(optimizer, params, steps=1)


@pytest.mark.parametrize("names", [True, False])
@kinds
def test_a_state_dict_is_saved_and_loaded_as_weights_only(kind, names):
    for kwargs in every(kind):
        params = pair()
        given = named(params) if names else params
        saved = trained(kind(given, **kwargs), params).state_dict()
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        check_same(torch.load(file, weights_only=True), saved)


@kinds
def test_a_state_dict_with_a_plain_number_of_steps_is_loaded(kind):
    for kwargs in every(kind):
        params = pair()
        optimizer = trained(kind(params, **kwargs), params)
        saved = copy.deepcopy(optimizer.state_dict())
        steps = [state for state in saved["state"].values() if "step" in state]
        assert bool(steps) is (kind is Muon)  # the others count no steps
        for state in steps:
            state["step"] = state["step"].item()
        optimizer.load_state_dict(saved)
        trained(optimizer, params, steps=1)


@devices
@pytest.mark.parametrize("flag", [None, "fused", "capturable"])
@kinds
def test_a_state_made_on_a_cpu_goes_on_elsewhere(kind, flag, device):
    for given in describe(kind).optim_inputs_func(device="cpu"):
        kwargs = {**given.kwargs, **({flag: True} if flag in inspect.signature(kind).parameters else {})}
        one = pair()
        of_one = trained(kind(one, **copy.deepcopy(kwargs)), one)
        other = [nn.Parameter(param.detach().clone().to(device)) for param in one]
        of_other = kind(other, **copy.deepcopy(kwargs))
        saved = copy.deepcopy(of_one.state_dict())
        of_other.load_state_dict(saved)
        check_same(saved, of_one.state_dict())
        trained(of_one, one, seed=1)
        trained(of_other, other, seed=1)
        torch.testing.assert_close(
            [param.cpu() for param in other], one, rtol=1e-2 if kind.__name__ == "Muon" else 1e-5, atol=1e-5
        )


@kinds
def test_hooks_of_state_dict_are_called_before_and_after(kind):
    for kwargs in every(kind):
        optimizer = kind(pair(), **kwargs)
        optimizer.register_state_dict_post_hook(lambda _, made: {**made, "seen": made["state"].pop("test", None)})
        assert optimizer.state_dict()["seen"] is None
        optimizer.register_state_dict_pre_hook(lambda made: made.state.update(test=1))
        assert optimizer.state_dict()["seen"] == 1


@kinds
def test_hooks_of_load_state_dict_are_called_in_their_order(kind):
    def in_place(_, found):
        found["param_groups"][0]["lr"] = 0.002

    def in_a_copy(_, found):
        found = copy.deepcopy(found)
        found["param_groups"][0]["lr"] = 0.003
        return found

    for kwargs in every(kind):
        optimizer, heard = kind(pair(), **kwargs), []
        optimizer.register_load_state_dict_post_hook(lambda made, heard=heard: heard.append(made.param_groups[0]["lr"]))
        optimizer.register_load_state_dict_pre_hook(in_place)
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.register_load_state_dict_pre_hook(in_a_copy, prepend=True)
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.register_load_state_dict_pre_hook(in_a_copy)
        optimizer.load_state_dict(optimizer.state_dict())
        assert heard == [0.002, 0.002, 0.003]


@kinds
def test_hooks_of_a_step_are_called_in_their_order_until_they_are_removed(kind):
    for kwargs in every(kind):
        heard, params = [], pair()
        optimizers = kind(params, **kwargs), torch.optim.SGD(params)
        hooks = [
            register_optimizer_step_pre_hook(lambda *_, heard=heard: heard.append("all, before")),
            register_optimizer_step_post_hook(lambda *_, heard=heard: heard.append("all, after")),
        ]
        for optimizer in optimizers:
            hooks.append(optimizer.register_step_pre_hook(lambda *_, heard=heard: heard.append("before")))
            hooks.append(optimizer.register_step_post_hook(lambda *_, heard=heard: heard.append("after")))
        try:
            for optimizer in optimizers * 2:
                trained(optimizer, params, steps=1)
        finally:
            for hook in hooks:
                hook.remove()
        trained(optimizers[0], params)
        assert heard == ["all, before", "before", "after", "all, after"] * 4


@kinds
def test_copies_have_all_public_attributes(kind):
    def public(optimizer):
        return {name for name in vars(optimizer) if not name.startswith("_")}

    for kwargs in every(kind):
        params = pair()
        optimizer = trained(kind(params, **kwargs), params)
        assert public(copy.deepcopy(optimizer)) == public(pickle.loads(pickle.dumps(optimizer))) == public(optimizer)


@kinds
def test_every_parameter_has_a_state_unless_the_rule_has_none(kind):
    for kwargs in every(kind):
        params = pair()
        optimizer = trained(kind(params, **kwargs), params, steps=1)
        stateless = kind is SignSGD and not kwargs.get("momentum")
        assert [bool(optimizer.state[param]) for param in params] == [not stateless] * 2
