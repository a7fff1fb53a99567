"""Language modelling on encoded text: memory-mapped files of token ids, windows of them, loss and evaluation."""

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

ID = np.dtype("<u2")  # type of a token id in a file
LARGEST_VOCABULARY = 65536  # how many ids ID can hold
BYTES = 256  # smallest vocabulary of a byte-level encoding, in which every byte is a token
PARTS = ("train", "held_out")
FACTS = "facts.json"
EVAL_WINDOWS = 128  # evenly spaced windows of the held-out text
EVAL_TOKENS = 8192  # evaluated at once: with a vocabulary of 50,304 their logits take 1.6 GB


class TokenTask:
    """Predicts the next token in windows of `context` tokens at random positions of a text.

    Args:
        folder: folder with the encoded text, see `write_facts`.
        seed: seeds the positions of the windows.
        model: makes the model, which maps ids of shape (n, context) to logits of shape (n, context, vocab_size).
        vocab_size: size of the model's vocabulary, at least that of the encoding.
        batch: windows per step.
        context: tokens per window.
        workers: processes that make the batches; 0 means the training process.

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
            least = self.facts["vocabulary"]
            raise ValueError(f"vocab_size is {vocab_size}; it must be at least {least}, the tokens of the encoding")
        self.train, self.held_out = (np.memmap(folder / f"{part}.bin", ID, "r") for part in PARTS)
        self.seed = seed
        self.workers = workers
        self.batch = batch
        self.context = context
        self._model = model

    def model(self) -> nn.Module:
        """Return a new model, for ids of shape (n, context)."""
        return self._model()

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of each batch (windows,), without end; windows are ids of shape (batch, context + 1)."""
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        """Return `rows` of the batch of a step."""
        starts = np.random.default_rng([self.seed, step]).integers(len(self.train) - self.context, size=self.batch)
        return (self._windows(self.train, starts[rows]),)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats per token, 0-d.

        In a batch (windows, next_tokens) the second tensor takes the place of the windows' own next tokens.
        """
        windows, *others = batch
        following = others[0] if others else windows[:, 1:]
        return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), following.flatten())

    def shocked(self, batch: Batch, kind: str, generator: torch.Generator) -> Batch:
        """Return a disturbed batch.

        "noise" draws ids uniformly from the encoding's vocabulary; "labels" permutes the next tokens over the batch;
        "token" draws one token, and repeats it throughout.
        """
        (windows,) = batch
        if kind == "token":
            return (torch.randint(self.facts["vocabulary"], (), generator=generator).expand_as(windows).clone(),)
        if kind == "noise":
            return (torch.randint(self.facts["vocabulary"], windows.shape, generator=generator),)
        following = windows[:, 1:]
        order = torch.randperm(following.numel(), generator=generator)
        return windows, following.flatten()[order].view_as(following)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return mean cross-entropy in nats per token and in bits per byte of text, on fixed held-out windows."""
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
        """Return a digest of the encoded text, training and held-out."""
        return str(self.facts["fingerprint"])

    def _windows(self, tokens: np.ndarray, starts: np.ndarray) -> Tensor:
        """Return the windows that begin at these positions."""
        return torch.from_numpy(tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int64))


def check_sizes(*, vocab_size: int, batch: int, context: int, width: int, depth: int, heads: int) -> None:
    """Raise ValueError if a size is outside its range."""
    if not BYTES <= vocab_size <= LARGEST_VOCABULARY:
        raise ValueError(f"vocab_size is {vocab_size}; it must be from {BYTES} (bytes) to {LARGEST_VOCABULARY}")
    for name, size in {"batch": batch, "context": context, "width": width, "depth": depth, "heads": heads}.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
    if width % heads:
        raise ValueError(f"width is {width} and heads {heads}; heads must divide width")


def write_facts(folder: Path, *, vocabulary: int, held_out_bytes: int, documents: dict[str, int]) -> None:
    """Write facts.json beside train.bin and held_out.bin, which hold ids (uint16, little-endian).

    Args:
        folder: folder of the files.
        vocabulary: size of the encoding's vocabulary.
        held_out_bytes: size of the held-out text in UTF-8.
        documents: how many documents each part has.
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
