"""Language modelling on few windows of a text, over hundreds of epochs: a base class for tasks that memorise."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tasks.data.loading import Batch, batches_by_step
from tasks.data.tokens import BYTES, TokenTask


class FewWindows(TokenTask):
    """Predicts bytes in a fixed set of windows, and is evaluated on the same windows: the task is to memorise.

    Args:
        folder: folder with the text in bytes, see tokens.py.
        seed: draws the windows, and seeds their order in each epoch.
        model: makes the model.
        windows: how many windows are trained on, at least 1.
        batch: windows per step, from 1 to `windows`.
        context: bytes of a window that are inputs, at least 1; a window has one byte more.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        model: Callable[[], nn.Module],
        windows: int,
        batch: int,
        context: int,
    ) -> None:
        if windows < 1:
            raise ValueError(f"windows is {windows}; it must be at least 1")
        if not 1 <= batch <= windows:
            raise ValueError(f"batch is {batch}; it must be from 1 to {windows}, the number of windows")
        super().__init__(folder, seed, model=model, vocab_size=BYTES, batch=batch, context=context, workers=0)
        starts = np.random.default_rng([seed, 77]).integers(len(self.train) - context, size=windows)
        self.windows = self._windows(self.train, starts)

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of each batch (windows,), without end; windows are ids of shape (batch, context + 1)."""
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        """Return `rows` of the batch of a step: each epoch has an order of its own."""
        epoch, index = divmod(step, len(self.windows) // self.batch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.windows))
        return (self.windows[torch.from_numpy(order[index * self.batch : (index + 1) * self.batch][rows])],)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss in nats on all windows, and on other ones, which the model cannot know."""
        windows = self.windows.to(next(model.parameters()).device)
        return {"loss": self.loss(model, (windows,)).item(), "held_out_loss": super().evaluate(model)["loss"]}
