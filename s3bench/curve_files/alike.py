"""Reads many lines that differ only in their numbers at once: where these stand is found once for all of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3bench.curve_files.column import Column
from s3bench.curve_files.digits import SHAPE, Digits, loose_shapes
from s3bench.curve_files.slots import Slot, places, slot, texts

Row = dict[str, Any]
Reader = Callable[[str], tuple[Row, Hashable]]

FEWEST = 30  # lines that are worth finding out where their numbers stand
LONGEST = 2_000  # bytes of such a line
SIGNS = (b"-", b"", b"-", b"", None, None, None, None)  # of lines with other digits; None is either
EACH = 2  # lines with other digits in one place alone, which show whether a key is made of them
MOST_IN_LINE = 100  # digits in a row
LONGEST_SIDE = 12  # digits before or after a point of lines with other digits
DIGITS = re.compile(rb"\d+")
EXPONENT = re.compile(rb"[eE][-+]?\Z")
MINUS = re.compile(rb"(?<=[ \t=(\[])-?\Z|(?<=.:)-?\Z")  # which digits.loose_shapes leaves out
ODD_POWER = re.compile(rb"\d\^|\d[dD][-+]?\d|\.\d+[-+]\d+(?![\d:])")  # "10^3", and those that Fortran writes
HEXADECIMAL = re.compile(rb"0[xX]")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
NOT_DECIMAL = re.compile(rb"0[xXoObBjJ_]|_0")  # in an object of Python


@dataclass(frozen=True, eq=False)
class Form:
    """What lines have in common: the keys of their numbers, and what else their reader tells of them."""

    keys: tuple[str, ...]
    label: Any


def read_alike(lines: Sequence[str], read: Reader) -> tuple[list[Form], dict[str, Column]]:
    """Return what `read` returns for each line: the keys and the rest as a form, and the values by their keys.

    `read` must not depend on a digit but by the number that it is part of, or by a key. Lines are first taken together
    however many digits stand beside a point, and those that cannot be read so if they have as many digits.
    """
    every = _Lines([line.encode("utf-8", "surrogatepass") for line in lines], read)
    every.put_groups(loose_shapes(every.raw), is_loose=True)
    every.put_groups((every.raw[at].translate(SHAPE) for at in every.left), is_loose=False)
    for at in every.left:
        every.put_one(at, lines[at])
    return every.forms.tolist(), dict(every.columns)


class _Lines:
    """Lines that are read group by group.

    Attributes:
        raw: their bytes.
        forms: each one's form, shape (lines,).
        columns: the values by their keys.
        left: those that are not read yet.
    """

    def __init__(self, raw: list[bytes], read: Reader) -> None:
        self.raw, self._read = raw, read
        self.forms = np.full(len(raw), None, dtype=object)
        self.columns: dict[str, Column] = defaultdict(lambda: Column(len(raw)))
        self.left: Sequence[int] = range(len(raw))
        self._known: dict[tuple[tuple[str, ...], Hashable], Form] = {}

    def _form(self, row: Iterable[str], label: Hashable) -> Form:
        keys = tuple(row)
        return self._known.setdefault((keys, label), Form(keys, label))

    def put_one(self, at: int, line: str) -> None:
        """Read one line."""
        row, label = self._read(line)
        self.forms[at] = self._form(row, label)
        for key, value in row.items():
            self.columns[key].put(at, value)

    def put_groups(self, shapes: Iterable[Hashable], *, is_loose: bool) -> None:
        """Read those that are left by their shapes, as far as these show how."""
        groups = _groups(shapes, self.left)
        self.left = [at for members in groups for at in self._put_group(members, is_loose=is_loose)]

    def _put_group(self, members: list[int], fixed: frozenset[int] = frozenset(), *, is_loose: bool) -> list[int]:
        """Read lines of one shape, and return those that are left; where keys have digits, those with the same ones."""
        if len(members) < FEWEST or len(self.raw[members[0]]) > LONGEST:
            return members
        model = _Model(self.raw[members[0]], self._read, fixed, is_loose=is_loose)
        digits = Digits([self.raw[at] for at in members])
        if not model.is_alike and not fixed and (of_keys := model.runs_of_keys()):
            written = [digits.texts(run, run, has_sign=True).tolist() for run in of_keys]
            groups = _groups(zip(*written, strict=True), members)
            return [at for some in groups for at in self._put_group(some, of_keys, is_loose=is_loose)]
        slots = model.slots() if model.is_alike else None
        if slots is None:
            return members
        sure = ~digits.have_leading_zero(model.whole_numbers)
        at_once = np.array(members)[sure]
        for key, where in slots.items():
            self.columns[key].put_all(at_once, where.values(digits)[sure], is_int=where.is_int)
        self.forms[at_once] = self._form(*model.read)
        return [at for at, is_sure in zip(members, sure.tolist(), strict=True) if not is_sure]


def _groups(shapes: Iterable[Hashable], members: Iterable[int]) -> list[list[int]]:
    """Return the members that have one shape each."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for shape, at in zip(shapes, members, strict=True):
        groups[shape].append(at)
    return list(groups.values())


class _Model:
    """One of many lines of a shape, beside lines with other digits, by which it is found where its numbers stand.

    Attributes:
        read: its keys, and the rest.
        is_alike: whether it has plain numbers alone, and its keys do not change with their digits.
        whole_numbers: the runs of digits that may not begin with zero.
    """

    def __init__(self, line: bytes, read: Reader, fixed: frozenset[int], *, is_loose: bool) -> None:
        self._line, self._reader, self._is_loose = line, read, is_loose
        self._runs = [run.span() for run in DIGITS.finditer(line)]
        self._free = frozenset(range(len(self._runs))) - fixed
        self._random = np.random.default_rng(len(line))
        before = [line[max(0, begin - 2) : begin] for begin, _ in self._runs]
        is_power = [EXPONENT.search(text) is not None for text in before]
        longest = [2 if one else MOST_IN_LINE for one in is_power]  # more may be infinite in one line only
        shape, is_object = line.translate(SHAPE), b"{" in line
        is_odd = HEXADECIMAL.search(shape) or ODD_POWER.search(line) or (is_object and NOT_DECIMAL.search(shape))
        start = line.find(b"{") if is_object else len(line)
        plain = b"." * start + STRING.sub(lambda text: b"." * len(text[0]), line[start:])
        self.whole_numbers = [
            run
            for run, (begin, _) in enumerate(self._runs)
            if plain[begin : begin + 1].isdigit() and not (is_power[run] or before[run].endswith(b"."))
        ]
        self._probes = [line, *(self._other(self._free, sign) for sign in SIGNS)]
        self._rows = [read(probe.decode()) for probe in self._probes]
        self.read = tuple(self._rows[0][0]), self._rows[0][1]
        self.is_alike = not is_odd and all(map(self._is_same, self._rows))
        self.is_alike &= all(end - begin <= most for (begin, end), most in zip(self._runs, longest, strict=True))

    def _is_same(self, read: tuple[Row, Hashable]) -> bool:
        return (tuple(read[0]), read[1]) == self.read

    def _other(self, varied: Iterable[int], sign: bytes | None = None) -> bytes:
        """Return the line with other digits in some runs; beside a point, with any number of them, and another sign."""
        parts, end = [], 0
        for run, (begin, stop) in enumerate(self._runs):
            before, count = self._line[end:begin], stop - begin
            if run in varied and self._is_loose and b"." in self._line[begin - 1 : begin] + self._line[stop : stop + 1]:
                count = int(self._random.integers(1, LONGEST_SIDE + 1))
                before = MINUS.sub(self._random.choice([b"", b"-"]) if sign is None else sign, before, count=1)
            digits = (self._random.integers(1, 10, count) + ord("0")).astype(np.uint8)
            parts += [before, digits.tobytes() if run in varied else self._line[begin:stop]]
            end = stop
        return b"".join([*parts, self._line[end:]])

    def runs_of_keys(self) -> frozenset[int]:
        """Return the runs of digits that keys, or what else is told of the line, change with."""
        others = ((run, self._other({run}, sign)) for run in self._free for sign in SIGNS[:EACH])
        return frozenset(run for run, other in others if not self._is_same(self._reader(other.decode())))

    def slots(self) -> dict[str, Slot] | None:
        """Return where the value of each key stands; None where one is not surely a number of the line."""
        where = places(self._line)
        written = [texts(where, probe) for probe in self._probes]
        slots: dict[str, Slot] = {}
        for key in self.read[0]:
            found = slot(where, written, [row[key] for row, _ in self._rows])
            if found is None:
                return None
            slots[key] = found
        return slots
