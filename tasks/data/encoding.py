"""Encodes text into token files chunk by chunk, so that an interrupted encoding resumes where it stopped."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.documents import Position
from tasks.data.prepare import write_whole
from tasks.data.tokens import ID, PARTS, write_facts

CHUNK = 8 << 20  # characters encoded in one call
PROGRESS_EVERY = 10.0  # seconds between lines of progress
PROGRESS = "progress.json"

Document = tuple[str, Position]


def encode(
    draft: Path,
    tokenizer: Any,
    read: Callable[[Position], Iterator[Document]],
    is_held_out: Callable[[str, Position], bool],
    *,
    end: int | None,
    max_tokens: int | None = None,
    files: int,
) -> None:
    """Write train.bin, held_out.bin and facts.json (see tokens.py) into a draft folder, or complete them.

    After each chunk the files are on the disk, and progress.json says how long they are and where the text continues.
    An interrupted encoding resumes there and ends with exactly the same files.

    Args:
        draft: the folder.
        tokenizer: a Tokenizer of the library tokenizers.
        read: yields the documents from a position on, each with the position after it.
        is_held_out: says whether a document is held out, given its text and the position after it.
        end: id that is written after each document; None writes nothing.
        max_tokens: how many ids of training text to write; None writes all.
        files: how many files there are, for the lines of progress.

    Raises:
        ValueError: there is no training text or no held-out text.
    """
    state = _resume(draft)
    printed = time.monotonic()
    with (draft / "train.bin").open("ab") as train, (draft / "held_out.bin").open("ab") as held_out:
        for chunk in _chunks(read(Position(*state["place"]))):
            encodings = tokenizer.encode_batch_fast([text for text, _ in chunk], add_special_tokens=False)
            for (text, position), encoding in zip(chunk, encodings, strict=True):
                part = "held_out" if is_held_out(text, position) else "train"
                ids = encoding.ids if end is None else [*encoding.ids, end]
                (held_out if part == "held_out" else train).write(np.array(ids, dtype=ID).tobytes())
                state["documents"][part] += 1
                state["bytes"][part] += len(text.encode())
                state["tokens"][part] += len(ids)
            for out in (train, held_out):
                out.flush()
                os.fsync(out.fileno())
            state["place"] = chunk[-1][1]
            write_whole(draft / PROGRESS, json.dumps(state).encode())
            if time.monotonic() - printed > PROGRESS_EVERY:
                printed = time.monotonic()
                print(_progress(state, files), file=sys.stderr, flush=True)
            if max_tokens is not None and state["tokens"]["train"] >= max_tokens:
                break
    _finish(draft, state, tokenizer, max_tokens)


def _resume(draft: Path) -> dict[str, Any]:
    """Return how far an earlier call came; cut off what it wrote after it last noted its progress."""
    state: dict[str, Any] = {
        "place": Position(0, 0),
        **{key: dict.fromkeys(PARTS, 0) for key in ("documents", "bytes", "tokens")},
    }
    if (draft / PROGRESS).exists():
        state = json.loads((draft / PROGRESS).read_text())
    for part in PARTS:
        with (draft / f"{part}.bin").open("ab") as file:
            file.truncate(state["tokens"][part] * ID.itemsize)
    return state


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Yield the documents that are not empty, in lists of at least CHUNK characters (the last has fewer)."""
    chunk: list[Document] = []
    size = 0
    for text, position in documents:
        if text:
            chunk.append((text, position))
            size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _progress(state: dict[str, Any], files: int) -> str:
    """Return a line of progress."""
    file, _ = state["place"]
    return f"  file {file + 1} of {files}, {sum(state['tokens'].values()) / 1e6:,.1f} million tokens"


def _finish(draft: Path, state: dict[str, Any], tokenizer: Any, max_tokens: int | None) -> None:
    """Check that there is text, cut the training text to max_tokens, and write facts.json."""
    for part, name in zip(PARTS, ("training", "held-out"), strict=True):
        if not state["tokens"][part]:
            total = sum(state["documents"].values())
            raise ValueError(f"there is no {name} text among the {total} documents that are not empty")
    if max_tokens is not None and state["tokens"]["train"] > max_tokens:
        os.truncate(draft / "train.bin", max_tokens * ID.itemsize)
    write_facts(
        draft,
        vocabulary=tokenizer.get_vocab_size(),
        held_out_bytes=state["bytes"]["held_out"],
        documents=state["documents"],
    )
    (draft / PROGRESS).unlink()
