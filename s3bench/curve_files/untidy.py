"""Makes a plain table of a text that is nearly one: wrapped numbers, a long row, headings between numbers."""

import csv
import re
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import zip_longest

from s3bench.curve_files.names import ALL_STEPS, OTHER_WORDS, losses_among, normal, words
from s3bench.curve_files.table import EMPTY_CELLS, number
from s3bench.curve_files.text import WRAPPED

HEAD = 20_000  # characters that show what a text is
LONG_ROW = 10  # numbers at least in a row that is a curve
UNIT = re.compile(r"%|[mµun]?s|secs?|seconds|mins?|h|[kKMG]i?B|\w+/s|s/\w+")
MOST_ROWS = 10  # such rows in a text, each of at least ten times as many numbers
MOST_LONGER = 0.05  # of the rows may have more cells than there are names
TITLE = re.compile(r"\s*(\[\s*\d+/\d+ .*\])[ \t]*\n\s*(?=(?:Step|Epoch)\t)")  # of a table in a notebook
NOT_LOGGED = "No log"  # in a table of Hugging Face's Trainer, until there is a loss
HEADING = re.compile(r"(?P<name>[A-Za-z]+)\s*[:#]?\s*\d+\s*:?")
DIGIT = re.compile(r"\d")
LEAST_BELOW = 5  # numbers below each heading, in the mean
LIST = re.compile(
    r"^[ \t]*(?:(?P<name>[A-Za-z_][\w .]*?)[ \t]*[:=][ \t]*)?\[(?P<cells>[^\[\]]*)\][ \t]*$", re.MULTILINE
)
BRACKETED = re.compile(r"^[ \t]*[(\[]([^()\[\]\n]*,[^()\[\]\n]*)[)\]],?[ \t]*$", re.MULTILINE)
LEAST_ROWS = 4  # of a table above a text, that of its names included
LEAST_LIST = 10  # numbers in a list that is a curve
ONE_CELL = re.compile(r'\s*"([^"\n]*)"(?P<separator>[,;\t])(?P=separator)*[ \t]*\n')  # a first row of one cell alone
SEPARATED, EDGES = re.compile(r"[\t|;,]"), " \t|;,"  # between cells, and at the ends of a line
SEPARATORS = (",", ";", "\t", None)  # None is any number of blanks


def tidied(text: str) -> tuple[str, list[str]]:
    """Return the text as a plain table, and notes on what was changed; the text itself where it is one, or none."""
    if WRAPPED.search(text, 0, HEAD):
        text = WRAPPED.sub(r"\1", text)
    if title := TITLE.match(text):
        rows = text[title.end() :].split("\n")
        logged = [row for row in rows if NOT_LOGGED not in row]
        notes = [f"rows with {NOT_LOGGED!r}, left out: {len(rows) - len(logged)}"] * (len(logged) < len(rows))
        return "\n".join(logged), [f"the line {title[1]!r}, left out", *notes]
    text = BRACKETED.sub(r"\1", text) if _are_bracketed(text) else text
    text = _with_names_apart(text, first) if (first := ONE_CELL.match(text)) else text
    forms = (_in_columns, _without_headings, _with_even_rows, _without_text_below, _with_one_separator)
    lists = partial(of_lists, alone=True)
    return next(filter(None, (form(text) for form in (lists, *forms))), (text, []))


def _without_text_below(text: str) -> tuple[str, list[str]] | None:
    """Return a table without the text below it, after a blank line, and a note; None if what is there is no such text.

    The table has names and at least three rows of as many cells; no line below it has as many.
    """
    table, _, below = text.lstrip().partition("\n\n")
    rest = [line for line in below.split("\n") if line.strip()]
    lines = table.split("\n") if rest else []
    for separator in (",", ";", "\t") if len(lines) >= LEAST_ROWS else ():
        names = split(lines[0], separator)
        if (
            len(names) < 2
            or not losses_among(names)
            or any(len(split(line, separator)) != len(names) for line in lines)
        ):
            continue
        if all(len(split(line, separator)) != len(names) for line in rest):
            return table + "\n", [f"lines below the table, left out: {len(rest)}"]
    return None


def _with_one_separator(text: str) -> tuple[str, list[str]] | None:
    """Return a table whose names and numbers have other separators, or one at a line's end; None if they agree.

    So torch7's Logger writes tables, and fewer numbers than names where some were not logged: those of the first names.
    """
    head, _, body = text.lstrip().partition("\n")
    names = [name.strip() for name in SEPARATED.split(head.strip(EDGES))]
    if not SEPARATED.search(head) or any(number(name) is not None for name in names) or not _has_loss(names):
        return None
    lines = [line for line in body[:HEAD].split("\n") if line.strip()]
    marks = {mark for line in (head, *lines) for mark in SEPARATED.findall(line)}
    if len(names) > 1 == len(marks) and any(len(SEPARATED.findall(line)) == head.count(*marks) for line in lines):
        return None
    width = len(SEPARATED.split(lines[0].strip(EDGES))) if len(lines) > 1 else 0
    if not min(2, len(names)) <= width <= len(names):
        return None
    rows: list[list[str]] = []
    for line in body.split("\n"):
        cells = [cell.strip() for cell in SEPARATED.split(line.strip(EDGES))]
        if line.strip() and (len(cells) != width or not _are_numbers(cells)):
            return None
        rows += [cells] * bool(line.strip())
    notes = [f"rows have {width} numbers below {len(names)} names: taken as those of the first"] * (width < len(names))
    return "\n".join(map("\t".join, [names[:width], *rows])) + "\n", notes


def _has_loss(names: Sequence[str]) -> bool:
    return bool(losses_among(names) or any(words(name) & {*OTHER_WORDS} for name in names))


def _with_names_apart(text: str, first: "re.Match[str]") -> str:
    """Return a table whose names all stand in one cell, between other separators, with as many cells as below."""
    names, separator = re.split(r"[\t;,|]", first[1]), first["separator"]
    width = len(split(text[first.end() :].split("\n", 1)[0], separator))
    return separator.join(names) + "\n" + text[first.end() :] if len(names) == width > 1 else text


def _are_bracketed(text: str) -> bool:
    """Return whether each of the first lines is a tuple or a list of a few numbers, as Python prints it."""
    lines = [line for line in text[:HEAD].split("\n") if line.strip()][:-1]
    return len(lines) > 1 and all(map(BRACKETED.fullmatch, lines))


def shape(line: str) -> str:
    """Return a line with its numbers all alike."""
    return re.sub(r"\d[\d.]*", "0", line)


def split(line: str, separator: str) -> list[str]:
    """Return the cells of a line; a blank stands for any number of them."""
    if separator == " ":
        return line.split()
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return [line]
    return [cell.strip() for cell in cells]


def without_longer_rows(text: str, width: int, separator: str) -> tuple[str, list[str]] | None:
    """Return a table without its few rows that have more cells than there are names, and a note.

    None if there are none, or more than a few.
    """
    lines = text.split("\n")
    kept = [line for line in lines if line.count(separator) < width or len(split(line, separator)) <= width]
    left = len(lines) - len(kept)
    longer = [line for line in lines if line.count(separator) >= width and len(split(line, separator)) > width]
    if not 0 < left <= MOST_LONGER * len(lines) or any(_are_numbers(split(line, separator)) for line in longer):
        return None  # numbers alone may be a row, with a comma in one of them
    return "\n".join(kept), [f"rows with more cells than there are names, left out: {left}"]


def by_their_names(text: str, separator: str) -> tuple[list[dict[str, str | None]], list[str]] | None:
    """Return the rows of a table whose names change on the way, as after a resume, and a note; None if they do not."""
    head = text.lstrip().split("\n", 1)[0]
    names = [name.strip() for name in head.split(separator)]
    again = [name for name in names if name and text.find(name + separator, text.index(head) + len(head)) > 0]
    if not any(f"\n{name}{separator}" in text for name in again):  # which takes longer
        return None
    _, *lines = (line for line in text.split("\n") if line.strip())
    rows, changes, start = list[dict[str, str | None]](), 0, names[0] + separator
    for line in lines:
        cells = [cell.strip() for cell in line.split(separator)]
        if line.startswith(start) and not any(number(cell) is not None for cell in cells):
            changes += cells != names
            names = cells
        elif len(cells) <= len(names):
            filled = [None if cell in EMPTY_CELLS else cell for cell in cells]
            rows.append(dict.fromkeys(names) | dict(zip(names, filled, strict=False)))
        else:
            return None
    note = f"the names change on the way ({changes} times): each row is read by those above"
    return (rows, [note]) if changes else None


def of_lists(text: str, *, alone: bool = False) -> tuple[str, list[str]] | None:
    """Return lists of numbers as columns: "losses = [2.5, 2.4]"; None if there are none, or no losses among them.

    One list alone needs no name. A name that comes again is that of a line of a console; and where lists of steps are
    not as long as the others, it does not show which step is whose.

    Args:
        text: the lines.
        alone: whether there must be no other lines.
    """
    if "[" not in text[:HEAD] or text.count("[") > MOST_ROWS:
        return None
    lists = list(LIST.finditer(text))
    found = {at["name"] or "": at["cells"].replace(",", " ").split() for at in lists}
    is_curve = all(len(cells) >= LEAST_LIST and _are_numbers(cells) for cells in found.values())
    beside = [line for line in LIST.sub("", text).split("\n") if line.strip()]
    if not found or not is_curve or len(found) < len(lists) or ("" in found and (beside or len(found) > 1)):
        return None
    is_uneven = len(set(map(len, found.values()))) > 1 and any(normal(name) in ALL_STEPS for name in found)
    if is_uneven or (alone and beside) or not ("" in found or losses_among(found)):
        return None
    rows = zip_longest(*found.values(), fillvalue="")
    names = ["\t".join(found)] * ("" not in found)
    notes = [f"lists of numbers, taken as columns: {len(found)}"]
    notes += [f"other lines, left out: {len(beside)}"] * bool(beside)
    return "\n".join([*names, *map("\t".join, rows)]) + "\n", notes


def _are_whole(cells: Iterable[str]) -> bool:
    values = [number(cell) for cell in cells]
    return all(value is not None and value.is_integer() for value in values)


def _with_even_rows(text: str) -> tuple[str, list[str]] | None:
    """Return a table whose names are one fewer than its cells: of an index before them, or of a unit or nothing last.

    So pandas and R print tables, and so some write a comma or a unit at the end of each row. None if all rows are even.
    """
    lines = [line for line in text[:HEAD].split("\n") if line.strip()][: MOST_ROWS + 1]
    if len(lines) < 3:
        return None
    if all(line.rstrip()[-1] in ",;" and number(line.rstrip()[:-1]) is not None for line in lines):
        return re.sub(r"[,;][ \t]*$", "", text, flags=re.MULTILINE), []
    first, *others = lines
    commas = first.count(",") + 1
    if commas > 1 and all(line.rstrip().endswith(",") and line.count(",") == commas for line in others):
        return re.sub(r",[ \t]*$", "", text, flags=re.MULTILINE), []
    names, rows = first.split(), [line.split() for line in others]
    if len(names) < 2 or any(len(row) != len(names) + 1 for row in rows) or _are_numbers(names[:1]):
        return None
    units = {row[-1] for row in rows}
    if len(units) == 1 and UNIT.fullmatch(unit := units.pop()):
        return re.sub(rf"[ \t]+{re.escape(unit)}[ \t]*$", "", text, flags=re.MULTILINE), []
    if normal(names[0]) in ALL_STEPS and not _are_whole(row[1] for row in rows):
        return None  # the first cell is a step, and no index before it
    index = [row[0].strip('"') for row in rows]
    if not _are_whole(index) or "," in first or list(map(float, index)) != sorted(set(map(float, index))):
        return None
    start = text.index(first)
    return text[:start] + "index " + text[start:].lstrip(), []


def _in_columns(text: str) -> tuple[str, list[str]] | None:
    """Return a few long rows of numbers as columns, each a curve; names may begin all. None if there are none."""
    if text.count("\n", 0, HEAD) > MOST_ROWS:
        return None
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > MOST_ROWS or len(lines) * LONG_ROW > len(text):
        return None
    for separator in SEPARATORS:
        rows = [[cell.strip() for cell in line.strip(separator or " ").split(separator)] for line in lines]
        lengths = set(map(len, rows))
        is_long = len(lengths) == 1 and max(LONG_ROW, 10 * len(rows)) <= min(lengths)
        has_names = is_long and len(rows) > 1 and all(number(row[0]) is None and row[0] for row in rows)
        if is_long and all(_are_numbers(row[has_names:]) for row in rows):
            count = min(lengths) - has_names
            note = f"a row of {count:,} numbers" if len(rows) == 1 else f"{len(rows)} rows of {count:,} numbers"
            body = "\n".join(map("\t".join, zip(*rows, strict=True))) + "\n"
            return body, [f"{note}, taken as a column each" if len(rows) > 1 else f"{note}, taken as a column"]
    return None


def _without_headings(text: str) -> tuple[str, list[str]] | None:
    """Return numbers, one a line, without headings of steps or epochs between them, such as "epoch 1", "epoch 2".

    Lines without a digit at the end, such as "Done!", are left out, too. None if the text is anything else: other words
    may begin another curve, and a few numbers below each heading may be a loss and an accuracy.
    """
    lines = [line.strip() for line in text[:HEAD].split("\n") if line.strip()][:-1]
    heading = HEADING.fullmatch(lines[0]) if lines else None
    if heading is None or normal(heading["name"]) not in ALL_STEPS or not _are_numbers(lines[1:2]):
        return None
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    end = next(at for at in range(len(lines), 0, -1) if _are_numbers(lines[at - 1 : at]) or DIGIT.search(lines[at - 1]))
    notes = [f"lines of text at the end, left out: {len(lines) - end}"] * (end < len(lines))
    del lines[end:]
    places = [at for at, line in enumerate(lines) if HEADING.fullmatch(line)]
    numbers = [float(re.sub(r"\D", "", lines[at])) for at in places]
    values = [line for line in lines if not HEADING.fullmatch(line)]
    if len(values) < LEAST_BELOW * len(places) or numbers != sorted(set(numbers)) or not _are_numbers(values):
        return None
    return "\n".join(values) + "\n", [f"headings such as {lines[0]!r}, left out: {len(places)}", *notes]


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(number(cell) is not None for cell in cells if cell not in EMPTY_CELLS)
