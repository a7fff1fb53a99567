"""foreach, fused and one-by-one updates agree; memory, scaling, and everything that torch's own optimizers support."""

import contextlib
import copy
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from optimizers import S3, SignSGD, s3
from optimizers.engine import elementwise, fused, fused_gpu
from tests.conftest import small_disk
from tests.optimizers import triton_stand_in

SETTINGS = {
    "s3": (S3, {}),
    "s3_p1": (S3, {"p": 1.0}),
    "s3_p2_5": (S3, {"p": 2.5, "nesterov": False}),
    "s3_different_beta": (S3, {"p": 2.0, "denominator_beta": 0.99}),
    "s3_inf": (S3, {"p": math.inf, "maximize": True}),
    "signsgd": (SignSGD, {}),
    "signum": (SignSGD, {"momentum": 0.9}),
}
SHAPES = [(3,), (70, 1000), (), (5, 7), (0,), (200, 300), (8, 4, 3, 3)]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
devices = pytest.mark.parametrize("device", ["cpu", GPU])


def parameters(dtype=torch.float32, device="cpu"):
    """Return small and large parameters, a 0-d one, an empty one, a transposed one, and one with gaps."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(device, dtype) for shape in SHAPES]
    tensors.append(torch.randn(4, 6, generator=generator).to(device, dtype).t())
    tensors.append(torch.randn(4, 6, generator=generator).to(device, dtype)[:, ::2])
    return [nn.Parameter(tensor) for tensor in tensors]


def train(optimizer, params, steps=5, first=0):
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.device, param.dtype)
        optimizer.step()


def distance(params, others):
    return max((a - b).abs().max().item() for a, b in zip(params, others, strict=True) if a.numel())


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
    fused_gpu._load.cache_clear()
    yield
    fused._make_kernel.cache_clear()
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
def test_fused_is_not_compiled_anew_for_another_learning_rate_weight_decay_or_shape(device):
    def compiled(lr, weight_decay, *shape):
        before = fused._make_kernel.cache_info().misses
        param = nn.Parameter(torch.zeros(shape, device=device))
        train(S3([param], lr=lr, weight_decay=weight_decay, beta=0.93, fused=True), [param], steps=1)
        return fused._make_kernel.cache_info().misses - before

    assert compiled(0.1, 0.3, 5) == 1
    assert compiled(0.2, 0.4, 5) == 0
    assert compiled(torch.tensor(0.2, dtype=torch.float64), 0.5, 7, 9) == 0
    assert compiled(0.1, 0.0, 5) == 1


@devices
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 2.7, 3.0, 64.0])
def test_fused_agrees_for_gradients_of_every_size(p, device):
    scales = torch.logspace(-42, 37, 80, device=device)
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


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["/nonexistent", "/bin/false"])
def test_fused_without_a_compiler_says_so_in_a_line(tmp_path, compiler):
    code = """
import torch
from optimizers import S3
parameter = torch.nn.Parameter(torch.zeros(3))
parameter.grad = torch.ones(3)
try:
    S3([parameter], fused=True).step()
except RuntimeError as error:
    print(error)
big = torch.nn.Parameter(torch.zeros(2**20))
big.grad = torch.ones_like(big)
optimizer = S3([big], weight_decay=0.0)
optimizer.step()  # the default then works without a compiler
optimizer.step()
print("moved", big[0].item())
"""
    nothing = {"CXX": compiler, "PATH": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nothing, capture_output=True, text=True, check=False
    )
    error, moved = done.stdout.splitlines()
    assert "fused=True" in error
    assert "foreach=True" in error
    param = nn.Parameter(torch.zeros(1))
    plain = S3([param], weight_decay=0.0)
    for _ in range(2):
        param.grad = torch.ones(1)
        plain.step()
    assert float(moved.split()[1]) == pytest.approx(param.item(), rel=1e-6)
    assert done.stderr.count("compiling failed") == (compiler == "/bin/false")  # found, but it fails


def fused_elsewhere(tmp_path, compiler):
    """Return, as printed, a parameter after a fused step from 0 in a new process that uses this compiler."""
    code = """
import torch
from optimizers import S3
parameter = torch.nn.Parameter(torch.zeros(3))
parameter.grad = torch.ones(3)
S3([parameter], fused=True).step()
print(parameter[0].item())
"""
    (tmp_path / "compiler").write_text(f"#!/bin/sh\n{compiler}\n")
    (tmp_path / "compiler").chmod(0o755)
    settings = os.environ | {"CXX": str(tmp_path / "compiler"), "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_compiler_that_lacks_some_options_will_do(tmp_path):
    clang = 'case "$*" in *-fno-thread-jumps*|*-fopenmp*) echo unknown option >&2; exit 1;; esac; exec g++ "$@"'
    assert float(fused_elsewhere(tmp_path, clang)) < 0


@pytest.mark.slow
def test_a_kept_kernel_that_was_cut_off_is_made_anew(tmp_path):
    counted = f'echo called >> {tmp_path}/calls; exec g++ "$@"'
    moved = fused_elsewhere(tmp_path, counted)
    (kernel,) = (tmp_path / "cache" / "optimizers").iterdir()
    kernel.write_bytes(kernel.read_bytes()[:100])
    assert [fused_elsewhere(tmp_path, counted) for _ in range(2)] == [moved] * 2
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_full_disk_keeps_no_kernel_but_steps_are_fused(tmp_path):
    with small_disk(tmp_path / "cache", "8k"):
        assert float(fused_elsewhere(tmp_path, 'exec g++ "$@"')) < 0
        assert not list((tmp_path / "cache" / "optimizers").iterdir())


def test_a_compilers_name_that_cannot_be_read_is_none(monkeypatch):
    monkeypatch.setenv("CXX", "g++ '-O2")
    assert not fused.has_compiler("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_kernel_is_kept_for_later_processes_where_it_can_be(tmp_path, kept):
    folder = tmp_path / "cache"
    if not kept:
        folder.write_text("not a folder")
    counted = f'echo called >> {tmp_path}/calls; exec g++ "$@"'
    assert len({fused_elsewhere(tmp_path, counted) for _ in range(2)}) == 1
    assert len((tmp_path / "calls").read_text().splitlines()) == (1 if kept else 2)
    if kept:
        assert [path.suffix for path in (folder / "optimizers").iterdir()] == [".so"]


def test_a_rule_with_an_operation_that_kernels_lack_is_not_fused():
    class Tangent(SignSGD):
        def rule(self, group):
            return (lambda grad: grad.tan()), (), {}

    param = nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match="a rule with this call of tan cannot be fused"):
        train(Tangent([param], fused=True), [param], steps=1)
    train(Tangent([param]), [param], steps=1)
    assert param.abs().min() > 0


RULES = {  # rules that the recorded operations do not describe completely
    "a tensor from elsewhere": lambda grad: grad * torch.tensor([2.0]),
    "an argument that changes the result": lambda grad: torch.add(grad, grad, alpha=3),
    "a type that is rounded to": lambda grad: grad.to(torch.bfloat16).float(),
    "the same memory under another name": lambda grad: grad.detach().mul_(2.0),
    "an argument that is left out": lambda grad: grad.clamp(min=0.0),
    "a sum of comparisons": lambda grad: ((grad > 0) + (grad > 1)).float(),
    "a sum over coordinates": lambda grad: grad / grad.norm(),
}


@pytest.mark.parametrize("what", RULES)
def test_a_rule_whose_kernel_could_be_another_rule_is_not_fused(what):
    class Own(SignSGD):
        def rule(self, group):
            return RULES[what], (), {}

    param = nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match="cannot be fused"):
        train(Own([param], fused=True), [param], steps=1)
    assert (param == 0).all()


@pytest.mark.parametrize("arguments", [{"foreach": True}, {"fused": True}])
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)])
def test_a_rule_may_return_its_state_or_the_gradient(arguments, lr):
    def average(grad, mean):
        return mean.lerp_(grad, 0.5)

    class Momentum(SignSGD):
        def rule(self, group):
            return average, ("mean",), {}

    param = nn.Parameter(torch.zeros(3))
    optimizer = Momentum([param], lr=lr, weight_decay=0.0, **arguments)
    for _ in range(2):
        param.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(optimizer.state[param]["mean"], torch.full((3,), 0.75))
    assert torch.equal(param, torch.full((3,), -0.5 * (0.5 + 0.75)))
    assert torch.equal(param.grad, torch.ones(3))


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


def test_a_schedule_of_a_rules_setting_does_not_compile_for_ever(recwarn):
    param, same = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    one, other = SignSGD([param], fused=True, momentum=0.5), SignSGD([same], foreach=True, momentum=0.5)
    before = fused._make_kernel.cache_info().misses
    fused._settings_of_rule.clear()
    for step in range(fused.MAX_SETTINGS + 3):
        one.param_groups[0]["momentum"] = other.param_groups[0]["momentum"] = 0.5 + step / 1000
        train(one, [param], steps=1, first=step)
        train(other, [same], steps=1, first=step)
    assert fused._make_kernel.cache_info().misses - before <= fused.MAX_SETTINGS
    assert "not fused" in str(recwarn.pop().message)
    assert distance([param], [same]) < 1e-6


@pytest.mark.filterwarnings("ignore:a rule had over")
def test_after_many_settings_one_that_stays_is_fused_and_one_that_changes_is_not(monkeypatch):
    monkeypatch.setattr(fused, "MAX_SETTINGS", 2)
    fused._settings_of_rule.clear()
    params = [nn.Parameter(torch.zeros(3)) for _ in range(2)]
    optimizer = SignSGD([{"params": [param]} for param in params], fused=True)

    def groups_fused(*momenta):
        before = fused._make_kernel.cache_info()
        for group, momentum in zip(optimizer.param_groups, momenta, strict=True):
            group["momentum"] = momentum
        train(optimizer, params, steps=1)
        after = fused._make_kernel.cache_info()
        return after.hits + after.misses - before.hits - before.misses

    assert [groups_fused(momentum, momentum) for momentum in (0.5, 0.6)] == [2, 2]
    assert [groups_fused(momentum, momentum) for momentum in (0.7, 0.71, 0.72, 0.73, 0.74)] == [0] * 5  # a schedule
    assert [groups_fused(0.8, 0.9) for _ in range(3)] == [0, 2, 2]
    assert groups_fused(0.5, 0.8) == 1  # 0.5 was the least recently used


def test_settings_that_a_schedule_leaves_behind_are_not_kept_for_ever_and_can_come_again(monkeypatch):
    monkeypatch.setattr(s3, "_settings_cache", {})
    optimizer = S3([nn.Parameter(torch.zeros(3))], p=2.2)
    (group,) = optimizer.param_groups
    first = optimizer.rule(group)[2]
    for step in range(300):
        optimizer.rule(group | {"p": 3 + step / 10})
    assert len(s3._settings_cache) == 256
    assert optimizer.rule(group)[2] == first  # otherwise it would be compiled again


@pytest.mark.slow
def test_fused_works_in_inference_mode_and_where_a_kept_kernel_cannot_be_loaded(tmp_path):
    code = """
import sys, torch
from optimizers import S3
parameter = torch.nn.Parameter(torch.zeros(3))
parameter.grad = torch.ones(3)
optimizer = S3([parameter], fused=True)
with torch.inference_mode():
    optimizer.step()
print(parameter[0].item())
"""
    settings = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path)}

    def run():
        return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)

    first = run().stdout
    (kernel,) = (tmp_path / "optimizers").iterdir()
    kernel.write_bytes(b"of another machine")
    assert run().stdout == first


@pytest.mark.parametrize("exponent", [-2.5, 0.1, 1.0, 3.7])
def test_the_kernels_own_power_is_as_exact_as_float32(exponent):
    class Power(SignSGD):
        def rule(self, group):
            return (lambda grad: grad.log2().mul_(exponent).exp2_()), (), {}

    x = torch.cat([torch.logspace(-8, 0, 10_000), torch.tensor([0.0, 1.0])])
    param = nn.Parameter(torch.zeros_like(x))
    param.grad = x
    Power([param], lr=1.0, weight_decay=0.0, fused=True).step()
    expected = x.double() ** exponent
    error = (-param.detach().double() / expected - 1).abs()[:-2]
    bound = 3e-7 + 2e-7 * abs(exponent) * x.double().log2().abs()[:-2]  # from rounding the logarithm
    assert (error <= bound).all()
    assert -param[-1] == 1
    assert -param[-2] < 1e-3 or exponent < 0


def test_the_state_is_8_bytes_for_each_float32_coordinate():
    for optimizer, arguments, bytes_each in ((S3, {}, 8), (SignSGD, {}, 0), (SignSGD, {"momentum": 0.9}, 4)):
        param = nn.Parameter(torch.zeros(1000))
        made = optimizer([param], **arguments)
        train(made, [param], steps=1)
        assert sum(t.numel() * t.element_size() for t in made.state[param].values()) == 1000 * bytes_each


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("name", ["s3", "signum"])
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
    assert 0 < large <= small <= 16 * 4 * elementwise.PIECE_CPU


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
