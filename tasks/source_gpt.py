"""Trains a small GPT on the source of Python's standard library: about 11 MB on every machine that runs Python."""

import hashlib
import os
import sysconfig
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import nn

from tasks.data.prepare import prepare
from tasks.data.tokens import ID, PARTS, TokenTask, check_sizes, write_facts
from tasks.models.gpt import GPT

# Folders that do not belong to the standard library, or are not part of every installation.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}


class SourceGPT(TokenTask):
    """Predicts the next token of Python source, in windows of `context` tokens at random positions.

    The text is encoded once by byte-pair encoding, kept under `data_dir` and memory-mapped. One file in twenty, chosen
    by a hash of its name, is held out. The text is the library of the running Python; its fingerprint is in every
    record.

    Args:
        seed: seeds the positions of the windows.
        data_dir: folder for the encoded text.
        vocab_size: size of the encoding's vocabulary, from 256 (plain bytes) to 65,536.
        batch: windows per step, at least 1.
        context: tokens per window, at least 1.
        width: width of the transformer.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range, or the text is missing, damaged or cannot be written.
    """

    network: ClassVar[type[nn.Module]] = GPT

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
        shape = {"vocab_size": vocab_size, "context": context, "width": width, "depth": depth, "heads": heads}
        check_sizes(batch=batch, **shape)
        super().__init__(
            encoded_source(Path(data_dir), vocab_size),
            seed,
            model=partial(self.network, **shape),
            vocab_size=vocab_size,
            batch=batch,
            context=context,
            workers=workers,
        )


def encoded_source(data_dir: Path, vocab_size: int) -> Path:
    """Return the folder with the encoded source (see tokens.py); the first call makes it.

    Raises ValueError if this Python lacks its library's source, or the folder cannot be made.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, subfolders, names in os.walk(library):
        subfolders[:] = set(subfolders) - LEFT_OUT  # os.walk does not enter those
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    files.sort()
    if not files:
        raise ValueError(f"there is no Python source in {library}; use a Python that has the source of its library")
    sizes = {file: file.stat().st_size for file in files}
    listing = "".join(f"{file.relative_to(library)} {size}\n" for file, size in sizes.items())
    identity = hashlib.sha256(f"vocab_size {vocab_size}\n{listing}".encode()).hexdigest()[:16]
    return prepare(
        data_dir / f"python-source-{vocab_size}-{identity}",
        lambda draft: _encode(files, library, vocab_size, draft),
        description=f"Python source in {vocab_size} tokens",
        needed_bytes=ID.itemsize * sum(sizes.values()),
    )


def _encode(files: list[Path], library: Path, vocab_size: int, folder: Path) -> None:
    """Train the byte-pair encoding and write the encoded files into a folder."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # otherwise it warns when the workers are forked
    from tokenizers import ByteLevelBPETokenizer

    texts: dict[str, list[str]] = {part: [] for part in PARTS}
    for file in files:
        name = file.relative_to(library).as_posix()
        part = "held_out" if hashlib.sha256(name.encode()).digest()[0] % 20 == 0 else "train"
        texts[part].append(file.read_text(encoding="utf-8", errors="replace"))
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts["train"], vocab_size=vocab_size, show_progress=False)
    for part, documents in texts.items():
        with (folder / f"{part}.bin").open("wb") as out:
            for text in documents:
                out.write(np.array(tokenizer.encode(text).ids, dtype=ID).tobytes())
    write_facts(
        folder,
        vocabulary=tokenizer.get_vocab_size(),
        held_out_bytes=sum(len(text.encode()) for text in texts["held_out"]),
        documents={part: len(documents) for part, documents in texts.items()},
    )
