"""Defines how every figure looks, and writes figures to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's colours, which colour-blind people can tell apart, and markers for print in grey. There are eight
# colours and seven markers, so that 56 optimizers look different.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WARNING = "#B00000"
SUFFIXES = (".png", ".svg", ".pdf")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "s3bench",  # the same figure gives the same file
    "figure.constrained_layout.use": True,
}


class Look(NamedTuple):
    """The look of an optimizer in every figure."""

    colour: str
    marker: str


def looks(optimizers: Sequence[str]) -> dict[str, Look]:
    """Give each optimizer a look, in their order."""
    return {
        name: Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
        for index, name in enumerate(optimizers)
    }


def save(figure: Figure, file: Path) -> list[Path]:
    """Write the figure as SVG, PNG and PDF, and return the files; the same figure gives the same bytes."""
    files = [file.with_name(f"{file.name}{suffix}") for suffix in (".svg", ".png", ".pdf")]
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # done by now; every format would do it again
    for name in files:
        save_as(figure, name)
    return files


def save_as(figure: Figure, file: Path) -> None:
    """Write the figure without a date, in the format of the file's suffix, which is one of SUFFIXES."""
    suffix = file.suffix.lower()
    dated = {".svg": "Date", ".png": "Software", ".pdf": "CreationDate"}[suffix]
    images = [line for line in figure.findobj(Line2D) if line.get_rasterized()] if suffix == ".pdf" else []
    for line in images:  # as lines, since matplotlib would keep an image of the whole page for each panel
        line.set_rasterized(False)
    with mpl.rc_context(STYLE):
        figure.savefig(file, dpi=150, metadata={dated: None})
    for line in images:
        line.set_rasterized(True)


def plain(text: str) -> str:
    """Escape a text so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")
