"""Clips gradients before an optimizer's step, or its updates after it. Knows torch alone; never waits for the device.

A training loop calls `before_step` when the gradients are there, and `after_step` when the parameters have moved.

Where a gradient is not finite, no rule can mend it. The rules that scale gradients leave such a gradient as it is and
learn nothing from it, so that their averages stay finite; GlobalNorm does what torch's clip_grad_norm_ does.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter


class Clip:
    """Clips nothing; the base class of what clips."""

    needs_whole_tensors: ClassVar[bool] = False  # whether parts of sharded tensors (FSDP2) are not enough

    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:
        """Clip the gradients of the parameters in place.

        Args:
            params: all parameters that are trained; some may have no gradient.
            norm: the 2-norm over all gradients, 0-d.
        """

    def after_step(self, params: Sequence[Parameter], lr: float) -> None:
        """Clip the updates that an optimizer has just made, in place.

        Args:
            params: the same parameters as in `before_step`.
            lr: the learning rate of the step.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what the next steps depend on; it is empty for a rule without memory."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""


class GlobalNorm(Clip):
    """Scales all gradients by one factor so that their norm is at most `max_norm` (Pascanu et al., arXiv 1211.5063).

    This is torch's clip_grad_norm_, its 1e-6 in the denominator included. A norm that is infinite makes finite
    gradients 0, one that is NaN makes all NaN.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = _positive("max_norm", max_norm)

    @torch.no_grad()
    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:
        """Scale the gradients."""
        if grads := _gradients(params):
            torch._foreach_mul_(grads, (self.max_norm / (norm + 1e-6)).clamp(max=1.0))


class Value(Clip):
    """Clamps every coordinate of the gradient to [-max_value, max_value], as torch's clip_grad_value_ does.

    An infinite coordinate becomes finite too; NaN stays.
    """

    def __init__(self, max_value: float = 1.0) -> None:
        self.max_value = _positive("max_value", max_value)

    @torch.no_grad()
    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:  # noqa: ARG002
        """Clamp the gradients."""
        if grads := _gradients(params):
            torch._foreach_clamp_min_(grads, -self.max_value)
            torch._foreach_clamp_max_(grads, self.max_value)


class AdaGC(Clip):
    """Scales each tensor's gradient to at most `lambda_rel` times the average of its earlier norms (arXiv 2502.11034).

    The average γ is exponential with factor `beta`, over the norms after clipping. In the steps t < warmup_steps, from
    1 on, all gradients are scaled to a global norm of at most `lambda_abs` instead, and γ is the smallest norm so far.

    One thing differs from the paper: a norm of 0 in the warm-up does not count. It would make γ 0, and a layer behind
    weights that are initialised to 0 would never be trained.
    """

    needs_whole_tensors = True

    def __init__(
        self, lambda_rel: float = 1.05, lambda_abs: float = 1.0, beta: float = 0.98, warmup_steps: int = 100
    ) -> None:
        self.lambda_rel = _positive("lambda_rel", lambda_rel)
        self.lambda_abs = _positive("lambda_abs", lambda_abs)
        self.beta = _fraction("beta", beta)
        self.warmup_steps = _count("warmup_steps", warmup_steps)
        self._step = 0
        self._averages: list[Tensor] = []  # γ of each parameter, 0-d; infinite: none yet

    @torch.no_grad()
    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:
        """Scale the gradients and take their norms into the averages."""
        self._step += 1
        there = [index for index, param in enumerate(params) if param.grad is not None]
        if not there:
            return
        if not self._averages:
            self._averages = list(torch.full((len(params),), torch.inf, dtype=norm.dtype, device=norm.device).unbind())
        grads = _gradients(params)
        norms = torch.stack(torch._foreach_norm(grads))
        known = torch.stack([self._averages[index].to(norm.device) for index in there])
        if self._step < self.warmup_steps:
            factors = (self.lambda_abs / norm).clamp(max=1.0).expand_as(norms)
            averages = torch.where(norms > 0, torch.minimum(known, norms * factors), known)
        else:
            factors = (self.lambda_rel * known / norms).nan_to_num(nan=1.0).clamp(max=1.0)  # NaN: 0 / 0
            clipped = norms * factors
            averages = torch.where(known.isinf(), clipped, self.beta * known + (1 - self.beta) * clipped)
        usable = norms.isfinite() & norm.isfinite()
        torch._foreach_mul_(grads, list(torch.where(usable, factors, 1.0).unbind()))
        for index, average in zip(there, torch.where(usable, averages, known).unbind(), strict=True):
            self._averages[index] = average

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and the averages."""
        return {"step": self._step, "averages": torch.stack(self._averages) if self._averages else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        averages = state["averages"]
        self._step, self._averages = state["step"], [] if averages is None else list(averages.clone().unbind())


class AGC(Clip):
    """Scales the gradient of each unit to at most `clipping` times the norm of its weights (arXiv 2102.06171).

    A unit is what feeds one output: a row of a matrix, a filter of a convolution; a vector is one unit. The norm of the
    weights counts as at least `eps`, so that weights of 0 can move. The paper leaves out the last linear layer, which
    this rule cannot know; it clips all.
    """

    needs_whole_tensors = True

    def __init__(self, clipping: float = 0.01, eps: float = 1e-3) -> None:
        self.clipping, self.eps = _positive("clipping", clipping), _positive("eps", eps)

    @torch.no_grad()
    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:  # noqa: ARG002
        """Scale the gradients."""
        for param in params:
            if param.grad is not None:
                most = self.clipping * _unit_norms(param).clamp(min=self.eps)
                norms = _unit_norms(param.grad)
                factors = (most / norms).clamp(max=1.0)
                param.grad.mul_(torch.where(norms.isfinite(), factors, 1.0))


class ZClip(Clip):
    """Lowers the norm of all gradients where it stands out among the earlier ones (arXiv 2504.02507).

    Of a norm, z = (norm - mean) / (std + eps), with exponential averages (factor `alpha`) of the mean and the variance.
    Where z > z_thresh, the norm is lowered to mean + std · z_thresh² / z, the paper's adaptive scaling: the larger the
    outlier, the less is left of it. The averages take the norm after clipping. They begin as mean and variance of the
    first `warmup_steps` norms, in which nothing is clipped. The authors' code also keeps to a fixed largest norm of 1;
    the paper's rule, and this one, does not.
    """

    def __init__(self, z_thresh: float = 2.5, alpha: float = 0.97, warmup_steps: int = 25, eps: float = 1e-6) -> None:
        self.z_thresh, self.alpha = _positive("z_thresh", z_thresh), _fraction("alpha", alpha)
        self.warmup_steps, self.eps = _count("warmup_steps", warmup_steps, least=1), _positive("eps", eps)
        self._state: Tensor | None = None  # how many norms there were, their mean and their variance

    @torch.no_grad()
    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:
        """Scale the gradients and take their norm into the averages."""
        if self._state is None:
            self._state = torch.zeros(3, dtype=norm.dtype, device=norm.device)
        self._state = self._state.to(norm.device)
        count, mean, variance = self._state.unbind()
        warm = count >= self.warmup_steps
        std = variance.sqrt()
        z = (norm - mean) / (std + self.eps)
        usable = norm.isfinite()
        clips = warm & (z > self.z_thresh) & usable
        after = torch.where(clips, mean + std * self.z_thresh**2 / z, norm)
        if grads := _gradients(params):
            torch._foreach_mul_(grads, torch.where(clips, after / (norm + 1e-6), 1.0))

        # In the warm-up the mean and the variance are exact (Welford's way), then they are exponential averages.
        weight = torch.where(warm, 1 - self.alpha, 1 / (count + 1))
        new_mean = mean + weight * (after - mean)
        deviation = torch.where(warm, after - new_mean, after - mean)
        new_variance = variance + weight * (deviation * (after - new_mean) - variance)
        self._state = torch.where(usable, torch.stack([count + 1, new_mean, new_variance]), self._state)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of norms, their mean and their variance."""
        return {"state": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        self._state = None if state["state"] is None else state["state"].clone()


class _UpdateClip(Clip):
    """Remembers the parameters before a step, to bound what it changes."""

    def __init__(self) -> None:
        self._before: list[Tensor] = []

    @torch.no_grad()
    def before_step(self, params: Sequence[Parameter], norm: Tensor) -> None:  # noqa: ARG002
        """Remember the parameters."""
        now = _local(params)
        if not self._before:
            self._before = [param.clone() for param in now]
        else:
            torch._foreach_copy_(self._before, now)


class UpdateCoordinates(_UpdateClip):
    """Bounds every coordinate of the update u = (x_t - x_{t-1}) / lr_t to [-max, max], weight decay included.

    Only the parameters are changed, not what the optimizer remembers.
    """

    def __init__(self, max: float = 1.0) -> None:
        super().__init__()
        self.max = _positive("max", max)

    @torch.no_grad()
    def after_step(self, params: Sequence[Parameter], lr: float) -> None:
        """Clamp the parameters to within max · lr of where they were."""
        now = _local(params)
        torch._foreach_maximum_(now, torch._foreach_sub(self._before, self.max * lr))
        torch._foreach_minimum_(now, torch._foreach_add(self._before, self.max * lr))


class UpdateRMS(_UpdateClip):
    """Bounds the root mean square of the update u = (x_t - x_{t-1}) / lr_t to `max`, by scaling the update.

    It follows Adafactor (arXiv 1804.04235) and StableAdamW (arXiv 2304.13013), with three differences. They take the
    root mean square of the raw ratio g / √v, without momentum; here it is that of the whole update, momentum and weight
    decay included. They lower the learning rate of the tensor, and weight decay with it (StableAdamW) or not
    (Adafactor); here the whole update is scaled. They do so tensor by tensor, as here with over="tensor"; over="all"
    takes one root mean square and one factor over all coordinates.

    Only the parameters are changed, not what the optimizer remembers.
    """

    needs_whole_tensors = True

    def __init__(self, max: float = 1.0, over: Literal["tensor", "all"] = "tensor") -> None:
        super().__init__()
        self.max = _positive("max", max)
        if over not in ("tensor", "all"):
            raise ValueError(f"over is {over!r}; it must be tensor or all")
        self.over = over
        self._roots: Tensor | None = None  # of the number of coordinates, one for each parameter

    @torch.no_grad()
    def after_step(self, params: Sequence[Parameter], lr: float) -> None:
        """Move the parameters back by what is too much."""
        now = _local(params)
        changes = torch._foreach_sub(now, self._before)
        norms = torch.stack(torch._foreach_norm(changes))
        if self._roots is None:  # made once: the copy to a device waits for it
            sizes = [change.numel() for change in changes]
            sizes = [sum(sizes)] * len(sizes) if self.over == "all" else sizes
            self._roots = torch.tensor(sizes, dtype=norms.dtype, device=norms.device).sqrt()
        if self.over == "all":
            norms = torch.linalg.vector_norm(norms).expand_as(norms)
        factors = (self.max * lr * self._roots / norms).nan_to_num(nan=1.0).clamp(max=1.0)  # NaN: 0 / 0
        torch._foreach_mul_(changes, list((factors - 1).unbind()))
        torch._foreach_add_(now, changes)  # adds 0 where nothing is too much: the parameter stays bit for bit


def _local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return this process's part of each sharded tensor, and other tensors as they are, all detached."""
    return [t.to_local() if hasattr(t, "to_local") else t for t in (tensor.detach() for tensor in tensors)]


def _gradients(params: Sequence[Parameter]) -> list[Tensor]:
    return _local([param.grad for param in params if param.grad is not None])


def _unit_norms(tensor: Tensor) -> Tensor:
    """Return the norm of each unit of a tensor, in a shape that multiplies the tensor."""
    if tensor.squeeze().ndim <= 1:
        whole: Tensor = torch.linalg.vector_norm(tensor)
        return whole
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
    return norms


def _positive(name: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value}; it must be a number above 0")
    return value


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; it must be from 0 to below 1")
    return value


def _count(name: str, value: int, least: int = 0) -> int:
    if not (isinstance(value, int) and value >= least):
        raise ValueError(f"{name} is {value}; it must be a whole number, {least} or more")
    return value
