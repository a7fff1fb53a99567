"""Trains a very small GPT on few windows of Python source, again and again: AdamW spikes late, by itself."""

from functools import partial
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.few_windows import FewWindows
from tasks.data.loading import Batch
from tasks.data.tokens import BYTES, check_sizes
from tasks.models.gpt import GPT
from tasks.source_gpt import encoded_source


class SourceMemorise(FewWindows):
    """Predicts every next byte in windows of Python source.

    The first bytes of a window do not tell which window it is, so that the loss cannot reach zero; label smoothing
    keeps it higher still. That keeps the curvature alive while the gradients become small.

    Args:
        seed: draws the windows, and seeds their order in each epoch.
        data_dir: folder for the encoded text.
        windows: how many windows are trained on, at least 1.
        batch: windows per step, from 1 to `windows`.
        context: bytes of a window that are inputs, at least 1.
        width: width of the transformer.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        smoothing: the share of each label that is spread over all bytes, from 0 to 1; without effect on evaluations.

    Raises:
        ValueError: an argument is outside its range, or the text is missing, damaged or cannot be written.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        windows: int = 64,
        batch: int = 16,
        context: int = 32,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        smoothing: float = 0.1,
    ) -> None:
        shape = {"vocab_size": BYTES, "context": context, "width": width, "depth": depth, "heads": heads}
        check_sizes(batch=batch, **shape)
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing is {smoothing}; it must be from 0 to 1")
        super().__init__(
            encoded_source(Path(data_dir), BYTES),
            seed,
            model=partial(GPT, **shape),
            windows=windows,
            batch=batch,
            context=context,
        )
        self.smoothing = smoothing

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats per byte, 0-d; to smoothed labels while the model is trained."""
        windows, *others = batch
        following = others[0] if others else windows[:, 1:]
        smoothing = self.smoothing if model.training else 0.0
        logits = model(windows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), following.flatten(), label_smoothing=smoothing)
