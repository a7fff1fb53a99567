"""Finds the spikes of a training by Lightning: `Trainer(callbacks=[SpikeCallback()])`."""

import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from s3bench.callbacks.watch import DIVERGED_AFTER, Watch
from s3bench.spikes.detector import DetectorParameters
from s3bench.spikes.state import plain, real

log = logging.getLogger(__name__)


class SpikeCallback(Callback):
    """Logs the spikes of the loss that `training_step` returns, and stops the training after one if asked to.

    It sees every step: batches whose gradients are accumulated count as one, and of several processes it takes the mean
    loss. What is logged, with every logger of the Trainer: `spike/onset` where a spike begins; `spike/onset`,
    `spike/peak`, `spike/end` (counted from 0, as Lightning's loggers do) and `spike/height` where it ends, and how many
    spikes of its kind there were, such as `spike/recovered`. Its state is saved with Lightning's checkpoints.

    Reading the loss makes the CPU wait for a GPU once a step.

    Args:
        stop_on: the kinds of spikes after which the training stops: "blip", "recovered", "level_shift", "diverged".
        diverged_after: a spike has diverged once so many losses in a row are not finite or above the first one.
        **parameters: those of SpikeMonitor.

    Raises:
        ValueError: a kind is unknown, or a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        stop_on: Iterable[str] = (),
        diverged_after: int = DIVERGED_AFTER,
        **parameters: Unpack[DetectorParameters],
    ) -> None:
        self._watch = Watch(stop_on, diverged_after, **parameters)
        self._sum = 0.0  # of the batches since the last step
        self._step = 0  # of the Trainer, when the last loss was complete
        self._has_warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step from which the training goes on; warn of what cannot be seen."""
        if self._step != trainer.global_step:  # no state of this step was loaded
            self._step, self._sum = trainer.global_step, 0.0
        if not pl_module.automatic_optimization and trainer.is_global_zero:
            self._warn("with manual optimization, it takes the loss that training_step returns, one per batch")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: torch.Tensor | Mapping[str, Any] | None,
        batch: Any,  # noqa: ARG002  # Lightning passes both by position
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Take the batch's loss; log what it says of spikes, and stop the training if it is to."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:
            if trainer.is_global_zero:
                self._warn("training_step returned no loss, and its batch is left out")
            return
        if trainer.world_size > 1:
            loss = trainer.strategy.reduce(loss, reduce_op="mean")
        self._sum += float(loss)  # Lightning has divided it by the number of batches that make a step
        if pl_module.automatic_optimization and trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        values = self._watch.add(self._step - 1, self._sum)
        self._sum = 0.0
        if not values:
            return
        for logger in trainer.loggers:
            logger.log_metrics(values, step=self._step - 1)
        if self._watch.stop is not None and not trainer.should_stop:
            trainer.should_stop = True
            if trainer.is_global_zero:
                log.warning("step %d: %s", self._step - 1, self._watch.stop)

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning writes into a checkpoint."""
        return {"watch": self._watch.state_dict(), "sum": plain(self._sum), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; raise ValueError if its state is that of other detector parameters, or damaged."""
        self._watch.load_state_dict(state_dict["watch"])
        self._sum, self._step = real(state_dict["sum"]), int(state_dict["step"])

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"SpikeCallback does not see every step's loss: {what}", stacklevel=3)
