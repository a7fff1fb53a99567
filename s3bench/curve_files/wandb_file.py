"""Reads the history of a wandb run from its .wandb file, with `wandb leet inspect`, wandb's own public reader."""

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from s3bench.errors import UserError, one_line

HEADER_BYTES = 7  # of the file, and of each chunk: its checksum (4), length (2) and position in the record (1)
LAST_CHUNKS = (1, 4)  # positions: a whole record, its last chunk; 2 and 3 are the chunks before
BLOCK_BYTES = 32_768  # wandb writes whole blocks or, when it waits or ends, up to the end of a record
INSPECT = (sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--json")  # -P: not ./wandb
TYPE_WITHIN = 60  # characters: a line begins {"num":12,"type":"history"


def read_history(file: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the rows of wandb.log, oldest first; nan and inf are "NaN", "Infinity" and "-Infinity".

    The file of a run that is under way or was killed ends early, at a whole block or record; a note says so.

    Returns:
        The rows, and notes on the file.

    Raises:
        UserError: the file is damaged or cut short elsewhere, or wandb is older than its reader.
    """
    _check_version()
    rows, has_end = [], False
    with (
        _read_as(file) as whole,
        tempfile.TemporaryFile() as said,
        subprocess.Popen([*INSPECT, whole], stdout=subprocess.PIPE, stderr=said) as reader,
    ):
        assert reader.stdout is not None
        for line in reader.stdout:
            if b'"type":"history"' in line[:TYPE_WITHIN]:
                rows.append(_item(file, line))
            has_end |= b'"type":"exit"' in line[:TYPE_WITHIN]
        reader.wait()
        said.seek(0)
        complaint = " ".join(said.read().decode(errors="replace").split())
    if reader.returncode or "corrupt" in complaint:
        raise UserError(f"{file} is not an intact .wandb file ({complaint or f'exit code {reader.returncode}'})")
    if "incomplete" in complaint and file.stat().st_size % BLOCK_BYTES:
        raise UserError(f"{file} is cut short: it ends within a record")
    if has_end:
        return rows, []
    return rows, [f"{file} has no end: the run is under way or was killed, and its last rows may be missing"]


def _item(file: Path, line: bytes) -> dict[str, Any]:
    """Return what a line of wandb's reader says was logged. Raises UserError for one that is not understood."""
    try:
        return dict(json.loads(line)["history"].get("item", {}))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} holds what cannot be read ({one_line(error)})") from error


def end_whole(file: Path) -> bool:
    """Cut a killed run's file off after its last whole record, and return whether it has any.

    `wandb sync` stops at half a record. The format is that of LevelDB's logs
    (github.com/google/leveldb/blob/main/doc/log_format.md) after a header.
    """
    data = file.read_bytes() if file.exists() else b""
    end = _end_of_records(data)
    if end < len(data):
        os.truncate(file, end)
    return end > HEADER_BYTES


@contextmanager
def _read_as(file: Path) -> Iterator[Path]:
    """Yield the file to read: the given one or, where it ends at a whole block within a record, a copy cut before it.

    wandb may call such a file corrupt.
    """
    data = b"" if file.stat().st_size % BLOCK_BYTES else file.read_bytes()
    end = _end_of_records(data)
    if not HEADER_BYTES < end < len(data):
        yield file.absolute()
        return
    with tempfile.NamedTemporaryFile(suffix=file.suffix) as copy:
        copy.write(data[:end])
        copy.flush()
        yield Path(copy.name)


def _end_of_records(data: bytes) -> int:
    """Return where the last whole record ends; HEADER_BYTES if there is none."""
    at = end = HEADER_BYTES
    while at + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < HEADER_BYTES:  # too little for a chunk: filled with zeros
            at += left
            continue
        length, position = struct.unpack_from("<HB", data, at + 4)
        at += HEADER_BYTES + length
        if position in LAST_CHUNKS and at <= len(data):
            end = at
    return end


def _check_version() -> None:
    version = metadata.version("wandb")
    if tuple(int(part) for part in version.split(".")[:2]) < (0, 31):
        raise UserError(
            f"a .wandb file needs wandb 0.31 or later, but {version} is installed: pip install 'wandb>=0.31'"
        )
