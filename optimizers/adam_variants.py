"""AdamW with one thing changed: AdamAtan2, whose updates are bounded, and CautiousAdamW, whose updates are masked."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamVariant(Optimizer):
    """Keeps Adam's two averages; what is made of them is the subclass's.

    Attributes:
        first: the number of a parameter's first update.
    """

    first = 1

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        betas = defaults["betas"] = tuple(defaults["betas"])
        if not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(f"betas is {betas}; it must be two numbers in [0, 1)")
        for name in defaults.keys() - {"betas", "maximize"}:
            if not 0 <= defaults[name] < float("inf"):
                raise ValueError(f"{name} is {defaults[name]}; it must be at least 0 and finite")
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # a state_dict or a pickle, perhaps of an older version
        for group in self.param_groups:
            group.setdefault("maximize", False)

    def update(self, group: dict[str, Any], grads: list[Tensor], m: list[Tensor], v: list[Tensor]) -> list[Tensor]:
        """Return the updates, apart from the learning rate, from m and v without bias; both may be changed."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Apply one update; return the closure's loss if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            by_step: dict[int, list[Tensor]] = {}
            for param in group["params"]:
                if param.grad is not None:
                    state = self.state[param]
                    if not state:
                        state.update(
                            step=self.first - 1, exp_avg=torch.zeros_like(param), exp_avg_sq=torch.zeros_like(param)
                        )
                    state["step"] += 1
                    by_step.setdefault(state["step"], []).append(param)
            for number, params in by_step.items():
                self._step_plain(group, params, number)
        return loss

    def _step_plain(self, group: dict[str, Any], params: list[Tensor], number: int) -> None:
        """Update parameters of one group that have all had the same number of steps.

        Views with the negative bit, such as x.conj().imag, which foreach does not change, are updated as copies.
        """
        grads: Any = [param.grad for param in params]
        if group["maximize"]:
            grads = torch._foreach_neg(grads)
        means, squares = ([self.state[param][name] for param in params] for name in ("exp_avg", "exp_avg_sq"))
        plain = [param.resolve_neg() for param in params]
        self._step_group(group, number, params=plain, grads=grads, means=means, squares=squares)
        for param, updated in zip(params, plain, strict=True):
            if updated is not param:
                param.copy_(updated)

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
        """Apply update `number` to parameters, whose averages are `means` and `squares`."""
        beta_1, beta_2 = group["betas"]
        torch._foreach_lerp_(means, grads, 1 - beta_1)
        torch._foreach_mul_(squares, beta_2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta_2)
        m = torch._foreach_div(means, 1 - beta_1**number)
        v = torch._foreach_div(squares, 1 - beta_2**number)
        updates = self.update(group, grads, list(m), list(v))
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, updates, alpha=-group["lr"])


class AdamAtan2(AdamVariant):
    """AdamW with a · atan2(m, b √v) in place of m / (√v + ε) (Everett et al., arXiv 2407.05872).

    The arctangent needs no ε, does not depend on the gradients' scale, and bounds an update by a π/2. An infinite
    gradient makes its coordinate NaN all the same, as in AdamW.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, finite and at least 0.
        betas: decays of both averages, in [0, 1).
        a: factor of the update; 1.27 ≈ 4/π makes that of equal gradients ±1, as Adam's is.
        b: factor of √v.
        weight_decay: decoupled weight decay, finite and at least 0.
        maximize: whether to go up.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        a: float = 1.27,
        b: float = 1.0,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        given = {"lr": lr, "betas": betas, "a": a, "b": b, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, given)

    def update(self, group: dict[str, Any], grads: list[Tensor], m: list[Tensor], v: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        """Return a · atan2(m, b √v)."""
        torch._foreach_sqrt_(v)
        torch._foreach_mul_(v, group["b"])
        updates = [torch.atan2(mean, root) for mean, root in zip(m, v, strict=True)]
        torch._foreach_mul_(updates, group["a"])
        torch._foreach_add_(updates, m, alpha=0)  # atan2(∞, ∞) is π/4: an infinite gradient would not be seen
        return updates


class CautiousAdamW(AdamVariant):
    """AdamW that leaves out the coordinates whose update and gradient differ in sign (Liang et al., arXiv 2411.16085).

    The update of a tensor is divided by the share of the coordinates that stay, counted as at least 0.001, as in the
    authors' code. The paper has another form: coordinates / (those that stay + 1), which halves the update of a scalar.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, finite and at least 0.
        betas: decays of both averages, in [0, 1).
        eps: added to the denominator.
        weight_decay: decoupled weight decay, finite and at least 0; it is not masked.
        maximize: whether to go up.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        )

    def update(self, group: dict[str, Any], grads: list[Tensor], m: list[Tensor], v: list[Tensor]) -> list[Tensor]:
        """Return AdamW's updates, masked."""
        torch._foreach_sqrt_(v)
        torch._foreach_add_(v, group["eps"])
        torch._foreach_div_(m, v)
        masks = [(update * grad > 0).to(update.dtype) for update, grad in zip(m, grads, strict=True)]
        torch._foreach_mul_(m, masks)
        torch._foreach_div_(m, [mask.mean().clamp(min=1e-3) for mask in masks])
        return m
