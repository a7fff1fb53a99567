"""Reads many lines that differ only in their digits at once: where the numbers stand is found once for all of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Row = dict[str, Any]
Reader = Callable[[str], tuple[Row, Hashable]]

FEWEST = 50  # lines that are worth finding out where their numbers stand
LONGEST = 2_000  # bytes of such a line
PROBES = 8  # lines with other digits that show where each number stands
MOST_DIGITS = 15  # of a whole number that is exact as a float
MOST_IN_LINE = 100  # digits in a row, so that no number is infinite in one line only
SHAPE = bytes.maketrans(b"123456789", b"000000000")
DIGITS = re.compile(rb"\d+")
NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
EXPONENT = re.compile(rb"[eE][-+]?\Z")
HEXADECIMAL = re.compile(rb"0[xX]")
NOT_DECIMAL = re.compile(rb"0[xXoObBjJ_]|_0")  # in an object of Python


@dataclass(frozen=True, eq=False)
class Form:
    """What lines have in common: the keys of their numbers, and what else their reader tells of them."""

    keys: tuple[str, ...]
    label: Any


class Column:
    """The values of a key by lines, as far as they have any.

    Attributes:
        numbers: shape (lines,).
        is_int: which are whole numbers without a point, shape (lines,).
        others: those that are no numbers, or more exact than a float, by their lines.
    """

    def __init__(self, count: int) -> None:
        self.numbers = np.full(count, np.nan)
        self.is_int = np.zeros(count, dtype=np.bool_)
        self.others: dict[int, Any] = {}

    def put(self, line: int, value: Any) -> None:
        """Keep the value of one line."""
        if isinstance(value, int) and abs(value) < 10**MOST_DIGITS:
            self.is_int[line] = True
        elif not isinstance(value, float):
            self.others[line] = value
            return
        self.numbers[line] = value

    def value(self, line: int) -> Any:
        """Return the value of one line."""
        if line in self.others:
            return self.others[line]
        return int(self.numbers[line]) if self.is_int[line] else float(self.numbers[line])

    def series(self, lines: npt.NDArray[np.int64]) -> "pd.Series[Any]":
        """Return the cells of some lines, of which -1 stands for none."""
        absent = lines < 0
        if self.others:
            return pd.Series([None if line < 0 else self.value(line) for line in lines.tolist()])
        values = self.numbers[lines]
        values[absent] = np.nan
        whole = not absent.any() and self.is_int[lines].all()
        return pd.Series(values.astype(np.int64) if whole else values)


def read_alike(lines: Sequence[str], read: Reader) -> tuple[list[Form], dict[str, Column]]:
    """Return what `read` returns for each line: the keys and the rest as a form, and the values by their keys.

    `read` must not depend on a digit but by the number that it is part of, or by a key.
    """
    raw = [line.encode("utf-8", "surrogatepass") for line in lines]
    groups: dict[bytes, list[int]] = defaultdict(list)
    for at, shape in enumerate(b"\n".join(raw).translate(SHAPE).split(b"\n") if raw else []):
        groups[shape].append(at)
    forms: dict[tuple[tuple[str, ...], Hashable], Form] = {}
    columns: dict[str, Column] = defaultdict(lambda: Column(len(lines)))
    found: list[Form | None] = [None] * len(lines)
    for shape, members in groups.items():
        left: Sequence[int] = members
        if len(members) >= FEWEST and len(shape) <= LONGEST:
            slots = _slots(raw[members[0]], read)
            if slots is not None:
                cells = np.frombuffer(b"".join([raw[at] for at in members]), dtype=np.uint8).reshape(len(members), -1)
                sure = ~_has_leading_zero(shape, cells)
                at_once = np.array(members)[sure]
                _put(columns, at_once, cells[sure], slots[1])
                form = forms.setdefault(slots[0], Form(*slots[0]))
                for at in at_once.tolist():
                    found[at] = form
                left = np.array(members)[~sure].tolist()
        for at in left:
            row, label = read(lines[at])
            found[at] = forms.setdefault((tuple(row), label), Form(tuple(row), label))
            for key, value in row.items():
                columns[key].put(at, value)
    return [form for form in found if form is not None], dict(columns)


@dataclass(frozen=True)
class _Slot:
    """Where the number of a key stands, or the number itself if it has no digits, such as nan."""

    begin: int
    end: int
    is_int: bool
    constant: float | None = None


def _slots(line: bytes, read: Reader) -> tuple[tuple[tuple[str, ...], Hashable], dict[str, _Slot]] | None:
    """Return the keys and the rest of what is read in lines like this one, and where their values stand.

    None where it is not sure: digits in keys, values that are computed of several numbers, or text.
    """
    runs = [(run.start(), run.end()) for run in DIGITS.finditer(line)]
    if any(_is_too_long(line, begin, end) for begin, end in runs):
        return None
    shape = line.translate(SHAPE)
    if HEXADECIMAL.search(shape) or (b"{" in line and NOT_DECIMAL.search(shape)):
        return None
    random = np.random.default_rng(len(line))
    probes = [line]
    for _ in range(PROBES):
        other = bytearray(line)
        for begin, end in runs:
            other[begin:end] = bytes((random.integers(1, 10, end - begin) + ord("0")).astype(np.uint8))
        probes.append(bytes(other))
    read_rows = [read(probe.decode()) for probe in probes]
    first, label = read_rows[0]
    if any(tuple(row) != tuple(first) or other != label for row, other in read_rows):
        return None
    spans = _spans(line)
    slots: dict[str, _Slot] = {}
    for key in first:
        slot = _slot(probes, spans, [row[key] for row, _ in read_rows])
        if slot is None:
            return None
        slots[key] = slot
    return (tuple(first), label), slots


def _is_too_long(line: bytes, begin: int, end: int) -> bool:
    """Return whether digits may be more than a float holds."""
    return end - begin > (2 if EXPONENT.search(line[max(0, begin - 2) : begin]) else MOST_IN_LINE)


def _spans(line: bytes) -> list[tuple[int, int]]:
    """Return where numbers stand in a line, with their signs and without."""
    spans = [number.span() for number in NUMBER.finditer(line)]
    return spans + [(begin + 1, end) for begin, end in spans if line[begin : begin + 1] in (b"-", b"+")]


def _slot(probes: list[bytes], spans: list[tuple[int, int]], values: list[Any]) -> _Slot | None:
    """Return the one place that has the value in every probe; None if there is none, or there are several."""
    kinds = set(map(type, values))
    if kinds not in ({int}, {float}):
        return None
    if not np.isfinite(values).any() and len(set(map(str, values))) == 1:
        return _Slot(0, 0, is_int=False, constant=values[0])
    fits = [
        (begin, end)
        for begin, end in spans
        if all(float(probe[begin:end]) == value for probe, value in zip(probes, values, strict=True))
    ]
    unsigned = [(begin, end) for begin, end in fits if probes[0][begin : begin + 1] != b"+"]
    if len(unsigned) != 1 or (kinds == {int} and not probes[0][slice(*unsigned[0])].lstrip(b"-").isdigit()):
        return None
    begin, end = unsigned[0]
    return None if kinds == {int} and end - begin > MOST_DIGITS else _Slot(begin, end, is_int=kinds == {int})


def _has_leading_zero(shape: bytes, cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return in which lines with an object a number begins with a zero, which is not JSON."""
    out = np.zeros(len(cells), dtype=np.bool_)
    if b"{" not in shape:
        return out
    for run in DIGITS.finditer(shape):
        begin, end = run.span()
        before = shape[max(0, begin - 2) : begin]
        if end - begin > 1 and not before.endswith(b".") and not EXPONENT.search(before):
            out |= cells[:, begin] == ord("0")
    return out


def _put(columns: dict[str, Column], lines: npt.NDArray[np.int64], cells: npt.NDArray[np.uint8], slots: Row) -> None:
    """Keep the numbers at their places in lines of one shape."""
    for key, slot in slots.items():
        column = columns[key]
        if slot.constant is not None:
            column.numbers[lines] = slot.constant
            continue
        written = np.ascontiguousarray(cells[:, slot.begin : slot.end]).view(f"S{slot.end - slot.begin}")
        column.numbers[lines] = written.ravel().astype(np.float64)
        column.is_int[lines] = slot.is_int
