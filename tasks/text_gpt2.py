"""Trains GPT-2 on your own text, in files on this machine."""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tasks.data.documents import END, Position, find_files, format_of, is_held_out, read_documents
from tasks.data.encoding import encode
from tasks.data.prepare import prepare, write_whole
from tasks.data.tokens import BYTES, TokenTask, check_sizes
from tasks.models.gpt2 import GPT2

HELD_OUT = 20  # one document in this many is held out
LEARN_FROM = 100_000_000  # characters at the beginning of the training text from which the encoding is learned


class TextGPT2(TokenTask):
    """Predicts the next token of your text with transformers' GPT-2, in windows at random positions.

    Each row of a JSON lines, Parquet or CSV file is a document. Any other file is read as UTF-8 text and is one
    document; a longer one is cut at line ends into documents of about 4,000 characters. One document in twenty, chosen
    by a hash of its text, is held out, and the byte-pair encoding is learned from the rest. A file counts as changed
    when its size or its modification time has changed.

    Args:
        seed: seeds the positions of the windows.
        data_dir: folder for the encoded text.
        files: list of files, folders of files, or patterns such as texts/*.txt.
        column: the column with the text, in files with columns. null means the column named text, or else the only
            column that holds text.
        vocab_size: size of the encoding's vocabulary, from 257 to 65,536.
        batch: windows per step, at least 1.
        context: tokens per window, at least 1.
        width: width of the transformer.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range, or a file is missing, cannot be read, or has too little text.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        files: list[str],
        column: str | None = None,
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
        if vocab_size == BYTES:
            raise ValueError(f"vocab_size is {BYTES}; it must be at least {BYTES + 1}: a document's end needs a token")
        if isinstance(files, str) or not files:
            raise ValueError(f"files is {files!r}; it must be a list: 'task.build.files=[mine.txt,more/*.jsonl]'")
        super().__init__(
            encoded_text(Path(data_dir), find_files(files), column, vocab_size),
            seed,
            model=partial(GPT2, **shape),
            vocab_size=vocab_size,
            batch=batch,
            context=context,
            workers=workers,
        )


def encoded_text(data_dir: Path, files: list[Path], column: str | None, vocab_size: int) -> Path:
    """Return the folder with the encoded text (see tokens.py) and tokenizer.json; the first call makes it."""
    stats = [file.stat() for file in files]
    listing = "".join(f"{file} {stat.st_size} {stat.st_mtime_ns}\n" for file, stat in zip(files, stats, strict=True))
    identity = hashlib.sha256(f"{column} {vocab_size}\n{listing}".encode()).hexdigest()[:16]
    names = [str(file) for file in files]
    total = sum(stat.st_size for stat in stats)
    packed = any(format_of(name) == "parquet" or name.endswith((".gz", ".zst")) for name in names)
    return prepare(
        data_dir / f"text-{vocab_size}-{identity}",
        lambda draft: _encode(draft, names, column, vocab_size),
        description=f"the text of {names[0]}" + (f" and {len(names) - 1} more files" if len(names) > 1 else ""),
        needed_bytes=(4 if packed else 1) * total,  # a token of 2 to 5 bytes of text takes 2 bytes
    )


def _encode(draft: Path, files: list[str], column: str | None, vocab_size: int) -> None:
    """Learn the encoding, unless the draft has it already, and write the encoded text into the draft."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # otherwise it warns when the workers are forked
    from tokenizers import Tokenizer

    if not (draft / "tokenizer.json").exists():
        tokenizer = _train_tokenizer(files, column, vocab_size)
        write_whole(draft / "tokenizer.json", tokenizer.to_str().encode())
    tokenizer = Tokenizer.from_file(str(draft / "tokenizer.json"))
    encode(
        draft,
        tokenizer,
        lambda start: read_documents(files, column, start),
        lambda text, _: is_held_out(text, HELD_OUT),
        end=tokenizer.token_to_id(END),
        files=len(files),
    )


def _train_tokenizer(files: list[str], column: str | None, vocab_size: int) -> Any:
    """Return a tokenizer that was trained on the first LEARN_FROM characters of the training text."""
    from tokenizers import ByteLevelBPETokenizer

    def texts() -> Iterator[str]:
        characters = 0
        for text, _ in read_documents(files, column, Position(0, 0)):
            if not is_held_out(text, HELD_OUT):
                characters += len(text)
                yield text
            if characters >= LEARN_FROM:
                return

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts(), vocab_size=vocab_size, special_tokens=[END], show_progress=False)
    return tokenizer
