"""ADOPT, Adam that normalises the gradient before it is averaged, by the second moment of the steps before."""

from typing import Any

import torch
from torch import Tensor

from .adam_variants import AdamVariant


class ADOPT(AdamVariant):
    """ADOPT with clipping (Taniguchi et al., arXiv 2411.02853, algorithm 2).

        v_0 = g_0²
        m_t = β_1 m_{t-1} + (1-β_1) clip(g_t / max(√v_{t-1}, ε), t^(1/4))
        x_t = x_{t-1} - lr (m_t + weight_decay x_{t-1})
        v_t = β_2 v_{t-1} + (1-β_2) g_t²

    The first gradient only sets v_0: the first step moves nothing. A gradient that is infinite or NaN makes its
    coordinate NaN, as in AdamW.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, finite and at least 0.
        betas: decays of both averages, in [0, 1).
        eps: the smallest denominator.
        clip: whether the normalised gradient is clipped.
        weight_decay: decoupled weight decay, finite and at least 0.
        maximize: whether to go up.
    """

    first = 0  # the first gradient only sets the second moment

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        clip: bool = True,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        given = {"lr": lr, "betas": betas, "eps": eps, "clip": clip}
        super().__init__(params, {**given, "weight_decay": weight_decay, "maximize": maximize})

    def _step_group(
        self,
        group: dict[str, Any],
        number: int,
        *,
        params: list[Tensor],
        grads: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
    ) -> None:
        """Apply update `number` to parameters, whose averages are `means` and `squares`; 0 sets the second moment."""
        beta_1, beta_2 = group["betas"]
        if number == 0:
            torch._foreach_addcmul_(squares, grads, grads)
            torch._foreach_add_(params, grads, alpha=0)  # NaN where a gradient is not finite: later updates would be 0
            return
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_clamp_min_(roots, group["eps"])
        normalised = torch._foreach_div(grads, roots)
        if group["clip"]:
            torch._foreach_clamp_min_(normalised, -(number**0.25))
            torch._foreach_clamp_max_(normalised, number**0.25)
            torch._foreach_add_(normalised, grads, alpha=0)  # NaN where a gradient is not finite, which clamping hides
        torch._foreach_lerp_(means, normalised, 1 - beta_1)
        torch._foreach_add_(params, means, alpha=-group["lr"])
        torch._foreach_mul_(squares, beta_2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta_2)
