"""Prepares data once: under a lock, resumable, with checksums, and either complete or absent."""

import fcntl
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKSUMS = "sums.json"  # size and SHA-256 of every other file in a prepared folder; written last
CHECKED_BYTES = 100 << 20  # of files up to this size the sum is checked at each use, of larger ones only the size


def prepare(folder: Path, make: Callable[[Path], None], *, description: str, needed_bytes: int) -> Path:
    """Return the folder of prepared data; on the first call one process makes it while others wait.

    `make(draft)` writes into a draft of the folder. If it was interrupted, it is called again with the draft as it was
    left: everything in it was written by `make`, and files that were written under another name and renamed are
    complete. When it returns, checksums are written and the draft is renamed to the folder.

    Args:
        folder: the folder; its name identifies everything that the data depend on.
        make: writes the files.
        description: the data in words, for messages.
        needed_bytes: about how much disk space the data need.

    Raises:
        ValueError: the folder cannot be written, the disk is too small, or the data are damaged.
    """
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.with_name(f".{folder.name}.lock"), description):
                if not folder.exists():
                    _prepare(folder, make, description, needed_bytes)
        except OSError as error:
            raise ValueError(
                f"{description} cannot be prepared in {folder.parent}: {error.strerror or error}"
            ) from error
    _check_files(folder, description)
    return folder


def _prepare(folder: Path, make: Callable[[Path], None], description: str, needed_bytes: int) -> None:
    """Make the folder, while holding its lock."""
    draft = folder.with_name(f".{folder.name}.draft")
    draft.mkdir(exist_ok=True)
    present = sum(file.stat().st_size for file in draft.iterdir())
    free = shutil.disk_usage(draft).free
    if free < needed_bytes - present:
        raise ValueError(
            f"{description} needs {format_bytes(needed_bytes)} in {folder.parent}; {format_bytes(free)} are free"
        )
    print(
        f"preparing {description}: about {format_bytes(needed_bytes)} in {folder.parent}", file=sys.stderr, flush=True
    )
    for file in draft.glob(".*"):  # left incomplete by a process that was killed
        file.unlink()
    make(draft)
    sums = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in sorted(draft.iterdir())}
    write_whole(draft / CHECKSUMS, json.dumps(sums, indent=1).encode())
    draft.rename(folder)


def _check_files(folder: Path, description: str) -> None:
    """Raise ValueError unless every file has its size and, where checking is quick, its checksum."""
    try:
        for name, known in json.loads((folder / CHECKSUMS).read_text()).items():
            file, size = folder / name, known["bytes"]
            if file.stat().st_size != size or (size <= CHECKED_BYTES and _sha256(file) != known["sha256"]):
                raise ValueError(f"{name} has changed since it was written")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"the prepared {description} is damaged ({error}); delete {folder} and run again") from error


def write_whole(file: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path, description: str) -> Iterator[None]:
    """Hold a lock on a file; the kernel releases it if the process dies."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares {description}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def format_bytes(count: int) -> str:
    """Write a number of bytes for a message."""
    if count < 1e6:
        return f"{math.ceil(count / 1e3)} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
