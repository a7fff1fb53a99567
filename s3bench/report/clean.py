"""Lists what a results folder no longer needs, and removes it once that was asked for or answered with yes."""

import sys
from pathlib import Path

from rich.filesize import decimal

from s3bench import record
from s3bench.console import say
from s3bench.record.cleaning import Leftover, leftovers


def clean(results_dir: str | Path, *, yes: bool) -> None:
    """List what can be removed, and remove it with `yes`, or after asking in a terminal.

    A sweep removes nothing: another sweep may still want what it planned.

    Raises:
        UserError: there is no such folder, or no record in it.
    """
    record.folders(results_dir)
    found = leftovers(results_dir)
    if not found:
        say("nothing to remove: no replaced record, no lease of a dead process, no checkpoint of a failed run")
        return
    for leftover in found:
        say(f"{'' if yes else 'to be removed: '}{leftover.what} ({decimal(_bytes(leftover))})")
    if yes or _is_confirmed():
        _remove(found)
    else:
        say("nothing was removed; s3bench clean --yes removes all of it")


def _is_confirmed() -> bool:
    """Ask in a terminal; without one, nobody can answer."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    say("Remove all of it? A sweep that still waits for a replaced record would fail. [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(found: list[Leftover]) -> None:
    removed, size = 0, 0
    for leftover in found:
        bytes_of_it = _bytes(leftover)
        try:
            leftover.remove()
        except record.Busy:
            say(f"kept: {leftover.what}: a process trains it now")
            continue
        removed, size = removed + 1, size + bytes_of_it
    say(f"removed {removed} of {len(found)}, {decimal(size)}")


def _bytes(leftover: Leftover) -> int:
    """Return how many bytes its files have; one that has gone has none."""
    files = [inner for file in leftover.files for inner in (file.rglob("*") if file.is_dir() else [file])]
    return sum(file.lstat().st_size for file in files if file.is_file())
