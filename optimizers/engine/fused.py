"""Compiles a rule into one C++ or Triton function for all tensors of a step; the code is generated from the rule."""

import functools
import itertools
import operator
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from . import fused_cpu, fused_gpu
from .recording import CompilerError, Operand, Operation, Recording, record

Row = tuple[Tensor, ...]  # (param, grad, *state), all of one shape
Columns = Sequence[Sequence[Tensor]]  # the rows transposed: all params, all grads, ...

Kernel = Callable[[Columns, dict[str, Any]], None]  # takes rows of one kind, as columns, and numbers by name

SCALARS = ("lr", "shrink", "grad_scale", "found_inf")  # settings that may change from step to step
DEVICE = operator.attrgetter("device")
DTYPE = operator.attrgetter("dtype")
SHAPE = operator.attrgetter("shape")
PLAIN = {Tensor, nn.Parameter}  # other classes may have no memory of their own
COMPILERS: dict[str, Any] = {"cpu": fused_cpu, "cuda": fused_gpu}


def has_compiler(device_type: str) -> bool:
    """Return whether a compiler for this type of device seems to exist."""
    return device_type in COMPILERS and bool(COMPILERS[device_type].is_available())


class Prepared(NamedTuple):
    """The calls that update the rows of a step that can be fused, compiled as far as can be before any is made."""

    calls: list[tuple[Kernel, Columns, dict[str, Any]]]  # a kernel, its rows, and the numbers that it takes

    def run(self) -> list[Row]:
        """Update the rows, and return those whose kernel fails.

        Triton compiles when a kernel is first called. If that fails after rows of another type have changed, a warning
        is given and the failed rows are returned.

        Raises:
            CompilerError: the first call fails; no tensor has changed.
        """
        failed: list[Row] = []
        for index, (kernel, rows, numbers) in enumerate(self.calls):
            try:
                kernel(rows, numbers)
            except CompilerError as error:
                if index == 0:
                    raise
                warnings.warn(f"compiling failed for some tensors, which are not fused ({error})", stacklevel=4)
                failed += zip(*rows, strict=True)
            else:
                increment_version(rows[0])  # else autograd would not see that the parameters have changed
        return failed


def prepare_fused(apply: Callable[..., None], columns: Columns, settings: dict[str, Any]) -> tuple[Prepared, list[Row]]:
    """Compile ``apply(*row, **settings)`` for all rows that can be viewed as flat; return it, and the other rows.

    Args:
        apply: updates one row in place.
        columns: the rows, as columns.
        settings: the arguments of `apply`, among them the rule.

    Raises:
        CompilerError: the rule cannot be compiled.
    """
    varying = {name: settings[name] for name in SCALARS if settings.get(name) is not None}
    fixed = tuple((name, value) for name, value in settings.items() if name not in varying)
    kinds = _group_by_kind(columns)
    others = [row for kind in list(kinds) if not _compilable(*kind) for row in zip(*kinds.pop(kind), strict=True)]
    calls = []
    for (device, dtypes, _), rows in sorted(kinds.items(), key=lambda kind: kind[0][0].type, reverse=True):
        # "cuda" first: only its kernels can fail when called
        try:
            kernel, constants = _make_kernel(apply, device.type, dtypes, scalars=tuple(varying), fixed=fixed)
        except TypeError as error:
            raise CompilerError("a rule with settings that are not hashable cannot be fused") from error
        calls.append((kernel, rows, varying | constants))
    return Prepared(calls), others


def _group_by_kind(columns: Columns) -> dict[tuple[torch.device, tuple[torch.dtype, ...], bool], Columns]:
    """Group the rows by their device, their types, and whether they can be viewed as flat."""
    tensors = list(itertools.chain.from_iterable(columns))
    types = [set(map(DTYPE, column)) for column in columns]
    sizes = [list(map(Tensor.numel, column)) for column in columns]
    devices = set(map(Tensor.get_device, tensors))  # -1 for the CPU, meta and others
    if (
        set(map(type, tensors)) <= PLAIN
        and len(set(map(DEVICE, columns[0])) if devices == {-1} else devices) == 1
        and all(len(found) == 1 for found in types)
        and all(others == sizes[0] for others in sizes)
        and not any(map(Tensor.is_neg, columns[0]))
        and not any(map(Tensor.is_neg, columns[1]))
        and (all(map(Tensor.is_contiguous, tensors)) or _have_one_layout(columns))
    ):  # nearly always: one kind. Looking at every row would take as long as a GPU's step
        return {(tensors[0].device, tuple(found.pop() for found in types), True): columns}
    kinds: dict[Any, list[Row]] = defaultdict(list)
    for row in zip(*columns, strict=True):
        kinds[row[0].device, tuple(tensor.dtype for tensor in row), _is_flat(row)].append(row)
    return {kind: list(zip(*alike, strict=True)) for kind, alike in kinds.items()}


def _compilable(device: torch.device, dtypes: tuple[torch.dtype, ...], flat: bool) -> bool:
    """Return whether rows of a kind can be fused; raise CompilerError for a device that has no compiler here."""
    if device.type not in COMPILERS:
        raise CompilerError(f"a parameter is on {device.type}, and nothing here compiles for {device.type}")
    return flat and COMPILERS[device.type].TYPES.keys() >= set(dtypes)


@functools.lru_cache(maxsize=256)
def _make_kernel(
    apply: Callable[..., None],
    device_type: str,
    dtypes: tuple[torch.dtype, ...],
    *,
    scalars: tuple[str, ...],
    fixed: tuple[tuple[str, Any], ...],
) -> tuple[Kernel, dict[str, float]]:
    """Return the kernel that applies a rule to rows of these types, and the numbers that these settings make in it."""
    names = ["param", "grad", *(f"state{number}" for number in range(len(dtypes) - 2))]
    wide = torch.promote_types(torch.float32, dtypes[0])
    with torch.inference_mode(False), torch.no_grad():
        columns = {name: torch.zeros(2, dtype=dtype, device="cpu") for name, dtype in zip(names, dtypes, strict=True)}
        numbers = {name: torch.ones((), dtype=wide, device="cpu") for name in scalars}
        recording = record(lambda: apply(*columns.values(), **numbers, **dict(fixed)), columns | numbers)
    named, constants = recording.split()
    kinds = tuple(zip(names, dtypes, strict=True))
    make, arguments = COMPILERS[device_type].make_kernel, (*scalars, *constants)
    return _kernel_of(make, named.operations, tuple(named.values.items()), kinds, arguments), constants


@functools.lru_cache(maxsize=256)
def _kernel_of(
    make: Callable[..., Kernel],
    operations: tuple[Operation, ...],
    values: tuple[tuple[str, Operand], ...],
    columns: tuple[tuple[str, torch.dtype], ...],
    scalars: tuple[str, ...],
) -> Kernel:
    """Return the kernel of a recording without numbers: one for all settings that differ in numbers alone."""
    return make(Recording(operations, dict(values)), dict(columns), scalars)


def _is_flat(row: Row) -> bool:
    """Return whether a row's tensors have one shape and device, and one order in memory without gaps."""
    if any(tensor.device != row[0].device or tensor.shape != row[0].shape for tensor in row):
        return False
    if any(type(tensor) not in PLAIN or tensor.is_neg() for tensor in row):
        return False
    return all(tensor.is_contiguous() for tensor in row) or _have_one_layout([(tensor,) for tensor in row])


def _have_one_layout(columns: Columns) -> bool:
    """Return whether each row's tensors share a shape and an order in memory (such as channels last), without gaps."""
    shapes, strides = ([list(map(of, column)) for column in columns] for of in (SHAPE, Tensor.stride))
    layouts = list(map(_layout, shapes[0], strides[0]))
    return None not in layouts and all(
        shape == shapes[0] and (stride == strides[0] or list(map(_layout, shape, stride)) == layouts)
        for shape, stride in zip(shapes[1:], strides[1:], strict=True)
    )


@functools.lru_cache(maxsize=4096)
def _layout(shape: torch.Size, stride: tuple[int, ...]) -> tuple[torch.Size, list[int]] | None:
    """Return the shape and the order of the dimensions in memory; None if there are gaps."""
    order, expected = [], 1
    for step, size, dimension in sorted(zip(stride, shape, range(len(shape)), strict=True)):
        if size != 1:
            if step != expected:
                return None
            order.append(dimension)
            expected *= size
    return shape, order
