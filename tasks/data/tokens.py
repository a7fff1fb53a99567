"""What the language tasks share: encoded text as memory-mapped files of token ids, windows of it, loss, evaluation."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.loading import Batch, batches_by_step
from tasks.data.prepare import write_whole

ID = np.dtype("<u2")  # of a token in a file
LARGEST_VOCABULARY = 65536  # that ID holds
BYTES = 256  # the smallest vocabulary of a byte-level encoding: every byte is a token
PARTS = ("train", "held_out")
FACTS = "facts.json"
EVAL_WINDOWS = 128  # held-out windows, evenly spaced
EVAL_TOKENS = 8192  # evaluated at once: the logits of 50,304 tokens take 1.6 GB


class TokenTask:
    """Predicts the next token, in windows of `context` tokens at random places of the text.

    Args:
        folder: with the encoded text: see `write_facts`.
        seed: of the places of the windows.
        model: makes the model, from ids of shape (n, context) to logits of shape (n, context, vocab_size).
        vocab_size: of the model.
        batch: windows a step.
        context: tokens a window.
        workers: processes that make the batches.

    Raises:
        ValueError: the text is too short for the context, or has tokens that the model lacks.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        model: Callable[[], nn.Module],
        vocab_size: int,
        batch: int,
        context: int,
        workers: int,
    ) -> None:
        self.facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
        for part in PARTS:
            count = self.facts["tokens"][part]
            if context >= count:
                raise ValueError(f"context is {context}; it must be less than the {count} tokens of the {part} text")
        if self.facts["vocabulary"] > vocab_size:
            raise ValueError(
                f"vocab_size is {vocab_size}; the text is encoded with {self.facts['vocabulary']} tokens, "
                f"and it must be at least that"
            )
        self.train, self.held_out = (np.memmap(folder / f"{part}.bin", ID, "r") for part in PARTS)
        self.seed = seed
        self.workers = workers
        self.batch = batch
        self.context = context
        self._model = model

    def model(self) -> nn.Module:
        """The model, for ids of shape (n, context)."""
        return self._model()

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Endless (windows,), ids of shape (batch, context + 1), of which `rows` are given."""
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        starts = np.random.default_rng([self.seed, step]).integers(len(self.train) - self.context, size=self.batch)
        return (self._windows(self.train, starts[rows]),)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats per token, 0-d; of a batch (windows, others) the next tokens are `others`."""
        windows, *others = batch
        following = others[0] if others else windows[:, 1:]
        return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), following.flatten())

    def shocked(self, batch: Batch, kind: str, generator: torch.Generator) -> Batch:
        """Noise: ids drawn uniformly from the encoding's. Labels: the next tokens, permuted over the whole batch."""
        (windows,) = batch
        if kind == "noise":
            return (torch.randint(self.facts["vocabulary"], windows.shape, generator=generator),)
        following = windows[:, 1:]
        order = torch.randperm(following.numel(), generator=generator)
        return windows, following.flatten()[order].view_as(following)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy in nats per token and in bits per byte of text, on fixed held-out windows."""
        device = next(model.parameters()).device
        starts = np.linspace(0, len(self.held_out) - self.context - 1, EVAL_WINDOWS).astype(np.int64)
        at_once = max(1, EVAL_TOKENS // self.context)
        loss = 0.0
        for begin in range(0, EVAL_WINDOWS, at_once):
            windows = self._windows(self.held_out, starts[begin : begin + at_once])
            loss += self.loss(model, (windows.to(device),)).item() * len(windows) / EVAL_WINDOWS
        tokens_per_byte = len(self.held_out) / self.facts["held_out_bytes"]
        return {"loss": loss, "bits_per_byte": loss / math.log(2) * tokens_per_byte}

    def fingerprint(self) -> str:
        """Of the encoded text, training and held-out."""
        return str(self.facts["fingerprint"])

    def _windows(self, tokens: np.ndarray, starts: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int64))


def check_sizes(*, vocab_size: int, batch: int, context: int, width: int, depth: int, heads: int) -> None:
    """Raise ValueError for a size that is not allowed."""
    if not BYTES <= vocab_size <= LARGEST_VOCABULARY:
        raise ValueError(f"vocab_size is {vocab_size}; it must be from {BYTES} (bytes) to {LARGEST_VOCABULARY}")
    if min(batch, context, depth, heads) < 1:
        raise ValueError(
            f"batch is {batch}, context {context}, depth {depth} and heads {heads}; all must be at least 1"
        )
    if width < 1 or width % heads:
        raise ValueError(f"width is {width} and heads {heads}; heads must divide width")


def write_facts(folder: Path, *, vocabulary: int, held_out_bytes: int, documents: dict[str, int]) -> None:
    """Write facts.json beside train.bin and held_out.bin, files of ids (uint16, little-endian).

    Args:
        vocabulary: tokens of the encoding.
        held_out_bytes: of the held-out text, in UTF-8.
        documents: how many each part has.
    """
    digest = hashlib.sha256()
    for part in PARTS:
        with (folder / f"{part}.bin").open("rb") as ids:
            while block := ids.read(1 << 24):
                digest.update(block)
    facts = {
        "fingerprint": digest.hexdigest()[:16],
        "tokens": {part: (folder / f"{part}.bin").stat().st_size // ID.itemsize for part in PARTS},
        "vocabulary": vocabulary,
        "held_out_bytes": held_out_bytes,
        "documents": documents,
    }
    write_whole(folder / FACTS, json.dumps(facts, indent=1).encode())
