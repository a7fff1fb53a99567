"""Muon for matrices and AdamW for all other parameters, both torch's own, in one torch.optim.Optimizer."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .engine.loading import refuse_misfits

SETTINGS = ("lr", "weight_decay", "matrices", "momentum", "nesterov", "ns_steps", "betas", "eps")  # of every group


class Muon(Optimizer):
    r"""Updates parameters of exactly two dimensions by orthogonalised momentum, and all others by AdamW.

    Muon (Jordan et al. 2024), with U Vᵀ of the singular value decomposition:

        M_t = μ M_{t-1} + g_t
        O_t = NewtonSchulz(g_t + μ M_t) ≈ U Vᵀ
        x_t = x_{t-1} - lr (0.2 √(larger side) O_t + weight_decay x_{t-1})

    The factor 0.2 √(larger side) gives the update the RMS of AdamW's (Liu et al., arXiv 2502.16982), so that one
    learning rate suits both. Newton-Schulz iterates in bfloat16.

    The number of dimensions alone decides: convolutions, a vision transformer's learned positions, norms and biases get
    AdamW. By convention embeddings and the output layer get AdamW too, but they are matrices: put them into a parameter
    group with ``"matrices": False``, and AdamW takes the whole group.

    Args:
        params: parameters or parameter groups. A group with parameters of both kinds becomes two groups.
        lr: learning rate of both, finite and at least 0.
        momentum: Muon's decay μ, in [0, 1).
        nesterov: whether Muon looks ahead, as above; without it O_t = NewtonSchulz(M_t).
        ns_steps: Muon's Newton-Schulz iterations, from 1 to 99.
        betas: AdamW's decays, both in [0, 1).
        eps: added to AdamW's denominator, and the least norm that Newton-Schulz divides by; finite and at least 0.
        weight_decay: decoupled weight decay of both, finite and at least 0.

    Raises:
        ValueError: an argument is outside its range.
        RuntimeError: torch is older than 2.9, which brought Muon; `step`: a gradient is sparse, or complex where it
            may not be.

    Example:
        >>> muon = Muon(model.parameters(), lr=1e-3)
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        muon = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "adjust_lr_fn": "match_rms_adamw"}
        adamw = {"betas": tuple(betas), "eps": eps}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "matrices": True, **muon, **adamw})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group's matrices and its other parameters as a group each; if it raises, nothing has changed."""
        _check({**self.defaults, **param_group})
        super().add_param_group({**param_group})  # runs torch's checks
        group = self.param_groups.pop()
        groups = []
        for matrices in (True, False):
            chosen = [i for i, x in enumerate(group["params"]) if (x.ndim == 2 and bool(group["matrices"])) is matrices]
            if chosen:
                lists = {key: group[key] for key in ("params", "param_names") if key in group}
                own: dict[str, Any] = {key: [values[i] for i in chosen] for key, values in lists.items()}
                groups.append({**group, **own, "matrices": matrices})
        self._parts = self._build_parts(self.param_groups + groups)
        self.param_groups += groups

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # a state_dict or a pickle brings new groups and a new state
        self._parts = self._build_parts(self.param_groups)
        for param in (param for group in self.param_groups for param in group["params"]):
            own = self.state.get(param, {})
            if isinstance(own.get("step"), int | float):  # AdamW takes tensors alone
                own["step"] = torch.tensor(float(own["step"]), dtype=torch.float32)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state as torch does; raise ValueError, before anything has changed, if it is not this optimizer's."""
        check = self.register_load_state_dict_pre_hook(lambda _, found: self._check_loaded(found))
        try:
            super().load_state_dict(state_dict)
        finally:
            check.remove()

    def _check_loaded(self, found: dict[str, Any]) -> None:
        """Raise ValueError if a state_dict is another optimizer's or another model's."""
        refuse_misfits(self, found, self._needed)
        pairs = zip(self.param_groups, found["param_groups"], strict=False)
        self._build_parts([{**saved, "params": group["params"]} for group, saved in pairs])  # runs torch's checks

    def _needed(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of a saved group's state tensors; raise KeyError if the group lacks a setting."""
        for name in SETTINGS:
            group[name]
        return ("momentum_buffer",) if group["matrices"] else ("exp_avg", "exp_avg_sq")

    def _build_parts(self, all_groups: list[dict[str, Any]]) -> list[Optimizer]:
        """Make torch's two optimizers, which work on these groups and share this optimizer's state."""
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"Muon needs torch 2.9 or later; this is torch {torch.__version__}")
        parts: list[Optimizer] = []
        for kind, matrices in ((torch.optim.Muon, True), (torch.optim.AdamW, False)):
            groups = [group for group in all_groups if group["matrices"] is matrices]
            if groups:
                parts.append(kind(groups))
                parts[-1].state = self.state
        return parts

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Apply one update; return the closure's loss if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:  # all are looked at before anything moves
            for param in group["params"]:
                _refuse(param, matrix=group["matrices"])
        for part in self._parts:
            hooked: Any = type(part).step
            hooked.__wrapped__(part)  # without torch's global step hooks, which have been called for this optimizer
        return loss


def _refuse(param: Tensor, *, matrix: bool) -> None:
    """Raise RuntimeError if the gradient of a parameter is of a kind that torch's optimizer does not take."""
    grad = param.grad
    if grad is None:
        return
    if grad.layout != torch.strided:
        raise RuntimeError("Muon does not support sparse gradients")
    if matrix and param.is_complex():
        raise RuntimeError("Muon does not support complex matrices")
    if grad.is_complex() and not param.is_complex():
        raise RuntimeError("Muon does not support complex gradients of real parameters")


def _check(group: dict[str, Any]) -> None:
    """Raise ValueError if an argument is outside its range."""
    for name in ("lr", "eps", "weight_decay"):
        if isinstance(group[name], Tensor) and group[name].numel() != 1:
            raise ValueError(f"{name} is a tensor of shape {tuple(group[name].shape)}; it must have one element")
        if not 0 <= group[name] < float("inf"):
            raise ValueError(f"{name} is {group[name]}; it must be at least 0 and finite")
    momentum, betas = group["momentum"], tuple(group["betas"])
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it must be in [0, 1)")
    if not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise ValueError(f"betas is {betas}; it must be two numbers in [0, 1)")
    if not 1 <= group["ns_steps"] < 100:
        raise ValueError(f"ns_steps is {group['ns_steps']}; it must be from 1 to 99")
