"""Finds the digits of many lines at once: what shape these leave, and what is written where."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

SHAPE = bytes.maketrans(b"123456789", b"000000000")
BEFORE_SIGN = b" \t=(["  # and a colon after a word
LINES_AT_ONCE = 1 << 14
AT_ONCE = 1 << 14  # numbers that are looked up together
POINT, COLON, UNDERSCORE = b".:_"
PAD = b"\n\n\n"  # so that three characters stand before each


def runs(codes: Codes) -> tuple[Places, Places]:
    """Return where digits in a row begin and end, shape (runs,) each."""
    is_digit = np.zeros(len(codes) + 2, dtype=np.int8)
    is_digit[1:-1] = (codes >= ord("0")) & (codes <= ord("9"))
    edges = np.flatnonzero(np.diff(is_digit))
    return edges[::2], edges[1::2]


def loose_shapes(lines: list[bytes]) -> Iterator[bytes]:
    """Yield lines with all digits as 0: one for those on a side of a point, and without a minus before it."""
    for start in range(0, len(lines), LINES_AT_ONCE):
        yield from _loose(b"\n".join(lines[start : start + LINES_AT_ONCE])).split(b"\n")


def _loose(text: bytes) -> bytes:
    codes = np.frombuffer(PAD + text.translate(SHAPE) + PAD, dtype=np.uint8)
    begins, ends = runs(codes)
    at_point = (codes[begins - 1] == POINT) | (codes[ends] == POINT)
    at_point &= codes[begins - 1] != UNDERSCORE  # of "1_000.5", as of thousands, and "1_2000.5"
    begins, ends = begins[at_point], ends[at_point]
    sides = np.zeros(len(codes) + 1, dtype=np.int8)
    sides[begins + 1] += 1
    sides[ends] -= 1
    kept = np.cumsum(sides[:-1], dtype=np.int8) == 0
    kept[begins[_has_sign(codes, begins)] - 1] = False
    shapes: bytes = codes[kept].tobytes()
    return shapes[len(PAD) : -len(PAD)]


def _has_sign(codes: Codes, begins: Places) -> npt.NDArray[np.bool_]:
    """Return before which digits a minus stands that is no range's or date's."""
    before, second, third = (codes[begins - back] for back in (1, 2, 3))
    after_word = (second == COLON) & (third != ord("\n")) & ~((third >= ord("0")) & (third <= ord("9")))
    is_free = np.isin(second, np.frombuffer(BEFORE_SIGN, dtype=np.uint8)) | after_word
    return np.asarray((before == ord("-")) & is_free)


class Digits:
    """The digits of lines that have as many runs of them each.

    Attributes:
        begins: where each run begins, shape (lines, runs).
        ends: where it ends.
    """

    def __init__(self, lines: list[bytes]) -> None:
        self._codes = np.frombuffer(PAD + b"\n".join(lines), dtype=np.uint8)
        begins, ends = runs(self._codes)
        self.begins, self.ends = begins.reshape(len(lines), -1), ends.reshape(len(lines), -1)

    def texts(self, first: int, last: int, lead: int = 0, *, has_sign: bool = False) -> "npt.NDArray[np.bytes_]":
        """Return what is written from one run to another, shape (lines,).

        Args:
            first: the first run.
            last: the last one.
            lead: characters before it that belong to it, such as a point.
            has_sign: whether a sign before it does.
        """
        begins, ends = self.begins[:, first] - lead, self.ends[:, last]
        if has_sign:
            begins = begins - np.isin(self._codes[begins - 1], (ord("-"), ord("+")))
        width = int((ends - begins).max())
        out = np.zeros((len(begins), width), dtype=np.uint8)
        for start in range(0, len(begins), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            at = begins[part, None] + np.arange(width)
            is_within = at < ends[part, None]
            out[part] = np.where(is_within, self._codes[np.where(is_within, at, 0)], 0)
        return out.view(f"S{width}").ravel()

    def have_leading_zero(self, columns: list[int]) -> npt.NDArray[np.bool_]:
        """Return in which lines one of these runs has a zero before other digits, as no number of JSON has."""
        begins, ends = self.begins[:, columns], self.ends[:, columns]
        return np.asarray(((ends - begins > 1) & (self._codes[begins] == ord("0"))).any(axis=1))
