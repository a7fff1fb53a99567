"""Finds the table that is drawn in a text with bars and dashes, as Markdown, psql and notebooks do."""

import re
from bisect import bisect
from itertools import pairwise

from s3bench.curve_files.names import listed, words
from s3bench.curve_files.text import beginnings, tells_losses
from s3bench.curve_files.untidy import NOT_LOGGED
from s3bench.errors import UserError

DRAWN = r"-+=:|\u2500-\u257f"  # and the characters that Unicode has for drawing boxes
RULE = re.compile(rf"^[ \t]*[{DRAWN}][{DRAWN} \t]{{2,}}$", re.MULTILINE)
BEGINS_RULE = re.compile(rf"[{DRAWN} \t]")
WIDTHS = re.compile(r"\s*-{2,}(?: +-{2,})+\s*|\s*-+(?: +-{3,})+\s*")  # of columns, as tabulate and spaCy write them
BAR = re.compile("[|│┃]")
CROSSING = re.compile(r"[|+│┃\u252c-\u254b\u2550-\u256c]| ")  # between two columns
CORNER = re.compile("[+\u250c-\u254b\u2552-\u256c]")  # where a column begins in a rule, with a title between two
LETTER = re.compile("[A-Za-z]")
ABOVE = 4  # lines up to the names of which one may have titles


def undrawn(file: str, text: str) -> tuple[str, list[str]]:
    """Return the rows of the table in a text, their cells separated by |, and notes; the text itself if it has none.

    The names of its columns stand above a rule of dashes; tables that have the same names are one. Where tables have no
    loss, but lines beside them have, it is a console's text, and nothing is returned of it.

    Raises:
        UserError: the text has several tables, with other names.
    """
    if not any(map(BEGINS_RULE.match, beginnings(text))):
        return text, []
    if not any(CROSSING.search(rule[0].strip()) for rule in RULE.finditer(text)):
        return text, []
    lines = [line for line in text.split("\n") if line.strip()]
    drawn = [bool(RULE.match(line)) for line in lines]
    begins = [
        at
        for at, is_rule in enumerate(drawn)
        if at and is_rule and CROSSING.search(lines[at].strip()) and not drawn[at - 1] and BAR.search(lines[at - 1])
    ]
    if not begins and (found := _of_widths(lines)) is not None:
        return found
    tables = {at: _rows(lines, drawn, at) for at in begins}
    tables = {at: rows for at, rows in tables.items() if rows}
    with_loss = {at: rows for at, rows in tables.items() if "loss" in words(lines[at - 1])}
    if tables and not with_loss and tells_losses(lines):
        return "", []
    tables = with_loss or tables
    if not tables:
        return text, []
    heads = list(dict.fromkeys(_names(lines[:at]) for at in tables))
    if len(heads) > 1:
        names = [head.replace("|", " ") for head in heads]
        raise UserError(f"{file} has several tables; put one into a file of its own: {listed(names)}")
    (head,) = heads
    ends = [*(at - 1 for at in list(tables)[1:]), len(lines)]
    rows = [row for at, end in zip(tables, ends, strict=True) for row in _rows(lines[:end], drawn, at)]
    whole = [row for row in rows if _cells(row).count("|") == head.count("|")]
    logged = [row for row in whole if NOT_LOGGED not in row]
    beside = drawn.count(False) - len(whole) - len(tables)
    notes = [f"lines beside the table, left out: {beside}"] * bool(beside)
    notes += [f"rows with {NOT_LOGGED!r}, left out: {len(whole) - len(logged)}"] * (len(logged) < len(whole))
    end = "\n" * text.endswith("\n")  # its absence shows that the last line may be cut
    return "\n".join([head, *map(_cells, logged)]) + end, notes


def _of_widths(lines: list[str]) -> tuple[str, list[str]] | None:
    """Return the rows of a table whose columns are as wide as the dashes below their names; None if there is none."""
    rule = next((at for at, line in enumerate(lines) if at and WIDTHS.fullmatch(line)), None)
    if rule is None:
        return None
    spans = [(one.start(), one.end()) for one in re.finditer("-+", lines[rule])]
    cuts = [0, *((end + start) // 2 for (_, end), (start, _) in pairwise(spans))]

    def cells(line: str) -> list[str]:
        return [line[start:end].strip() for start, end in zip(cuts, [*cuts[1:], None], strict=True)]

    names, whole = cells(lines[rule - 1]), []
    for line in lines[rule + 1 :]:
        if all(line[end:start].strip() == "" for (_, end), (start, _) in pairwise(spans)) and any(cells(line)[1:]):
            whole.append(cells(line))
    if not whole or not all(names) or ("loss" not in words(" ".join(names)) and tells_losses(lines)):
        return None
    names = ["epoch", "step", *names[2:]] if names[:2] == ["E", "#"] else names  # spaCy's
    beside = len(lines) - len(whole) - 2
    rows = ["|".join(row) for row in [names, *whole] if not any("|" in cell for cell in row)]
    return "\n".join(rows) + "\n", [f"lines beside the table, left out: {beside}"] * bool(beside)


def _rows(lines: list[str], drawn: list[bool], rule: int) -> list[str]:
    """Return the rows below a rule, without other rules between them."""
    rows = []
    for at in range(rule + 1, len(lines)):
        if not drawn[at] and not BAR.search(lines[at]):
            break
        rows += [lines[at]] * (not drawn[at])
    return rows


def _names(lines: list[str]) -> str:
    """Return the names in the last line; those that are there twice with the title that stands above them in a rule."""
    *above, line = lines
    names = _cells(line).split("|")
    rule = next((one for one in above[:-ABOVE:-1] if CORNER.search(one) and LETTER.search(one)), "")
    middles = [(begin.start() + end.start()) // 2 for begin, end in pairwise(BAR.finditer(line))]
    if not rule or len(middles) != len(names):
        return "|".join(names)
    corners, titles = [corner.start() for corner in CORNER.finditer(rule)], CORNER.split(rule)
    words = ["".join(LETTER.findall(titles[bisect(corners, middle)])) for middle in middles]
    both = zip(words, names, strict=True)
    return "|".join(f"{word} {name}".strip() if names.count(name) > 1 else name for word, name in both)


def _cells(row: str) -> str:
    """Return a row with bars between its cells alone."""
    row = BAR.sub("|", row.strip())
    return "|".join(cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|"))
