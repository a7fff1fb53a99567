"""What shocks do to batches and gradients. The functions draw from the generator that they are given, and nothing else.

noise       the batch's inputs are noise of the same shape; its labels are kept
labels      the batch's labels are permuted over the batch; its inputs are kept
token       every row of the batch is a copy of the first one; of a text, one token repeated throughout
gradient    all gradients are multiplied by the dose
coordinate  in each tensor one drawn coordinate's gradient is the dose times the root mean square of the tensor's
layer       one drawn tensor's gradient is multiplied by the dose
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from s3bench.record.shock_kinds import KINDS, either

Batch = tuple[Tensor, ...]


def disturbed(batch: Batch, kind: str, generator: torch.Generator) -> Batch:
    """Return a disturbed copy of a batch, for a task without a method `shocked`.

    The batch holds its inputs first and its labels last, or inputs alone. Noise is normal, with the mean and the
    standard deviation of the batch's own inputs; for inputs in bytes it is rounded.

    Raises:
        ValueError: there are no labels, or the inputs are integers whose range only the task knows.
    """
    inputs, *others = batch
    is_known = inputs.is_floating_point() or inputs.dtype == torch.uint8
    allowed = [*(["noise"] if is_known else []), *(["labels", "token"] if others else [])]
    if kind not in allowed:
        why = f"its inputs are {inputs.dtype} and it has no method shocked" if kind == "noise" else NO_LABELS
        names = [name for name in KINDS if name in allowed or not KINDS[name].in_batch]
        raise ValueError(f"{why}; shock.kind must be {either(names)}")
    if kind == "labels":
        return (*batch[:-1], permuted(batch[-1], generator))
    if kind == "token":
        return tuple(tensor[:1].expand_as(tensor).clone() for tensor in batch)
    numbers = inputs.float()
    noise = torch.empty_like(numbers).normal_(generator=generator) * numbers.std(correction=0) + numbers.mean()
    return (noise.round_().clamp_(0, 255).to(inputs) if inputs.dtype == torch.uint8 else noise.to(inputs), *others)


NO_LABELS = "its batches have no labels"


def permuted(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the rows in an order drawn from the generator."""
    return labels[torch.randperm(len(labels), generator=generator)]


def scale_all(grads: Sequence[Tensor], dose: float, _: torch.Generator) -> None:
    """Multiply all gradients by the dose, in place."""
    for grad in grads:
        grad.mul_(dose)


def set_coordinates(grads: Sequence[Tensor], dose: float, generator: torch.Generator) -> None:
    """Set one drawn coordinate of each gradient to the dose times the gradient's root mean square, in place.

    Multiplied, many would stay as they are: the gradient is 0 at the embedding of a token that the batch lacks, and
    behind a unit that is off. Such a coordinate has the smallest v, so that it is the one that matters most.
    """
    for grad in grads:
        drawn = int(torch.randint(grad.numel(), (), generator=generator))  # of a generator on the CPU: no wait
        at = tuple(map(int, np.unravel_index(drawn, grad.shape)))
        grad[at].copy_(torch.linalg.vector_norm(grad) * (dose / grad.numel() ** 0.5))


def scale_layer(grads: Sequence[Tensor], dose: float, generator: torch.Generator) -> None:
    """Multiply one drawn gradient by the dose, in place: a weight with two dimensions or more, if there is one."""
    layers = [grad for grad in grads if grad.ndim > 1] or grads
    layers[int(torch.randint(len(layers), (), generator=generator))].mul_(dose)


GRADIENTS: dict[str, Callable[[Sequence[Tensor], float, torch.Generator], None]] = {
    "gradient": scale_all,
    "coordinate": set_coordinates,
    "layer": scale_layer,
}
