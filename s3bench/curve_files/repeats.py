"""Leaves out the lines of a console that say a step's loss in another way, or sum up an epoch."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from s3bench.curve_files.names import EPOCH_NAMES, STEP_NAMES, normal, words

Keys = tuple[str, ...]


def repeats(rows: list[Keys], kinds: list[str], cell: Callable[[int, str], Any]) -> tuple[list[bool], list[str]]:
    """Return which rows are to be kept, those of summaries not, and a note on them.

    Lines of one kind are summaries if they are seldom, and each has the step and the losses of the line of another kind
    above it, or is the one of its kind, and the last line, in its epoch.

    Args:
        rows: the keys of each line.
        kinds: the words of each line beside them.
        cell: returns the value of a row by its place and a key.
    """
    losses_of = {keys: frozenset(filter(_is_loss, keys)) for keys in set(rows)}
    losses = [losses_of[keys] for keys in rows]
    common = Counter(kind for kind, own in zip(kinds, losses, strict=True) if own)
    closing = _closing(rows, kinds, losses, cell)
    repeating: Counter[str] = Counter()
    last: dict[str, int] = {}  # of each loss, the last line that is no repetition
    for at, own in enumerate(losses):
        before = [last[key] for key in own if key in last]
        if at in closing or any(kinds[at] != kinds[one] and _have_one_step(rows, at, one, cell) for one in before):
            repeating[kinds[at]] += 1
        else:
            for key in own:
                last[key] = at
    seldom = {kind for kind, count in repeating.items() if count == common[kind] and 3 * count <= common.total()}
    kept = [not own or kind not in seldom for own, kind in zip(losses, kinds, strict=True)]
    left_out = kept.count(False)
    return kept, [
        f"lines of another kind at a step or epoch of those above, left out: {left_out} of {common.total()}"
    ] * bool(left_out)


def _closing(
    rows: list[Keys], kinds: list[str], losses: list[frozenset[str]], cell: Callable[[int, str], Any]
) -> set[int]:
    """Return the last lines with a loss of epochs, where the epoch has no other line of the kind, but of another."""
    epochs: dict[tuple[frozenset[str], Any], list[int]] = {}
    for at, own in enumerate(losses):
        epoch = _epoch_of(rows[at])
        if own and epoch is not None:
            epochs.setdefault((own, cell(at, epoch)), []).append(at)
    return {
        lines[-1] for lines in epochs.values() if [kinds[at] for at in lines].count(kinds[lines[-1]]) == 1 < len(lines)
    }


@cache
def _epoch_of(keys: Keys) -> str | None:
    return next((key for key in keys if normal(key) in EPOCH_NAMES), None)


def _have_one_step(rows: list[Keys], at: int, other: int, cell: Callable[[int, str], Any]) -> bool:
    shared = [key for key in rows[at] if key in rows[other] and (_is_step(key) or normal(key) in EPOCH_NAMES)]
    return any(map(_is_step, shared)) and all(cell(at, key) == cell(other, key) for key in shared)


@cache
def _is_loss(key: str) -> bool:
    return "loss" in words(key)


@cache
def _is_step(key: str) -> bool:
    return normal(key) in STEP_NAMES
