"""Reads the boxes of names and values that Stable-Baselines3 and its like print."""

import re

from s3bench.curve_files.names import words
from s3bench.curve_files.table import Table, from_rows, number
from s3bench.curve_files.text import tells_losses

LINE = re.compile(r"^[|│](?P<indent>\s*)(?P<key>[a-z_][^|│]*?)\s*[|│]\s*(?P<value>[^|│]*?)\s*[|│]\s*$", re.I | re.M)
MOST_BLANKS = 200  # in a row: more would be tried in every split
BLANKS = re.compile(rf" {{{MOST_BLANKS},}}")
INDENT = 2  # blanks at least before a name within a section


def read_boxes(text: str) -> Table | None:
    """Read boxes, a row for each; None if there are fewer than two, or they have no loss, which lines beside them have.

    Below a line such as `| train/ | |`, a name that is indented belongs to this section: it becomes train/loss.
    """
    text = BLANKS.sub(" " * INDENT, text) if " " * MOST_BLANKS in text else text
    if not ("|" in text or "│" in text) or LINE.search(text) is None:
        return None
    rows: list[dict[str, float]] = [{}]
    section = ""
    beside: list[str] = []
    for line in text.split("\n"):
        found = LINE.match(line)
        if found is None:
            rows += [{}] if rows[-1] else []
            beside += [line] * any(map(str.isalnum, line))
            continue
        if len(found["indent"]) < INDENT:
            section = ""
        if found["key"].endswith("/") and not found["value"]:
            section = found["key"]
        elif (value := number(found["value"])) is not None:
            rows[-1][section + found["key"]] = value
    rows = [row for row in rows if len(row) > 1]
    names = [name for row in rows for name in row]
    has_loss = any("loss" in words(name) for name in names)
    if len(rows) < 2 or len(set(names)) == len(names) or (not has_loss and tells_losses(beside)):
        return None
    return from_rows("console's boxes", rows, [f"lines beside the boxes, left out: {len(beside)}"] * bool(beside))
