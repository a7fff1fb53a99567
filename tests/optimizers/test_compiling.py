"""Compiling a rule: which rules can be compiled, how often it happens, the kept kernels, and missing compilers."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from optimizers import S3, SignSGD, s3
from optimizers.engine import fused
from tests.conftest import small_disk
from tests.optimizers.training import devices, distance, train


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


def without_a_compiler(code, tmp_path, *folders):
    """Return what a program prints in a new process that finds no compiler on its PATH, but packages in folders."""
    settings = {"PATH": str(tmp_path / "none"), "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    settings["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    here = {name: value for name, value in os.environ.items() if name != "CXX"}
    done = subprocess.run([sys.executable, "-c", code], env=here | settings, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


STEP = """
import torch
from optimizers import S3
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    param = torch.nn.Parameter(torch.ones(5000, dtype=dtype))
    param.grad = torch.linspace(-1, 1, 5000).to(dtype)
    for _ in range(2):
        S3([param], lr=0.1, p=2.7).step()
    print(param.double().sum().item())
"""


@pytest.mark.slow
def test_ziglang_compiles_where_no_other_compiler_is_found(tmp_path):
    """A stand-in for it, which passes on to g++: what is called, and with what."""
    zig = tmp_path / "ziglang" / "zig"
    zig.parent.mkdir()
    (zig.parent / "__init__.py").touch()
    zig.write_text(f"""#!/bin/sh
echo "$*" >> {tmp_path}/calls
shift
PATH={os.environ["PATH"]} exec g++ "$@"
""")
    zig.chmod(0o755)
    compiled = without_a_compiler(STEP, tmp_path, Path.cwd(), tmp_path)
    for call in (tmp_path / "calls").read_text().splitlines():
        assert call.startswith("cc ")
        assert not {"-fopenmp", "-mtune"} & {option.partition("=")[0] for option in call.split()}  # not as GCC has them
    plain = without_a_compiler(STEP, tmp_path / "other", Path.cwd())
    assert [float(x) for x in compiled.split()] == pytest.approx([float(x) for x in plain.split()], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")
def test_ziglang_compiles(tmp_path):
    assert len(without_a_compiler(STEP, tmp_path, Path.cwd()).split()) == 3
    assert len(list((tmp_path / "cache" / "optimizers").iterdir())) == 3


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
    "an argument that changes the result": lambda grad: torch.div(grad, 3.0, rounding_mode="floor"),
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


@pytest.mark.parametrize(
    ("kind", "rule", "schedule"),
    [
        (SignSGD, {"momentum": 0.6}, lambda step: {"momentum": 0.6 + step / 300}),
        (S3, {}, lambda step: {"beta": 0.85 + step / 1000, "lr": 0.01 * step, "weight_decay": 0.1 / (1 + step)}),
        (S3, {"p": 1.02}, lambda step: {"p": 1.02 + step / 105}),
        (S3, {"p": 2.6}, lambda step: {"p": 2.6 + step / 300}),
        (S3, {"denominator_beta": 0.9}, lambda step: {"denominator_beta": 0.9 + step / 2000}),
    ],
)
def test_a_schedule_of_a_rules_numbers_has_one_kernel(kind, rule, schedule):
    param, same = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    one, other = kind([param], fused=True, **rule), kind([same], foreach=True, **rule)
    train(one, [param], steps=1)
    train(other, [same], steps=1)
    before = fused._kernel_of.cache_info().misses
    for step in range(1, 101):
        one.param_groups[0].update(schedule(step))
        other.param_groups[0].update(schedule(step))
        train(one, [param], steps=1, first=step)
        train(other, [same], steps=1, first=step)
    assert fused._kernel_of.cache_info().misses - before <= 2  # a root may need another degree
    assert distance([param], [same]) < 1e-5


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
