"""Opens files that anybody may have put there or changed: only regular files of a sane size, and plain data in them."""

import json
import math
import stat
from pathlib import Path
from typing import Any, BinaryIO

LARGEST = 2**24  # bytes of a file that is not a table
DEEPEST, MOST = 50, 100_000  # how deep values are nested in a config or a summary, and how many there are
NUMBER = "(0|[1-9][0-9]*)"  # of a process, in the names of its files
KINDS_OF_FILES = {stat.S_IFIFO: "a fifo", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}


def opened(file: Path, most: float = math.inf) -> BinaryIO:
    """Open a file for reading. Raises OSError, also if it is no regular file or has more than `most` bytes."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"it is {KINDS_OF_FILES.get(stat.S_IFMT(found.st_mode), 'a device')}, and no file")
    if found.st_size > most:
        raise OSError(f"it has {found.st_size:,} bytes, and such a file has at most {most:,.0f}")
    return file.open("rb")


def read_text(file: Path, most: int = LARGEST) -> str:
    """Return the content of a text file. Raises OSError as `opened`, and ValueError if it is not UTF-8."""
    with opened(file, most) as content:
        return content.read(most).decode()


def parsed(text: str | bytes) -> Any:
    """Return the content of a JSON text. Raises ValueError if it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_plain(content: Any) -> None:
    """Raise ValueError unless a value is made of dicts, lists, texts and numbers, not too many and not too deep.

    A text must be one that can be written: JSON and YAML can hold halves of characters.
    """
    left, seen = [(content, 0)], 0
    while left:
        value, depth = left.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST:
            raise ValueError("it is nested too deeply" if depth > DEEPEST else "it holds too many values")
        if isinstance(value, dict):
            left += [(inner, depth + 1) for pair in value.items() for inner in pair]
        elif isinstance(value, list):
            left += [(inner, depth + 1) for inner in value]
        elif isinstance(value, str):
            value.encode()
        elif value is not None and type(value) not in (bool, int, float):
            raise ValueError(f"it holds a {type(value).__name__}")
