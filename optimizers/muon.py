"""Muon for matrices and AdamW for all else, torch's own of each, behind one torch.optim.Optimizer."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Muon(Optimizer):
    r"""Orthogonalised momentum for parameters of exactly two dimensions, AdamW for all others.

    Muon (Jordan et al. 2024): M_t = μ M_{t-1} + g_t, O_t = NewtonSchulz(g_t + μ M_t) ≈ U Vᵀ of the SVD,
    x_t = x_{t-1} - lr (0.2 √(larger side) O_t + weight_decay x_{t-1}). The factor gives the update the RMS of AdamW's
    (Liu et al., arXiv 2502.16982), so that both go with one learning rate. Newton-Schulz iterates in bfloat16.

    The rule is by dimensions alone: convolutions, learned positions, norms and biases get AdamW. By convention
    embeddings and the output layer do too, but they are matrices: put them into a parameter group with
    ``"matrices": False``, and AdamW takes the whole group.

    Args:
        params: parameters or parameter groups. A group with parameters of both kinds becomes two.
        lr: learning rate of both.
        momentum, nesterov, ns_steps: of Muon: decay μ, look-ahead, and Newton-Schulz iterations.
        betas: of AdamW.
        eps: of both: of AdamW's denominator and of the norm that Newton-Schulz divides by.
        weight_decay: decoupled weight decay of both.

    Raises:
        ValueError: an argument outside its range. RuntimeError: a torch before 2.9, which has no Muon.

    Example: ``muon = Muon(model.parameters(), lr=1e-3)``
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
        """Add a group's matrices and its other parameters, each as a group of its own; or raise and change nothing."""
        _check({**self.defaults, **param_group})
        super().add_param_group({**param_group})  # for torch's checks
        group = self.param_groups.pop()
        groups = []
        for matrices in (True, False):
            places = [i for i, x in enumerate(group["params"]) if (x.ndim == 2 and bool(group["matrices"])) is matrices]
            if places:
                lists = {key: group[key] for key in ("params", "param_names") if key in group}
                own: dict[str, Any] = {key: [values[i] for i in places] for key, values in lists.items()}
                groups.append({**group, **own, "matrices": matrices})
        self._parts = self._build_parts(self.param_groups + groups)
        self.param_groups += groups

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # new groups and a new state, of a state_dict or a pickle
        self._parts = self._build_parts(self.param_groups)

    def _build_parts(self, all_groups: list[dict[str, Any]]) -> list[Optimizer]:
        """The two optimizers, anew, on these groups and this one's state."""
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"Muon came with torch 2.9; this is torch {torch.__version__}")
        parts: list[Optimizer] = []
        for kind, matrices in ((torch.optim.Muon, True), (torch.optim.AdamW, False)):
            groups = [group for group in all_groups if group["matrices"] is matrices]
            if groups:
                parts.append(kind(groups))
                parts[-1].state = self.state
        return parts

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Apply one update; returns the closure's loss, if a closure is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for part in self._parts:
            hooked: Any = type(part).step
            hooked.__wrapped__(part)  # torch's hooks of every optimizer's step are called for this one already
        return loss


def _check(group: dict[str, Any]) -> None:
    """Raise ValueError for an argument outside its range."""
    for name in ("lr", "eps", "weight_decay"):
        if not 0 <= group[name] < float("inf"):
            raise ValueError(f"{name} is {group[name]}; it must be at least 0 and finite")
    momentum, betas = group["momentum"], tuple(group["betas"])
    if not (0 <= momentum < 1 and len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise ValueError(f"momentum is {momentum} and betas {betas}; each must be in [0, 1)")
    if not 1 <= group["ns_steps"] < 100:
        raise ValueError(f"ns_steps is {group['ns_steps']}; it must be from 1 to 99")
