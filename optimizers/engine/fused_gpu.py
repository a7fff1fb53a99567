"""Turns a recorded rule into one Triton kernel over all tensors of a step.

torch.compile launches one kernel per tensor, which costs more than the update of a small tensor itself. This kernel
finds all tensors through a table of their addresses, as torch's own fused optimizers do.
"""

import functools
import hashlib
import importlib.util
import itertools
import linecache
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .recording import CompilerError, Recording, translate

BLOCK = 1024  # coordinates per program
OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}

EXPRESSIONS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "abs": "tl.abs({})",
    "sqrt": "tl.sqrt({})",
    "pow": "libdevice.pow({}, {})",
    "log2": "tl.log2({})",
    "exp2": "tl.exp2({})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))",
    "clamp": "tl.where({0} < {1}, {1}, tl.where({0} > {2}, {2}, {0}))",
    "clamp_min": "tl.where({0} < {1}, {1}, {0})",
    "maximum": "tl.where({0} > {1}, {0}, {1})",  # the second operand where one of both is NaN
    "minimum": "tl.where({0} < {1}, {0}, {1})",
    "ge": "tl.where({0} >= {1}, 1.0, 0.0)",  # in place, so that it has the operands' type
    "where": "tl.where({}, {}, {})",
    "eq": "{} == {}",
    "gt": "{} > {}",
    "lt": "{} < {}",
}
TYPES = {torch.float32: "tl.float32", torch.bfloat16: "tl.bfloat16", torch.float16: "tl.float16"}


@functools.cache  # asked at every step
def is_available() -> bool:
    """Return whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def make_kernel(
    recording: Recording, columns: dict[str, torch.dtype], scalars: Sequence[str]
) -> Callable[[Sequence[Sequence[Tensor]], dict[str, Any]], None]:
    """Return a function that takes rows of tensors that can be viewed as flat, as columns, and the scalars.

    The function compiles the rule when it is first called; it raises CompilerError if that fails.
    """
    steps: dict[tuple[str, ...], Any] = {}  # by the names of the scalars that are tensors on the device
    launched: set[Any] = set()

    def run(tensors: Sequence[Sequence[Tensor]], values: dict[str, Any]) -> None:
        device = tensors[0][0].device
        numbers = {name: _scalar(values[name], device) for name in scalars}
        pointers = tuple(name for name, value in numbers.items() if isinstance(value, Tensor))
        if pointers not in steps:
            steps[pointers] = _load(source(recording, columns, scalars, pointers))
        sizes = tuple(map(Tensor.numel, tensors[0]))
        if not any(sizes):
            return
        addresses = tuple(map(Tensor.data_ptr, itertools.chain.from_iterable(tensors)))
        aligned = _aligned(addresses)
        with torch.cuda.device(device):
            chunks, table = _on_device(_chunks, sizes, device), _on_device(_as_int64, sizes + addresses, device)
            programs = chunks.shape[1]
            launch = functools.partial(steps[pointers][(programs,)], ALIGNED=aligned, BLOCK=BLOCK, **OPTIONS)
            try:
                launch(table, chunks, len(sizes), programs, *numbers.values())
            except Exception as error:
                if (pointers, aligned) in launched:
                    raise
                reason = (str(error).splitlines() or [""])[0]  # of the first launch, at which Triton compiles
                raise CompilerError(f"Triton failed: {type(error).__name__}: {reason}") from error
            launched.add((pointers, aligned))

    return run


def source(
    recording: Recording, columns: dict[str, torch.dtype], scalars: Sequence[str], pointers: Sequence[str]
) -> str:
    """Return the Triton code of a rule.

    Whole blocks are computed without a mask, which would prevent wide loads; only a tensor's last block has one. The
    table holds the sizes of the rows, then the addresses of their first tensors, of their second tensors, and so on.
    Chunks holds the row of each block, then the block's number within its row.
    """
    loads = [f"{name} = tl.load(of_{name} + place, inside).to(tl.float32)" for name in columns]
    rule = [f"{name} = {text}" for name, text in translate(recording, EXPRESSIONS)]
    stores = [f"tl.store(of_{name} + place, {value}, inside)" for name, value in recording.changed().items()]
    addresses = []
    for index, (name, dtype) in enumerate(columns.items(), start=1):
        addresses += [
            f"of_{name} = tl.load(table + rows * {index} + row).to(tl.pointer_type({TYPES[dtype]}))",
            f"if ALIGNED: of_{name} = tl.multiple_of(of_{name}, 16)",
            f"of_{name} += start",
        ]
    numbers = [f"{name} = tl.load({name})" for name in pointers]
    passed = ", ".join([*(f"of_{name}" for name in columns), *scalars])
    named = "".join(f"{name}, " for name in scalars)
    lines = "\n    ".join
    return f"""
@triton.jit
def rule({passed}, inside, place):
    {lines(loads + rule + stores)}

@triton.jit
def step(table, chunks, rows, programs, {named}ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    row = tl.load(chunks + program)
    start = tl.load(chunks + programs + program).to(tl.int64) * BLOCK
    size = tl.load(table + row)
    {lines(addresses + numbers)}
    place = tl.arange(0, BLOCK)
    if start + BLOCK <= size:
        rule({passed}, None, place)
    else:
        rule({passed}, start + place < size, place)
"""


@functools.lru_cache(maxsize=256)
def _load(text: str) -> Any:
    """Return the kernel of a source, which Triton reads a second time from Python's linecache."""
    try:
        import triton
        import triton.language as tl
        from triton.language.extra import libdevice
    except ImportError as error:
        raise CompilerError(f"Triton cannot be imported: {error}") from error
    name = f"<s3 kernel {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    names: dict[str, Any] = {"triton": triton, "tl": tl, "libdevice": libdevice, "__name__": __name__}
    exec(compile(text, name, "exec"), names)
    return names["step"]


def _scalar(value: float | Tensor, device: torch.device) -> float | Tensor:
    """Return a scalar as a number; a tensor on the device stays there, since reading it waits for all queued work."""
    if isinstance(value, Tensor) and value.device.type == device.type:
        return value.to(device, torch.float32)
    return float(value)


def _on_device(make: Callable[[tuple[int, ...]], Tensor], numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a table on the device; usually it is that of the last step."""
    if not torch.cuda.is_current_stream_capturing():
        return _cached_copy(make, numbers, device, torch.cuda.current_stream().cuda_stream)
    host, table = _copy(make, numbers, device)
    _captured.append((host, table))  # kept alive: each replay of the graph copies it again
    return table


@functools.lru_cache(maxsize=64)
def _aligned(addresses: tuple[int, ...]) -> bool:
    """Return whether all addresses are multiples of 16 bytes."""
    return functools.reduce(operator.or_, addresses) % 16 == 0


_captured: list[tuple[Tensor, Tensor]] = []


@functools.lru_cache(maxsize=64)
def _cached_copy(
    make: Callable[[tuple[int, ...]], Tensor],
    numbers: tuple[int, ...],
    device: torch.device,
    stream: int,  # noqa: ARG001 (the copy is queued on this stream, and other streams would not wait for it)
) -> Tensor:
    """Return a table on the device, copied once per stream."""
    return _copy(make, numbers, device)[1]


def _copy(
    make: Callable[[tuple[int, ...]], Tensor], numbers: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return a table in the host's pinned memory and its copy on the device."""
    host = make(numbers).pin_memory()
    return host, host.to(device, non_blocking=True)


def _as_int64(numbers: tuple[int, ...]) -> Tensor:
    """Return the numbers as a tensor."""
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _chunks(sizes: tuple[int, ...]) -> Tensor:
    """Return the row of each block and the block's number within its row, shape (2, blocks)."""
    counts = (torch.tensor(sizes, device="cpu") + BLOCK - 1) // BLOCK
    rows = torch.arange(len(sizes), device="cpu").repeat_interleave(counts)
    first = (counts.cumsum(0) - counts)[rows]
    return torch.stack([rows, torch.arange(len(rows), device="cpu") - first]).to(torch.int32)
