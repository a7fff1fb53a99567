"""Trains a deep neural n-gram model on few windows of Python source, again and again: AdamW spikes late, by itself."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.loading import Batch, batches_by_step
from tasks.data.tokens import BYTES, TokenTask
from tasks.models.perceptron import perceptron
from tasks.source_gpt import encoded_source


class NgramModel(nn.Module):
    """Predicts the next byte from the embeddings of the last ones (Bengio et al. 2003, in JMLR 3)."""

    def __init__(self, *, context: int, embedding: int, width: int, depth: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(BYTES, embedding)
        self.layers = perceptron(context * embedding, BYTES, width=width, depth=depth)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits of shape (n, 256) for ids of shape (n, context)."""
        logits: Tensor = self.layers(self.tokens(ids))
        return logits


class SourceNgram(TokenTask):
    """Predicts the byte that follows `context` bytes of Python source, on few windows over hundreds of epochs.

    Some windows are alike but for the byte that follows, so that the loss cannot reach zero, which keeps the curvature
    alive while the gradients become small. The model memorises: its held-out loss says nothing.

    Args:
        seed: draws the windows, and seeds their order in each epoch.
        data_dir: folder for the encoded text.
        windows: how many windows are trained on, at least 1.
        batch: windows per step, from 1 to `windows`.
        context: bytes from which the next one is predicted, at least 1.
        embedding: width of a byte's embedding, at least 1.
        width: width of the hidden layers, at least 1.
        depth: number of hidden layers, at least 1.

    Raises:
        ValueError: an argument is outside its range, or the text is missing, damaged or cannot be written.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        windows: int = 512,
        batch: int = 128,
        context: int = 8,
        embedding: int = 16,
        width: int = 64,
        depth: int = 6,
    ) -> None:
        sizes = {"windows": windows, "context": context, "embedding": embedding, "width": width, "depth": depth}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if not 1 <= batch <= windows:
            raise ValueError(f"batch is {batch}; it must be from 1 to {windows}, the number of windows")
        super().__init__(
            encoded_source(Path(data_dir), BYTES),
            seed,
            model=lambda: NgramModel(context=context, embedding=embedding, width=width, depth=depth),
            vocab_size=BYTES,
            batch=batch,
            context=context,
            workers=0,
        )
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

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the windows' last byte in nats, 0-d."""
        windows, *others = batch
        return F.cross_entropy(model(windows[:, :-1]), others[0] if others else windows[:, -1])

    def shocked(self, batch: Batch, kind: str, generator: torch.Generator) -> Batch:
        """Return a disturbed batch: "labels" permutes the predicted bytes, other kinds are as in other texts."""
        if kind != "labels":
            return super().shocked(batch, kind, generator)
        (windows,) = batch
        return windows, windows[torch.randperm(len(windows), generator=generator), -1]

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the training loss over all windows as well, which alone shows how far the optimizer came."""
        windows = self.windows.to(next(model.parameters()).device)
        return {**super().evaluate(model), "train_loss": self.loss(model, (windows,)).item()}
