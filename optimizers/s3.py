"""S3 (SoftSignSGD; Peng et al., arXiv 2507.06464): momentum over the running p-norm of the gradient, in [-1, 1]."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .engine.calls import Quotient, number
from .engine.elementwise import Elementwise, check_beta
from .engine.recording import is_compiled
from .engine.roots import Power, Root
from .engine.sums import in_few_calls


class S3(Elementwise):
    r"""Takes steps along a soft sign of the gradient, each coordinate in [-1, 1] (Peng et al., arXiv 2507.06464).

        m_t = β m_{t-1} + (1-β) g_t                    s_t = β s_{t-1} + (1-β) |g_t|^p
        n_t = β m_t + (1-β) g_t                        b_t = (β s_t + (1-β) |g_t|^p)^{1/p}
        x_t = x_{t-1} - lr (n_t / b_t + weight_decay x_{t-1})

    with m_0 = s_0 = 0 and no bias correction. There is no ε: the rule does not depend on the gradient's scale, and a
    coordinate whose gradient has always been zero does not move. One that is not finite makes the parameter NaN.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, finite and at least 0; a float or a tensor of one element.
        beta: decay β of both averages, in [0, 1); 0 gives SignSGD for every p.
        p: order of the norm, from 1 to infinity.
        nesterov: look ahead in n and b; without it n_t = m_t and b_t = s_t^{1/p}.
        denominator_beta: the β of s and b, in [0, 1); None means `beta`. Only equal decays keep |n/b| ≤ 1 + 1e-5.
        weight_decay: decoupled weight decay, finite and at least 0.
        maximize: ascend instead of descend.
        foreach, fused, capturable: see Elementwise.

    Raises:
        ValueError: an argument is outside its range.
        RuntimeError: a gradient is sparse or a parameter complex (raised by `step`).
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
        rule = {"beta": beta, "p": p, "nesterov": nesterov, "denominator_beta": denominator_beta}
        flags = {"maximize": maximize, "foreach": foreach, "fused": fused, "capturable": capturable}
        super().__init__(params, {"lr": lr, **rule, "weight_decay": weight_decay, **flags})

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if an argument is outside its range."""
        check_beta("beta", group["beta"])
        if group["denominator_beta"] is not None:
            check_beta("denominator_beta", group["denominator_beta"])
        if not group["p"] >= 1:
            raise ValueError(f"p is {group['p']}; it must be at least 1 (math.inf included)")

    def state_scale(self, dtype: torch.dtype) -> float:
        """Return the S of _rule."""
        return 2 / torch.finfo(dtype).eps

    def rule(self, group: dict[str, Any]) -> tuple[Callable[..., Tensor | Quotient], tuple[str, ...], dict[str, Any]]:
        """Return _rule, the names of its state, and its settings."""
        beta, other = group["beta"], group["denominator_beta"]
        key = (float(beta), float(beta if other is None else other), float(group["p"]), group["nesterov"])
        if key not in _settings_cache:
            if len(_settings_cache) >= 256:  # a schedule may change them at each step
                del _settings_cache[next(iter(_settings_cache))]
            _settings_cache[key] = _rule_settings(*key)
        return _rule, ("exp_avg", "norm"), dict(_settings_cache[key])


_settings_cache: dict[tuple[float, float, float, bool], dict[str, Any]] = {}  # functools.cache stops torch.compile


def _rule_settings(beta: float, denominator_beta: float, p: float, nesterov: bool) -> dict[str, Any]:
    """Return the keyword arguments of _rule."""
    bound: float | None = 1e30  # on |n/b|, so that float32 holds it
    if beta == denominator_beta:
        # A tiny β can make n a denormal number. With β near 1, rounding adds up over p/(1-β) steps: to 1.7e-4 at 0.999,
        # 7e-6 at 0.97. In between nothing is clamped, which would cost some 4% of a fused step on a CPU.
        bound = None if 0.5 <= beta <= 0.97 else 1.0
    return {
        "beta": beta,
        "norm_beta": denominator_beta,
        "keep": denominator_beta ** (1 / p) if denominator_beta else 0.0,
        "add": (1 - denominator_beta) ** (1 / p),
        "bound": bound,
        "power": Power.of(p),
        "grow": Root.of(1.0, 1 / p, tolerance=5e-8),  # its errors add up over the steps
        "look_ahead": Root.of(denominator_beta, 1 / p, 1 + denominator_beta, tolerance=7e-7) if nesterov else None,
    }


def _rule(
    grad: Tensor,
    exp_avg: Tensor,
    norm: Tensor,
    *,
    beta: float,
    norm_beta: float,
    keep: float,
    add: float,
    bound: float | None,
    power: Power,
    grow: Root,
    look_ahead: Root | None,
) -> Tensor | Quotient:
    """Return n_t / b_t, and update the state to step t.

    |g|^p leaves float32's range quickly: at p = 5 a gradient of 1e-9 gives 1e-45. So the state is not (m, s) but

        exp_avg = S m and norm = S s^{1/p}, with S = 2^24 (2^53 in float64),

    which are of the gradients' own size; S turns nearly every denormal number into a normal one. Finite gradients
    beyond ±2^100 = 1.3e30 count as that. Sums of powers are computed relative to their larger term:

        s_t = larger^p (1 + share), with share = (smaller / larger)^p in [0, 1],
        b_t^p = larger^p (β (1 + share) + the gradient's term).

    So a power that underflows is one that would not count, and both roots are of numbers in [β, 1 + 2β]. The norm stays
    above 2^-124: where the gradient has stopped, exp_avg falls far below that, and where there never was one it is 0.
    What is not compiled computes them relative to the former norm instead, see in_few_calls.
    """
    limits = torch.finfo(grad.dtype)
    scale, least = 2 / limits.eps, 4 * limits.smallest_normal
    ceiling = 0.25 / limits.smallest_normal / scale
    # + 0 g makes NaN of infinity, which is seen
    grad = grad.clamp(-ceiling, ceiling).add_(grad, alpha=0).mul_(number(scale, grad))
    n = _averages(exp_avg, grad, beta, nesterov=look_ahead is not None)
    new = grad.abs_().mul_(number(add, grad))  # ((1-β) |g|^p)^{1/p}
    norm.mul_(keep) if keep < 0.5 else norm.sub_(norm, alpha=1 - keep)  # (β s_{t-1})^{1/p}; the second rounds less
    if norm_beta >= 0.5 and not is_compiled():
        return in_few_calls(n, norm, new, norm_beta, bound, power, nesterov=look_ahead is not None)
    smaller = torch.minimum(new, norm)
    norm.clamp_min_(new)  # the larger of both
    rises = new.ge_(norm)  # 1 where that is the gradient's term, else 0
    share = power(smaller.div_(norm.clamp_min_(least)))
    if look_ahead is None:
        update = n / norm.mul_(grow(share))
    else:
        update = look_ahead.divide(n, norm, rises.clamp_min_(share).add_(share, alpha=norm_beta))
        norm.mul_(grow(share))
    return update if bound is None else update.clamp_(-bound, bound)


def _averages(m: Tensor, grad: Tensor, beta: float, *, nesterov: bool) -> Tensor:
    """Set m to m_t = β m + (1-β) g; return n_t = β m_t + (1-β) g, or m_t without look-ahead."""
    if beta < 0.5:  # lerp would round β
        share = grad * (1 - beta)
        m.mul_(beta).add_(share)
        return share.add_(m, alpha=beta) if nesterov else m
    m.lerp_(grad, 1 - beta)
    return m.lerp(grad, 1 - beta) if nesterov else m
