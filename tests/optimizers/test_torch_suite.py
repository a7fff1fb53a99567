"""What torch's own suite asks of every optimizer, asked of S3, SignSGD and Muon; what is left out has its reason here.

The suite is TestOptimRenewed in torch's test/test_optim.py, which the package does not have; it has what describes an
optimizer to the suite (see torch_suite.py). So the questions are asked in our words, and ANSWERS has our test for each.
Those of state_dicts, copies and hooks are in test_torch_suite_state.py.
"""

import copy
import inspect
import itertools

import pytest
import torch
from torch import nn

from tests.optimizers import test_torch_suite_state
from tests.optimizers.torch_suite import (
    SCHEDULES,
    case,
    describe,
    every,
    fed,
    kinds,
    kinds_with_flags,
    pair,
    private,
    regression,
    run_schedules,
    trained,
)
from tests.optimizers.training import devices, distance

pytestmark = pytest.mark.slow  # torch's private module alone takes some seconds to load


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("scheduled", [True, False])
@kinds
def test_one_by_one_the_loss_falls_or_rises_with_maximize(kind, contiguous, scheduled):
    for schedules in SCHEDULES if scheduled else [[]]:
        for given in describe(kind).optim_inputs_func(device="cpu"):
            assert not {"foreach", "fused", "differentiable"} & given.kwargs.keys()
            weight, bias, closure = regression(contiguous=contiguous)
            how = {"foreach": False} if describe(kind).supported_impls else {}
            optimizer = kind([weight, bias], **given.kwargs, **how)
            made = [schedule(optimizer) for schedule in schedules]
            before = closure().item()
            for _ in range(20):
                loss = closure()
                optimizer.step()
                run_schedules(made, loss)
            assert (closure().item() > before) is given.kwargs.get("maximize", False)


@kinds
def test_a_group_has_its_own_learning_rate_under_schedules(kind):
    for schedules in SCHEDULES:
        weight, bias, closure = regression()
        optimizer = kind([{"params": [weight]}, {"params": [bias], "lr": 0.01}])
        made = [schedule(optimizer) for schedule in schedules]
        before = closure().item()
        for _ in range(20):
            run_schedules(made, optimizer.step(closure))
        assert closure().item() < before


@pytest.mark.parametrize("shape", [(), (1,)])
@kinds
def test_a_learning_rate_may_be_a_tensor(kind, shape):
    for kwargs in every(kind):
        one, other = pair(), pair()
        trained(kind(one, **{**kwargs, "lr": 0.01}), one)
        trained(kind(other, **{**kwargs, "lr": torch.full(shape, 0.01)}), other)
        assert distance(one, other) < 1e-6


@kinds
def test_a_group_without_weight_decay_moves_as_an_optimizer_without_it(kind):
    for kwargs in every(kind):
        (weight, bias), (same_weight, same_bias) = pair(), pair()
        groups = [{"params": [weight], **kwargs}, {"params": [bias], **kwargs, "weight_decay": 0.0}]
        separate = [
            kind([same_weight], **copy.deepcopy(kwargs)),
            kind([same_bias], **{**copy.deepcopy(kwargs), "weight_decay": 0.0}),
        ]
        trained(kind(groups), [weight, bias])
        for _ in fed([same_weight, same_bias], 3):
            for optimizer in separate:
                optimizer.step()
        assert distance([weight, bias], [same_weight, same_bias]) == 0


@kinds
def test_a_group_with_hardly_a_learning_rate_stays(kind):
    for kwargs in every(kind):
        weight, bias, closure = regression()
        still = nn.Parameter(torch.randn(2, 2))
        before, loss = still.detach().clone(), closure().item()
        groups = [{"params": [weight, bias], "lr": 1e-3, **kwargs}, {"params": [still]}]
        optimizer = kind(groups, lr=1e-28)
        for _ in range(20):
            still.grad = torch.rand_like(still)
            optimizer.step(closure)
        assert torch.equal(still, before)
        assert (closure().item() > loss) is kwargs.get("maximize", False)


@devices
@pytest.mark.parametrize(
    ("flag", "dtype"),
    [("foreach", torch.float64)]
    + [("fused", dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)],
)
@kinds_with_flags
def test_parameters_and_state_are_those_of_one_by_one(kind, flag, dtype, device):
    """Compare seven steps: one without gradients, two with a frozen layer, all with a parameter of no dimension."""
    for given in describe(kind).optim_inputs_func(device=device):
        made = []
        for chosen in (False, True):
            torch.manual_seed(1)
            layers = nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1), nn.Sigmoid()
            model = nn.Sequential(*layers).to(device, dtype)
            scalar = nn.Parameter(torch.ones((), dtype=dtype, device=device))
            params = [*model.parameters(), scalar]
            made.append((model, params, kind(params, **{**copy.deepcopy(given.kwargs), flag: chosen})))
        tracker = private().TensorTracker()
        for step in range(7):
            for model, params, optimizer in made:
                optimizer.zero_grad()
                model[2].requires_grad_(step not in (3, 4))
                if step != 2:
                    model(torch.linspace(0.1, 0.6, 6, dtype=dtype, device=device).reshape(3, 2)).sum().backward()
                    params[-1].grad = torch.full_like(params[-1], 0.5 - step / 10)
                optimizer.step()
                for param in params:
                    state = optimizer.state.get(param, {})
                    for tensor in (param, *(state[name] for name in sorted(state))):
                        if optimizer is made[0][2]:
                            tracker.add(tensor)
                        else:
                            tracker.pop_check_set(tensor, case())
            assert tracker.all_popped()


@pytest.mark.parametrize("flag", ["foreach", "fused"])
@kinds_with_flags
def test_one_group_may_have_parameters_of_every_precision(kind, flag):
    types = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
    for given in describe(kind).optim_inputs_func(device="cpu"):
        one, other = ([nn.Parameter(torch.linspace(-1, 1, 6).to(dtype)) for dtype in types] for _ in range(2))
        trained(kind(one, **{**copy.deepcopy(given.kwargs), flag: False}), one, steps=7)
        trained(kind(other, **given.kwargs, **{flag: True}), other, steps=7)
        for param, same in zip(one, other, strict=True):
            torch.testing.assert_close(param, same)


@pytest.mark.parametrize("default", [torch.float64, torch.float16])
@kinds
def test_the_default_precision_changes_nothing(kind, default):
    for kwargs in every(kind):
        one, other = pair(), pair()
        trained(kind(one, **copy.deepcopy(kwargs)), one)
        ordinary = torch.get_default_dtype()
        torch.set_default_dtype(default)
        try:
            trained(kind(other, **kwargs), other)
        finally:
            torch.set_default_dtype(ordinary)
        assert distance(one, other) < 1e-6


@kinds_with_flags
def test_fused_refuses_parameters_without_memory_and_takes_those_with(kind):
    with torch.device("meta"):
        model = nn.Linear(2, 3)
        optimizer = kind(model.parameters(), fused=True)
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        with pytest.raises(RuntimeError, match="is on meta"):
            optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    params = [nn.init.zeros_(param) for param in model.to_empty(device="cpu").parameters()]  # which are new ones
    trained(kind(params, fused=True), params)
    assert all((param != 0).all() for param in params)


@devices
@pytest.mark.parametrize("scale", [None, 1.0])
@kinds_with_flags
def test_a_fused_step_that_found_infinity_changes_nothing(kind, scale, device):
    for given in describe(kind).optim_inputs_func(device=device):
        params = [nn.Parameter(torch.ones(1, device=device)) for _ in range(5)]
        optimizer = kind(params, fused=True, **given.kwargs)
        optimizer.grad_scale = None if scale is None else torch.full((1,), scale, device=device)
        optimizer.found_inf = torch.ones((), device=device)
        trained(optimizer, params, steps=1)
        assert all((param == 1).all() for param in params)
        assert not any(tensor.any() for state in optimizer.state.values() for tensor in state.values())


@devices
@kinds
def test_training_with_grad_scaler_is_training_without(kind, device):
    for kwargs in every(kind):
        results = []
        for scale in (1.0, 2.0**10):
            torch.manual_seed(0)
            model = nn.Linear(4, 3).to(device)
            optimizer = kind(model.parameters(), **copy.deepcopy(kwargs))
            scaler = torch.amp.GradScaler(device, init_scale=scale, growth_interval=2, enabled=scale > 1)
            for step in range(4):
                optimizer.zero_grad()
                batch = torch.randn(5, 4, generator=torch.Generator().manual_seed(step)).to(device)
                scaler.scale(model(batch).square().mean()).backward()
                scaler.step(optimizer)
                scaler.update()
            results.append(list(model.parameters()))
        assert distance(*results) < 1e-5


@kinds
def test_without_gradients_a_step_changes_nothing_and_returns_the_loss(kind):
    for kwargs in every(kind):
        params = [torch.ones(2, 3), nn.Parameter(torch.ones(3))]
        optimizer = kind(params, **kwargs)
        assert optimizer.step(lambda: torch.tensor([1])) == 1
        assert optimizer.step() is None
        assert all((param == 1).all() for param in params)


@kinds
def test_gradients_of_zero_change_nothing_without_weight_decay(kind):
    for kwargs in every(kind):
        params = pair()
        optimizer = kind(params, **{**kwargs, "weight_decay": 0.0})
        for _ in range(3):
            for param in params:
                param.grad = torch.zeros_like(param)
            optimizer.step()
        assert distance(params, pair()) == 0


@kinds
def test_what_torchs_optimizers_refuse_is_refused(kind):
    for error in describe(kind).optim_error_inputs_func("cpu", torch.float32):
        given = error.optimizer_error_input
        params, said = given.params, error.error_regex
        if "Tensor lr must be 1-element" in said:  # ours says which shape it has; and torch's suite gives no parameters
            params, said = pair(), r"lr is a tensor of shape \(2,\)"
        assert error.error_on is private().OptimizerErrorEnum.CONSTRUCTION_ERROR
        expect = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
        with expect(error.error_type, match=said):
            kind(params, **given.kwargs)


ANSWERS = {
    "test_optim_infos_do_not_specify_global_cliquey_kwargs": "one_by_one_the_loss_falls_or_rises_with_maximize",
    "test_errors": "what_torchs_optimizers_refuse_is_refused",
    "test_forloop_goes_right_direction": "one_by_one_the_loss_falls_or_rises_with_maximize",
    "test_param_group_with_lrscheduler_goes_right_direction": "a_group_has_its_own_learning_rate_under_schedules",
    "test_tensor_lr": "a_learning_rate_may_be_a_tensor",
    "test_foreach_matches_forloop": "parameters_and_state_are_those_of_one_by_one",
    "test_fused_matches_forloop": "parameters_and_state_are_those_of_one_by_one",
    "test_mixed_device_dtype": "one_group_may_have_parameters_of_every_precision",  # on one device
    "test_set_default_dtype_works_with_foreach": "the_default_precision_changes_nothing",
    "test_fused_error_on_params_on_meta": "fused_refuses_parameters_without_memory_and_takes_those_with",
    "test_fused_does_not_step_if_foundinf": "a_fused_step_that_found_infinity_changes_nothing",
    "test_grad_scaling_autocast_fused_optimizers": "training_with_grad_scaler_is_training_without",
    "test_param_groups_weight_decay": "a_group_without_weight_decay_moves_as_an_optimizer_without_it",
    "test_param_groups_lr": "a_group_with_hardly_a_learning_rate_stays",
    "test_step_is_noop_when_params_have_no_grad": "without_gradients_a_step_changes_nothing_and_returns_the_loss",
    "test_step_is_noop_for_zero_grads": "gradients_of_zero_change_nothing_without_weight_decay",
    "test_optimizer_can_be_printed": "an_optimizer_can_be_printed",
    "test_state_dict_deterministic": "a_state_dict_is_the_same_after_it_was_loaded_and_keeps_names",
    "test_can_load_from_to_named_state_dict": "a_state_dict_is_the_same_after_it_was_loaded_and_keeps_names",
    "test_can_load_older_state_dict": "a_state_dict_from_before_torchs_flags_is_loaded",
    "test_save_load_equality_with_weights_only": "a_state_dict_is_saved_and_loaded_as_weights_only",
    "test_load_nontensor_step": "a_state_dict_with_a_plain_number_of_steps_is_loaded",
    "test_cpu_load_state_dict": "a_state_made_on_a_cpu_goes_on_elsewhere",
    "test_state_dict_with_cuda_params": "a_state_made_on_a_cpu_goes_on_elsewhere",
    "test_fused_cpu_matches_cuda": "a_state_made_on_a_cpu_goes_on_elsewhere",
    "test_state_dict_pre_hook": "hooks_of_state_dict_are_called_before_and_after",
    "test_state_dict_post_hook": "hooks_of_state_dict_are_called_before_and_after",
    "test_state_dict_pre_post_hook": "hooks_of_state_dict_are_called_before_and_after",
    "test_load_state_dict_pre_hook_and_prepend": "hooks_of_load_state_dict_are_called_in_their_order",
    "test_load_state_dict_post_hook": "hooks_of_load_state_dict_are_called_in_their_order",
    "test_load_state_dict_pre_post_hook": "hooks_of_load_state_dict_are_called_in_their_order",
    "test_step_pre_hook": "hooks_of_a_step_are_called_in_their_order_until_they_are_removed",
    "test_step_post_hook": "hooks_of_a_step_are_called_in_their_order_until_they_are_removed",
    "test_step_all_hooks": "hooks_of_a_step_are_called_in_their_order_until_they_are_removed",
    "test_deepcopy_copies_all_public_attrs": "copies_have_all_public_attributes",
    "test_non_empty_state": "every_parameter_has_a_state_unless_the_rule_has_none",
}
LEFT_OUT = {
    "test_complex": "a complex parameter is refused",
    "test_complex_2d": "a complex parameter is refused",
    "test_rosenbrock_sparse": "a sparse gradient is refused",
    "TestDifferentiableOptimizer": "there is no argument `differentiable`",
    "test_second_order_optims_return_consistent_types": "no step needs a closure",
    "test_defaults_changed_to_foreach": "there is no function _multi_tensor_NAME, which it replaces",
    "test_peak_memory_foreach": "it counts a GPU's bytes, tensor by tensor; test_torch_conventions.py has our bound",
    "test_forloop_goes_right_direction_multigpu": "it needs two GPUs",
    "test_foreach_large_tensor": "it needs 72 GB of a GPU",
    "test_fused_large_tensor": "it needs 64 GB",
}


def complex_parameter(kind):
    param = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    with pytest.raises(RuntimeError, match="does not support complex"):
        trained(kind([param]), [param], steps=1)


def sparse_gradient(kind):
    param = nn.Parameter(torch.ones(2, 2))
    param.grad = torch.ones(2, 2).to_sparse()
    with pytest.raises(RuntimeError, match="does not support sparse"):
        kind([param]).step()


def differentiable(kind):
    with pytest.raises(TypeError, match="differentiable"):
        kind(pair(), differentiable=True)


def closure(kind):
    trained(kind(params := pair()), params)
    assert not describe(kind).step_requires_closure


def multi_tensor(kind):
    assert not [name for name in vars(inspect.getmodule(kind)) if name.startswith("_multi_tensor")]


CHECKS = {  # whether a reason still holds; the others are of the machine
    "a complex parameter is refused": complex_parameter,
    "a sparse gradient is refused": sparse_gradient,
    "there is no argument `differentiable`": differentiable,
    "no step needs a closure": closure,
    "there is no function _multi_tensor_NAME, which it replaces": multi_tensor,
}


@pytest.mark.parametrize("reason", CHECKS)
@kinds
def test_the_reason_why_a_test_is_left_out_still_holds(kind, reason):
    assert reason in LEFT_OUT.values()
    CHECKS[reason](kind)


def test_every_test_that_torch_names_is_answered_or_left_out():
    ours = {name.removeprefix("test_") for name in globals().keys() | vars(test_torch_suite_state).keys()}
    assert set(ANSWERS.values()) <= ours
    marked = itertools.chain.from_iterable(info.decorators for info in private().optim_db)
    marks = [mark for mark in marked if isinstance(mark, private().DecorateInfo)]
    named = {mark.test_name for mark in marks if mark.cls_name == "TestOptimRenewed" and mark.test_name}
    assert named <= ANSWERS.keys() ^ LEFT_OUT.keys()
