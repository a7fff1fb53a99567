"""Draws the pictures of docs/spikes.md: the parts of a spike, and what is a spike and what is not.

Run `python -m scripts.draw_spikes` from the repository's root. It raises an AssertionError if the detector does not
find what a picture says.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s3bench.report.figures.style import COLOURS, STYLE, WARNING, save_as
from s3bench.spikes import Spike, baselines, find_spikes
from scripts.detector_bed.falling import falling

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
STEPS = 2000
DASHES = (0, (3, 1))

Array = npt.NDArray[np.float64]


def fall(random: np.random.Generator, noise: float = 0.06) -> Array:
    """Draw a loss without spikes."""
    return falling(STEPS, noise=noise, drop=4, power=0.4, seed=random)


def decay(steps: int) -> Array:
    """Return an exponential decay from 1 to 5%."""
    return np.asarray(np.exp(-3 * np.arange(steps) / steps))


def curves() -> dict[str, tuple[Array, list[str]]]:
    """Return each panel's loss and the kinds of spikes in it, by the panel's title."""
    random = np.random.default_rng(3)
    drawn: dict[str, tuple[Array, list[str]]] = {}

    def panel(title: str, loss: Array, *kinds: str) -> None:
        drawn[title] = loss, list(kinds)

    loss = fall(random)
    loss[1200:1202] += 1
    panel("blip: back within three steps", loss, "blip")
    loss = fall(random)
    loss[1000:1200] += 1.5 * decay(200)
    panel("recovered", loss, "recovered")
    loss = fall(random)
    loss[800:880] += decay(80)
    loss[840:960] += 1.2 * decay(120)
    panel("two close ones are one", loss, "recovered")
    loss = fall(random)
    loss[800:1200] += np.linspace(0, 0.8, 400)
    loss[1200:1500] += 0.8 * decay(300)
    panel("a slow rise", loss, "recovered")
    loss = fall(random)
    loss[900:] += 0.8
    panel("level_shift", loss, "level_shift")
    loss = fall(random)
    loss[1700:] += 0.015 * np.arange(300)
    panel("diverged", loss, "diverged")
    panel("a steep fall", 0.5 + 3.5 * np.exp(-np.arange(STEPS) / 60) + 0.03 * random.standard_normal(STEPS))
    loss = fall(random)
    loss[1000:] -= 0.3
    panel("a drop of the learning rate", loss)
    panel("growing noise", fall(random, 0) + np.linspace(0.01, 0.15, STEPS) * random.standard_normal(STEPS))
    panel("heavy-tailed noise: hard batches", fall(random, 0) + 0.06 * random.standard_t(4, STEPS))
    wander = np.zeros(STEPS)
    for step in range(1, STEPS):
        wander[step] = 0.9 * wander[step - 1] + 0.05 * random.standard_normal()
    panel("correlated noise", fall(random, 0.03) + wander)
    waves = 0.08 * np.sin(np.arange(STEPS) / 60)
    panel("the order of the data", fall(random) + waves)
    return drawn


def draw(axes: Axes, loss: Array, spikes: Sequence[Spike]) -> tuple[Array, Array]:
    """Draw the loss, its level, what a loss must exceed, and the spikes' spans; return level and threshold."""
    level, threshold = baselines(loss)
    for spike in spikes:
        axes.axvspan(spike.onset, spike.end, color=WARNING, alpha=0.15, lw=0)
    axes.plot(loss, color=COLOURS[0], lw=0.4, alpha=0.5)
    axes.plot(level, color=COLOURS[0], lw=1)
    axes.plot(level + threshold, color=COLOURS[-1], lw=0.8, ls=DASHES)
    return level, threshold


def kinds() -> Figure:
    """Draw curves with a spike, above, and curves without, below."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 6.4))
        panels = figure.subplots(4, 3, sharex=True).ravel()
        for axes, (title, (loss, expected)) in zip(panels, curves().items(), strict=True):
            spikes = find_spikes(loss)
            if [spike.kind for spike in spikes] != expected:
                raise AssertionError(f"{title}: expected {expected}, found {spikes}")
            draw(axes, loss, spikes)
            axes.set_ylim(loss.min() - 0.1, loss.max() + 0.4)
            axes.set_title(title if expected else f"no spike: {title}", loc="left")
        for axes in panels[-3:]:
            axes.set_xlabel("step")
        for axes in panels[::3]:
            axes.set_ylabel("loss")
    return figure


def definition() -> Figure:
    """Draw one spike with its parts."""
    loss = fall(np.random.default_rng(0))
    loss[1000:1120] += 1.2 * np.concatenate([np.linspace(0.5, 1, 6), decay(114)])
    (spike,) = find_spikes(loss)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.2))
        axes = figure.subplots()
        level, threshold = draw(axes, loss, [spike])
        frozen, top = level[spike.onset], loss[spike.peak]
        axes.set_xlim(880, 1260)
        axes.set_ylim(frozen - 0.35, top + 0.35)
        away = np.arange(spike.onset, spike.end)
        axes.fill_between(away, frozen, loss[away], color=WARNING, alpha=0.2, lw=0)
        arrow = {"arrowstyle": "<->", "color": "black", "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (spike.peak, frozen), (spike.peak, top), arrowprops=arrow)
        axes.text(spike.peak + 3, frozen + 0.35 * (top - frozen), "height", ha="left", va="center")
        low = frozen - 0.2
        axes.annotate("", (spike.onset, low), (spike.end, low), arrowprops=arrow)
        axes.text((spike.onset + spike.end) / 2, low - 0.02, "width", ha="center", va="top")
        axes.text(spike.onset + 38, frozen + 0.12, "area", color=WARNING)
        axes.text(spike.onset - 2, top, "onset", ha="right")
        axes.text(spike.peak, top + 0.08, "peak", ha="left")
        axes.text(spike.end + 2, top, "end", ha="left")
        axes.text(884, level[884] - 0.2, "level", color=COLOURS[0])
        axes.text(884, level[884] + threshold[884] + 0.04, "level + max(kσ, δ)", color="#666666")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
    return figure


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    save_as(definition(), FOLDER / "spike.png")
    save_as(kinds(), FOLDER / "kinds.png")
