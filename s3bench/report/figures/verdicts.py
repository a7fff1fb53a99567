"""The figure of how the intervals of claims narrowed, block by block."""

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from s3bench.report.analysis.results import Results
from s3bench.report.claims.decided import Standing
from s3bench.report.claims.judge import Verdict
from s3bench.report.figures.captions import Drawing, caption
from s3bench.report.figures.panels import LINE, add_panels, grid_shape, numbers
from s3bench.report.figures.style import COLOURS, STYLE, WARNING, plain

WIDTH, HEIGHT = 3.0, 2.1  # inches: of a panel with its labels
LETTERS, MOST_LETTERS = 34, 130  # of the words beside an axis: in a line, and in all
ROOM = 0.35  # of what is shown, beyond the limit and the last interval
FAR = 10  # an axis of ratios that goes over more than this factor has one tick per decade or three, not equal steps
MEAN: dict[str, Any] = {"color": COLOURS[0], "lw": 1.2, "marker": ".", "ms": 3}
BAND: dict[str, Any] = {"color": COLOURS[0], "alpha": 0.25, "lw": 0}
CLAIMED: dict[str, Any] = {"color": WARNING, "lw": 0.9, "ls": (0, (4, 2))}
NONE: dict[str, Any] = {"color": COLOURS[-1], "lw": 0.9, "ls": (0, (1, 1))}


def verdict_drawings(verdicts: Sequence[Verdict], results: Results) -> dict[str, Drawing]:
    """Return the figure if a claim has blocks that say something, by its name."""
    decided = [one for one in verdicts if one.standing and one.n]
    if not decided:
        return {}
    runs = [*results.with_result, *(run for run in results.ramps if run.has_result)]
    return {"verdicts": Drawing(caption("verdicts", runs), partial(intervals, decided))}


@mpl.rc_context(STYLE)
def intervals(verdicts: Sequence[Verdict]) -> Figure:
    """Draw a panel per claim: its interval after each block, the mean so far, the claimed size and no difference."""
    rows, columns = grid_shape(len(verdicts))
    ncols = 2 ** (columns - 1)  # of the legend, of 4 words
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + LINE * 4 / ncols))
    for axes, verdict in zip(add_panels(figure, len(verdicts), [HEIGHT] * rows), verdicts, strict=True):
        assert verdict.standing is not None
        _draw(axes, verdict.standing)
        axes.set_title(plain(f"{verdict.claim.id}: {verdict.grade}"))
        axes.set_xlabel("blocks")
        effect = textwrap.shorten(verdict.claim.effect, MOST_LETTERS, placeholder=" ...")
        axes.set_ylabel(plain(textwrap.fill(effect, LETTERS)), fontsize="x-small")
    handles = [
        Line2D([], [], **MEAN, label="mean of the blocks so far"),
        Patch(**BAND, label="its interval"),
        Line2D([], [], **CLAIMED, label="the claim holds below"),
        Line2D([], [], **NONE, label="no difference"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
    return figure


def _draw(axes: Axes, standing: Standing) -> None:
    region, path, means = standing.claim.region, standing.path, standing.means
    blocks = np.arange(1, len(path) + 1)
    last = path[-1][np.isfinite(path[-1])]
    shown = np.array([region.claimed, region.none, means[-1], *last])
    low, high = shown.min(), shown.max()
    room = ROOM * (high - low)
    low, high = low - room, high + room
    ends, line = np.clip(path, low, high), np.clip(means, low, high)
    limits = np.array([region.claimed, region.none, low, high])
    if region.ratio:
        ends, line, limits = np.exp(ends), np.exp(line), np.exp(limits)
    claimed, none, bottom, top = limits.tolist()
    edges, each = np.arange(0.5, len(path) + 1), np.append(ends, ends[-1:], axis=0)  # each block's half to either side
    axes.fill_between(edges, each[:, 0], each[:, 1], step="post", **BAND)
    axes.plot(blocks, line, **MEAN)
    axes.axhline(claimed, **CLAIMED)
    if region.none != region.claimed:
        axes.axhline(none, **NONE)
    if region.ratio:
        axes.set_yscale("log")
        decades = LogLocator(subs=(1, 2, 5) if top < 100 * bottom else (1,))
        axes.yaxis.set_major_locator(decades if top > FAR * bottom else MaxNLocator(5, steps=(1, 2, 5, 10)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(numbers())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(path) + 0.5)
    axes.set_ylim(bottom, top)
