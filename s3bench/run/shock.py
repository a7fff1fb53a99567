"""A shock: some steps of a run that are disturbed on purpose, the same for every optimizer.

    gradient    the gradients are multiplied by the dose, before they are clipped and recorded
    noise       the batch's inputs are noise of the same shape; its labels are kept
    labels      the batch's labels are permuted over the batch; its inputs are kept

All before and after is as in the undisturbed run of the seed. What is drawn is a function of seed, step and process,
from a generator of its own: torch's random numbers stay as they are. Of several processes each disturbs its own rows.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s3bench.errors import UserError
from s3bench.run.config.schema import ShockConfig

STREAM = 7  # of the random numbers drawn here, beside those of tasks for the same seed and step
Batch = tuple[Tensor, ...]


def disturbed(batch: Batch, kind: str, generator: torch.Generator) -> Batch:
    """The batch of a task that has no method `shocked`: inputs first and labels last, or inputs alone; a new tuple.

    Noise is normal, with the mean and the standard deviation of the batch's own inputs; in bytes it is rounded.
    Raises ValueError: there are no labels, or inputs are whole numbers whose range only the task knows.
    """
    inputs, *others = batch
    if kind == "labels":
        if not others:
            raise ValueError("its batches have no labels, so that it allows shock.kind gradient and noise")
        return (*batch[:-1], permuted(batch[-1], generator))
    if not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        raise ValueError(
            f"its inputs are {inputs.dtype} and it has no method shocked, so that it allows shock.kind gradient"
            f"{' and labels' if others else ''}"
        )
    numbers = inputs.float()
    noise = torch.empty_like(numbers).normal_(generator=generator) * numbers.std(correction=0) + numbers.mean()
    return (noise.round_().clamp_(0, 255).to(inputs) if inputs.dtype == torch.uint8 else noise.to(inputs), *others)


def permuted(labels: Tensor, generator: torch.Generator) -> Tensor:
    """The rows in an order drawn from the generator."""
    return labels[torch.randperm(len(labels), generator=generator)]


class Shock:
    """The shock of a run, for the loop: at any other step it changes nothing.

    Args:
        config: kind, step, length and dose.
        task: its batches are disturbed by its own method `shocked`, if it has one, else by `disturbed`.
        seed, rank: of the run, and of the process.
    """

    def __init__(self, config: ShockConfig | None = None, task: Any = None, seed: int = 0, rank: int = 0) -> None:
        self._config, self._seed, self._rank = config or ShockConfig(), seed, rank
        self._disturbed = getattr(task, "shocked", disturbed)

    def batch(self, step: int, batch: Batch) -> Batch:
        """The batch of a step, or what takes its place. Raises ValueError where the kind makes no sense for it."""
        if not self._hits(step, "noise", "labels"):
            return batch
        state = np.random.SeedSequence([self._seed, step, self._rank, STREAM]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        changed: Batch = self._disturbed(batch, self._config.kind, generator)
        return changed

    def scale(self, step: int, params: Iterable[nn.Parameter]) -> None:
        """Multiply the gradients of a step by the dose, in place."""
        if self._hits(step, "gradient"):
            for param in params:
                if param.grad is not None:
                    param.grad.mul_(self._config.dose)

    def _hits(self, step: int, *kinds: str) -> bool:
        return self._config.kind in kinds and 0 <= step - self._config.step < self._config.length


CALM = Shock()  # none


def check_shock(config: ShockConfig, task: Any, name: str) -> None:
    """Raise UserError if the task's batches cannot be disturbed so."""
    if config.kind in ("noise", "labels"):
        try:
            Shock(config, task).batch(config.step, next(iter(task.batches(0))))
        except ValueError as error:
            raise UserError(f"task {name}: {error}") from error
