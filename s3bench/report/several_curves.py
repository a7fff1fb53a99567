"""Shows the spikes of several loss curves: a table with a row each, or JSON."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s3bench.console import say
from s3bench.errors import UserError, one_line
from s3bench.report.one_curve import as_object, find

if TYPE_CHECKING:
    from s3bench.curve_files.reader import LoggedCurve
    from s3bench.spikes import Spike
    from s3bench.spikes.detector import DetectorParameters

HEADINGS = ("file", "loss", "steps", "values", "spikes", "per 10,000", "highest", "at")
TEXTS = 3  # columns from the left that are text
COUNTED = "(rows)"


def show_several(
    files: Sequence[str],
    parameters: "DetectorParameters",
    *,
    as_json: bool,
    fail_on: str | None = None,
    **reading: str | None,
) -> int:
    """Print a row for each file; what was left out, and which files cannot be read, is said on stderr.

    Args:
        files: files, folders, or "-".
        parameters: those of the detector.
        as_json: print a list of objects instead of a table.
        fail_on: what makes the command fail; see fail_on.py.
        reading: how to read the files; see read_curve.

    Returns:
        The exit code: 2 if a file could not be read, else 1 if the spikes of one are beyond `fail_on`.
    """
    from s3bench.curve_files.reader import read_curve
    from s3bench.report.fail_on import check, too_many

    check(fail_on)
    read: list[tuple[str, LoggedCurve, list[Spike]]] = []
    refused: list[UserError] = []
    for file in files:
        try:
            curve = read_curve(file, **reading)
        except UserError as error:
            refused.append(error)
            continue
        read.append((file, curve, find(curve, parameters)))
        say(f"s3bench: {file}: {curve.how_read()}", file=sys.stderr)
    if as_json:
        say(json.dumps([as_object(*one) for one in read]))
    elif read:
        say(*_lines([HEADINGS, *(_row(*one) for one in read)]))
    for mistake in refused:
        say(f"s3bench: {one_line(mistake)}", file=sys.stderr)
    beyond = {file: too_many(fail_on, curve, [curve.in_steps(one) for one in found]) for file, curve, found in read}
    for file, what in beyond.items():
        if what:
            say(f"s3bench: --fail-on {fail_on}: {file}: {what}", file=sys.stderr)
    return 2 if refused else int(any(beyond.values()))


def _row(file: str, curve: "LoggedCurve", found: "Sequence[Spike]") -> tuple[str, ...]:
    spikes = [curve.in_steps(spike) for spike in found]
    highest = max(spikes, key=lambda spike: spike.height, default=None)
    of_highest = ("", "") if highest is None else (f"{highest.height:.4g}", str(highest.peak))
    rate = f"{1e4 * len(spikes) / len(curve.loss):.2f}"
    step = COUNTED if curve.step_column is None else curve.step_column
    return (file, curve.column, step, str(len(curve.loss)), str(len(spikes)), rate, *of_highest)


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths)).rstrip() for row in rows]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = zip(row, widths, strict=True)
    return [cell.ljust(width) if at < TEXTS else cell.rjust(width) for at, (cell, width) in enumerate(cells)]
