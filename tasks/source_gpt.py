"""The source of Python's standard library (about 11 MB on every machine that runs Python) with a small GPT."""

import hashlib
import json
import math
import os
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.gpt import GPT
from tasks.loading import Batch, batches

# Not the language's own library, or not on every installation.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}
BYTES = 256  # the smallest vocabulary of a byte-level encoding: every byte is a token
EVAL_WINDOWS = 128  # held-out windows, evenly spaced


class SourceGPT:
    """Predicts the next token of Python source, in windows of `context` tokens at random places.

    The text is encoded once by byte-pair encoding, kept under `data_dir` and memory-mapped. One file in twenty, chosen
    by its name, is held out. The text is that of the Python that runs: its fingerprint stands in every record.

    Args:
        seed: of the places of the windows.
        data_dir: folder for the encoded text.
        vocab_size: tokens of the encoding; 256 is plain bytes.
        batch: windows a step.
        context: tokens a window.
        width, depth, heads: of the transformer.
        workers: processes that make the batches.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        vocab_size: int = 512,
        batch: int = 8,
        context: int = 64,
        width: int = 48,
        depth: int = 2,
        heads: int = 4,
        workers: int = 0,
    ) -> None:
        if not BYTES <= vocab_size <= 65536:
            raise ValueError(f"vocab_size is {vocab_size}; it must be from {BYTES} (bytes) to 65536")
        if width % heads:
            raise ValueError(f"width is {width} and heads {heads}; heads must divide width")
        if batch < 1 or context < 1:
            raise ValueError(f"batch is {batch} and context {context}; both must be at least 1")
        folder = encoded_source(Path(data_dir), vocab_size)
        self.train = np.load(folder / "train.npy", mmap_mode="r")
        self.held_out = np.load(folder / "held_out.npy", mmap_mode="r")
        self.facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
        if context >= min(len(self.train), len(self.held_out)):
            raise ValueError(f"context is {context}; it must be less than the {len(self.held_out)} held-out tokens")
        self.seed = seed
        self.workers = workers
        self.batch = batch
        self.context = context
        self.shape = {"vocab_size": vocab_size, "context": context, "width": width, "depth": depth, "heads": heads}

    def model(self) -> nn.Module:
        """The transformer, for ids of shape (n, context)."""
        return GPT(**self.shape)

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Endless (windows,), ids of shape (batch, context + 1), of which `rows` are given."""
        return batches(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        starts = np.random.default_rng([self.seed, step]).integers(len(self.train) - self.context, size=self.batch)
        return (self._windows(self.train, starts[rows]),)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats per token, 0-d."""
        (windows,) = batch
        return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy in nats per token and in bits per byte of text, on fixed windows of the held-out files."""
        device = next(model.parameters()).device
        starts = np.linspace(0, len(self.held_out) - self.context - 1, EVAL_WINDOWS).astype(np.int64)
        loss = self.loss(model, (self._windows(self.held_out, starts).to(device),)).item()
        tokens_per_byte = len(self.held_out) / self.facts["held_out_bytes"]
        return {"loss": loss, "bits_per_byte": loss / math.log(2) * tokens_per_byte}

    def fingerprint(self) -> str:
        """Of the encoded text, training and held-out."""
        return str(self.facts["fingerprint"])

    def _windows(self, tokens: np.ndarray, starts: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int64))


def encoded_source(data_dir: Path, vocab_size: int) -> Path:
    """The folder with train.npy, held_out.npy (uint16 ids) and facts.json; made on the first call.

    It is made beside its place and renamed into it: a folder that is there is whole, and of two processes that make it
    at once one wins. Raises ValueError if this Python has no source of its library, or the folder cannot be written.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = []
    for place, folders, names in os.walk(library):
        folders[:] = set(folders) - LEFT_OUT  # not descended into
        files += [Path(place, name) for name in names if name.endswith(".py")]
    files.sort()
    if not files:
        raise ValueError(f"no Python source in {library}; source_gpt needs a Python with its library's source")
    listing = "".join(f"{file.relative_to(library)} {file.stat().st_size}\n" for file in files)
    identity = hashlib.sha256(f"vocab_size {vocab_size}\n{listing}".encode()).hexdigest()[:16]
    folder = data_dir / f"source-{identity}"
    if folder.exists():
        return folder
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=data_dir, prefix=".making-"))
    except OSError as error:
        raise ValueError(f"data_dir {data_dir} cannot be written: {error.strerror}") from error
    try:
        _encode(files, library, vocab_size, making)
        making.rename(folder)
    except OSError:
        if not folder.exists():  # if it does, another process was faster
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _encode(files: list[Path], library: Path, vocab_size: int, folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer

    texts: dict[str, list[str]] = {"train": [], "held_out": []}
    for file in files:
        name = file.relative_to(library).as_posix()
        part = "held_out" if hashlib.sha256(name.encode()).digest()[0] % 20 == 0 else "train"
        texts[part].append(file.read_text(encoding="utf-8", errors="replace"))
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts["train"], vocab_size=vocab_size, show_progress=False)
    digest = hashlib.sha256()
    for part, documents in texts.items():
        ids = np.concatenate([np.array(tokenizer.encode(text).ids, dtype=np.uint16) for text in documents])
        digest.update(ids.tobytes())
        np.save(folder / f"{part}.npy", ids)
    facts = {
        "fingerprint": digest.hexdigest()[:16],
        "held_out_bytes": sum(len(text.encode()) for text in texts["held_out"]),
        "files": {part: len(documents) for part, documents in texts.items()},
    }
    (folder / "facts.json").write_text(json.dumps(facts))
