"""Finds where in lines of one shape the value of a key stands."""

import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from s3bench.curve_files.column import MOST_DIGITS
from s3bench.curve_files.digits import Digits

FACTORS = (1.0, 1e3, 1e6, 1e9)  # of numbers such as 12K
DIGITS = re.compile(rb"\d+")
NUMBER = re.compile(rb"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
WITH_COMMAS = re.compile(rb"\d+(?:\.\d+)?(?:,\d+)+(?:\.\d+)?")

Values = npt.NDArray[Any]
Texts = tuple[bytes, bytes]  # without a sign and with one


class Within(float):
    """A step that is made of its epoch, the first epoch, an epoch's length, and the step within the epoch."""

    parts: tuple[float, ...]

    def __new__(cls, epoch: float, first_epoch: float, length: float, at: float) -> "Within":
        """Return the step, with the numbers that make it."""
        made = super().__new__(cls, step_within(epoch, first_epoch, length, at))
        made.parts = (epoch, first_epoch, length, at)
        return made


def step_within(epoch: Any, first_epoch: Any, length: Any, at: Any) -> Any:
    """Return the step since the beginning, of numbers or of arrays."""
    return (epoch - first_epoch) * length + at


@dataclass(frozen=True)
class Place:
    """A number in lines of one shape: from one run of digits to another, and the point before these if there is one."""

    first: int
    last: int
    lead: int


def places(line: bytes) -> list[Place]:
    """Return where numbers stand in a line, those with commas too."""
    runs = [run.span() for run in DIGITS.finditer(line)]
    spans = {number.span() for pattern in (NUMBER, WITH_COMMAS) for number in pattern.finditer(line)}
    found = []
    for begin, end in sorted(spans):
        within = [run for run, (start, stop) in enumerate(runs) if begin <= start and stop <= end]
        found.append(Place(within[0], within[-1], runs[within[0]][0] - begin))
    return found


def texts(where: list[Place], line: bytes) -> list[Texts]:
    """Return what a line has at its places."""
    runs = [run.span() for run in DIGITS.finditer(line)]
    spans = [(runs[place.first][0] - place.lead, runs[place.last][1]) for place in where]
    signs = [int(line[begin - 1 : begin] in (b"-", b"+")) for begin, _ in spans]
    return [(line[begin:end], line[begin - sign : end]) for (begin, end), sign in zip(spans, signs, strict=True)]


class Slot(Protocol):
    """Where a value stands, or what makes it."""

    @property
    def is_int(self) -> bool:
        """Return whether it is a whole number without a point."""

    def values(self, digits: Digits) -> Values:
        """Return the values of lines, shape (lines,)."""


def slot(where: list[Place], written: list[list[Texts]], values: list[Any]) -> Slot | None:
    """Return the one place that has the value in every line; None if there is none, or there are several.

    Args:
        where: places that may have it.
        written: what each line has there.
        values: each line's value.
    """
    kinds = set(map(type, values))
    if len(kinds) == 1 and len(set(map(repr, values))) == 1:
        return _Constant(values[0])
    if kinds == {Within}:
        parts = [slot(where, written, list(part)) for part in zip(*(value.parts for value in values), strict=True)]
        return _Made(parts) if None not in parts else None
    if kinds not in ({int}, {float}, {str}):
        return None
    kind = kinds.pop()
    for factor in FACTORS if kind is float else FACTORS[:1]:
        fits = {
            place: has_sign
            for at, place in enumerate(where)
            for has_sign in (False, True)
            if all(_is(line[at][has_sign], value, factor) for line, value in zip(written, values, strict=True))
        }
        if fits:
            ((place, has_sign), *others) = fits.items()
            return None if others else _Number(place, has_sign, factor, kind)
    return None


def _is(text: bytes, value: Any, factor: float) -> bool:
    if isinstance(value, str):
        return text == value.encode()
    is_exact = not isinstance(value, int) or (text.lstrip(b"-").isdigit() and len(text) <= MOST_DIGITS)
    return is_exact and float(text.replace(b",", b"")) * factor == value


@dataclass(frozen=True)
class _Constant:
    value: Any

    @property
    def is_int(self) -> bool:
        return isinstance(self.value, int)

    def values(self, digits: Digits) -> Values:
        return np.full(len(digits.begins), self.value, dtype=np.float64 if isinstance(self.value, float) else object)


@dataclass(frozen=True)
class _Number:
    place: Place
    has_sign: bool
    factor: float
    kind: type

    @property
    def is_int(self) -> bool:
        return self.kind is int

    def values(self, digits: Digits) -> Values:
        place = self.place
        found = digits.texts(place.first, place.last, place.lead, has_sign=self.has_sign)
        if self.kind is str:
            return found.astype(str).astype(object)
        if b"," in found[0]:
            found = np.char.replace(found, b",", b"")
        return found.astype(np.float64) * self.factor


@dataclass(frozen=True)
class _Made:
    parts: list[Any]
    is_int = False

    def values(self, digits: Digits) -> Values:
        return np.asarray(step_within(*(part.values(digits) for part in self.parts)))
