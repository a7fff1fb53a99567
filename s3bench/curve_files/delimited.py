"""Reads tables as text: CSV with any separator, with or without names, Markdown, and MLflow's metric files."""

import csv
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.curve_files.drawn_table import undrawn
from s3bench.curve_files.names import words
from s3bench.curve_files.table import EMPTY_CELLS, Table, from_rows, number
from s3bench.curve_files.text import beginnings
from s3bench.curve_files.untidy import by_their_names, shape, split, tidied, without_longer_rows
from s3bench.errors import UserError, one_line

SEPARATORS = ("\t", ";", "|", ",", " ")  # of two that fit, the first; " " is any number of blanks
BLANK = re.compile(r"^[ \t]*\n", re.MULTILINE)
SAMPLE = 50  # lines that show the separator
SEP_LINE = re.compile(r"\A\s*sep=.\n")  # which Excel puts first
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[-+]\d\d:?\d\d)?")
MILLISECONDS = re.compile(r"1\d{12}")  # of a time since 2001
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
QUOTED_COMMA = re.compile(r'"([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)"')
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")  # of one number, or three decimals: it does not show
DECIMAL_POINT = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class _Form:
    """How a table is written: what separates its cells, and the names of its columns if its first row has none."""

    separator: str
    names: list[str] | None
    has_decimal_comma: bool
    kind: str = "CSV"


def read_table(file: str, text: str, *, is_csv: bool) -> Table | None:
    """Read a table; None if the text is none.

    Args:
        file: its name, for messages.
        text: its text.
        is_csv: take it for a table where it does not show.

    Raises:
        UserError: two columns have one name, or a row is longer than the first.
    """
    body, notes, comments = _without_comments(text.replace("\r", "\n") if "\n" not in text else text)
    body, beside = undrawn(file, body[found.end() :] if (found := SEP_LINE.match(body)) else body)
    body, untidy = tidied(body)
    lines = [line for line in body[: 400 * SAMPLE].split("\n") if line.strip()]
    if len(body) > 400 * SAMPLE:
        lines = lines[:-1]  # cut
    form = _form(lines[:SAMPLE], comments) or (_Form(",", None, has_decimal_comma=False) if is_csv else None)
    if form is None:
        return None
    if form.names is None and form.separator != " " and (named := by_their_names(body, form.separator)) is not None:
        return from_rows("CSV", named[0], notes + beside + untidy + named[1])
    notes = notes + beside + untidy
    try:
        return _read(file, body, form, notes)
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:  # what pandas and csv raise
        names = form.names or split(body.lstrip().split("\n", 1)[0], form.separator)
        plain = without_longer_rows(body, len(names), form.separator)
        said = f"{file} cannot be read as CSV ({one_line(error)})"
    if plain is None:
        raise UserError(said)
    try:
        return _read(file, plain[0], form, notes + plain[1])
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        raise UserError(said) from error


def _without_comments(text: str) -> tuple[str, list[str], list[str]]:
    """Return the text without the lines that begin with #, a note on them, and those before the first other line."""
    if not text.lstrip().startswith("#") and "\n#" not in text:
        return text, [], []
    lines = text.split("\n")
    others = [line for line in lines if not line.startswith("#")]
    first = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    comments = [line[1:].strip() for line in lines[:first] if line.startswith("#")]
    if comments and first < len(lines) and any(_are_names(comments[-1], lines[first], one) for one in SEPARATORS):
        others.insert(0, comments.pop())
    return "\n".join(others), [f"comment lines, left out: {len(lines) - len(others)}"], comments


def _are_names(comment: str, row: str, separator: str) -> bool:
    """Return whether a comment has names for the cells of the row below it, some of which are words."""
    names, cells = split(comment, separator), split(row, separator)
    is_mixed = any(map(_is_number, cells)) and not all(map(_is_value, cells))
    return is_mixed and len(names) == len(cells) and _is_named(names) and not any(map(_is_number, names))


def _is_number(cell: str) -> bool:
    return cell in EMPTY_CELLS or number(cell) is not None or DECIMAL_COMMA.fullmatch(cell) is not None


def _is_value(cell: str) -> bool:
    return _is_number(cell) or TIME.fullmatch(cell) is not None


def _form(lines: list[str], comments: list[str]) -> _Form | None:
    """Return how the table is written; None if the lines are none."""
    fitting = [(share, separator) for separator in SEPARATORS if (share := _share(lines, separator)) >= 0.5]
    if fitting:
        best = max(share for share, _ in fitting)
        separator = next(separator for share, separator in fitting if share == best)
    elif lines and all(_is_number(line.strip(' "')) for line in lines[1:2]) and _is_column(lines):
        separator = ";"  # a single column
    else:
        return None
    rows = [split(line, separator) for line in lines]
    cells = [cell for row in rows for cell in row]
    with_comma = list(filter(DECIMAL_COMMA.fullmatch, cells))
    comma = bool(with_comma) and not any(map(DECIMAL_POINT.fullmatch, cells))
    comma = comma and not (separator == "," and all(map(THOUSANDS.fullmatch, with_comma)))
    is_named = not all(map(_is_value, rows[0])) or not any(map(_is_number, rows[0])) or not any(rows[0])
    if is_named or _has_pandas_names(rows):
        return _Form(separator, None, has_decimal_comma=comma)
    width = len(rows[0])
    above = [split(comment, separator) for comment in comments]  # numpy.savetxt writes names so
    above = [names for names in above if len(names) == width and not any(map(_is_number, names))]
    if above:
        return _Form(separator, max(reversed(above), key=_is_named), has_decimal_comma=comma)
    if separator == " " and width in (2, 3) and all(MILLISECONDS.fullmatch(row[0]) for row in rows[:-1] or rows):
        return _Form(separator, ["timestamp", "value", "step"][:width], has_decimal_comma=False, kind="MLflow metric")
    return _Form(separator, [str(at + 1) for at in range(width)], has_decimal_comma=comma)


def _has_pandas_names(rows: list[list[str]]) -> bool:
    """Return whether the first row is what pandas names a list's column, "0", above numbers with a point."""
    below = [row[-1] for row in rows[1:] if row]
    return rows[0] in (["0"], ["", "0"]) and len(below) > 1 and not any(cell.lstrip("-").isdigit() for cell in below)


def _share(lines: list[str], separator: str) -> float:
    """Return which share of the rows has as many cells as the first; 0 if this separator makes no table of them."""
    rows = [split(line, separator) for line in lines]
    if not rows or len(rows[0]) < 2:
        return 0.0
    first, width = rows[0], len(rows[0])
    has_names = not any(number(cell) is not None for cell in first)
    is_named = has_names and _is_named(first)
    alike = (line for line in lines[1:] if line != lines[0] and shape(line) == shape(lines[0]))
    if not all(map(_is_value, first)) and any(alike):
        return 0.0  # they say the same of other numbers: no names, but lines of a console
    if len(rows) == 1:
        return float((is_named and separator != " ") or not has_names) * ("\r" not in lines[0])
    if separator == " " and not is_named and not all(map(_is_number, first)):
        return 0.0  # prose, or "name number" pairs
    whole = [row for row in rows[1:] if len(row) == width]
    if separator == " " and any(
        row[at] == name and not _is_value(name) for row in whole[:1] for at, name in enumerate(first)
    ):
        return 0.0  # the same word before other numbers
    numeric = [
        sum(number(row[at]) is not None or bool(DECIMAL_COMMA.fullmatch(row[at])) for row in whole)
        for at in range(width)
    ]
    return len(whole) / (len(rows) - 1) if any(2 * count >= len(whole) for count in numeric) else 0.0


def _is_named(cells: list[str]) -> bool:
    """Return whether cells have names that a table of losses has."""
    return any("loss" in words(cell) or words(cell) & {"step", "epoch", "iteration"} for cell in cells)


def _is_column(lines: list[str]) -> bool:
    """Return whether the lines are a single column: a name or a number, and numbers."""
    rest = [line.strip(' "') for line in lines[1:]]
    return 2 * sum(map(_is_number, rest)) >= len(rest) and (bool(rest) or _is_number(lines[0].strip()))


def _read(file: str, body: str, form: _Form, notes: list[str]) -> Table:
    body = body.replace("\r\n", "\n").replace("\r", "\n")  # a row ends there for pandas, too
    body, cut = _without_cut_line(body, form.separator)
    notes += cut
    repeated = 0
    if form.names is None:
        names = [name.strip() for name in next(filter(None, _rows(body, form.separator)), [])]
        _without_doubles(file, [name for name in names if name])  # pandas would give the second another name
        whole, (body, repeated) = body, _without_repeated_names(body)
        notes += [f"rows that repeat the names, left out: {repeated}"] * bool(repeated)
        places = _places(whole, form.separator, names, has_repeated=repeated > 0)
    else:
        places = _places(body, form.separator, None)
    options: dict[str, Any] = {"keep_default_na": False, "na_values": EMPTY_CELLS, "low_memory": False}
    options |= {"sep": r"\s+" if form.separator == " " else form.separator, "index_col": False}
    options |= {"header": 0} if form.names is None else {"header": None, "names": form.names}
    if form.has_decimal_comma:
        is_quoted = form.separator == ","
        body = QUOTED_COMMA.sub(r"\1.\2", body) if is_quoted else re.sub(r"(?<=\d),(?=\d)", ".", body)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the first would be cut
        cells: pd.DataFrame = pd.read_csv(io.BytesIO(body.encode()), skipinitialspace=True, **options)
    cells.columns = _without_doubles(file, [str(name).strip() for name in cells.columns])
    if len(is_text := _lines_of_text(cells)):
        notes += [f"lines of text, left out: {len(is_text)}"]
    if places is not None:
        cells.index = pd.Index(places)
        blank = int(places.max(initial=-1)) + 1 - len(places) - repeated
        notes += [f"blank lines, left out: {blank}"] * bool(blank)
    cells = cells.drop(cells.index[is_text]) if len(is_text) else cells
    return Table(form.kind, cells, cells.isna(), None, notes)


def _lines_of_text(cells: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return which rows have nothing but text in their first cell, where others have a number there."""
    first = cells.iloc[:, 0]
    if cells.shape[1] < 3 or first.dtype.kind in "iuf" or any("[" in name for name in cells.columns):
        return np.zeros(0, dtype=np.int64)
    alone = cells.iloc[:, 1:].isna().all(axis=1).to_numpy()
    if all(number(cell) is None for cell in first[~alone].iloc[:SAMPLE]):
        return np.zeros(0, dtype=np.int64)
    return np.array([at for at in np.flatnonzero(alone) if number(first.iloc[at]) is None], dtype=np.int64)


def _rows(body: str, separator: str) -> Iterator[list[str]]:
    """Yield the cells of each row; none for a blank line."""
    if separator == " ":
        return map(str.split, _lines(body))
    blanks = " \n" if separator == "\t" else " \t\n"
    lines = (line.strip(blanks) for line in _lines(body))
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def _lines(body: str) -> Iterator[str]:
    """Yield the lines with their ends; unlike io.StringIO, without a copy of four bytes per character."""
    start = 0
    while start < len(body):
        end = body.find("\n", start) + 1 or len(body)
        yield body[start:end]
        start = end


def _places(
    body: str, separator: str, names: list[str] | None, *, has_repeated: bool = False
) -> npt.NDArray[np.int64] | None:
    """Return which rows below the names are neither blank nor the names again; None if all are."""
    begins = beginnings(body) & set(" \t\n")
    if not (has_repeated or (begins and BLANK.search(body))):
        return None
    rows = _rows(body, separator)
    if names is not None:
        next(filter(None, rows), None)
    return np.flatnonzero([bool(row) and [cell.strip() for cell in row] != names for row in rows])


def _without_cut_line(body: str, separator: str) -> tuple[str, list[str]]:
    """Return a text without a last line that was not written to its end, and a note on it.

    It has no newline, and lacks cells, or its last cell is shorter than any of the twenty before.
    """
    if body.endswith("\n"):
        return body, []
    rows = list(_rows("\n".join(body.rsplit("\n", 21)[-21:]), separator))
    if len(rows) < 4 or not rows[-1]:
        return body, []
    last, before = rows[-1], [row for row in rows[:-1] if row][1:]
    width = max((len(row) for row in before), default=0)
    lengths = [len(row[-1].strip()) for row in before if len(row) == width]
    if len(last) >= width and len(last[-1].strip()) >= min(lengths, default=0):
        return body, []
    return body[: body.rfind("\n") + 1], ["an unfinished last line, left out"]


def _without_repeated_names(body: str) -> tuple[str, int]:
    """Return a table without later rows that are its first one, as resumed runs write them, and how many there were."""
    start = len(body) - len(body.lstrip())
    names = body[start:].split("\n", 1)[0]
    if f"\n{names}\n" not in body:
        return body, 0
    kept, repeated = re.subn(rf"^{re.escape(names)}\n", "", body[start + len(names) :], flags=re.MULTILINE)
    return body[: start + len(names)] + kept, repeated


def _without_doubles(file: str, names: list[str]) -> "pd.Index[str]":
    """Return the columns' names; raise UserError where two are the same."""
    index = pd.Index(names)
    if not index.is_unique:
        raise UserError(f"{file} has two columns named {index[index.duplicated()][0]!r}")
    return index
