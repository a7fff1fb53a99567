"""Makes a plain table of a text that is nearly one: wrapped numbers, a long row, headings between numbers."""

import csv
import re
from collections.abc import Sequence

from s3bench.curve_files.table import EMPTY_CELLS, number
from s3bench.curve_files.text import WRAPPED

HEAD = 20_000  # characters that show what a text is
LONG_ROW = 20  # numbers at least in a row that is a curve
MOST_ROWS = 10  # such rows in a text, each of at least ten times as many numbers
MOST_LONGER = 0.05  # of the rows may have more cells than there are names
SEPARATORS = (",", ";", "\t", None)  # None is any number of blanks


def tidied(text: str) -> tuple[str, list[str]]:
    """Return the text as a plain table, and notes on what was changed; the text itself where it is one, or none."""
    if WRAPPED.search(text, 0, HEAD):
        text = WRAPPED.sub(r"\1", text)
    return _in_columns(text) or _without_headings(text) or (text, [])


def shape(line: str) -> str:
    """Return a line with its numbers all alike."""
    return re.sub(r"\d[\d.]*", "0", line)


def without_longer_rows(text: str, width: int, separator: str) -> tuple[str, list[str]] | None:
    """Return a table without the rows that have more cells than there are names, and a note; None if these are many."""
    lines = text.split("\n")
    kept = [line for line in lines if line.count(separator) < width or _cells(line, separator) <= width]
    left = len(lines) - len(kept)
    if left > MOST_LONGER * len(lines):
        return None
    return "\n".join(kept), [f"rows with more cells than there are names, left out: {left}"] * bool(left)


def _cells(line: str, separator: str) -> int:
    return len(next(csv.reader([line.strip(" ")], delimiter=separator, skipinitialspace=True), []))


def _in_columns(text: str) -> tuple[str, list[str]] | None:
    """Return a few long rows of numbers as columns: each is a curve. None if there are none."""
    if text.count("\n", 0, HEAD) > MOST_ROWS:
        return None
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > MOST_ROWS or len(lines) * LONG_ROW > len(text):
        return None
    for separator in SEPARATORS:
        rows = [[cell.strip() for cell in line.strip(separator or " ").split(separator)] for line in lines]
        lengths = set(map(len, rows))
        if len(lengths) == 1 and max(LONG_ROW, 10 * len(rows)) <= min(lengths) and all(map(_are_numbers, rows)):
            count = min(lengths)
            note = f"a row of {count:,} numbers" if len(rows) == 1 else f"{len(rows)} rows of {count:,} numbers"
            body = "\n".join(map("\t".join, zip(*rows, strict=True))) + "\n"
            return body, [f"{note}, taken as a column each" if len(rows) > 1 else f"{note}, taken as a column"]
    return None


def _without_headings(text: str) -> tuple[str, list[str]] | None:
    """Return numbers, one a line, without the headings between them, such as "epoch 1", "epoch 2".

    None if the text is anything else: other words between numbers may begin another curve.
    """
    first = text.lstrip().split("\n", 1)[0].strip()
    like = shape(first)
    head = [line.strip() for line in text[:HEAD].split("\n") if line.strip()][:-1]
    if "0" not in like or _are_numbers([first]) or not _are_numbers([line for line in head if shape(line) != like]):
        return None
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    values = [line for line in lines if shape(line) != like]
    headings = len(lines) - len(values)
    if not values or headings < 2 or not _are_numbers(values):  # one is the column's name
        return None
    return "\n".join(values) + "\n", [f"headings such as {first!r}, left out: {headings}"]


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(number(cell) is not None for cell in cells if cell not in EMPTY_CELLS)
