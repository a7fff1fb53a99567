"""foreach, fused and one-by-one updates agree, for every kind of tensor and every size of gradient."""

import contextlib
import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers import S3, SignSGD
from optimizers.engine import elementwise, fused, fused_gpu
from tests.optimizers import triton_stand_in
from tests.optimizers.training import SETTINGS, devices, distance, parameters, train


@devices
@pytest.mark.parametrize("name", SETTINGS)
def test_foreach_agrees_with_one_by_one(name, device):
    optimizer, arguments = SETTINGS[name]
    one, other = parameters(device=device), parameters(device=device)
    train(optimizer(one, lr=0.01, foreach=False, **arguments), one)
    train(optimizer(other, lr=0.01, foreach=True, **arguments), other)
    assert distance(one, other) < 1e-6


@devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", SETTINGS)
def test_fused_agrees_with_one_by_one_also_for_another_learning_rate(name, dtype, device):
    optimizer, arguments = SETTINGS[name]
    one, other = parameters(dtype, device), parameters(dtype, device)
    plain, compiled = (optimizer(one, foreach=False, **arguments), optimizer(other, fused=True, **arguments))
    for lr in (0.01, 0.02):
        for group in (*plain.param_groups, *compiled.param_groups):
            group["lr"] = lr
        train(plain, one)
        train(compiled, other)
    unit = torch.finfo(dtype).eps * 4  # parameters of that size may be rounded the other way
    assert distance(one, other) <= max(unit, 2e-6)


@devices
def test_parameters_with_their_channels_last_are_fused(device, monkeypatch):
    def channels_last():
        generator = torch.Generator().manual_seed(0)
        shapes = [(8, 4, 3, 3), (8,), (16, 8, 1, 1), (1, 3, 2, 2)]
        tensors = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
        return [nn.Parameter(x.to(memory_format=torch.channels_last) if x.ndim == 4 else x) for x in tensors]

    def train_like_autograd(optimizer, params):
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            for param in params:
                param.grad = torch.zeros_like(param).copy_(torch.randn(param.shape, generator=generator))
            params[2].grad = params[2].grad.contiguous()  # the same order in memory with other strides
            optimizer.step()

    plain, other = channels_last(), channels_last()
    train_like_autograd(S3(plain, lr=0.01, foreach=False), plain)
    monkeypatch.setattr(elementwise, "_apply_all", lambda rows, _: pytest.fail("not fused") if list(rows) else None)
    monkeypatch.setattr(fused, "_is_flat", lambda _: pytest.fail("looked at one by one, which takes long"))
    train_like_autograd(S3(other, lr=0.01, fused=True), other)
    assert distance(plain, other) < 2e-6


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4).flatmap(
        lambda shape: st.tuples(st.just(shape), *[st.permutations(range(len(shape)))] * 2)
    ),
    st.booleans(),
)
def test_tensors_that_are_seen_flat_have_their_coordinates_in_one_order(case, gap):
    shape, *orders = case
    values = torch.arange(math.prod(shape) * 2.0).reshape(*shape, 2)[..., 0]

    def lying(order):
        return values.permute(order).contiguous().permute(np.argsort(order).tolist())

    row = (lying(orders[0]), values if gap else lying(orders[1]))
    if fused._is_flat(row):
        one, other = (x.as_strided((x.numel(),), (1,)) for x in row)
        assert torch.equal(one, other)
    else:
        assert gap or orders[0] != orders[1]


@pytest.fixture
def triton(monkeypatch):
    """Run the fused kernels of a GPU on the CPU."""
    triton_stand_in.install(monkeypatch)
    monkeypatch.setitem(fused.COMPILERS, "cpu", fused_gpu)
    monkeypatch.setattr(fused_gpu, "_on_device", lambda make, numbers, _: make(numbers))
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    fused._make_kernel.cache_clear()
    fused._kernel_of.cache_clear()
    fused_gpu._load.cache_clear()
    yield
    fused._make_kernel.cache_clear()
    fused._kernel_of.cache_clear()
    fused_gpu._load.cache_clear()


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("lr", [0.01, torch.tensor(0.01)])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_gpus_kernel_is_the_same_rule_over_all_tensors(name, lr):
    optimizer, arguments = SETTINGS[name]
    one, other = parameters(), parameters()
    with np.errstate(all="ignore"):  # where() computes both choices
        train(optimizer(one, lr=lr, foreach=False, **arguments), one, steps=2)
        train(optimizer(other, lr=lr, fused=True, **arguments), other, steps=2)
    assert distance(one, other) < 2e-6


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}])
@pytest.mark.parametrize("name", SETTINGS)
def test_nan_in_a_gradient_reaches_the_parameter(name, how):
    optimizer, arguments = SETTINGS[name]
    param = nn.Parameter(torch.zeros(100))
    optimizer = optimizer([param], **arguments, **how)
    train(optimizer, [param], steps=1)
    param.grad = torch.ones(100)
    param.grad[::3] = math.nan
    optimizer.step()
    assert torch.equal(param.isnan(), param.grad.isnan())


@pytest.mark.parametrize("momentum", [1e-9, 0.3, 0.5, 0.9])
def test_an_average_is_torchs_also_where_little_or_much_of_it_is_new(momentum):
    one, other = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    for param, how in ((one, {"foreach": False}), (other, {"fused": True})):
        optimizer = SignSGD([param], momentum=momentum, lr=1.0, **how)
        for factor in (1.0, 1e-10, -5e-10):
            param.grad = factor * torch.tensor([1e10, -1e10])
            optimizer.step()
    assert torch.equal(one, other)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("name", SETTINGS)
def test_nan_in_a_gradient_reaches_the_parameter_on_a_gpu_too(name):
    with np.errstate(all="ignore"):
        test_nan_in_a_gradient_reaches_the_parameter(name, {"fused": True})


@devices
@pytest.mark.parametrize("p", [1.0, 1.1, 1.5, 1.7, 2.0, 2.7, 3.0, 64.0, 5000.1, 1e6])
def test_fused_agrees_for_gradients_of_every_size(p, device):
    scales = torch.logspace(-42, 37, 80, device=device)
    if 1 < p < 2:  # there the plain rule adds the least norm to gradients that are denormal numbers
        scales.clamp_min_(1e-37)
    one, other = ([nn.Parameter(torch.zeros(80, device=device))] for _ in range(2))
    plain, compiled = S3(one, lr=0.1, p=p, foreach=True), S3(other, lr=0.1, p=p, fused=True)
    for factor in torch.randn(30, generator=torch.Generator().manual_seed(0)):
        one[0].grad = other[0].grad = factor * scales
        plain.step()
        compiled.step()
    assert distance(one, other) < 1e-5


@devices
def test_fused_takes_nothing_and_what_is_empty(device):
    optimizer = S3([nn.Parameter(torch.zeros(shape, device=device)) for shape in ((0,), (3, 0))], fused=True)
    optimizer.step()
    train(optimizer, optimizer.param_groups[0]["params"], steps=1)


@devices
def test_fused_takes_tensors_that_begin_anywhere(device):
    """Gradients do so that are parts of one buffer; a GPU then cannot load four numbers at a time."""
    one, other = parameters(device=device), parameters(device=device)
    plain, compiled = S3(one, lr=0.01, foreach=True), S3(other, lr=0.01, fused=True)
    for param, same in zip(one, other, strict=True):
        buffer = torch.randn(param.numel() + 1, device=device)
        param.grad = same.grad = buffer[1:].view(param.shape)
    for optimizer in (plain, compiled, plain, compiled):
        optimizer.step()
    assert distance(one, other) < 1e-6


@devices
def test_large_groups_are_fused_by_default_and_give_the_same(device):
    params = [nn.Parameter(torch.zeros(elementwise.MIN_COMPILED, device=device)) for _ in range(2)]
    before = fused._make_kernel.cache_info()
    plain, default = (S3([params[0]], foreach=True), S3([params[1]]))
    for optimizer, param in zip((plain, default), params, strict=True):
        train(optimizer, [param], steps=2)
    after = fused._make_kernel.cache_info()
    assert after.hits + after.misses == before.hits + before.misses + 2
    assert distance(params[:1], params[1:]) < 1e-6


def test_fused_refuses_a_state_of_another_size_before_it_writes_beyond_it():
    param = nn.Parameter(torch.zeros(4))
    optimizer = S3([param], fused=True)
    train(optimizer, [param], steps=1)
    param.data = torch.zeros(64)
    with pytest.raises(RuntimeError, match="size"):
        train(optimizer, [param], steps=1)


def test_fused_takes_a_gradient_that_is_marked_as_negated():
    one, other = (nn.Parameter(torch.ones(1)) for _ in range(2))
    for param, arguments in ((one, {"foreach": True}), (other, {"fused": True})):
        param.grad = torch.tensor([1.0 + 2.0j]).conj().imag
        assert param.grad.is_neg()
        S3([param], **arguments).step()
    assert distance([one], [other]) < 1e-6
    assert one > 1


def test_fused_leaves_tensors_that_have_no_memory_to_torch():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        param = nn.Parameter(torch.zeros(elementwise.MIN_COMPILED))
        param.grad = torch.zeros(elementwise.MIN_COMPILED)
        S3([param], p=3.1, fused=True).step()  # a p that no other test uses, so that its coefficients are computed here
        S3([param], p=3.2).step()


def test_the_state_is_8_bytes_for_each_float32_coordinate():
    for optimizer, arguments, bytes_each in ((S3, {}, 8), (SignSGD, {}, 0), (SignSGD, {"momentum": 0.9}, 4)):
        param = nn.Parameter(torch.zeros(1000))
        made = optimizer([param], **arguments)
        train(made, [param], steps=1)
        assert sum(t.numel() * t.element_size() for t in made.state[param].values()) == 1000 * bytes_each


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SETTINGS)
def test_narrow_parameters_have_a_float32_state_and_are_rounded_once_a_step(name, dtype):
    optimizer, arguments = SETTINGS[name]
    narrow, wide = parameters(dtype), parameters(dtype)
    wide = [nn.Parameter(param.detach().float()) for param in wide]
    one, other = (optimizer(params, lr=0.01, **arguments) for params in (narrow, wide))
    for step in range(5):
        train(one, narrow, steps=1, first=step)
        for param, of_one in zip(wide, narrow, strict=True):
            param.grad = of_one.grad.float()
        other.step()
        for param in wide:
            param.data = param.data.to(dtype).float()
    assert distance(narrow, wide) == 0
    assert all(t.dtype == torch.float32 for state in one.state.values() for t in state.values())
    restored = optimizer(narrow, lr=0.01, **arguments)
    restored.load_state_dict(copy.deepcopy(one.state_dict()))
    for state, same in zip(one.state.values(), restored.state.values(), strict=True):
        assert all(torch.equal(state[name], same[name]) and state[name].dtype == same[name].dtype for name in state)


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"foreach": True}, {"foreach": False}])
def test_autograd_sees_that_a_step_has_changed_the_parameters(how):
    weight, x = nn.Parameter(torch.ones(2**20)), torch.ones(2**20, requires_grad=True)
    loss = (weight * x).sum()
    loss.backward(retain_graph=True)
    S3([weight], **how).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_without_memory_are_not_taken_for_others():
    param, meta = nn.Parameter(torch.zeros(2**20)), nn.Parameter(torch.zeros(5, device="meta"))
    param.grad, meta.grad = torch.ones_like(param), torch.ones_like(meta)
    with pytest.raises(RuntimeError, match="nothing here compiles for meta"):
        S3([param, meta], fused=True).step()
    assert param.abs().max() == 0
    with pytest.warns(UserWarning, match="nothing here compiles for meta"):
        S3([param, meta]).step()
    assert param.abs().min() > 0


@pytest.mark.usefixtures("triton")
def test_rows_whose_kernel_fails_after_others_were_updated_are_updated_plainly(monkeypatch):
    one, other = ([nn.Parameter(torch.zeros(4, dtype=t)) for t in (torch.float32, torch.float16)] for _ in range(2))
    train(S3(one, foreach=True), one, steps=1)
    source = fused_gpu.source

    def broken(recording, columns, *others):
        if torch.float16 in columns.values():
            raise fused.CompilerError("no float16 here")
        return source(recording, columns, *others)

    monkeypatch.setattr(fused_gpu, "source", broken)
    with pytest.warns(UserWarning, match="no float16 here"), np.errstate(all="ignore"):
        train(S3(other, fused=True), other, steps=1)
    assert distance(one, other) < 1e-6


@pytest.mark.parametrize("p", [1.0, 2.0, 2.7, 3.0])
def test_a_plain_step_takes_few_operations(p):
    class Count(TorchDispatchMode):
        names = ()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names += (function.overloadpacket.__name__,)
            return function(*args, **(kwargs or {}))

    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = S3([param], p=p, foreach=False)
    optimizer.step()
    with Count() as count:
        optimizer.step()
    assert len([name for name in count.names if name.strip("_") in dir(torch)]) <= 25 + 3 * (p == 2.7)


def test_a_step_of_fake_tensors_leaves_nothing_behind_for_real_ones():
    with FakeTensorMode():
        fake = nn.Parameter(torch.ones(3))
        fake.grad = torch.ones(3)
        S3([fake], lr=0.0123, foreach=True).step()
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    for param, chosen in ((one, {"foreach": True}), (other, {"fused": True})):
        param.grad = torch.ones(3)
        S3([param], lr=0.0123, **chosen).step()
    assert distance([one], [other]) < 1e-6
