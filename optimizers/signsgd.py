"""SignSGD and Signum (Bernstein et al., arXiv 1802.04434): the sign of the gradient, or of its running average."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .engine.elementwise import Elementwise, check_beta


class SignSGD(Elementwise):
    r"""Takes steps of one size along the sign of the gradient (SignSGD) or of its running average (Signum).

    The rule of Bernstein et al., arXiv 1802.04434:

        m_t = μ m_{t-1} + (1-μ) g_t
        x_t = x_{t-1} - lr (sign(m_t) + weight_decay x_{t-1})

    with m_0 = 0. Momentum 0 is SignSGD and keeps no state. Above 0 it is Signum, with one state tensor per parameter,
    ``exp_avg``. A gradient that is NaN or infinite makes the parameter NaN.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, the size of each step, finite and at least 0; a float or a tensor of one element.
        momentum: decay μ of the average, in [0, 1).
        weight_decay: decoupled weight decay, finite and at least 0.
        maximize: ascend instead of descend.
        foreach, fused, capturable: see Elementwise.

    Raises:
        ValueError: an argument is outside its range.
        RuntimeError: a gradient is sparse or a parameter complex (raised by `step`).

    Example:
        >>> signum = SignSGD(model.parameters(), lr=1e-4, momentum=0.95)
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.01,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        flags = {"maximize": maximize, "foreach": foreach, "fused": fused, "capturable": capturable}
        # OneCycleLR and CyclicLR look for "momentum" here, and would make Signum of SignSGD in silence.
        rule = {"momentum": momentum} if momentum else {}
        super().__init__(params, {"lr": lr, **rule, "weight_decay": weight_decay, **flags})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group; raise ValueError if one of its arguments is outside its range."""
        if isinstance(param_group, dict):  # else torch says what it must be
            param_group = {"momentum": self.defaults.get("momentum", 0.0), **param_group}
        super().add_param_group(param_group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if an argument is outside its range."""
        check_beta("momentum", group["momentum"])

    def rule(self, group: dict[str, Any]) -> tuple[Callable[..., Tensor], tuple[str, ...], dict[str, Any]]:
        """Return the sign of the gradient without momentum, of its average with momentum."""
        momentum = float(group["momentum"])
        if momentum == 0:
            return _sign, (), {}
        return _sign_of_average, ("exp_avg",), {"momentum": momentum}


def _sign(grad: Tensor) -> Tensor:
    """Return the sign of every coordinate; NaN where it is not finite."""
    return grad.sign() + grad * 0  # which is NaN where the gradient is not finite; the sign alone would be 0 or 1


def _sign_of_average(grad: Tensor, exp_avg: Tensor, *, momentum: float) -> Tensor:
    """Update the running average of the gradient and return its sign."""
    return _sign(exp_avg.lerp_(grad, 1 - momentum))
