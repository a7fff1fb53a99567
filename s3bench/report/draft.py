"""Writes a folder whole or not at all: as a draft beside it, which then takes its place."""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of this one at the end of the block, or is removed if it raises.

    Drafts of processes that were killed are removed first. A process locks its draft, and the system unlocks it when
    the process is gone, however it ended. Where a file system has no locks, such drafts stay.

    Raises OSError.
    """
    draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    with _locked(folder.parent):
        for other in folder.parent.glob(f".{folder.name}-*"):
            _remove_if_abandoned(other)
        draft.mkdir()
        lock = _lock(draft, fcntl.LOCK_EX)
    replaced = draft.with_name(f"{draft.name}.old")
    try:
        yield draft
        with _locked(folder.parent):
            _take_place(draft, folder, replaced)
    finally:
        for left in (replaced, draft):
            shutil.rmtree(left, ignore_errors=True)
        _unlock(lock)


def _take_place(draft: Path, folder: Path, replaced: Path) -> None:
    """Rename a draft to a folder, which is renamed to `replaced` if it exists."""
    if folder.is_symlink() or not folder.is_dir():  # where something else has the name, renaming raises
        draft.rename(folder)
        return
    folder.rename(replaced)
    try:
        draft.rename(folder)
    except OSError:
        replaced.rename(folder)
        raise


def _remove_if_abandoned(draft: Path) -> None:
    lock = _lock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is not None:
        shutil.rmtree(draft, ignore_errors=True)
        _unlock(lock)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes that do the same from beginning or ending a draft; only for as long as a moment takes."""
    lock = _lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(folder: Path, how: int) -> int | None:
    """Lock a folder and return its descriptor; None if another process has locked it, or it cannot be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
