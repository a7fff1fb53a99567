"""Applies a rule written for one tensor to all parameters, as it is or compiled: the base class of S3 and SignSGD."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .calls import Quotient, number
from .fused import DTYPE, SHAPE, Columns, Prepared, Row, has_compiler, prepare_fused
from .loading import misfit, refuse_misfits
from .pieces import pieces
from .recording import CompilerError

FLAGS: dict[str, tuple[bool | None, ...]] = {"foreach": (None, True, False), "fused": (None, True, False)}
FLAGS |= {"maximize": (False, True), "capturable": (False, True)}  # the first value is the default
MIN_COMPILED = 2**12  # coordinates from which to compile: half a second once on a machine, then 0.2 ms less a step


class Elementwise(Optimizer):
    """Applies a rule that treats every coordinate by itself.

    A subclass defines ``check`` and ``rule``. ``rule(group)`` returns:

    - a function ``(grad, *state, **settings)`` of tensors of one shape, which returns the update (a Quotient where
      nothing is compiled, if it likes) and changes the state in place. It depends on nothing but its arguments.
      Compiled rules are found again by this function, so it must be the same object at each call: define it in a
      module;
    - the names of the state tensors, which start at 0;
    - the settings, which must be hashable. Numbers among them may change at each step.

    Each parameter then moves by ``-lr (update + weight_decay param)``.

    float32 and float64 parameters have a state of their own type. Narrower ones (bfloat16, float16) have a float32
    state: the rule computes in float32, and the parameter is rounded once per step. After a parameter has changed
    between float32 and float64, ``step`` raises RuntimeError until ``load_state_dict`` has converted the state.

    There are three implementations, which agree to rounding:

    - ``foreach=False`` runs the rule tensor by tensor. Parameters that share memory need it.
    - ``foreach=True`` runs it over pieces of at most 131,072 coordinates (4 million on a GPU). Large tensors are cut
      and small ones gathered, so temporary memory is bounded by the size of a piece. A tensor that is not contiguous is
      one piece.
    - ``fused=True`` compiles the rule and calls it once for all tensors of one type (see fused.py). It also accepts
      GradScaler's grad_scale and found_inf. One compilation serves all shapes, learning rates, weight decays and
      numbers among the settings, as long as the rule's operations stay the same.

    A step that is refused (complex or sparse gradients, a state of another shape) has moved no parameter of any group.

    With both None, groups of at least 4,096 coordinates are fused where a compiler is found, and others use foreach.

    ``capturable`` is accepted because torch's optimizers have it: no state counts steps, so every step can be captured
    in a CUDA graph. A learning rate that changes between replays must then be a tensor on the parameters' device.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._step_supports_amp_scaling = bool(defaults["fused"])  # GradScaler then leaves unscaling to step()
        self._state_is_new = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; raise ValueError if one of its arguments is outside its range."""
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
        self.rule(group)  # prepares its settings now, before a user's torch.compile traces step()
        super().add_param_group(param_group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if an argument of the rule is outside its range."""
        raise NotImplementedError

    def rule(self, group: dict[str, Any]) -> tuple[Callable[..., Tensor | Quotient], tuple[str, ...], dict[str, Any]]:
        """Return the rule of a parameter group, the names of its state tensors, and the rule's settings."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply one update; return the closure's loss if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        scaler = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}  # GradScaler sets them
        given = [self._gradients(group["params"]) for group in self.param_groups]
        if torch.compiler.is_compiling():  # the user compiles the whole step: torch.compile makes its own pieces
            for group, pairs in zip(self.param_groups, given, strict=True):
                columns, settings = self._columns(group, *pairs)
                _apply_all(zip(*columns, strict=True), settings | scaler)
            return loss
        if self._state_is_new:
            self._check_state()
        work = [self._prepare(group, *pairs, scaler) for group, pairs in zip(self.param_groups, given, strict=True)]
        for group, prepared, rows, settings in work:  # everything is refused before anything moves
            rows += _run_fused(prepared, settings, required=bool(group["fused"]))
            with torch.inference_mode():  # operations without autograd cost less Python
                _apply_all(rows if group["foreach"] is False else pieces(rows), settings)
        return loss

    def _gradients(self, params: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return the parameters that have a gradient, and their gradients."""
        pairs = [(param, param.grad) for param in params]
        params, grads = [x for x, grad in pairs if grad is not None], [grad for _, grad in pairs if grad is not None]
        for layout, dtype in {(grad.layout, grad.dtype) for grad in grads}:
            if layout != torch.strided:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
            if dtype.is_complex:
                raise RuntimeError(f"{type(self).__name__} does not support complex parameters or gradients")
        return params, grads

    def _columns(self, group: dict[str, Any], params: list[Any], grads: list[Any]) -> tuple[Columns, dict[str, Any]]:
        """Return the rows of a group as columns, the local parts of DTensors, and the settings of _apply."""
        rule, names, settings = self.rule(group)
        settings |= _common_settings(group) | {"rule": rule}
        states = [self.state[param] for param in params] if names else []  # a look makes an empty one
        columns: Columns = [params, grads, *(self._state_column(name, params, states) for name in names)]
        if any(hasattr(kind, "to_local") for kind in set(map(type, params))):
            rows = [_local_row(*row) if hasattr(row[0], "to_local") else row for row in zip(*columns, strict=True)]
            columns = list(zip(*rows, strict=True))
        return columns, settings

    def _state_column(self, name: str, params: list[Any], states: list[dict[str, Tensor]]) -> list[Tensor]:
        """Return one state tensor of each parameter; make missing ones, which start at 0."""
        try:
            return [state[name] for state in states]
        except KeyError:
            for param, state in zip(params, states, strict=True):
                if name not in state:
                    dtype = _compute_dtype(param)
                    state[name] = torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)
            return [state[name] for state in states]

    def _prepare(
        self, group: dict[str, Any], params: list[Any], grads: list[Any], scaler: dict[str, Any]
    ) -> tuple[dict[str, Any], Prepared, list[Row], dict[str, Any]]:
        """Return the group, its compiled calls, the rows that are not fused, and the settings of _apply."""
        columns, settings = self._columns(group, params, grads)
        settings |= scaler
        undecided = group["fused"] is None and group["foreach"] is None
        if group["fused"] or (undecided and _worth_compiling(columns[0], settings["rule"])):
            prepared, rows = _prepare_fused(columns, settings, required=bool(group["fused"]))
        else:
            prepared, rows = Prepared([]), list(zip(*columns, strict=True))
        _check_rows(rows, type(self).__name__)
        return group, prepared, rows, settings

    def _check_state(self) -> None:
        """Raise RuntimeError if a tensor of the state does not have its parameter's shape."""
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state.get(param, {})
                for name in set(self.rule(group)[1]) & state.keys():
                    if reason := misfit(f"the state's {name}", state[name].shape, param.shape):
                        raise RuntimeError(reason)
                    state[name] = state[name].resolve_neg()
        self._state_is_new = False

    def state_scale(self, dtype: torch.dtype) -> float:  # noqa: ARG002 (a subclass's may depend on it)
        """Return the factor by which the rule's state is scaled when it computes in this type, float32 or float64."""
        return 1.0

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # a state_dict or a pickle, perhaps of an older version
        for group in self.param_groups:
            for name, allowed in FLAGS.items():
                group.setdefault(name, allowed[0])
        self._state_is_new = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state as torch does, but keep the float32 state of narrow parameters, which torch would round.

        Raises ValueError, before anything has changed, if the state is another optimizer's or another model's.
        """
        given: dict[str, Any] = {}

        def keep(_: Any, found: dict[str, Any]) -> None:
            refuse_misfits(self, found, self._needed)
            given.update(found)

        before = self.register_load_state_dict_pre_hook(keep)  # runs after the user's hooks, as it is registered last
        after = self.register_load_state_dict_post_hook(lambda _: self._convert_state(given), prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()
        for group in self.param_groups:
            self.rule(group)

    def _needed(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of a saved group's state tensors; raise KeyError if the group lacks a setting."""
        _common_settings({"maximize": False, **group})
        return self.rule(group)[1]

    def _convert_state(self, state_dict: dict[str, Any]) -> None:
        """Set the state again where torch has rounded it, and where its scale depends on the type."""
        ours = (param for group in self.param_groups for param in group["params"])
        ids = (index for group in state_dict["param_groups"] for index in group["params"])
        for param, index in zip(ours, ids, strict=True):
            if not self.state.get(param, True):
                del self.state[param]  # an empty one, as older versions saved it
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
    """Return the local parts of DTensors."""
    if grad.placements != param.placements:
        grad = grad.redistribute(placements=param.placements)
    return tuple(tensor.to_local() for tensor in (param, grad, *state))


def check_beta(name: str, beta: float) -> None:
    """Raise ValueError unless 0 <= beta < 1."""
    if not 0 <= beta < 1:
        raise ValueError(f"{name} is {beta}; it must be in [0, 1)")


def _compute_dtype(param: Tensor | torch.dtype) -> torch.dtype:
    """Return the type that the rule computes in and that the state has."""
    dtype = param.dtype if isinstance(param, Tensor) else param
    return torch.float32 if dtype.itemsize < 4 else dtype


def _check_dtype(state: torch.dtype, param: torch.dtype) -> None:
    """Raise RuntimeError if a state's type is not that of the parameter's computations."""
    if state != _compute_dtype(param):
        raise RuntimeError(
            f"the state is {state}, but {_compute_dtype(param)} is needed for a parameter that has become "
            f"{param}: load the optimizer's state_dict, which converts it"
        )


def _common_settings(group: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of _apply that every group has.

    Without weight decay `shrink` is None, and the multiplication is left out of the compiled rule.
    """
    lr, decay = (x.reshape(()) if isinstance(x, Tensor) else x for x in (group["lr"], group["weight_decay"]))
    shrink = 1 - lr * decay if decay else None
    return {"lr": lr, "shrink": shrink, "maximize": group["maximize"]}


def _apply(
    param: Tensor,
    grad: Tensor,
    *state: Tensor,
    rule: Callable[..., Tensor | Quotient],
    lr: float | Tensor,
    shrink: float | Tensor | None,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    **settings: Any,
) -> None:
    """Update the parameter and its state in place; if found_inf is not 0, everything keeps its value."""
    kept = (param, *state)
    new = kept if found_inf is None else tuple(tensor.clone() for tensor in kept)
    dtype = _compute_dtype(param)
    for tensor in state:
        _check_dtype(tensor.dtype, param.dtype)
    wide, grad = (x if x.dtype == dtype else x.to(dtype) for x in (new[0], grad))  # a call of `to` is not free
    if grad_scale is not None:
        grad = grad / grad_scale
    if maximize:
        grad = -grad
    update = rule(grad, *new[1:], **settings)
    if shrink is not None:
        wide.mul_(shrink if isinstance(shrink, Tensor) else number(shrink, wide))
    if isinstance(update, Quotient) and not isinstance(lr, Tensor):
        wide.addcdiv_(update.above, update.below, value=-lr * update.factor)
    elif isinstance(update, Quotient):
        wide.addcdiv_(update.above * lr, update.below, value=-update.factor)
    elif isinstance(lr, Tensor):
        wide.sub_(update * lr)  # `update` stays as it is: it may be the rule's state
    else:
        wide.sub_(update, alpha=lr)
    if found_inf is not None:
        for old, value in zip(kept, (wide, *new[1:]), strict=True):
            old.copy_(torch.where(found_inf == 0, value, old))
    elif wide is not param:
        param.copy_(wide)


def _apply_all(rows: Iterable[Row], settings: dict[str, Any]) -> None:
    """Update every row."""
    for row in rows:
        _apply(*row, **settings)


def _check_rows(rows: list[Row], optimizer: str) -> None:
    """Raise RuntimeError if the plain rule could not update each row, for its types or its shapes."""
    columns = list(zip(*rows, strict=True))
    for param, _, *state in set(zip(*(map(DTYPE, column) for column in columns), strict=True)):
        if param.is_complex:
            raise RuntimeError(f"{optimizer} does not support complex parameters or gradients")
        for dtype in state:
            _check_dtype(dtype, param)
    shapes = [list(map(SHAPE, column)) for column in columns]
    for name, others in zip(["the gradient", *["the state"] * len(columns)], shapes[1:], strict=False):
        if others != shapes[0]:
            raise RuntimeError(next(filter(None, map(misfit, [name] * len(rows), others, shapes[0]))))


def _prepare_fused(columns: Columns, settings: dict[str, Any], *, required: bool) -> tuple[Prepared, list[Row]]:
    """Compile the rule for the rows that can be fused; return it and the other rows: all rows if compiling fails.

    Raises RuntimeError if compiling fails and fused=True requires it.
    """
    try:
        return prepare_fused(_apply, columns, settings)
    except CompilerError as error:
        _give_up(error, columns[0], settings["rule"], required=required)
        return Prepared([]), list(zip(*columns, strict=True))


def _run_fused(prepared: Prepared, settings: dict[str, Any], *, required: bool) -> list[Row]:
    """Update the rows that are fused; return those whose kernel fails, or raise RuntimeError as _prepare_fused does."""
    try:
        return prepared.run()
    except CompilerError as error:
        _give_up(error, prepared.calls[0][1][0], settings["rule"], required=required)
        return [row for _, columns, _ in prepared.calls for row in zip(*columns, strict=True)]


def _give_up(
    error: CompilerError, params: Sequence[Tensor], rule: Callable[..., Tensor | Quotient], *, required: bool
) -> None:
    """Raise RuntimeError if the rule has to be compiled, otherwise warn and remember that it cannot be."""
    if required:
        raise RuntimeError(f"fused=True: the update could not be compiled: {error}. foreach=True needs no compiler")
    warnings.warn(f"compiling failed; updates are slower from now on ({error})", stacklevel=4)
    kinds = {param.device.type for param in params}
    if len(kinds) == 1:  # else only one of them may be to blame
        _failed_to_compile.add((kinds.pop(), rule))


def _worth_compiling(params: Sequence[Tensor], rule: Callable[..., Tensor | Quotient]) -> bool:
    """Return whether the parameters are large enough and a compiler for their device seems to exist."""
    if sum(map(Tensor.numel, params)) < MIN_COMPILED:
        return False
    kind = params[0].device.type
    return (kind, rule) not in _failed_to_compile and has_compiler(kind)


_failed_to_compile: set[Any] = set()  # pairs of device type and rule
