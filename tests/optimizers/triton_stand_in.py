"""The part of Triton's language that the fused kernels use, run block by block on tensors in the CPU's memory."""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
import torch._dynamo  # imported first, because it looks for the real Triton


class Pointer:
    """An address of numbers of one type, with offsets: of one number, or of a block of consecutive ones."""

    def __init__(self, address, dtype, offsets=0):
        self.address, self.dtype, self.offsets = address, np.dtype(dtype), offsets

    def __add__(self, offsets):
        return Pointer(self.address, self.dtype, self.offsets + offsets)

    def memory(self, inside):
        """Return the numbers themselves; of a block only the first ones, which are inside."""
        count = np.size(self.offsets) if inside is None else np.count_nonzero(inside)
        start = self.address + int(np.ravel(self.offsets)[0]) * self.dtype.itemsize
        pointer = ctypes.cast(start, ctypes.POINTER(np.ctypeslib.as_ctypes_type(self.dtype)))
        return np.ctypeslib.as_array(pointer, (count,))


class Value(np.ndarray):
    """Numbers that have been loaded."""

    def to(self, kind):
        """Convert to another type; an address becomes a pointer."""
        return kind(int(self)) if callable(kind) and not isinstance(kind, type) else self.astype(kind).view(Value)


def load(pointer, inside=None):
    found = np.zeros(np.shape(pointer.offsets), dtype=pointer.dtype)
    memory = pointer.memory(inside)
    found.reshape(-1)[: len(memory)] = memory
    return found.view(Value)


def store(pointer, values, inside=None):
    memory = pointer.memory(inside)
    memory[:] = np.broadcast_to(values, np.shape(pointer.offsets))[: len(memory)]


class Kernel:
    """The result of @triton.jit: other kernels can call it, and it can be launched for every program of a grid."""

    program = 0

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        return self.function(*args)

    def __getitem__(self, grid):
        def launch(*args, ALIGNED, BLOCK, **options):  # noqa: ARG001 (for a GPU)
            args = [Pointer(x.data_ptr(), x.numpy().dtype) if isinstance(x, torch.Tensor) else x for x in args]
            for Kernel.program in range(grid[0]):
                self.function(*args, ALIGNED, BLOCK)

        return launch


language = SimpleNamespace(
    constexpr=object,
    float32=np.float32,
    int64=np.int64,
    pointer_type=lambda dtype: lambda address: Pointer(address, dtype),
    multiple_of=lambda pointer, _: pointer,
    program_id=lambda _: Kernel.program,
    arange=np.arange,
    load=load,
    store=store,
    where=np.where,
    abs=np.abs,
    sqrt=np.sqrt,
    log2=np.log2,
    exp2=np.exp2,
)


def install(monkeypatch):
    """Put this module in the place of Triton."""
    modules = {name: ModuleType(name) for name in ("triton", "triton.language", "triton.language.extra")}
    modules["triton"].jit = Kernel
    modules["triton"].language = language
    modules["triton.language.extra"].libdevice = SimpleNamespace(pow=np.power)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
