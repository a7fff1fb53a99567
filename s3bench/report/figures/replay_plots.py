"""Draws replays: one spike with its arms, and what became of all spikes by arm. It computes nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator

from s3bench.report.analysis.replays import OUTCOMES, PLACEBO, SAME, Arm, Replay, Window
from s3bench.report.figures.panels import ABOVE_FIRST, CHARACTER, limit_axis
from s3bench.report.figures.style import STYLE, WARNING, plain

OUTCOME_COLOURS = dict(zip(OUTCOMES, ("#009E73", "#56B4E9", "#E69F00", "#D55E00"), strict=True))
GREY, LIGHT = "#777777", "#B0B0B0"
COLUMNS = 4  # panels in a row
WIDTH, TOP, PANEL, EXTRA = 9.6, 2.3, 1.35, 0.5  # inches: of the figure; heights of its rows, and of its labels
BAR, BARS_WIDTH, TITLE = 0.27, 4.6, 0.9  # inches: height of a bar, least width of a panel of bars; of title and axis
TEXT_WIDTH, LETTER = 1.7, 0.075  # inches: beside a panel of bars; width of a character of its title
TITLE_PAD = 16  # points from a panel of bars to its title, above the line of what heads the numbers beside it
GAP = 0.5  # of a bar, between the arms that show what no change does and the others
ROOM = 0.2  # of the axis of updates, added above them for the legend
LONGEST = 34  # characters of an arm's name
NOTES = {SAME: " (no change)", PLACEBO: " (chance)"}  # after the names of arms
LEGIBLE = 0.05  # share of the longest bar from which on a part of a bar has its number in it


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What became of the spikes with one arm."""

    name: str
    counts: Sequence[int]  # one per outcome
    interval: tuple[float, float]  # of the share of the first outcome


@mpl.rc_context(STYLE)
def one_spike(replay: Replay, arms: Sequence[Arm]) -> Figure:
    """Draw a spike that was replayed: above the unchanged arm with the placebo and its updates, below a panel per arm.

    Args:
        replay: the spike.
        arms: those that get a panel, in their order.
    """
    rows = math.ceil(len(arms) / COLUMNS)
    figure = Figure(figsize=(WIDTH, EXTRA + TOP + PANEL * rows))
    grid = figure.add_gridspec(1 + rows, COLUMNS, height_ratios=[TOP, *rows * [PANEL]])
    loss = figure.add_subplot(grid[0, : COLUMNS // 2])
    _draw_unchanged(loss, replay)
    _draw_updates(figure.add_subplot(grid[0, COLUMNS // 2 :], sharex=loss), replay)
    for place, arm in enumerate(arms):
        row, column = divmod(place, COLUMNS)
        axes = figure.add_subplot(grid[1 + row, column], sharex=loss, sharey=loss)
        _draw_arm(axes, replay, arm)
        axes.tick_params(labelleft=column == 0, labelbottom=place + COLUMNS >= len(arms))
        if column == 0:
            axes.set_ylabel("training loss")
    loss.xaxis.set_major_locator(MultipleLocator(50))  # of all panels, which share it
    figure.supxlabel("steps from the onset", fontsize=8)
    return figure


def _draw_unchanged(axes: Axes, replay: Replay) -> None:
    """Draw the run's loss, and over it the arms in which nothing, or nothing that means anything, is changed."""
    curves = [replay.window.loss, *(arm.window.loss for arm in replay.arms)]
    losses = np.concatenate([loss[np.isfinite(loss)] for loss in curves])
    own = replay.window.loss[np.isfinite(replay.window.loss)]
    if len(own):
        limit_axis(axes, losses, ABOVE_FIRST * float(own.max()) if own.max() > 0 else math.inf)
        if losses.max() < 10 * losses.min():
            axes.set_yscale("linear")
            axes.set_ylim(min(0, losses.min()), 1.05 * losses.max())
    axes.plot(*_points(replay, replay.window), color=LIGHT, lw=3.5, label="the run")
    for arm in replay.arms:
        if arm.name == SAME:
            equal = ", bit for bit" if arm.is_exact else ""
            axes.plot(*_points(replay, arm.window), color="black", lw=1.4, label=f"{SAME}: {arm.outcome}{equal}")
        if arm.name == PLACEBO:
            label = f"{PLACEBO}: {arm.outcome}"
            axes.plot(*_from_departure(replay, arm), color=GREY, lw=1.0, ls=(0, (2, 1)), label=label)
    _mark(axes, replay, named=True)
    axes.set_title(f"Nothing changed: the spike at step {replay.onset:,}", loc="left")
    axes.set_ylabel("training loss")
    axes.legend(loc="upper right")


def _draw_updates(axes: Axes, replay: Replay) -> None:
    """Draw the size of the updates without a change; of the run itself if there is no unchanged arm."""
    window = next((arm.window for arm in replay.arms if arm.name == SAME), replay.window)
    steps = _steps(replay, window)
    any_known = False
    for values, colour, label in (
        (window.update_max, WARNING, "largest coordinate"),
        (window.update_rms, "black", "root mean square"),
    ):
        known = np.isfinite(values) & (values > 0)
        if known.any():
            any_known = True
            axes.plot(steps[known], values[known], color=colour, lw=1.2, label=label)
    if any_known:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** ROOM)
        axes.legend(loc="upper right", ncols=2)
    else:
        axes.text(0.5, 0.5, "no update was measured", transform=axes.transAxes, ha="center", color="gray")
    _mark(axes, replay)
    axes.set_title("Its updates, over the learning rate", loc="left")


def _draw_arm(axes: Axes, replay: Replay, arm: Arm) -> None:
    """Draw an arm over its run."""
    axes.plot(*_points(replay, replay.window), color=LIGHT, lw=1.2)
    steps, losses = _from_departure(replay, arm)
    axes.plot(steps, losses, color=OUTCOME_COLOURS[arm.outcome], lw=1.4)
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        axes.axvline(float(steps[wrong[0]]), color=WARNING, lw=1.2, ls=":")
    _mark(axes, replay)
    axes.set_title(_name(arm.name), loc="left", pad=12, fontsize=8)
    axes.text(
        0, 1.03, arm.outcome, transform=axes.transAxes, color=OUTCOME_COLOURS[arm.outcome], weight="bold", fontsize=8
    )


def _name(name: str) -> str:
    """Return an arm's name as a figure shows it."""
    return plain(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _mark(axes: Axes, replay: Replay, *, named: bool = False) -> None:
    """Mark the steps at which the arms depart and the spike begins."""
    for at, style, name in ((replay.step - replay.onset, ":", "arms depart"), (0, "-", "onset")):
        axes.axvline(at, color="black", lw=0.7, ls=style, zorder=1)
        if named:
            place = axes.get_xaxis_transform()
            axes.text(at, 0.97, name, transform=place, rotation=90, ha="right", va="top", fontsize=7)


def _steps(replay: Replay, window: Window) -> npt.NDArray[np.float64]:
    return np.arange(len(window.loss), dtype=float) + window.first - replay.onset


def _points(replay: Replay, window: Window) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return _steps(replay, window), window.loss


def _from_departure(replay: Replay, arm: Arm) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the steps and losses of an arm from where it departs."""
    first = max(0, replay.step - arm.window.first)
    steps, losses = _points(replay, arm.window)
    return steps[first:], losses[first:]


@mpl.rc_context(STYLE)
def outcomes(panels: Mapping[str, Sequence[Bar]]) -> Figure:
    """Draw a bar per arm of how many spikes vanished, became smaller, came later or persisted; a panel per title."""
    heights = [TITLE + BAR * len(bars) for bars in panels.values()]
    labels = CHARACTER * max(len(_label(bar)) for bars in panels.values() for bar in bars)
    width = max(BARS_WIDTH + TEXT_WIDTH, LETTER * max(map(len, panels)))
    figure = Figure(figsize=(labels + width, 0.4 + sum(heights)))
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (title, bars) in zip(grid.flat, panels.items(), strict=True):
        _draw_bars(axes, bars)
        axes.set_title(plain(title), loc="left", pad=TITLE_PAD)
    handles = [Patch(color=colour, label=name) for name, colour in OUTCOME_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(OUTCOMES))
    return figure


def _label(bar: Bar) -> str:
    return _name(bar.name) + NOTES.get(bar.name, "")


def _draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    longest = max(sum(bar.counts) for bar in bars)
    beside = axes.get_yaxis_transform()
    places: list[float] = []
    for bar in bars:
        after = bool(places) and bar.name not in NOTES and bars[len(places) - 1].name in NOTES
        place = places[-1] + 1 + GAP * after if places else 0.0
        places.append(place)
        left = 0
        for width, colour in zip(bar.counts, OUTCOME_COLOURS.values(), strict=True):
            if width:
                axes.barh(place, width, left=left, height=0.75, color=colour, lw=0)
            if width >= LEGIBLE * longest:
                axes.text(left + width / 2, place, f"{width}", ha="center", va="center", fontsize=7)
            left += width
        low, high = bar.interval
        axes.text(1.02, place, f"{bar.counts[0]} of {left} [{low:.0%}, {high:.0%}]", transform=beside, va="center")
    axes.text(1.02, 1.0, "vanished [95%]", transform=axes.transAxes, va="bottom", weight="bold")
    axes.set_yticks(places, list(map(_label, bars)))
    axes.set_ylim(places[-1] + 0.5, -0.5)
    axes.set_xlim(0, longest)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False)
    axes.set_xlabel("spikes")
