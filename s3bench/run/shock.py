"""Disturbs some steps of a run on purpose, in the same way for every optimizer: a shock.

    gradient    multiplies the gradients by the dose, before they are clipped and recorded
    noise       replaces the batch's inputs by noise of the same shape, and keeps its labels
    labels      permutes the batch's labels over the batch, and keeps its inputs

The steps before and after are computed as in the undisturbed run of the same seed. Random draws depend only on seed,
step and process, and come from a generator of their own, so that torch's random numbers stay as they are. If several
processes train the run, each disturbs its own rows.
"""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from s3bench.run.config.schema import ShockConfig

STREAM = 7  # sets the random numbers drawn here apart from those that tasks draw for the same seed and step
Batch = tuple[Tensor, ...]


@runtime_checkable
class Shockable(Protocol):
    """A task that disturbs its own batches; without this method, `disturbed` does it."""

    def shocked(self, batch: Batch, kind: str, generator: torch.Generator, /) -> Batch:
        """Return a disturbed copy of a batch, and leave the batch as it is.

        Args:
            batch: one of the task's batches, or of this process's rows of it.
            kind: "noise" replaces the inputs by noise; "labels" permutes the labels over the batch.
            generator: the source of all random numbers.

        Raises:
            ValueError: the kind makes no sense for this task.
        """


def disturbed(batch: Batch, kind: str, generator: torch.Generator) -> Batch:
    """Return a disturbed copy of a batch, for a task without a method `shocked`.

    The batch holds its inputs first and its labels last, or inputs alone. Noise is normal, with the mean and the
    standard deviation of the batch's own inputs; for inputs in bytes it is rounded.

    Raises:
        ValueError: there are no labels, or the inputs are integers whose range only the task knows.
    """
    inputs, *others = batch
    if kind == "labels":
        if not others:
            raise ValueError("its batches have no labels; shock.kind must be gradient or noise")
        return (*batch[:-1], permuted(batch[-1], generator))
    if not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        allowed = "gradient or labels" if others else "gradient"
        raise ValueError(f"its inputs are {inputs.dtype} and it has no method shocked; shock.kind must be {allowed}")
    numbers = inputs.float()
    noise = torch.empty_like(numbers).normal_(generator=generator) * numbers.std(correction=0) + numbers.mean()
    return (noise.round_().clamp_(0, 255).to(inputs) if inputs.dtype == torch.uint8 else noise.to(inputs), *others)


def permuted(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the rows in an order drawn from the generator."""
    return labels[torch.randperm(len(labels), generator=generator)]


class Shock:
    """Disturbs the steps of a run that the config names, and changes nothing at any other step.

    Args:
        config: kind, step, length and dose.
        task: the run's task; its batches are disturbed by its own method `shocked` if it has one, else by `disturbed`.
        seed: the run's.
        rank: the number of this process among those that train the run.
    """

    def __init__(self, config: ShockConfig | None = None, task: object = None, seed: int = 0, rank: int = 0) -> None:
        self._config, self._seed, self._rank = config or ShockConfig(), seed, rank
        self._disturbed = task.shocked if isinstance(task, Shockable) else disturbed

    def batch(self, step: int, batch: Batch) -> Batch:
        """Return the batch of a step, disturbed if the shock hits it. Raises ValueError if its kind makes no sense."""
        if not self._hits(step, "noise", "labels"):
            return batch
        state = np.random.SeedSequence([self._seed, step, self._rank, STREAM]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        return self._disturbed(batch, self._config.kind, generator)

    def scale(self, step: int, params: Iterable[nn.Parameter]) -> None:
        """Multiply the gradients of a step by the dose, in place."""
        if self._hits(step, "gradient"):
            for param in params:
                if param.grad is not None:
                    param.grad.mul_(self._config.dose)

    def _hits(self, step: int, *kinds: str) -> bool:
        return self._config.kind in kinds and 0 <= step - self._config.step < self._config.length


NO_SHOCK = Shock()
