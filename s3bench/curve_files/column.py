"""Holds the values of a key of a console by their lines."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

FEW = 1000  # values that take no place for every line
MOST_DIGITS = 15  # of a whole number that is exact as a float


class Column:
    """The values of a key by lines, as far as they have any.

    Attributes:
        numbers: shape (lines,); without any as long as there are few values, which memory is saved for.
        is_int: which are whole numbers without a point, of the same shape.
        others: those that are no numbers, or more exact than a float, or few, by their lines.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.numbers = np.zeros(0)
        self.is_int = np.zeros(0, dtype=np.bool_)
        self.others: dict[int, Any] = {}

    def put(self, line: int, value: Any) -> None:
        """Keep the value of one line."""
        is_int = isinstance(value, int) and abs(value) < 10**MOST_DIGITS
        if len(self.numbers) == 0 and len(self.others) < FEW:
            self.others[line] = value
        elif is_int or isinstance(value, float):
            self._spread()
            self.numbers[line], self.is_int[line] = value, is_int
        else:
            self.others[line] = value

    def _spread(self) -> None:
        """Give every line a place."""
        if len(self.numbers) < self._count:
            self.numbers, self.is_int = np.zeros(self._count), np.zeros(self._count, dtype=np.bool_)
            few, self.others = self.others, {}
            for line, value in few.items():
                self.put(line, value)

    def put_all(self, lines: npt.NDArray[np.int64], values: "npt.NDArray[Any]", *, is_int: bool) -> None:
        """Keep the values of some lines: numbers, or any objects."""
        if values.dtype == object:
            for line, value in zip(lines.tolist(), values.tolist(), strict=True):
                self.put(line, value)
        else:
            self._spread()
            self.numbers[lines], self.is_int[lines] = values, is_int

    def value(self, line: int) -> Any:
        """Return the value of one line."""
        if line in self.others:
            return self.others[line]
        return int(self.numbers[line]) if self.is_int[line] else float(self.numbers[line])

    def series(self, lines: npt.NDArray[np.int64]) -> "pd.Series[Any]":
        """Return the cells of some lines, of which -1 stands for none."""
        self._spread()
        absent = lines < 0
        if self.others:
            return pd.Series([None if line < 0 else self.value(line) for line in lines.tolist()])
        values = self.numbers[lines]
        values[absent] = np.nan
        whole = not absent.any() and self.is_int[lines].all()
        return pd.Series(values.astype(np.int64) if whole else values)
