"""Trains GPT-2 on the text of a data set on the Hugging Face hub, in GPT-2's own encoding."""

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.data.documents import END, Position, is_held_out, read_documents
from tasks.data.encoding import encode
from tasks.data.prepare import prepare, write_whole
from tasks.data.tokens import ID, TokenTask, check_sizes
from tasks.models.gpt2 import GPT2

TOKENIZER = ("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e")  # repository and its commit


class HubGPT2(TokenTask):
    """Predicts the next token of a data set's text with transformers' GPT-2, in windows at random positions.

    The text is encoded once, kept under `data_dir` and memory-mapped, so that a run can begin at any step immediately.
    Missing files are read from the hub as a stream if `download` is true. A file that lies under `data_dir` at its path
    in the repository (data_dir/Salesforce/wikitext/...) is read there instead.

    Args:
        seed: seeds the positions of the windows.
        data_dir: folder for the encoded text.
        repository: name of the data set on the hub.
        revision: commit of the data set.
        train: file of the training text; * stands for the numbers 00000, 00001, ... of `parts` files.
        parts: number of training files, at least 1.
        held_out: file of the held-out text; or a number n of at least 2, which holds out one training document in n,
            chosen by a hash of its text.
        tokens: how many tokens of training text to use at most, from the beginning; at least 1.
        documents_end: whether GPT-2's end-of-text token follows each row.
        download: whether missing files may be read from the hub.
        vocab_size: size of the model's vocabulary, at least the tokenizer's, at most 65,536.
        batch: windows per step, at least 1.
        context: tokens per window, at least 1.
        width: width of the transformer.
        depth: number of blocks, at least 1.
        heads: attention heads; they must divide `width`.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: an argument is outside its range, or data are missing, damaged or cannot be read.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        repository: str,
        revision: str,
        train: str,
        parts: int,
        held_out: str | int,
        tokens: int,
        documents_end: bool,
        download: bool = False,
        vocab_size: int = 50304,
        batch: int = 8,
        context: int = 1024,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        workers: int = 0,
    ) -> None:
        shape = {"vocab_size": vocab_size, "context": context, "width": width, "depth": depth, "heads": heads}
        check_sizes(batch=batch, **shape)
        text = HubText(repository, revision, train, parts, held_out, tokens, documents_end)
        super().__init__(
            text.encoded_folder(Path(data_dir), vocab_size, download=download),
            seed,
            model=partial(GPT2, **shape),
            vocab_size=vocab_size,
            batch=batch,
            context=context,
            workers=workers,
        )


@dataclass(frozen=True)
class HubText:
    """Names the text to use, see HubGPT2.

    Raises ValueError if a number is outside its range.
    """

    # The names of the class and its fields are part of the prepared folder's name: renaming one prepares data again.
    repository: str
    revision: str
    train: str
    parts: int
    held_out: str | int
    tokens: int
    documents_end: bool

    def __post_init__(self) -> None:
        for name, number in {"parts": self.parts, "tokens": self.tokens}.items():
            if number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")
        if isinstance(self.held_out, int) and self.held_out < 2:
            raise ValueError(f"held_out is {self.held_out}; it must be a file or a number of at least 2")

    def files(self) -> list[str]:
        """Return the paths in the repository, the held-out file first."""
        parts = [self.train.replace("*", f"{part:05d}") for part in range(self.parts)]
        return [self.held_out, *parts] if isinstance(self.held_out, str) else parts

    def encoded_folder(self, data_dir: Path, vocab_size: int, *, download: bool) -> Path:
        """Return the folder with the encoded text (see tokens.py); the first call makes it.

        Once it exists, neither the files nor the tokenizer are needed.

        Raises ValueError if data are missing and may not be downloaded, or cannot be read.
        """
        identity = hashlib.sha256(f"{self} {TOKENIZER}".encode()).hexdigest()[:16]
        folder = data_dir / f"{self.repository.split('/')[-1]}-{identity}"
        if folder.exists():
            return prepare(folder, _make_nothing, description=self.repository, needed_bytes=0)
        sources = self._sources(data_dir, download)
        tokenizer = gpt2_tokenizer(data_dir, vocab_size, download=download)
        return prepare(
            folder,
            lambda draft: self._encode(draft, sources, tokenizer),
            description=self.repository,
            needed_bytes=int(1.05 * ID.itemsize * self.tokens),  # the held-out text is small
        )

    def _sources(self, data_dir: Path, download: bool) -> list[str]:
        """Return the paths of the files that are here, and hub addresses of the others."""
        folder = data_dir / self.repository
        missing = [name for name in self.files() if not (folder / name).exists()]
        if missing and not download:
            raise ValueError(
                f"{missing[0]}{f' and {len(missing) - 1} more files' if len(missing) > 1 else ''} missing: set "
                f"task.download=true, or copy from https://huggingface.co/datasets/{self.repository} into {folder}"
            )
        address = f"hf://datasets/{self.repository}@{self.revision}"
        return [f"{address}/{name}" if name in missing else str(folder / name) for name in self.files()]

    def _encode(self, draft: Path, sources: list[str], tokenizer: Any) -> None:
        """Write the encoded text into a draft folder."""
        held_out = self.held_out

        def is_in_held_out(text: str, position: Position) -> bool:
            return is_held_out(text, held_out) if isinstance(held_out, int) else position.file == 0

        encode(
            draft,
            tokenizer,
            lambda start: read_documents(sources, "text", start),
            is_in_held_out,
            end=tokenizer.token_to_id(END) if self.documents_end else None,
            max_tokens=self.tokens,
            files=len(sources),
        )


def _make_nothing(_: Path) -> None:
    """Do nothing: the folder exists."""


def gpt2_tokenizer(data_dir: Path, vocab_size: int, *, download: bool) -> Any:
    """Return GPT-2's tokenizer from data_dir/openai-community/gpt2/tokenizer.json; download the file if allowed.

    Raises ValueError if it is missing, cannot be downloaded, is not a tokenizer with an end-of-text token, or has more
    tokens than `vocab_size`.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # otherwise it warns when the workers are forked
    from tokenizers import Tokenizer

    repository, revision = TOKENIZER
    file = data_dir / repository / "tokenizer.json"
    if not file.exists():
        if not download:
            raise ValueError(
                f"GPT-2's tokenizer is missing: set task.download=true, or copy tokenizer.json from "
                f"https://huggingface.co/{repository} into {file.parent}"
            )
        try:
            content = Tokenizer.from_pretrained(repository, revision=revision).to_str()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, content.encode())
        except Exception as error:  # a network can fail in many ways
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"GPT-2's tokenizer cannot be downloaded into {file.parent}: {reason}") from error
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(f"{file} is not a tokenizer: {error}") from error
    if tokenizer.token_to_id(END) is None:
        raise ValueError(f"{file} is not GPT-2's tokenizer: it lacks {END}")
    if tokenizer.get_vocab_size() > vocab_size:
        least = tokenizer.get_vocab_size()
        raise ValueError(f"vocab_size is {vocab_size}; it must be at least {least}, the tokens of the tokenizer")
    return tokenizer
