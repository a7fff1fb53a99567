"""What is measured of a step: the gradient's norm and the update's size, as scalars that stay on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s3bench.processes import ALONE, Processes


def clip_gradients(params: list[nn.Parameter], clip_norm: float | None, sharers: Processes = ALONE) -> Tensor:
    """The 2-norm of all gradients before clipping, 0-d; above `clip_norm` they are scaled down to it in place.

    `sharers` are the processes that each have a part of every parameter.
    """
    grads = _local([param.grad for param in params if param.grad is not None])
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))  # half the time of get_total_norm
    if sharers.size > 1:
        norm = sharers.sum(norm.square()).sqrt()
    if clip_norm is not None:
        torch._foreach_mul_(grads, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def coordinates(params: list[nn.Parameter]) -> Tensor:
    """A copy of all parameters, of this process's part of them, as one vector."""
    return torch.cat([param.detach().flatten() for param in _local(params)])


def update_size(before: Tensor, after: Tensor, lr: float, sharers: Processes = ALONE) -> dict[str, Tensor]:
    """How large an update u = (after - before) / lr is, as 0-d tensors; `after` is overwritten.

    The root mean square of u, its largest absolute value, the share of its coordinates with |u| > 1, and the largest
    absolute value of a parameter before it: weight decay λ adds at most λ times that to |u|.
    """
    update = after.sub_(before).div_(lr)
    above = (update.abs() > 1).sum()
    if sharers.size == 1:
        rms = torch.linalg.vector_norm(update) / update.numel() ** 0.5
        sizes = {"update_rms": rms, "update_max": _largest(update), "update_above_1": above / update.numel()}
        return sizes | {"param_max": _largest(before)}
    count = sharers.sum(torch.tensor(float(update.numel()), device=update.device))
    return {
        "update_rms": (sharers.sum(update.square().sum()) / count).sqrt(),
        "update_max": sharers.max(_largest(update)),
        "update_above_1": sharers.sum(above.float()) / count,
        "param_max": sharers.max(_largest(before)),
    }


def _largest(values: Tensor) -> Tensor:
    """The largest absolute value, 0 of nothing."""
    if not values.numel():
        return values.new_zeros(())
    smallest, largest = torch.aminmax(values)  # in one pass, and no memory for absolute values
    return torch.maximum(-smallest, largest)


def _local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """This process's parts of tensors that may be spread over several (DTensor)."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
