"""Reads a table that a program printed among other lines: names above, blanks or bars between the columns."""

import re

from s3bench.curve_files.names import ALL_STEPS, normal, words
from s3bench.curve_files.table import number

BETWEEN = re.compile(r"\s*\|\s*|\t+| {2,}")
EDGES = " |\t"
RULE = re.compile(r"[\s|+=_-]*")
STEP = re.compile(r"\[?(?P<at>\d+)(?:\s*/\s*\d+)?\]?")
DIGIT = re.compile(r"\d")
LETTER = re.compile("[A-Za-z]")
LEAST = 3  # columns; two words with a blank between are no names
LONGEST = 200  # characters of a line with names


def rows_as_pairs(lines: list[str]) -> list[str]:
    """Return lines with "Epoch: 3 | Train Loss: 2.5" for each row of a table, none for its names and rules.

    A table begins with names, the first that of a step and one that of a loss, and ends with a line that is neither a
    row nor a rule.
    """
    if not any(_names(line) for line in lines if "oss" in line and not DIGIT.search(line)):
        return lines
    kept: list[str] = []
    names: list[str] = []
    for line in lines:
        if head := _names(line) if "oss" in line and not DIGIT.search(line) else []:
            names = head
            continue
        if not names or RULE.fullmatch(line):
            kept += [line] * (not names)
            continue
        cells = _cells(line, len(names))
        if not cells:
            names = []
            kept.append(line)
            continue
        pairs = zip(names, cells, strict=True)
        kept.append(" | ".join(f"{name}: {cell}" for name, cell in pairs if number(cell) is not None))
    return kept


def _names(line: str) -> list[str]:
    """Return the names of columns that a line has; none if it has none."""
    names = BETWEEN.split(line.strip(EDGES)) if len(line) < LONGEST else []
    has_names = len(names) >= LEAST and all(LETTER.search(name) and ":" not in name for name in names)
    is_head = has_names and normal(names[0]) in ALL_STEPS and any("loss" in words(name) for name in names)
    return names if is_head and len(set(names)) == len(names) else []


def _cells(line: str, width: int) -> list[str]:
    """Return the cells of a row, the first of which is a step; none if it is no row.

    A unit that stands behind a cell, as in "0.55 s", is no cell.
    """
    cells = BETWEEN.split(line.strip(EDGES))
    if len(cells) != width:
        cells = [cell for cell in line.replace("|", " ").split() if not cell.isalpha() or number(cell) is not None]
    step = STEP.fullmatch(cells[0]) if len(cells) == width else None
    return [] if step is None else [step["at"], *(cell.split()[0] if " " in cell else cell for cell in cells[1:])]
