"""Text of your own, in files on this machine, with GPT-2."""

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

HELD_OUT = 20  # one document in so many
LEARN_FROM = 100_000_000  # characters of the training text that the encoding is learnt from, the first ones


class TextGPT2(TokenTask):
    """Predicts the next token of your text, in windows of `context` tokens at random places, with transformers' GPT-2.

    A row of a JSON lines, Parquet or CSV file is a document. So is any other file, read as UTF-8 text and cut at line
    ends into documents of about 4,000 characters if it is longer. One document in twenty, chosen by a hash of its text,
    is held out. The byte-pair encoding is learnt from the rest. A file counts as changed when its size or time does.

    Args:
        seed: of the places of the windows.
        data_dir: folder for the encoded text.
        files: their names, folders of files, or patterns such as texts/*.txt.
        column: of the text in files with columns; null: the one named text, or else the only one that holds text.
        vocab_size: tokens of the encoding.
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
            raise ValueError(f"vocab_size is {BYTES}; one more is needed, for the end of a document")
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
    """The folder with the encoded text (see tokens.py) and tokenizer.json; made on the first call."""
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
        needed_bytes=(4 if packed else 1) * total,  # 2 bytes a token of 2 to 5 bytes of text
    )


def _encode(draft: Path, files: list[str], column: str | None, vocab_size: int) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns when the loader's workers fork
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
