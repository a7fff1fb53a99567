"""S3 and SignSGD work wherever torch's own optimizers do: state_dicts, hooks, copies, GradScaler, torch.compile."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from optimizers import S3
from optimizers.engine.pieces import PIECE_CPU
from tests.optimizers.training import GPU, SETTINGS, devices, distance, parameters, train


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("name", [pytest.param("s3", marks=pytest.mark.slow), "signum"])
def test_a_step_can_be_compiled_as_a_whole(name, foreach):
    optimizer, arguments = SETTINGS[name]
    one, other = parameters(), parameters()
    plain, compiled = (optimizer(params, lr=0.01, foreach=foreach, **arguments) for params in (one, other))
    step = torch.compile(compiled.step, backend="aot_eager")
    train(plain, one, steps=3)
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        for param in other:
            param.grad = torch.randn(param.shape, generator=generator)
        step()
    assert distance(one, other) < 1e-6


@pytest.mark.parametrize("name", SETTINGS)
def test_a_state_saved_by_one_implementation_goes_on_in_another(name, tmp_path):
    optimizer, arguments = SETTINGS[name]
    one, other = parameters(), parameters()
    plain = optimizer(one, lr=0.01, foreach=False, **arguments)
    train(plain, one)
    torch.save(plain.state_dict(), tmp_path / "state")
    saved = torch.load(tmp_path / "state", weights_only=True)
    for group in saved["param_groups"]:
        group["foreach"] = True
    resumed = optimizer(other, lr=0.5, foreach=True, **arguments)
    resumed.load_state_dict(saved)
    for param, of_one in zip(other, one, strict=True):
        param.data.copy_(of_one.data)
    train(plain, one, first=5)
    train(resumed, other, first=5)
    assert distance(one, other) < 1e-6


@pytest.mark.parametrize("saved", [torch.float32, torch.float64])
@pytest.mark.parametrize("loaded", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["s3", "signum"])
def test_a_state_goes_on_in_another_precision(name, saved, loaded):
    optimizer, arguments = SETTINGS[name]
    one, other = nn.Parameter(torch.zeros(3, dtype=saved)), nn.Parameter(torch.zeros(3, dtype=loaded))
    before, after = optimizer([one], lr=1.0, **arguments), optimizer([other], lr=1.0, **arguments)
    for _ in range(20):
        one.grad = torch.tensor([1.0, -2.0, 1e-9], dtype=saved)
        before.step()
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    other.data.copy_(one.data)
    for param, of_it in ((one, before), (other, after)):
        for _ in range(20):
            param.grad = torch.tensor([-1.0, 2.0, -1e-9], dtype=param.dtype)
            of_it.step()
    rounding = 0.05 if loaded == torch.bfloat16 else 1e-5
    torch.testing.assert_close(other.double(), one.double(), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"foreach": False}])
def test_a_parameter_that_has_become_another_precision_is_told(how):
    model = nn.Linear(3, 3)
    optimizer = S3(model.parameters(), **how)
    train(optimizer, list(model.parameters()), steps=1)
    model.double()
    with pytest.raises(RuntimeError, match="load the optimizer's state_dict"):
        train(optimizer, list(model.parameters()), steps=1)
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, list(model.parameters()), steps=1)


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"foreach": True}, {"foreach": False}])
def test_a_parameter_of_another_precision_is_told_also_beside_one_that_has_no_state_yet(how):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    optimizer = S3(model.parameters(), **how)
    train(optimizer, list(model[0].parameters()), steps=20)
    model.double()
    with pytest.raises(RuntimeError, match="load the optimizer's state_dict"):
        train(optimizer, list(model.parameters()), steps=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hooks_of_load_state_dict_are_heard(dtype):
    def make(*sizes):
        params = [nn.Parameter(torch.zeros(size, dtype=dtype)) for size in sizes]
        return S3(params), params

    (one, of_one), (other, _) = make(2, 3), make(3, 2)
    train(one, of_one, steps=1)
    other.register_load_state_dict_pre_hook(lambda _, s: {**s, "state": {0: s["state"][1], 1: s["state"][0]}})
    other.register_load_state_dict_post_hook(lambda optimizer: [x["norm"].fill_(7) for x in optimizer.state.values()])
    other.load_state_dict(one.state_dict())
    for param, state in other.state.items():
        assert torch.equal(state["norm"], torch.full(param.shape, 7.0))
        assert state["exp_avg"].shape == param.shape


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_settings_may_be_tensors_of_one_element(how):
    one, other = parameters(), parameters()
    train(S3(one, lr=0.1, weight_decay=0.1, **how), one)
    train(S3(other, lr=torch.tensor([0.1]), weight_decay=torch.tensor([0.1]), **how), other)
    assert distance(one, other) < 1e-6


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_and_pickles_go_on_alike(copied):
    model = nn.Linear(3, 2)
    optimizer = S3(model.parameters())
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "p": 1.0, "lr": 0.5})
    params = [param for group in optimizer.param_groups for param in group["params"]]
    train(optimizer, params)
    again = copied(optimizer)
    others = [param for group in again.param_groups for param in group["params"]]
    train(optimizer, params, first=5)
    train(again, others, first=5)
    assert distance(params, others) == 0
    assert not torch.equal(params[-1], torch.ones(2))


@devices
@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler_unscales_and_skips(fused, device):
    def trained(scale, breaks):
        torch.manual_seed(0)
        model = nn.Linear(4, 3).to(device)
        optimizer = S3(model.parameters(), lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler(device, init_scale=scale, growth_interval=2, enabled=scale > 1)
        for step in range(6):
            optimizer.zero_grad()
            batch = torch.randn(5, 4, generator=torch.Generator().manual_seed(step)).to(device)
            loss = model(batch).square().mean()
            if step == 3 and breaks:
                loss = loss * math.inf
            elif step == 3:
                continue
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return list(model.parameters())

    assert distance(trained(1.0, breaks=False), trained(2.0**12, breaks=True)) < 1e-6


def test_a_learning_rate_may_be_a_tensor_and_follow_torchs_schedules():
    one, other = parameters(), parameters()
    tensor = torch.tensor(0.02)
    plain, with_tensor = S3(one, lr=0.02), S3(other, lr=tensor)
    schedule = torch.optim.lr_scheduler.StepLR(plain, 1, gamma=0.5)
    for step in range(3):
        train(plain, one, steps=1, first=step)
        train(with_tensor, other, steps=1, first=step)
        schedule.step()
        tensor.mul_(0.5)
    assert distance(one, other) < 1e-6


@pytest.mark.parametrize("foreach", [True, False])
def test_a_learning_rate_may_have_one_dimension_but_not_two_elements(foreach):
    one, other = parameters(), parameters()
    train(S3(one, lr=0.02, foreach=foreach), one)
    train(S3(other, lr=torch.tensor([0.02]), foreach=foreach), other)
    assert distance(one, other) < 1e-6
    with pytest.raises(ValueError, match=r"lr is a tensor of shape \(2,\)"):
        S3(one, lr=torch.tensor([0.1, 0.2]))


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    optimizer = S3([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match=r"p is 0\.5"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "p": 0.5})
    assert len(optimizer.param_groups) == 1


def test_an_optimizer_can_be_made_where_tensors_are_made_without_data():
    with torch.device("meta"):
        optimizer = S3(nn.Linear(3, 2).parameters(), beta=0.87)
    assert optimizer.rule(optimizer.param_groups[0])[2]["grow"].coefficients is not None


def test_temporary_memory_of_foreach_does_not_grow_with_the_model():
    def peak(numbers):
        param = nn.Parameter(torch.zeros(numbers))
        param.grad = torch.ones(numbers)
        optimizer = S3([param], foreach=True)
        optimizer.step()
        with torch.profiler.profile(profile_memory=True) as profile:
            optimizer.step()
        held = most = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                most = max(most, held)
        return most

    small, large = peak(2**18), peak(2**20)
    assert 0 < large <= small <= 16 * 4 * PIECE_CPU


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("arguments", [{"foreach": True}, {"fused": True}])
def test_a_step_can_be_captured_in_a_cuda_graph(arguments, device):
    one, other = parameters(device=device), parameters(device=device)
    lr = torch.tensor(0.01, device=device)
    plain, captured = S3(one, lr=0.01, foreach=True), S3(other, lr=lr, capturable=True, **arguments)
    for param, same in zip(one, other, strict=True):
        param.grad = torch.randn_like(param)
        same.grad = param.grad.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        captured.step()
    torch.cuda.current_stream().wait_stream(stream)
    for same in other:
        same.grad = same.grad.clone()  # at another address, so that the graph has its own table
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    plain.step()
    for factor in (1.0, 0.5):
        for group in plain.param_groups:
            group["lr"] = 0.01 * factor
        lr.fill_(0.01 * factor)
        torch.zeros(2**20, device=device)  # reuses memory that was freed in the meantime
        plain.step()
        graph.replay()
    assert distance(one, other) < 1e-6


@pytest.mark.parametrize("settings", [{"foreach": False}, {"foreach": True}])
@pytest.mark.parametrize("shape", [(3,), (300, 500)])
def test_a_step_within_a_graph_is_noticed_by_its_backward(settings, shape):
    param = nn.Parameter(torch.ones(shape))
    optimizer = S3([param], **settings)
    loss = (param * param).sum()  # saves the parameter
    param.grad = torch.ones(shape)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    state = optimizer.state[param]
    assert not any(tensor.is_inference() for tensor in (param, *state.values()))
