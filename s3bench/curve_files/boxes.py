"""Reads the boxes of names and values that Stable-Baselines3 and its like print."""

import re

from s3bench.curve_files.table import Table, from_rows, number

LINE = re.compile(r"^[|│](?P<indent>\s*)(?P<key>[a-z_][^|│]*?)\s*[|│]\s*(?P<value>[^|│]*?)\s*[|│]\s*$", re.I | re.M)
INDENT = 2  # blanks at least before a name within a section


def read_boxes(text: str) -> Table | None:
    """Read boxes, a row for each; None if there are fewer than two.

    Below a line such as `| train/ | |`, a name that is indented belongs to this section: it becomes train/loss.
    """
    if not ("|" in text or "│" in text) or LINE.search(text) is None:
        return None
    rows: list[dict[str, float]] = [{}]
    section, beside = "", 0
    for line in text.split("\n"):
        found = LINE.match(line)
        if found is None:
            rows += [{}] if rows[-1] else []
            beside += any(map(str.isalnum, line))
            continue
        if len(found["indent"]) < INDENT:
            section = ""
        if found["key"].endswith("/") and not found["value"]:
            section = found["key"]
        elif (value := number(found["value"])) is not None:
            rows[-1][section + found["key"]] = value
    rows = [row for row in rows if len(row) > 1]
    notes = [f"lines beside the boxes, left out: {beside}"] * bool(beside)
    return from_rows("console's boxes", rows, notes) if len(rows) > 1 else None
