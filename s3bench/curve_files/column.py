"""Holds the values of a key of a console by their lines."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MOST_DIGITS = 15  # of a whole number that is exact as a float


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

    def put_all(self, lines: npt.NDArray[np.int64], values: "npt.NDArray[Any]", *, is_int: bool) -> None:
        """Keep the values of some lines: numbers, or any objects."""
        if values.dtype == object:
            for line, value in zip(lines.tolist(), values.tolist(), strict=True):
                self.put(line, value)
        else:
            self.numbers[lines], self.is_int[lines] = values, is_int

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
