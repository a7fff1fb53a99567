"""The log of `s3bench decide` in a results folder: the learning rates that were frozen, the blocks, what was decided.

One line of JSON per entry, only ever appended by the process that holds the lease. It says which records a verdict
rests on: a report takes no other runs as evidence.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s3bench.errors import UserError
from s3bench.record.lease import Busy, Lease
from s3bench.record.opening import opened, parsed

FILE, LEASE = "decisions.jsonl", ".decisions.lease"
RATE, BLOCK, MORE, HOLE, STOP = "rate", "block", "more", "hole", "stop"  # the kinds of entries


@contextmanager
def held(results_dir: Path) -> Iterator[None]:
    """Hold the log in the block, so that no other process appends to it. Raises UserError if one does."""
    results_dir.mkdir(parents=True, exist_ok=True)
    try:
        lease = Lease(results_dir / LEASE)
    except Busy as error:
        raise UserError(f"another s3bench decide is at work in {results_dir}; wait for it, or stop it") from error
    try:
        yield
    finally:
        lease.release()


def read(results_dir: Path) -> list[dict[str, Any]]:
    """Return the entries in order; a line that a killed process left unfinished is left out.

    Raises UserError if the log is damaged.
    """
    try:
        with opened(results_dir / FILE) as file:
            text = file.read().decode()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{results_dir / FILE} cannot be read: {error}") from error
    entries = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            entry = parsed(line)
            if not isinstance(entry["event"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{results_dir / FILE} is damaged in line {number}; move it away to decide anew") from error
        entries.append(entry)
    return entries


def append(results_dir: Path, event: str, **content: Any) -> dict[str, Any]:
    """Append an entry and return it. A line that a killed process left unfinished is removed first."""
    entry = {"event": event, **content}
    with (results_dir / FILE).open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    return entry
