"""What S3 and SignSGD share: a rule written for one tensor, applied to all parameters, plainly or compiled."""

import functools
import importlib.util
import os
import shutil
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

PIECE = 2**16  # coordinates that the plain rule takes at a time on a CPU: the temporaries stay in its cache
PIECE_GPU = 2**22  # and elsewhere, where a launch costs more
MANY = 2**20  # coordinates for which compiling pays: seconds once, for a step several times faster

Row = tuple[Tensor, ...]  # (param, grad, *state), all of one shape


class Elementwise(Optimizer):
    """An optimizer whose rule treats every coordinate by itself.

    A subclass gives ``rule(group)``: a function ``(grad, *state, **settings) -> update``, of tensors of one shape, that
    changes the state in place; the names of its state tensors, which start at 0; and the settings. The parameter then
    moves by ``-lr (update + weight_decay param)``.

    Parameters of float32 and float64 have a state of their own type. Narrower ones (bfloat16, float16) have a state of
    float32; the rule computes in float32, and the parameter is rounded once a step.

    foreach=True runs the rule over pieces of at most 65,536 coordinates (4 M on a GPU), large tensors cut and small
    ones gathered, so that temporary memory is bounded by a piece's (a tensor that is not contiguous is one piece);
    foreach=False tensor by tensor. fused=True compiles the rule with torch.compile, once for all shapes, learning rates
    and weight decays (the rule's own settings are compiled in), and takes GradScaler's grad_scale and found_inf. With
    both None, groups of over a million coordinates are fused where a compiler is found, others take foreach. All agree
    to rounding. Parameters that share memory are for foreach=False.

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
        if group["foreach"] and group["fused"]:
            raise ValueError("foreach and fused are both True; choose one")
        self.check(group)
        self.rule(group)  # what it prepares is then there when torch.compile comes
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
            settings |= _common(group) | scaler
            rows = [self._row(param, names) for param in group["params"] if param.grad is not None]
            if torch.compiler.is_compiling():  # the whole step, by the user: torch.compile makes its own pieces
                _apply_all(rows, rule, settings)
            elif group["fused"]:
                _apply_compiled(_pieces(rows, cut=False), rule, settings)
            elif group["fused"] is None and group["foreach"] is None and _compiling_pays(rows):
                _apply_compiled(_pieces(rows, cut=False), rule, settings, otherwise=_apply)
            else:
                _apply_all(rows if group["foreach"] is False else _pieces(rows, cut=True), rule, settings)
        return loss

    def _row(self, param: Any, names: tuple[str, ...]) -> Row:
        """The parameter, its gradient and its state; of a DTensor, the part that lies here."""
        grad = param.grad
        assert grad is not None
        if grad.layout != torch.strided:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        if param.is_complex():
            raise RuntimeError(f"{type(self).__name__} does not support complex parameters")
        state = self.state[param]
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(param, dtype=_precision(param), memory_format=torch.preserve_format)
        if not hasattr(param, "to_local"):
            return (param, grad, *(state[name] for name in names))
        if grad.placements != param.placements:
            grad = grad.redistribute(placements=param.placements)
        return tuple(tensor.to_local() for tensor in (param, grad, *(state[name] for name in names)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which would round the state to the parameter's type: a narrow parameter's is float32."""
        super().load_state_dict(state_dict)
        ours = (param for group in self.param_groups for param in group["params"])
        ids = (index for group in state_dict["param_groups"] for index in group["params"])
        for param, index in zip(ours, ids, strict=True):
            if param.dtype != _precision(param):
                for name, value in state_dict["state"].get(index, {}).items():
                    if isinstance(value, Tensor):
                        self.state[param][name] = value.to(param.device, _precision(param), copy=True)
        for group in self.param_groups:
            self.rule(group)


def check_beta(name: str, beta: float) -> None:
    """Raise ValueError unless 0 <= beta < 1."""
    if not 0 <= beta < 1:
        raise ValueError(f"{name} is {beta}; it must be in [0, 1)")


def _precision(param: Tensor) -> torch.dtype:
    """The type that the rule computes in, and that the state has."""
    return torch.float32 if param.dtype.itemsize < 4 else param.dtype


def _common(group: dict[str, Any]) -> dict[str, Any]:
    """What _apply takes of every group; no weight decay is None, so that its value need not be compiled in."""
    lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
    shrink = 1 - lr * group["weight_decay"] if group["weight_decay"] else None
    return {"lr": lr, "shrink": shrink, "maximize": group["maximize"]}


def _apply(
    rule: Callable[..., Tensor],
    param: Tensor,
    grad: Tensor,
    *state: Tensor,
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
    wide = new[0].to(_precision(param))
    grad = grad.to(wide.dtype)
    if grad_scale is not None:
        grad = grad / grad_scale
    if maximize:
        grad = -grad
    update = rule(grad, *new[1:], **settings)
    if shrink is not None:
        wide.mul_(shrink)
    if isinstance(lr, Tensor):
        wide.sub_(update.mul_(lr))
    else:
        wide.sub_(update, alpha=lr)
    if found_inf is not None:
        for old, value in zip(kept, (wide, *new[1:]), strict=True):
            old.copy_(torch.where(found_inf == 0, value, old))
    elif wide is not param:
        param.copy_(wide)


def _apply_all(pieces: Iterable[Row], rule: Callable[..., Tensor], settings: dict[str, Any]) -> None:
    for piece in pieces:
        _apply(rule, *piece, **settings)


def _pieces(rows: Iterable[Row], cut: bool) -> Iterator[Row]:
    """The rows as flat tensors: small ones gathered, as a call costs more than the copies, large ones cut if `cut`."""
    full = PIECE if cut else PIECE // 2  # of a gathered piece; fused needs no other memory
    gathered: dict[Any, list[Row]] = defaultdict(list)
    size: dict[Any, int] = defaultdict(int)
    for row in rows:
        param, count = row[0], row[0].numel()
        if not all(tensor.is_contiguous() for tensor in row):
            yield tuple(tensor[None] for tensor in row)  # of at least two dimensions: not flat
        elif count >= full // 4:
            flat = tuple(tensor.view(-1) for tensor in row)
            largest = PIECE if param.device.type == "cpu" else PIECE_GPU
            if cut and count > largest:
                yield from zip(*(torch.split(tensor, largest) for tensor in flat), strict=True)
            else:
                yield flat
        elif count > 0:
            kind = param.device, param.dtype, row[1].dtype
            gathered[kind].append(tuple(tensor if tensor.ndim == 1 else tensor.view(-1) for tensor in row))
            size[kind] += count
            if size[kind] > full * 3 // 4:
                yield from _together(gathered.pop(kind))
                del size[kind]
    for small in gathered.values():
        yield from _together(small)


def _together(rows: list[Row]) -> Iterator[Row]:
    """The flat rows as one, whose changes are written back to them when the caller comes for the next."""
    if len(rows) == 1:
        yield tuple(tensor.view(-1) for tensor in rows[0])  # to the compiler a parameter is of another type
        return
    columns = list(zip(*rows, strict=True))
    joined = [torch.cat(column) for column in columns]
    yield tuple(joined)
    sizes = [len(param) for param in columns[0]]
    for index, (column, one) in enumerate(zip(columns, joined, strict=True)):
        if index != 1:  # the gradients have not changed
            torch._foreach_copy_(column, torch.split(one, sizes))


def _compiling_pays(rows: list[Row]) -> bool:
    """Whether the tensors are large enough, and there seems to be what torch.compile needs for their device."""
    if sum(row[0].numel() for row in rows) < MANY:
        return False
    kind = rows[0][0].device.type
    return kind not in _failed and _has_compiler(kind)


@functools.cache
def _has_compiler(device_type: str) -> bool:
    if device_type == "cpu":
        return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))
    return device_type == "cuda" and importlib.util.find_spec("triton") is not None


_failed: set[str] = set()  # types of devices for which torch.compile has failed


def _apply_compiled(
    pieces: Iterable[Row],
    rule: Callable[..., Tensor],
    settings: dict[str, Any],
    otherwise: Callable[..., None] | None = None,
) -> None:
    """Apply the rule by _apply, compiled; where that fails by `otherwise`, or RuntimeError if there is none."""
    from torch._dynamo import config, exc  # slow to load, and only this needs it

    apply, known = _compile(), dict[Any, Callable[[Row], None]]()
    floats = {name: settings[name] for name in ("lr", "shrink") if settings[name] is not None}
    # All other floats as constants: as variables their powers would be computed anew for each coordinate.
    with config.patch(specialize_float=True, recompile_limit=256):
        for piece in pieces:
            param, grad = piece[:2]
            flat = param.ndim == 1 and 1 < param.numel() < 2**31  # torch.compile treats other sizes by themselves
            kind = (param.device, param.dtype, grad.dtype) if flat else None
            if kind in known:
                known[kind](piece)
                continue
            tensors = {name: _scalar(value, _precision(param)) for name, value in floats.items()}
            _ran.clear()
            try:
                apply(rule, *piece, **settings | tensors)
                if kind is not None and _ran:
                    known[kind] = _again(piece)
            except (exc.TorchDynamoException, exc.FailOnRecompileLimitHit) as error:  # before anything has changed
                reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                if otherwise is None:
                    raise RuntimeError(
                        "fused=True compiles the update with torch.compile, which failed; it needs a C++ compiler on "
                        f"a CPU and Triton on a GPU. foreach=True needs neither. ({reason})"
                    ) from error
                if param.device.type not in _failed:
                    warnings.warn(f"torch.compile failed, so updates are slower from here on ({reason})", stacklevel=3)
                _failed.add(param.device.type)
                apply = otherwise
                apply(rule, *piece, **settings)


def _scalar(value: float | Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype, device="cpu")


def _again(piece: Row) -> Callable[[Row], None]:
    """What torch.compile has just run for a flat piece, to run on the others of a step, of the same types and device.

    Without its checks for each: 0.1 ms, more than the update of a hundred thousand coordinates takes.
    """
    run, args = _ran
    _ran.clear()
    columns = {id(tensor): index for index, tensor in enumerate(piece)}
    places = [(place, columns[id(arg)]) for place, arg in enumerate(args) if id(arg) in columns]
    sizes = [place for place, arg in enumerate(args) if isinstance(arg, int)]
    others = [None if id(arg) in columns else arg for arg in args]

    def again(other: Row) -> None:
        inputs = others.copy()
        for place, column in places:
            inputs[place] = other[column]
        for place in sizes:
            inputs[place] = other[0].numel()
        run(*inputs)

    return again


_ran: list[Any] = []  # what torch.compile has run last, and with which arguments


@functools.cache
def _compile() -> Callable[..., None]:
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    options: dict[str, Any] = {"cpp.dynamic_threads": True}  # or a cached kernel keeps its first number of threads
    if isinstance(config.cpp.enable_floating_point_contract_flag, str):  # an older torch has a bool
        options["cpp.enable_floating_point_contract_flag"] = "fast"  # a x + b in one instruction

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        run: Any = compile_fx(graph, inputs, config_patches=options)

        def recorded(*args: Any) -> Any:
            _ran[:] = run, args
            return run(*args)

        return recorded

    return torch.compile(_apply, dynamic=True, fullgraph=True, backend=backend)
