"""Records a rule while it runs, as a list of operations on one coordinate, from which fused kernels are generated."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Operand = str | float  # the name of a value, or a number


class CompilerError(RuntimeError):
    """A rule cannot be compiled here; no tensor has changed."""


COMPARISONS = ("eq", "gt", "lt")
LAYOUT = {"dtype", "layout", "device", "pin_memory", "memory_format"}  # arguments that leave values unchanged


class Operation(NamedTuple):
    """One elementwise operation: ``result = name(*operands)``, named as in torch."""

    result: str
    name: str
    operands: tuple[Operand, ...]


class Recording(NamedTuple):
    """The operations in order, and the value that each input holds at the end."""

    operations: tuple[Operation, ...]
    values: dict[str, Operand]

    def changed(self) -> dict[str, Operand]:
        """Return the inputs that have a new value, and that value."""
        return {name: value for name, value in self.values.items() if value != name}

    def split(self) -> tuple["Recording", dict[str, float]]:
        """Return the recording with a name in place of each number, and the numbers by name.

        Rules that differ in numbers alone then have one recording, and so one kernel.
        """
        names: dict[float, str] = {}

        def named(operand: Operand) -> Operand:
            return operand if isinstance(operand, str) else names.setdefault(float(operand), f"c{len(names)}")

        operations = tuple(Operation(x.result, x.name, tuple(map(named, x.operands))) for x in self.operations)
        values = {name: named(value) for name, value in self.values.items()}
        return Recording(operations, values), {name: number for number, name in names.items()}


def record(function: Callable[[], None], inputs: Mapping[str, Tensor]) -> Recording:
    """Return the operations of a function that changes some of these tensors in place.

    The function runs once, on the tensors as they are. Their shape does not matter: every element is treated by itself.
    Raises CompilerError for anything that the operations do not show, such as a tensor from elsewhere.
    """
    global _recording
    _recording = True
    try:
        with _Recorder(inputs) as recorder:
            function()
    finally:
        _recording = False
    return Recording(tuple(recorder.operations), {name: recorder.value[id(inputs[name])] for name in inputs})


_recording = False


def is_compiled() -> bool:
    """Return whether operations are recorded or traced to be compiled, and do not run one after the other."""
    return _recording or bool(torch.compiler.is_compiling())


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operation that torch runs; a tensor that is changed in place gets the name of its new value."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.value: dict[int, Operand] = {id(tensor): name for name, tensor in inputs.items()}
        self.operations: list[Operation] = []
        self._alive: list[Tensor] = []  # else the id of a freed tensor could be used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name, given = func.overloadpacket.__name__, dict(kwargs or {})
        operands: tuple[Any, ...] = tuple(self.value.get(id(arg)) if isinstance(arg, Tensor) else arg for arg in args)
        changed = args[0] if name.endswith("_") else result
        name = name.removesuffix("_")
        alpha = given.pop("alpha", 1) if name in ("add", "sub") else 1
        if (
            not all(isinstance(operand, str | float | int) for operand in operands)
            or not given.keys() <= LAYOUT
            or not _keeps_precision(name, changed)
        ):
            raise CompilerError(f"a rule with this call of {name} cannot be fused")
        self._alive.append(changed)
        if alpha != 1:
            operands = operands[0], self._add("mul", (operands[1], alpha))
        if name == "lerp" and not isinstance(operands[2], str):
            self.value[id(changed)] = self._lerp(operands, changed.dtype)
        else:
            self.value[id(changed)] = self._add(name, operands)
        return result

    def _add(self, name: str, operands: tuple[Operand, ...]) -> Operand:
        """Return the value of an operation: a new one, or a known one if nothing has to be computed."""
        if name in ("clone", "_to_copy", "scalar_tensor"):
            return operands[0]
        if name == "detach" and not isinstance(operands[0], str):  # a detached value would share its memory
            return operands[0]
        if name == "copy":
            return operands[1]
        if name == "zeros_like":
            return 0.0
        if name in ("mul", "div") and operands[1] == 1:
            return operands[0]
        if name == "pow" and operands[1] in (1, 2, 3, 0.5):
            base, exponent = operands
            if exponent == 1:
                return base
            if exponent == 3:
                base = self._add("mul", (base, base))
            name, operands = ("sqrt", (base,)) if exponent == 0.5 else ("mul", (base, operands[0]))
        self.operations.append(Operation(f"v{len(self.operations)}", name, operands))
        return self.operations[-1].result

    def _lerp(self, operands: tuple[Any, ...], dtype: torch.dtype) -> Operand:
        """Add torch's own lerp: it starts from the nearer end, and its weight has the tensors' type."""
        start, end, number = operands
        weight = torch.tensor(number, dtype=dtype, device="cpu").item()
        change = self._add("sub", (end, start))
        if abs(weight) < 0.5:
            return self._add("add", (start, self._add("mul", (change, weight))))
        return self._add("sub", (end, self._add("mul", (change, 1 - weight))))


def _keeps_precision(name: str, result: Any) -> bool:
    """Return whether a result is a comparison, a copy, or has a type that kernels compute in (float32, float64)."""
    if not isinstance(result, Tensor):
        return False
    if result.dtype == torch.bool:
        return name in COMPARISONS
    return result.is_floating_point() and (result.dtype.itemsize >= 4 or name in ("clone", "copy"))


def translate(recording: Recording, expressions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each operation's result and its expression in another language.

    Args:
        recording: the operations, all operands of which are names.
        expressions: a format string for each operation's name.

    Raises:
        CompilerError: the language lacks an operation.
    """
    lines = []
    for result, name, operands in recording.operations:
        try:
            lines.append((result, expressions[name].format(*operands)))
        except (KeyError, IndexError) as error:
            raise CompilerError(f"a rule with this call of {name} cannot be fused") from error
    return lines
