"""Leaves out the lines of a console that say a step's loss in another way, such as an epoch's summary."""

from collections import Counter
from functools import cache
from typing import Any

from s3bench.curve_files.names import STEP_NAMES, normal, words

Row = dict[str, Any]


def without_repeats(rows: list[Row], kinds: list[str]) -> tuple[list[Row], list[str]]:
    """Return the rows without those of summaries, and a note on them.

    Lines of one kind are summaries if they are seldom, and each has the step and the losses of the line of another kind
    above it.

    Args:
        rows: the numbers of each line, by their keys.
        kinds: the words of each line beside them.
    """
    if len(set(kinds)) < 2:
        return rows, []
    losses = [frozenset(filter(_is_loss, row)) for row in rows]
    common = Counter(kind for kind, own in zip(kinds, losses, strict=True) if own)
    repeating: Counter[str] = Counter()
    last: dict[str, int] = {}  # of each loss, the last line that is no repetition
    for at, own in enumerate(losses):
        before = [last[key] for key in own if key in last]
        if any(kinds[at] != kinds[one] and _has_step_of(rows[at], rows[one]) for one in before):
            repeating[kinds[at]] += 1
        else:
            last |= dict.fromkeys(own, at)
    seldom = {kind for kind, count in repeating.items() if count == common[kind] and 3 * count <= common.total()}
    kept = [not own or kind not in seldom for own, kind in zip(losses, kinds, strict=True)]
    left_out = kept.count(False)
    notes = [f"lines that sum up those above, left out: {left_out} of {common.total()}"] * bool(left_out)
    return [row for row, is_kept in zip(rows, kept, strict=True) if is_kept], notes


def _has_step_of(row: Row, other: Row) -> bool:
    steps = [key for key in row if key in other and _is_step(key)]
    return bool(steps) and all(row[key] == other[key] for key in steps)


@cache
def _is_loss(key: str) -> bool:
    return "loss" in words(key)


@cache
def _is_step(key: str) -> bool:
    return normal(key) in STEP_NAMES
