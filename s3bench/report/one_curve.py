"""The spikes of one loss curve as a table, JSON and a picture: what `s3bench spikes` prints."""

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3bench.console import say
from s3bench.errors import UserError

if TYPE_CHECKING:
    from s3bench.curve_files.reader import LoggedCurve
    from s3bench.spikes import Spike
    from s3bench.spikes.detector import DetectorParameters

WIDTH = 100  # characters of a line of text
SPIKE_TABLE = {  # a field of Spike: its width and format
    "onset": (10, ""),
    "peak": (10, ""),
    "end": (10, ""),
    "width": (8, ""),
    "height": (11, ".4g"),
    "sigmas": (9, ".3g"),
    "area": (11, ".4g"),
    "kind": (13, ""),
}


def show_spikes(
    file: str | Path,
    parameters: "DetectorParameters",
    *,
    plot: Path | None = None,
    as_json: bool = False,
    fail_on: str | None = None,
    **reading: str | None,
) -> int:
    """Print the spikes of the curve in a file, and draw them where a plot is asked for.

    What was read is said on stderr, in one line.

    Args:
        file: the curve's file or folder, or "-".
        parameters: those of the detector.
        plot: the picture's file; None for no picture.
        as_json: print JSON instead of a table.
        fail_on: what makes the command fail; see fail_on.py.
        reading: how to read the file; see read_curve.

    Returns:
        The exit code: 1 if the spikes are beyond `fail_on`.

    Raises:
        UserError: the curve cannot be read, a parameter is out of its range, or the picture cannot be written.
    """
    from s3bench.curve_files.reader import read_curve
    from s3bench.report.fail_on import check, too_many

    check(fail_on)
    if plot is not None:
        check_figure_file("--plot", plot)
    curve = read_curve(file, **reading)
    found = find(curve, parameters)
    say(f"s3bench: {curve.how_read()}", file=sys.stderr)
    if plot is not None:
        _draw(plot, curve, found, parameters, title=Path(file).name)
    say(*([json.dumps(as_object(file, curve, found))] if as_json else _lines(curve, found)))
    beyond = too_many(fail_on, curve, [curve.in_steps(spike) for spike in found])
    if beyond:
        say(f"s3bench: --fail-on {fail_on}: {file}: {beyond}", file=sys.stderr)
    return int(beyond is not None)


def check_figure_file(option: str, file: Path) -> None:
    """Raise UserError where a figure cannot be written to this file, the value of this option."""
    from s3bench.report.figures.style import SUFFIXES

    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{option} {file}: the suffix must be one of {', '.join(SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{option} {file}: there is no folder {file.parent}")


def find(curve: "LoggedCurve", parameters: "DetectorParameters") -> "list[Spike]":
    """Return the curve's spikes with indices into its losses; raise UserError for a parameter out of its range."""
    from s3bench.spikes import find_spikes

    try:
        return find_spikes(curve.loss, **parameters)
    except ValueError as error:
        raise UserError(str(error)) from error


def as_object(file: str | Path, curve: "LoggedCurve", found: "Sequence[Spike]") -> dict[str, object]:
    """Return what was read and found, as --json prints it; the spikes are given with indices into the losses."""
    from s3bench.console import finite_or_none
    from s3bench.report.answer import paragraph

    spikes = [curve.in_steps(spike) for spike in found]
    return {
        "file": str(file),
        "kind": curve.kind,
        "column": curve.column,
        "step_column": curve.step_column,
        "notes": list(curve.notes),
        "values": len(curve.loss),
        "spikes": [{key: finite_or_none(value) for key, value in vars(spike).items()} for spike in spikes],
        "answer": paragraph(curve, found),
    }


def _lines(curve: "LoggedCurve", found: "Sequence[Spike]") -> list[str]:
    """Return the number of spikes and their rate, a line for each, and what they amount to."""
    from s3bench.report.answer import paragraph

    unit = curve.counted()
    rate = 1e4 * len(found) / len(curve.loss)
    count = f"{len(found)} spike{'s' * (len(found) != 1)}"
    lines = [f"{curve.column}: {count} in {len(curve.loss)} {unit}, {rate:.2f} per 10,000 {unit}"]
    if unit == "values":
        lines.append(f"the steps are not consecutive ({curve.spacing()}): anything between two of them goes unseen")
    if found:
        lines.append("".join(f"{name:>{width}}" for name, (width, _) in SPIKE_TABLE.items()))
    for spike in map(curve.in_steps, found):
        cells = (f"{getattr(spike, name):>{width}{form}}" for name, (width, form) in SPIKE_TABLE.items())
        lines.append("".join(cells))
    return [*lines, "", *textwrap.wrap(paragraph(curve, found), WIDTH, break_on_hyphens=False)]


def _draw(
    file: Path, curve: "LoggedCurve", found: "Sequence[Spike]", parameters: "DetectorParameters", *, title: str
) -> None:
    """Draw the curve with its level, its threshold and the spikes found, whose steps are indices into the losses."""
    from s3bench.report.analysis.loss_curve import Curve
    from s3bench.report.analysis.spike_bounds import spike_bounds
    from s3bench.report.figures.one_loss import one_loss
    from s3bench.report.figures.style import save_as

    bounds = spike_bounds(curve.loss, **parameters)
    spikes = [curve.in_steps(spike) for spike in found]
    peaks = [(there.peak, float(curve.loss[spike.peak])) for there, spike in zip(spikes, found, strict=True)]
    drawn = Curve(steps=curve.steps, loss=curve.loss, trend=bounds.level, peaks=peaks)
    spans = [(spike.onset, spike.end) for spike in spikes]
    xlabel = "row, counted from 0" if curve.step_column is None else curve.step_column
    xlabel += "" if curve.is_consecutive() else f", logged {curve.spacing().split(',')[0]}"
    figure = one_loss(drawn, bounds, spans, title=title, xlabel=xlabel, ylabel=curve.column)
    try:
        save_as(figure, file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error
