"""SignSGD and Signum, Bernstein et al., arXiv 1802.04434: the sign of the gradient, or of its running average."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SignSGD(Optimizer):
    r"""Steps of one size: m_t = μ m_{t-1} + (1-μ) g_t, x_t = x_{t-1} - lr (sign(m_t) + weight_decay x_{t-1}), m_0 = 0.

    Momentum 0 is SignSGD and keeps no state; above 0 it is Signum, with one state tensor ``exp_avg`` per parameter.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, the size of each coordinate's step; a float or a 0-d tensor.
        momentum: decay μ of the average, in [0, 1).
        weight_decay: decoupled weight decay λ.
        maximize: ascend instead of descend.

    Raises:
        ValueError: an argument outside its range. RuntimeError: a sparse or complex gradient.

    Example: ``signum = SignSGD(model.parameters(), lr=1e-4, momentum=0.95)``
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr is {lr}; it must be at least 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; it must be in [0, 1)")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay is {weight_decay}; it must be at least 0")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "maximize": maximize})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Apply one update; returns the closure's loss, if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            if any(param.grad.is_sparse for param in params):
                raise RuntimeError("SignSGD does not support sparse gradients")
            if any(param.is_complex() for param in params):
                raise RuntimeError("SignSGD does not support complex parameters")
            grads = [param.grad for param in params]
            averages = self._averaged(params, grads, group["momentum"]) if group["momentum"] > 0 else grads
            signs = torch._foreach_sign(averages)
            lr = group["lr"]
            if group["weight_decay"] != 0:
                torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            torch._foreach_mul_(signs, lr if group["maximize"] else -lr)
            torch._foreach_add_(params, signs)
        return loss

    def _averaged(self, params: list[Tensor], grads: list[Tensor], momentum: float) -> list[Tensor]:
        """The running averages m of the gradients, updated in place."""
        for param in params:
            if not self.state[param]:
                self.state[param]["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
        averages = [self.state[param]["exp_avg"] for param in params]
        torch._foreach_lerp_(averages, grads, 1 - momentum)
        return averages
