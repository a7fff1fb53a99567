"""Draws the README's picture: one spike of AdamW, and the same steps trained again with one thing changed.

Run `make quickstart` and then `python -m scripts.draw_prevented` from the repository's root.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from s3bench import record
from s3bench.report.analysis.replays import Arm, Replay, read_replays
from s3bench.report.figures.replay_plots import GREY, OUTCOME_COLOURS
from s3bench.report.figures.style import STYLE, save_as
from s3bench.spikes import find_spikes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "quickstart"
PICTURE = ROOT / "docs" / "pictures" / "prevented.png"
ARMS = {  # those drawn, and what each changes
    "half_lr": "half the learning rate",
    "s3_watched": "S3 instead of AdamW",
    "clip_coordinates_1": "every update within ±1",
}


@mpl.rc_context(STYLE)
def draw(replay: Replay) -> Figure:
    """Draw the whole run on the left, and a panel for each of ARMS on the right."""
    figure = Figure(figsize=(9.6, 2.9))
    axes = figure.subplot_mosaic([["run", *ARMS]], width_ratios=[1.9, 1, 1, 1])
    loss = record.step_arrays(RESULTS / replay.run, ["loss"])["loss"]
    axes["run"].plot(loss, color="black", lw=0.5)
    for spike in find_spikes(loss, **record.load_record(RESULTS / replay.run)["config"]["task"]["spikes"]):
        axes["run"].plot(spike.peak, loss[spike.peak], "v", color=OUTCOME_COLOURS["persisted"], ms=5)
    axes["run"].set_title("AdamW: its loss, ▼ its spikes", loc="left")
    axes["run"].set_ylabel("training loss of every step")
    axes["run"].set_xlabel("step")
    for name, text in ARMS.items():
        _draw_arm(axes[name], replay, next(arm for arm in replay.arms if arm.name == name), text)
        axes[name].sharey(axes[next(iter(ARMS))])
        axes[name].tick_params(labelleft=name == next(iter(ARMS)))
    axes["run"].set_yscale("log")
    return figure


def _draw_arm(axes: mpl.axes.Axes, replay: Replay, arm: Arm, text: str) -> None:
    """Draw an arm from its departure on, over the run."""
    colour = OUTCOME_COLOURS[arm.outcome]
    for window, first, shade, width in (
        (replay.window, 0, GREY, 0.9),
        (arm.window, replay.step - arm.window.first, colour, 1.3),
    ):
        steps = range(window.first + first, window.first + len(window.loss))
        axes.plot(steps, window.loss[first:], color=shade, lw=width)
    axes.axvline(replay.step, color="black", lw=0.7, ls=":")
    axes.set_yscale("log")
    axes.set_title(f"{text}:\n", loc="left", fontsize=8)
    axes.text(0, 1.02, f"the spike {arm.outcome}", transform=axes.transAxes, color=colour, weight="bold", fontsize=8)
    axes.set_xlabel("step")


def main() -> None:
    """Draw the first replayed spike of RESULTS."""
    replay = read_replays(RESULTS)[0]
    save_as(draw(replay), PICTURE)
    print(f"{replay.run}, step {replay.onset}: " + ", ".join(f"{arm.name} {arm.outcome}" for arm in replay.arms))


if __name__ == "__main__":
    main()
