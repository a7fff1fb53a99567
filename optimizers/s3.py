"""S3 (SoftSignSGD), Peng et al., arXiv 2507.06464: momentum over the running p-norm of the gradient, in [-1, 1]."""

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Tensors = list[Tensor] | tuple[Tensor, ...]


class S3(Optimizer):
    r"""The SoftSignSGD optimizer: a soft sign of the gradient whose every coordinate stays within [-1, 1].

        m_t = β m_{t-1} + (1-β) g_t                    s_t = β s_{t-1} + (1-β) |g_t|^p
        n_t = β m_t + (1-β) g_t                        b_t = (β s_t + (1-β) |g_t|^p)^{1/p}
        x_t = x_{t-1} - lr (n_t / b_t + weight_decay x_{t-1})

    with m_0 = s_0 = 0 and no bias correction. There is no ε: the rule does not depend on the gradient's scale, and a
    coordinate whose gradient has always been zero does not move. State, two tensors shaped like the parameter:
    ``exp_avg`` is m, ``exp_norm`` is s^{1/p} (the gradient's own unit, so that |g|^p never under- or overflows).

    Args:
        params: parameters or parameter groups.
        lr: learning rate, a float or a 0-d tensor.
        beta: decay β of both averages, in [0, 1).
        p: order of the norm, from 1 to infinity; β = 0 gives SignSGD for every p.
        nesterov: the look-ahead in n and b; without it n_t = m_t and b_t = s_t^{1/p}.
        denominator_beta: another β for s and b, None for the same one. Only the same one keeps |n/b| ≤ 1.
        weight_decay: decoupled weight decay λ.
        maximize: ascend instead of descend.
        foreach: update all tensors of a kind together (the default) or one by one (False).
        fused: compile the update with ``torch.compile``.
        capturable: for torch's convention only; the state has no step count, so every S3 can be captured.

    Raises ValueError for an argument outside its range, RuntimeError for a sparse or complex gradient.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        beta: float = 0.95,
        p: float = 3.0,
        *,
        nesterov: bool = True,
        denominator_beta: float | None = None,
        weight_decay: float = 0.01,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} is {value}; it must be at least 0")
        if not 0 <= beta < 1:
            raise ValueError(f"beta is {beta}; it must be in [0, 1)")
        if denominator_beta is not None and not 0 <= denominator_beta < 1:
            raise ValueError(f"denominator_beta is {denominator_beta}; it must be in [0, 1), or None for beta")
        if not p >= 1:
            raise ValueError(f"p is {p}; it must be at least 1 (math.inf included)")
        if foreach and fused:
            raise ValueError("foreach and fused are both True; choose one")
        defaults = {
            "lr": lr,
            "beta": beta,
            "p": p,
            "nesterov": nesterov,
            "denominator_beta": denominator_beta,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply one update; returns the closure's loss, if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            update, lr = _update, group["lr"]
            if group["fused"]:  # lr as a tensor, or it would compile anew for each learning rate
                update, lr = _compiled_update(), torch.as_tensor(lr, dtype=torch.float64)
            names = ("beta", "denominator_beta", "p", "nesterov", "weight_decay", "maximize")
            settings = {name: group[name] for name in names}
            for tensors in self._tensors_by_kind(group):
                update(*tensors, lr=lr, **settings)
        return loss

    def _tensors_by_kind(self, group: dict[str, Any]) -> list[tuple[list[Tensor], ...]]:
        """Lists of (params, grads, exp_avgs, exp_norms), each list of one device and dtype: what foreach needs."""
        kinds: dict[Any, tuple[list[Tensor], ...]] = defaultdict(lambda: ([], [], [], []))
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("S3 does not support sparse gradients")
            if param.is_complex():
                raise RuntimeError("S3 does not support complex parameters")
            state = self.state[param]
            if not state:
                state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
                state["exp_norm"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            kind = param if group["foreach"] is False else (param.device, param.dtype)
            tensors = (param, param.grad, state["exp_avg"], state["exp_norm"])
            for of_kind, tensor in zip(kinds[kind], tensors, strict=True):
                of_kind.append(tensor)
        return list(kinds.values())


def _update(
    params: Tensors,
    grads: Tensors,
    exp_avgs: Tensors,
    exp_norms: Tensors,
    *,
    lr: float | Tensor,
    beta: float,
    denominator_beta: float | None,
    p: float,
    nesterov: bool,
    weight_decay: float,
    maximize: bool,
) -> None:
    """One S3 update in place of tensors of one device and dtype.

    Both norms are taken relative to scale = max(s^{1/p}, |g|), so that the p-th powers lie in [0, 1] whatever the
    gradient's unit: s^{1/p} = scale (β (s^{1/p}/scale)^p + (1-β) (|g|/scale)^p)^{1/p}, and likewise b.
    """
    denominator_beta = beta if denominator_beta is None else denominator_beta
    if maximize:
        grads = torch._foreach_neg(grads)
    magnitudes = torch._foreach_abs(grads)
    scales = torch._foreach_maximum(exp_norms, magnitudes)
    smallest = torch.finfo(params[0].dtype).smallest_normal  # a denormal would be 0 where denormals are flushed
    torch._foreach_clamp_min_(scales, smallest)  # 0 / scale is 0

    torch._foreach_div_(magnitudes, scales)
    new_powers = _power(magnitudes, p)
    torch._foreach_mul_(new_powers, 1 - denominator_beta)  # (1-β) |g|^p / scale^p
    powers = _power(torch._foreach_div(exp_norms, scales), p)
    torch._foreach_mul_(powers, denominator_beta)
    torch._foreach_add_(powers, new_powers)  # s / scale^p
    torch._foreach_copy_(exp_norms, torch._foreach_mul(_power(powers, 1 / p), scales))

    torch._foreach_lerp_(exp_avgs, grads, 1 - beta)
    updates = exp_avgs
    if nesterov:
        updates = torch._foreach_lerp(exp_avgs, grads, 1 - beta)  # n
        torch._foreach_mul_(powers, denominator_beta)
        torch._foreach_add_(powers, new_powers)  # (b / scale)^p
    updates = torch._foreach_div(updates, scales)
    torch._foreach_clamp_min_(powers, smallest)  # without any gradient so far both are 0, and so is the update
    torch._foreach_div_(updates, _power(powers, 1 / p))  # n / b

    if weight_decay != 0:
        torch._foreach_mul_(params, 1 - lr * weight_decay)
    if isinstance(lr, Tensor):
        torch._foreach_mul_(updates, -lr.to(params[0].device))
        torch._foreach_add_(params, updates)
    else:
        torch._foreach_add_(params, updates, alpha=-lr)


def _power(tensors: Tensors, exponent: float) -> Tensors:
    """Each tensor to the power; a copy also where the exponent is 1. An exponent of 0 stands for 1/infinity."""
    if exponent == 1:
        return [tensor.clone() for tensor in tensors]
    return torch._foreach_pow(tensors, exponent)


@functools.cache
def _compiled_update() -> Callable[..., None]:
    return torch.compile(_update)
