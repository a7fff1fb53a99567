"""Trains a deep neural n-gram model on few windows of Python source, again and again: AdamW spikes late, by itself."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.few_windows import FewWindows
from tasks.data.loading import Batch
from tasks.data.tokens import BYTES
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


class SourceNgram(FewWindows):
    """Predicts the byte that follows `context` bytes of Python source.

    Some windows are alike but for the byte that follows, so that the loss cannot reach zero. That keeps the curvature
    alive while the gradients become small.

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
        sizes = {"context": context, "embedding": embedding, "width": width, "depth": depth}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        super().__init__(
            encoded_source(Path(data_dir), BYTES),
            seed,
            model=lambda: NgramModel(**sizes),
            windows=windows,
            batch=batch,
            context=context,
        )

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
