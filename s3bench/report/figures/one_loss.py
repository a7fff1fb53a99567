"""Draws the loss of one file with its spikes, and what makes them spikes."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from s3bench.errors import printable
from s3bench.report.analysis.loss_curve import Curve
from s3bench.report.analysis.spike_bounds import Bounds
from s3bench.report.figures.marks import draw_curves
from s3bench.report.figures.panels import limit_axis
from s3bench.report.figures.style import COLOURS, STYLE, WARNING, plain

SIZE = (7.0, 3.2)  # inches
LOGARITHMIC = 100  # an axis of positive losses holds peaks up to this multiple of the usual loss
LINEAR = 20  # another holds them up to this multiple of what proves a spike
APART = 0.08  # of the axis's width: values beside peaks are at least this far apart
DASHED, DOTTED = (0, (3, 1)), (0, (1, 1))


@mpl.rc_context(STYLE)
def one_loss(
    curve: Curve, bounds: Bounds, spans: Sequence[tuple[float, float]], *, title: str, xlabel: str, ylabel: str
) -> Figure:
    """Draw a raw loss with its level, a triangle at each spike's peak, and a shade from each onset to the end.

    The axis holds the peaks and the bounds, as far as what is usual can still be seen. A peak that is higher, or not
    finite, has its triangle at the edge, and its value beside it.

    Args:
        curve: the loss, its level as `trend`, and its peaks.
        bounds: what the loss is compared with.
        spans: onset and end of each spike, in the file's steps.
        title: of the figure.
        xlabel: what the steps are.
        ylabel: the loss's name.
    """
    figure = Figure(figsize=SIZE)
    axes = figure.subplots()
    _hold(axes, bounds, curve.loss)
    for onset, end in spans:
        axes.axvspan(onset, end, color=WARNING, alpha=0.15, lw=0)
    draw_curves(axes, [curve], COLOURS[0])
    for bound, look in ((bounds.necessary, DASHED), (bounds.sufficient, DOTTED)):
        axes.plot(curve.steps, bound, color=COLOURS[-1], lw=0.8, ls=look, rasterized=True)
    _name_higher_peaks(axes, curve.peaks)
    handles = [
        Line2D([], [], color=COLOURS[0], lw=0.5, alpha=0.6, label="loss"),
        Line2D([], [], color=COLOURS[0], lw=1.0, label="level"),
        Line2D([], [], color=COLOURS[-1], lw=0.8, ls=DASHED, label="level + max(kσ, δ): a spike's first loss is above"),
        Line2D([], [], color=COLOURS[-1], lw=0.8, ls=DOTTED, label="one loss above is a spike"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    axes.set_title(plain(printable(title)), loc="left")
    axes.set_ylabel(plain(printable(ylabel)))
    axes.set_xlabel(plain(printable(xlabel)))
    return figure


def _hold(axes: Axes, bounds: Bounds, losses: npt.NDArray[np.floating]) -> None:
    """Limit the axis so that it holds the losses and the bounds, as far as what is usual can still be seen."""
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        return
    drawn = np.concatenate([bounds.necessary, bounds.sufficient])
    drawn = drawn[np.isfinite(drawn) & (drawn > losses.min())]
    usual = max(float(np.median(part)) for part in (losses, losses[:1], drawn) if len(part))
    if losses.min() > 0:
        top = LOGARITHMIC * usual
    else:
        proof = (bounds.sufficient - bounds.level)[np.isfinite(bounds.sufficient)]
        top = usual + LINEAR * float(np.median(proof)) if len(proof) else math.inf
    limit_axis(axes, np.concatenate([losses, drawn]), top)


def _name_higher_peaks(axes: Axes, peaks: Sequence[tuple[int, float]]) -> None:
    """Write the value beside each peak above the axis, the highest first, where there is room."""
    top = axes.get_ylim()[1]
    beyond = [(step, loss) for step, loss in peaks if not loss <= top]
    beyond.sort(key=lambda peak: peak[1] if math.isfinite(peak[1]) else math.inf, reverse=True)
    first, last = axes.get_xlim()
    named: list[int] = []
    for step, loss in beyond:
        if all(abs(step - other) >= APART * (last - first) for other in named):
            named.append(step)
            place = axes.get_xaxis_transform()
            axes.text(
                step + 0.006 * (last - first), 1, f"{loss:.3g}", transform=place, va="center", size=7, color=WARNING
            )
    if len(beyond) > len(named):
        more = f"and {len(beyond) - len(named)} more above the axis"
        axes.text(1, 1.03, more, transform=axes.transAxes, ha="right", va="bottom", size=7, color=WARNING)
