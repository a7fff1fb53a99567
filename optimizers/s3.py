"""S3 (SoftSignSGD), Peng et al., arXiv 2507.06464: momentum over the running p-norm of the gradient, in [-1, 1]."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optimizers.elementwise import Elementwise, check_beta
from optimizers.roots import Root, power


class S3(Elementwise):
    r"""The SoftSignSGD optimizer: a soft sign of the gradient whose every coordinate stays within [-1, 1].

        m_t = β m_{t-1} + (1-β) g_t                    s_t = β s_{t-1} + (1-β) |g_t|^p
        n_t = β m_t + (1-β) g_t                        b_t = (β s_t + (1-β) |g_t|^p)^{1/p}
        x_t = x_{t-1} - lr (n_t / b_t + weight_decay x_{t-1})

    with m_0 = s_0 = 0 and no bias correction. There is no ε: the rule does not depend on the gradient's scale, and a
    coordinate whose gradient has always been zero does not move.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, a float or a 0-d tensor.
        beta: decay β of both averages, in [0, 1).
        p: order of the norm, from 1 to infinity; β = 0 gives SignSGD for every p.
        nesterov: the look-ahead in n and b; without it n_t = m_t and b_t = s_t^{1/p}.
        denominator_beta: another β for s and b, None for the same one. Only the same one keeps |n/b| ≤ 1.
        weight_decay: decoupled weight decay λ.
        maximize: ascend instead of descend.
        foreach, fused, capturable: see Elementwise.

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

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for an argument outside its range."""
        check_beta("beta", group["beta"])
        if group["denominator_beta"] is not None:
            check_beta("denominator_beta", group["denominator_beta"])
        if not group["p"] >= 1:
            raise ValueError(f"p is {group['p']}; it must be at least 1 (math.inf included)")

    def rule(self, group: dict[str, Any]) -> tuple[Callable[..., Tensor], tuple[str, ...], dict[str, Any]]:
        """S3's rule, see _rule."""
        beta, other = group["beta"], group["denominator_beta"]
        key = (beta, beta if other is None else other, group["p"], group["nesterov"])
        if key not in _settings_of:
            _settings_of[key] = _settings(*key)
        return _rule, ("soft_sign", "root_norm"), dict(_settings_of[key])


_settings_of: dict[tuple[float, float, float, bool], dict[str, Any]] = {}  # functools.cache stops torch.compile


def _settings(beta: float, denominator_beta: float, p: float, nesterov: bool) -> dict[str, Any]:
    """What _rule takes."""
    order = 2 * p  # of the norm of √|g|
    return {
        "beta": beta,
        "order": order,
        "keep": denominator_beta ** (1 / order) if denominator_beta else 0.0,
        "add": (1 - denominator_beta) ** (1 / order),
        "bound": 1.0 if beta == denominator_beta else 1e30,  # of |n/b|: by the rule, or to stay within float32
        "grow": Root(1.0, 1 / order),
        "shrink": Root(denominator_beta, -1 / p) if nesterov else None,
    }


def _rule(
    grad: Tensor,
    soft_sign: Tensor,
    root_norm: Tensor,
    *,
    beta: float,
    order: float,
    keep: float,
    add: float,
    bound: float,
    grow: Root,
    shrink: Root | None,
) -> Tensor:
    """n_t / b_t from the gradient and the state (u, q), which becomes that of step t.

    |g|^p leaves float32's range at once: at p = 5 a gradient of 1e-9 gives 1e-45. So the state is not (m, s) but

        u = m / s^{1/p}, within [-1, 1], and q = s^{1/2p}, the norm of order 2p of √|g|.

    √|g| lies in 1e-23..1e19 for all floats, denormal ones included, so q is always a normal number. The sums of powers
    are taken relative to their larger term, q_t = larger (1 + (smaller/larger)^{2p})^{1/2p}, and those of b to s:
    b^p / s = β + (1-β) |g|^p / s. Every power then lies in [0, 1], and one that vanishes would not count.
    """
    root = grad.abs().sqrt_()  # |g|^{1/2}
    kept = root_norm * keep  # (β s_{t-1})^{1/2p}
    new = root.mul_(add).add_(torch.finfo(grad.dtype).smallest_normal)  # ((1-β) |g|^p)^{1/2p}, never 0
    excess = (kept - new).relu_()  # compiled, a third of the cost of maximum and minimum
    larger, smaller = excess + new, kept - excess
    norm = grow(power(smaller.div_(larger), order)).mul_(larger)  # s_t^{1/2p}
    inverse = norm.reciprocal()
    if bound == 1:
        decayed = kept.mul_(inverse).square_().mul_(beta ** (1 - 2 / order) if beta else 0.0)  # β (s_{t-1}/s_t)^{1/p}
    else:
        decayed = (root_norm * inverse).clamp_max_(1e18).square_().mul_(beta)
    gradient = (grad * inverse).mul_(inverse).mul_(1 - beta)  # (1-β) g / s_t^{1/p}
    soft_sign.mul_(decayed).add_(gradient)  # m_t / s_t^{1/p}
    if bound > 1:
        soft_sign.clamp_(-bound, bound)
    root_norm.copy_(norm)
    if shrink is None:
        update = soft_sign.clone()
    else:
        share = power(new.mul_(inverse), order)  # (1-β) |g|^p / s_t
        update = (soft_sign * beta).add_(gradient).mul_(shrink(share))  # n / s^{1/p} · s^{1/p} / b
    return update if bound == 1 else update.clamp_(-bound, bound)
