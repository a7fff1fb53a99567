"""Reads documents: plain text files, and with Hugging Face datasets the rows of JSON lines, Parquet and CSV files."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# All other files are plain text.
FORMATS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet", ".csv": "csv"}
END = "<|endoftext|>"  # GPT-2's token for the end of a document
PIECE = 4096  # characters: a longer text file is cut into documents, at line ends


class Position(NamedTuple):
    """A position between documents: `row` documents of file number `file` have been read."""

    file: int
    row: int


def find_files(names: list[str]) -> list[Path]:
    """Return the files that these names, folders (with all that they hold) and patterns (*.txt) match, sorted.

    Raises ValueError for a name that matches no file.
    """
    found: set[Path] = set()
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            matches = [file for file in path.rglob("*") if not file.name.startswith(".")]
        else:
            matches = [path] if path.exists() else list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        files = {file.resolve() for file in matches if file.is_file()}
        if not files:
            raise ValueError(f"files: {name} is not a file, a folder with files, or a pattern that matches files")
        found |= files
    return sorted(found)


def read_documents(files: list[str], column: str | None, start: Position) -> Iterator[tuple[str, Position]]:
    """Yield the documents from a position on, each with the position after it.

    Args:
        files: paths, or hf:// addresses of files on the Hugging Face hub.
        column: the column with the text, in files with columns. None means the column named text, or else the only
            column that holds text.
        start: the position to begin at.

    Raises:
        ValueError: a file cannot be read or lacks the column; the message names the file.
    """
    for index in range(start.file, len(files)):
        row = start.row if index == start.file else 0
        try:
            for text in _read_texts(files[index], column, row):
                row += 1
                yield text, Position(index, row)
        except UnicodeDecodeError as error:
            raise ValueError(f"{files[index]} is not UTF-8 text: {error.reason} after document {row}") from error
        except _InputError:
            raise
        except Exception as error:  # datasets and its libraries raise anything for a damaged or unreachable file
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{files[index]} cannot be read: {reason}") from error


def is_held_out(text: str, one_in: int) -> bool:
    """Return whether a document is held out, by a hash of its text: the same text is never in both parts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % one_in == 0


class _InputError(ValueError):
    """A mistake of the user's, with a complete message."""


def format_of(file: str) -> str:
    """Return the format of a file by its suffix; a compressed file's (.json.gz) by the suffix before that."""
    path = Path(file)
    return FORMATS.get((path if path.suffix not in (".gz", ".zst") else Path(path.stem)).suffix.lower(), "text")


def _read_texts(file: str, column: str | None, start: int) -> Iterator[str]:
    """Yield the documents of a file after the first `start`."""
    if not file.startswith("hf://") and Path(file).stat().st_size == 0:
        return iter(())
    if format_of(file) == "text":
        return itertools.islice(_read_pieces(file), start, None)
    return _read_rows(file, column, start)


def _read_pieces(file: str) -> Iterator[str]:
    """Yield the pieces of a text file, cut at line ends."""
    piece: list[str] = []
    size = 0
    with open(file, encoding="utf-8-sig", newline="") as lines:  # noqa: PTH123 (newline="" keeps the line ends as they are)
        for line in lines:
            piece.append(line)
            size += len(line)
            if size >= PIECE:
                yield "".join(piece)
                piece, size = [], 0
    if piece:
        yield "".join(piece)


def _read_rows(file: str, column: str | None, start: int) -> Iterator[str]:
    """Yield the texts in a file with columns; null is an empty text."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it would log the errors that it raises
    data = iter(datasets.load_dataset(format_of(file), data_files=[file], split="train", streaming=True))
    first: dict[str, Any] = next(data, {})
    name = column or _text_column(file, first)
    if name not in first:
        raise _InputError(f"{file} has no column {name}; it has {', '.join(first)}")
    for row, values in enumerate(itertools.chain([first], data)):
        text = values[name]
        if not isinstance(text, str | None):
            raise _InputError(f"column {name} of {file} holds {type(text).__name__}, not text, in row {row}")
        if row >= start:
            yield text or ""


def _text_column(file: str, first: dict[str, Any]) -> str:
    """Return the name of the column that holds the text; raise if it is unclear."""
    texts = [name for name, value in first.items() if isinstance(value, str)]
    if "text" in first or len(texts) == 1:
        return "text" if "text" in first else texts[0]
    raise _InputError(f"column is not set, and {file} has no column text; set it to one of {', '.join(texts or first)}")
