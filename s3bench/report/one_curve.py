"""The spikes of one loss curve as text, JSON and a picture: what `s3bench spikes` prints."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3bench.errors import UserError

if TYPE_CHECKING:
    from s3bench.curve_files.reader import Curve
    from s3bench.spikes import Spike


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


def show_spikes(chosen: argparse.Namespace) -> int:
    from s3bench.curve_files.reader import read_curve
    from s3bench.spikes import find_spikes

    if chosen.plot is not None:
        check_figure_file("--plot", chosen.plot)
    curve = read_curve(Path(chosen.file), chosen.column, chosen.step)
    parameters = {"k": chosen.k, "delta": chosen.delta, "ceiling": chosen.ceiling}
    try:
        found = find_spikes(curve.loss, **parameters)
    except ValueError as error:
        raise UserError(str(error)) from error
    for note in curve.notes:
        print(f"s3bench: {note}", file=sys.stderr)
    spikes = [curve.in_steps(spike) for spike in found]
    if chosen.plot is not None:
        peaks = [(there.peak, float(curve.loss[spike.peak])) for there, spike in zip(spikes, found, strict=True)]
        _plot(chosen.plot, curve, peaks, spikes, Path(chosen.file).name, **parameters)
    if chosen.json:
        print(json.dumps([{key: _finite(value) for key, value in vars(spike).items()} for spike in spikes]))
        return 0
    unit = "steps" if curve.is_consecutive() else "values"
    rate = 1e4 * len(spikes) / len(curve.loss)
    count = f"{len(spikes)} spike{'s' if len(spikes) != 1 else ''}"
    print(f"{curve.column}: {count} in {len(curve.loss)} {unit}, {rate:.2f} per 10,000 {unit}")
    if unit == "values":
        print(f"the steps are not consecutive ({curve.spacing()}): what lies between two of them is not seen")
    if spikes:
        print("".join(f"{name:>{width}}" for name, (width, _) in SPIKE_TABLE.items()))
    for spike in spikes:
        print("".join(f"{getattr(spike, name):>{width}{form}}" for name, (width, form) in SPIKE_TABLE.items()))
    return 0


def check_figure_file(option: str, file: Path) -> None:
    from s3bench.report.figures.style import SUFFIXES

    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{option} {file}: the suffix must be one of {', '.join(SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{option} {file}: there is no folder {file.parent}")


def _plot(
    file: Path, curve: "Curve", peaks: "list[tuple[int, float]]", spikes: "list[Spike]", title: str, **parameters: float
) -> None:
    from s3bench.report.analysis import loss_curve
    from s3bench.report.figures import plots, style
    from s3bench.spikes import baselines

    level, threshold = baselines(curve.loss, **parameters)
    drawn = loss_curve.Curve(steps=curve.steps, loss=curve.loss, trend=level, peaks=peaks)
    spans = [(spike.onset, spike.end) for spike in spikes]
    figure = plots.spike_curve(drawn, level + threshold, spans, title=title, ylabel=curve.column)
    try:
        style.save_as(figure, file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error


def _finite(value: Any) -> Any:
    """The value, or None for a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
