"""What is measured of a step: the gradient's norm and the update's size, as scalars that stay on the device."""

import torch
from torch import Tensor, nn


def clip_gradients(params: list[nn.Parameter], clip_norm: float | None) -> Tensor:
    """The 2-norm of all gradients before clipping, 0-d; above `clip_norm` they are scaled down to it in place."""
    grads = [param.grad for param in params if param.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))  # half the time of get_total_norm
    if clip_norm is not None:
        torch._foreach_mul_(grads, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def coordinates(params: list[nn.Parameter]) -> Tensor:
    """A copy of all parameters as one vector."""
    return torch.cat([param.detach().flatten() for param in params])


def update_size(before: Tensor, after: Tensor, lr: float) -> dict[str, Tensor]:
    """Root mean square and largest absolute value of (after - before) / lr, 0-d; `after` is overwritten."""
    update = after.sub_(before).div_(lr)
    smallest, largest = torch.aminmax(update)
    rms = torch.linalg.vector_norm(update) / update.numel() ** 0.5
    return {"update_rms": rms, "update_max": torch.maximum(-smallest, largest)}
