"""Disturbs some steps of a run on purpose, in the same way for every optimizer: a shock.

    noise, labels, token            disturb the batch, see shock_effects.py
    gradient, coordinate, layer     disturb the gradients, before they are clipped and recorded, see there
    lr                              multiplies the learning rate by the dose
    reset                           replaces the optimizer's state by that of a new one, as a restart without it does
    stale                           replaces it by what it was `length` steps before
    bf16                            rounds the parameters to bfloat16 after the update

The steps before and after are computed as in the undisturbed run of the same seed. Random draws depend only on seed,
step and process, and come from a generator of their own, so that torch's random numbers stay as they are. If several
processes train the run, each disturbs its own rows; gradients and parameters are disturbed alike in all.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from s3bench.errors import UserError
from s3bench.record.shock_kinds import KINDS, either
from s3bench.run.config.schema import RunConfig, ShockConfig
from s3bench.run.distributed import Processes
from s3bench.run.shock_effects import GRADIENTS, Batch, disturbed

STREAM = 7  # sets the random numbers drawn here apart from those that tasks draw for the same seed and step
NOT_SHARDED = ("coordinate", "stale")  # kinds that need whole tensors, or a whole state in the checkpoint


@runtime_checkable
class Shockable(Protocol):
    """A task that disturbs its own batches; without this method, `disturbed` does it."""

    def shocked(self, batch: Batch, kind: str, generator: torch.Generator, /) -> Batch:
        """Return a disturbed copy of a batch, and leave the batch as it is.

        Args:
            batch: one of the task's batches, or of this process's rows of it.
            kind: "noise" replaces the inputs by noise; "labels" permutes the labels over the batch; "token" makes all
                rows alike.
            generator: the source of all random numbers.

        Raises:
            ValueError: the kind makes no sense for this task.
        """


class Shock:
    """Disturbs the steps of a run that the config names, and changes nothing at any other step.

    Args:
        config: kind, step, length and dose.
        task: the run's task; its batches are disturbed by its own method `shocked` if it has one, else by `disturbed`.
        seed: the run's.
        rank: the number of this process among those that train the run.

    Attributes:
        kept: a copy of the optimizer's state that is put in place later; checkpoints hold it.
    """

    def __init__(self, config: ShockConfig | None = None, task: object = None, seed: int = 0, rank: int = 0) -> None:
        self._config, self._seed, self._rank = config or ShockConfig(), seed, rank
        self._disturbed = task.shocked if isinstance(task, Shockable) else disturbed
        kind = KINDS.get(self._config.kind)
        self._last = self._config.step + (kind.hits(self._config.length) if kind else 0)
        self.kept: dict[str, Any] | None = None

    def begin(self, optimizer: torch.optim.Optimizer, kept: dict[str, Any] | None) -> None:
        """Take what a checkpoint kept, or None. Call it with a new optimizer, before its state is restored."""
        if self._config.kind == "reset":
            self.kept = deepcopy(optimizer.state_dict())
        elif kept is not None:
            optimizer.load_state_dict(kept)  # moves it to the device now, not while steps are queued there
            self.kept = deepcopy(optimizer.state_dict())

    def on_state(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Replace the optimizer's state before a step, or keep a copy of it for later. The groups' lr may change."""
        if self._config.kind == "stale" and step == self._config.step - self._config.length:
            self.kept = deepcopy(optimizer.state_dict())
        if self._hits(step, "reset", "stale"):
            assert self.kept is not None
            optimizer.load_state_dict(deepcopy(self.kept))
            if step == self._last - 1:
                self.kept = None

    def lr(self, step: int, lr: float) -> float:
        """Return the learning rate of a step, given the undisturbed one."""
        return lr * self._config.dose if self._hits(step, "lr") else lr

    def batch(self, step: int, batch: Batch) -> Batch:
        """Return the batch of a step, disturbed if the shock hits it. Raises ValueError if its kind makes no sense."""
        kind = self._config.kind
        if not self._hits(step, "noise", "labels", "token"):
            return batch
        return self._disturbed(batch, kind, self._generator(step, 0 if kind == "token" else self._rank))

    def on_gradients(self, step: int, params: Sequence[nn.Parameter]) -> None:
        """Disturb the gradients of a step in place."""
        if self._hits(step, *GRADIENTS):
            grads = [param.grad for param in params if param.grad is not None]
            GRADIENTS[self._config.kind](grads, self._config.dose, self._generator(step, 0))

    @torch.no_grad()
    def on_parameters(self, step: int, params: Sequence[nn.Parameter]) -> None:
        """Disturb the parameters after a step's update, in place."""
        if self._hits(step, "bf16"):
            for param in params:
                param.copy_(param.bfloat16())

    def _hits(self, step: int, *kinds: str) -> bool:
        return self._config.kind in kinds and self._config.step <= step < self._last

    def _generator(self, step: int, rank: int) -> torch.Generator:
        state = np.random.SeedSequence([self._seed, step, rank, STREAM]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> 1))


NO_SHOCK = Shock()


def check_state(kind: str, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError if the shock replaces a state that holds weights, as a schedule-free optimizer's does."""
    if kind in KINDS and KINDS[kind].memory != "kept" and hasattr(optimizer, "eval"):
        names = [name for name in KINDS if KINDS[name].memory == "kept"]
        raise ValueError(f"its state holds weights that a shock cannot replace; shock.kind must be {either(names)}")


def check_processes(config: RunConfig, processes: Processes) -> None:
    """Raise UserError for a shock that cannot be done where each process has a part of every parameter."""
    if config.shock.kind in NOT_SHARDED and processes.size > 1 and config.parallel == "fsdp2":
        names = either([name for name in KINDS if name not in NOT_SHARDED])
        raise UserError(f"shock.kind is {config.shock.kind}; with parallel=fsdp2 it must be {names}")
