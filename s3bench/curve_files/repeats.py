"""Leaves out the lines of a console that say a step's loss in another way, such as an epoch's summary."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from s3bench.curve_files.names import STEP_NAMES, normal, words

Keys = tuple[str, ...]


def repeats(rows: list[Keys], kinds: list[str], cell: Callable[[int, str], Any]) -> tuple[list[bool], list[str]]:
    """Return which rows are to be kept, those of summaries not, and a note on them.

    Lines of one kind are summaries if they are seldom, and each has the step and the losses of the line of another kind
    above it.

    Args:
        rows: the keys of each line.
        kinds: the words of each line beside them.
        cell: returns the value of a row by its place and a key.
    """
    losses_of = {keys: frozenset(filter(_is_loss, keys)) for keys in set(rows)}
    losses = [losses_of[keys] for keys in rows]
    common = Counter(kind for kind, own in zip(kinds, losses, strict=True) if own)
    repeating: Counter[str] = Counter()
    last: dict[str, int] = {}  # of each loss, the last line that is no repetition
    for at, own in enumerate(losses):
        before = [last[key] for key in own if key in last]
        if any(kinds[at] != kinds[one] and _have_one_step(rows, at, one, cell) for one in before):
            repeating[kinds[at]] += 1
        else:
            for key in own:
                last[key] = at
    seldom = {kind for kind, count in repeating.items() if count == common[kind] and 3 * count <= common.total()}
    kept = [not own or kind not in seldom for own, kind in zip(losses, kinds, strict=True)]
    left_out = kept.count(False)
    return kept, [f"lines that sum up those above, left out: {left_out} of {common.total()}"] * bool(left_out)


def _have_one_step(rows: list[Keys], at: int, other: int, cell: Callable[[int, str], Any]) -> bool:
    steps = [key for key in rows[at] if key in rows[other] and _is_step(key)]
    return bool(steps) and all(cell(at, key) == cell(other, key) for key in steps)


@cache
def _is_loss(key: str) -> bool:
    return "loss" in words(key)


@cache
def _is_step(key: str) -> bool:
    return normal(key) in STEP_NAMES
