"""What S3 and SignSGD share: a rule written for one tensor, applied to all parameters, plainly or compiled."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .fused import Columns, Row, apply_fused, has_compiler
from .recording import CompilerError

PIECE_CPU = 2**16  # coordinates that the plain rule takes at a time on a CPU: the temporaries stay in its cache
PIECE_GPU = 2**22  # and elsewhere, where a launch costs more
FLAGS: dict[str, tuple[bool | None, ...]] = {"foreach": (None, True, False), "fused": (None, True, False)}
FLAGS |= {"maximize": (True, False), "capturable": (True, False)}
MIN_COMPILED = 2**20  # coordinates for which compiling pays: up to seconds once, for a step many times faster


class Elementwise(Optimizer):
    """An optimizer whose rule treats every coordinate by itself.

    A subclass gives ``rule(group)``: a function ``(grad, *state, **settings) -> update``, of tensors of one shape, that
    changes the state in place; the names of its state tensors, which start at 0; and the settings, hashable. The
    parameter then moves by ``-lr (update + weight_decay param)``. A rule is told apart by its function: take one of a
    module, not a new one at each call, that depends on nothing but its arguments.

    Parameters of float32 and float64 have a state of their own type. Narrower ones (bfloat16, float16) have a state of
    float32; the rule computes in float32, and the parameter is rounded once a step. Where a parameter has changed its
    type between float32 and float64, step raises RuntimeError; load_state_dict converts the state.

    foreach=True runs the rule over pieces of at most 65,536 coordinates (4 M on a GPU), large tensors cut and small
    ones gathered, so that temporary memory is bounded by a piece's (a tensor that is not contiguous is one piece);
    foreach=False tensor by tensor. fused=True compiles the rule and calls it once for all tensors of one type (see
    fused.py), and takes GradScaler's grad_scale and found_inf. It is compiled once for all shapes, learning rates and
    weight decays; the rule's own settings are compiled in. With both None, groups of over a million coordinates are
    fused where a compiler is found, others take foreach. All agree to rounding. Parameters that share memory are for
    foreach=False.

    capturable is accepted for torch's convention: no state counts steps, so every step can be captured in a CUDA graph.
    A learning rate that changes between replays must then be a tensor on the parameters' device.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._step_supports_amp_scaling = bool(defaults["fused"])  # GradScaler then leaves its work to step()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; raises ValueError for an argument outside its range, in a group of its own too."""
        group = {**self.defaults, **param_group}
        for name in ("lr", "weight_decay"):
            if isinstance(group[name], Tensor) and group[name].numel() != 1:
                raise ValueError(f"{name} is a tensor of shape {tuple(group[name].shape)}; it must have one element")
            if not 0 <= group[name] < float("inf"):
                raise ValueError(f"{name} is {group[name]}; it must be at least 0 and finite")
        for name, allowed in FLAGS.items():
            if group[name] not in allowed:
                raise ValueError(f"{name} is {group[name]!r}; it must be one of {', '.join(map(str, allowed))}")
        if group["foreach"] and group["fused"]:
            raise ValueError("foreach and fused are both True; choose one")
        self.check(group)
        self.rule(group)  # what it prepares is then there when the user's torch.compile comes
        super().add_param_group(param_group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for a rule's argument that is outside its range."""
        raise NotImplementedError

    def rule(self, group: dict[str, Any]) -> tuple[Callable[..., Tensor], tuple[str, ...], dict[str, Any]]:
        """The rule of a parameter group, the names of its state tensors, and the rule's settings."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply one update; returns the closure's loss, if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        scaler = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}  # GradScaler's, for one call
        for group in self.param_groups:
            rule, names, settings = self.rule(group)
            settings |= _common_settings(group) | scaler
            columns = self._columns(group["params"], names)
            settings["rule"] = rule
            if torch.compiler.is_compiling():  # the whole step, by the user: torch.compile makes its own pieces
                _apply_all(zip(*columns, strict=True), settings)
                continue
            undecided = group["fused"] is None and group["foreach"] is None
            if group["fused"] or (undecided and _worth_compiling(columns[0], rule)):
                rows = _apply_fused(columns, settings, group_id=id(group), required=bool(group["fused"]))
            else:
                rows = zip(*columns, strict=True)
            rows = list(rows)
            self._refuse_complex(row[0] for row in rows)  # of a rule without a state
            _apply_all(rows if group["foreach"] is False else _pieces(rows), settings)
        return loss

    def _columns(self, params: list[Any], names: tuple[str, ...]) -> Columns:
        """The parameters that have a gradient, the gradients and their states; of DTensors, the parts that lie here."""
        pairs = [(param, param.grad) for param in params]
        params, grads = [x for x, grad in pairs if grad is not None], [grad for _, grad in pairs if grad is not None]
        if {grad.layout for grad in grads} - {torch.strided}:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        states = [self.state[param] for param in params]
        columns: Columns = [params, grads, *(self._state_column(name, params, states) for name in names)]
        if any(hasattr(kind, "to_local") for kind in set(map(type, params))):
            rows = [_local_row(*row) if hasattr(row[0], "to_local") else row for row in zip(*columns, strict=True)]
            columns = list(zip(*rows, strict=True))
        return columns

    def _state_column(self, name: str, params: list[Any], states: list[dict[str, Tensor]]) -> list[Tensor]:
        """One state tensor of each parameter; they start at 0."""
        try:
            return [state[name] for state in states]
        except KeyError:
            self._refuse_complex(params)
            for param, state in zip(params, states, strict=True):
                if name not in state:
                    dtype = _compute_dtype(param)
                    state[name] = torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)
            return [state[name] for state in states]

    def _refuse_complex(self, params: Iterable[Tensor]) -> None:
        if any(map(torch.is_complex, params)):
            raise RuntimeError(f"{type(self).__name__} does not support complex parameters")

    def state_scale(self, dtype: torch.dtype) -> float:  # noqa: ARG002 (a subclass's may depend on it)
        """How many times as large as what it stands for the rule's state is, computed in float32 or float64."""
        return 1.0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which would round the state to the parameter's type: a narrow parameter's is float32."""
        given: dict[str, Any] = {}
        before = self.register_load_state_dict_pre_hook(lambda _, found: given.update(found))  # after other such hooks
        after = self.register_load_state_dict_post_hook(lambda _: self._convert_state(given), prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()
        for group in self.param_groups:
            self.rule(group)

    def _convert_state(self, state_dict: dict[str, Any]) -> None:
        """Take a state anew where torch has rounded it, or the rule's state has another scale."""
        ours = (param for group in self.param_groups for param in group["params"])
        ids = (index for group in state_dict["param_groups"] for index in group["params"])
        for param, index in zip(ours, ids, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                if (
                    isinstance(value, Tensor)
                    and value.is_floating_point()
                    and not value.dtype == param.dtype == _compute_dtype(param)
                ):
                    scale = self.state_scale(_compute_dtype(param)) / self.state_scale(_compute_dtype(value))
                    value = value if scale == 1 else value.double() * scale
                    self.state[param][name] = value.to(param.device, _compute_dtype(param), copy=True)


def _local_row(param: Any, grad: Any, *state: Any) -> Row:
    """Of DTensors the parts that lie here."""
    if grad.placements != param.placements:
        grad = grad.redistribute(placements=param.placements)
    return tuple(tensor.to_local() for tensor in (param, grad, *state))


def check_beta(name: str, beta: float) -> None:
    """Raise ValueError unless 0 <= beta < 1."""
    if not 0 <= beta < 1:
        raise ValueError(f"{name} is {beta}; it must be in [0, 1)")


def _compute_dtype(param: Tensor) -> torch.dtype:
    """The type that the rule computes in, and that the state has."""
    return torch.float32 if param.dtype.itemsize < 4 else param.dtype


def _common_settings(group: dict[str, Any]) -> dict[str, Any]:
    """What _apply takes of every group; no weight decay is None, so that its value need not be compiled in."""
    lr, decay = (x.reshape(()) if isinstance(x, Tensor) else x for x in (group["lr"], group["weight_decay"]))
    shrink = 1 - lr * decay if decay else None
    return {"lr": lr, "shrink": shrink, "maximize": group["maximize"]}


def _apply(
    param: Tensor,
    grad: Tensor,
    *state: Tensor,
    rule: Callable[..., Tensor],
    lr: float | Tensor,
    shrink: float | Tensor | None,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    **settings: Any,
) -> None:
    """One update in place. With found_inf other than 0 everything keeps its value."""
    kept = (param, *state)
    new = kept if found_inf is None else tuple(tensor.clone() for tensor in kept)
    wide = new[0].to(_compute_dtype(param))
    for tensor in state:
        if tensor.dtype != wide.dtype:
            raise RuntimeError(
                f"the state is {tensor.dtype}, but {wide.dtype} is needed for a parameter that has become "
                f"{param.dtype}: load the optimizer's state_dict, which converts it"
            )
    grad = grad.to(wide.dtype)
    if grad_scale is not None:
        grad = grad / grad_scale
    if maximize:
        grad = -grad
    update = rule(grad, *new[1:], **settings)
    if shrink is not None:
        wide.mul_(shrink)
    if isinstance(lr, Tensor):
        wide.sub_(update * lr)  # not in place: a rule may return its state
    else:
        wide.sub_(update, alpha=lr)
    if found_inf is not None:
        for old, value in zip(kept, (wide, *new[1:]), strict=True):
            old.copy_(torch.where(found_inf == 0, value, old))
    elif wide is not param:
        param.copy_(wide)


def _apply_all(pieces: Iterable[Row], settings: dict[str, Any]) -> None:
    for piece in pieces:
        _apply(*piece, **settings)


def _apply_fused(columns: Columns, settings: dict[str, Any], *, group_id: int, required: bool) -> Iterable[Row]:
    """Apply the rule to the rows that can be fused, and return the others; where compiling fails these are all."""
    try:
        return apply_fused(_apply, columns, settings, group_id)
    except CompilerError as error:
        if required:
            raise RuntimeError(
                "fused=True compiles the update, which failed; it needs a C++ compiler on a CPU and Triton on a GPU. "
                f"foreach=True needs neither. ({error})"
            ) from error
        warnings.warn(f"compiling failed, so updates are slower from here on ({error})", stacklevel=3)
        _failed_to_compile.add((columns[0][0].device.type, settings["rule"]))
        return zip(*columns, strict=True)


def _pieces(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as flat tensors: small ones gathered, as a call costs more than the copies, large ones cut."""
    gathered: dict[Any, list[Row]] = defaultdict(list)
    size: dict[Any, int] = defaultdict(int)
    for row in rows:
        param, count = row[0], row[0].numel()
        if not all(tensor.is_contiguous() for tensor in row):
            yield row
        elif count >= PIECE_CPU // 4:
            flat = tuple(tensor.view(-1) for tensor in row)
            largest = PIECE_CPU if param.device.type == "cpu" else PIECE_GPU
            if count > largest:
                yield from zip(*(torch.split(tensor, largest) for tensor in flat), strict=True)
            else:
                yield flat
        elif count > 0:
            kind = param.device, *(tensor.dtype for tensor in row)  # of several types cat would make one
            gathered[kind].append(tuple(tensor if tensor.ndim == 1 else tensor.view(-1) for tensor in row))
            size[kind] += count
            if size[kind] > PIECE_CPU * 3 // 4:
                yield from _gathered(gathered.pop(kind))
                del size[kind]
    for small in gathered.values():
        yield from _gathered(small)


def _gathered(rows: list[Row]) -> Iterator[Row]:
    """The flat rows as one, whose changes are written back to them when the caller comes for the next."""
    if len(rows) == 1:
        yield rows[0]
        return
    columns = list(zip(*rows, strict=True))
    joined = [torch.cat(column) for column in columns]
    yield tuple(joined)
    sizes = [len(param) for param in columns[0]]
    for index, (column, one) in enumerate(zip(columns, joined, strict=True)):
        if index != 1:  # the gradients have not changed
            torch._foreach_copy_(column, torch.split(one, sizes))


def _worth_compiling(params: Sequence[Tensor], rule: Callable[..., Tensor]) -> bool:
    """Whether compiling does: the parameters are large enough, and there seems to be a compiler for their device."""
    if sum(map(Tensor.numel, params)) < MIN_COMPILED:
        return False
    kind = params[0].device.type
    return (kind, rule) not in _failed_to_compile and has_compiler(kind)


_failed_to_compile: set[Any] = set()  # types of devices for which compiling has failed, and the rules
