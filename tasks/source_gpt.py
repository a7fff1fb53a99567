"""The source of Python's standard library (about 11 MB on every machine that runs Python) with a small GPT."""

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

# Not the language's own library, or not on every installation.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}


class SourceGPT(TokenTask):
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
    """The folder with the encoded source (see tokens.py); made on the first call.

    Raises ValueError if this Python has no source of its library, or the folder cannot be made.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = []
    for place, folders, names in os.walk(library):
        folders[:] = set(folders) - LEFT_OUT  # not descended into
        files += [Path(place, name) for name in names if name.endswith(".py")]
    files.sort()
    if not files:
        raise ValueError(f"no Python source in {library}; source_gpt needs a Python with its library's source")
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
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns when the loader's workers fork
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
