"""A figure before it is drawn: what it needs, what draws it, and its caption, which says n, task and scale."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from s3bench.report.analysis.loss_curve import TREND_STEPS
from s3bench.report.analysis.runs import Run, grouped

DRAWN = 10  # seeds at most in a panel of all loss curves
A_RESULT = "a run with a result"
AT_BEST = "two multipliers, and two seeds with a result at each"  # else none is picked on the other seeds
ABLATION = "with another order p, with another β in the denominator, and without the look-ahead"
INTERVALS = "mean over the seeds with its 95% bootstrap interval from six seeds on, small markers single seeds"
LOSSES = f"""the raw training loss of every step and its running median over {TREND_STEPS} steps, each seed a line;
    ▼ marks a spike's peak (at the upper edge if it lies above), a dotted line where a run diverged"""
LIFTED = "lines are lifted a little so that none hides another"

# What a figure needs, by its name, or by what its name begins with where each task has one.
NEEDS = {
    "fig2": "a spike at step 30 or later in a run with measure_every=1",
    "fig5": f"S3 on one task {ABLATION}",
    "ablation": f"S3 on one task {ABLATION}; of each {AT_BEST}",
    "same_beta": "AdamW with equal betas",
    "horizons": f"a task at two horizons; at each {AT_BEST}",
    "rate": f"a task at two horizons whose evaluations have the true gradient's norm; at each {AT_BEST}",
    "sensitivity": "a seed with a result at two multipliers, and at every one of its optimizer's",
    "final_loss": A_RESULT,
    "spike_rate": A_RESULT,
    "steps_to_target": f"{A_RESULT} on a task with a target",
    "reached": f"a task with a target, and {AT_BEST}",
    "profile": f"two tasks with targets that were reached, and {AT_BEST}",
    "loss": A_RESULT,
    "shock": "a shocked run with its undisturbed twin",
}
CAPTIONS = {
    "fig2": """Updates and loss around the onsets of spikes, at step 0: medians over spikes, bands from the first to the
    third quartile. Size: the root mean square of the update over its median from 50 to 10 steps before; the loss less
    its median there. All learning rates together; only spikes before which every update was measured. {spikes}.""",
    "fig5": f"""{{task}}: every row of the ablation of S3 at the learning rate {{lr:g}} (×{{multiplier:g}}), of its
    grid the nearest to the paper's {{paper:g}}: {LOSSES}. Another β: that of the denominator differs.
    Equal learning rates are not equal step sizes across p.""",
    "ablation": f"""The ablation of S3: final held-out losses over the order p, with one β for both averages or
    another one in the denominator, with look-ahead or without, each at its own best learning rate, picked on other
    seeds: {INTERVALS}.""",
    "same_beta": f"""{{task}}: AdamW with betas (.9, .999), (.9, .95) and (.95, .95), as far as there are runs:
    {LOSSES}; rows are learning-rate multipliers.""",
    "horizons": f"""Final held-out losses against the horizon. Every horizon has its own runs and full schedule, every
    optimizer its own best learning rate at each, picked on other seeds: {INTERVALS}; a gap where a run diverged.""",
    "rate": f"""The smallest norm of the true gradient at any evaluation of a run of T steps, against T, at each
    optimizer's best learning rate for T, picked on other seeds by the final loss: {INTERVALS}. Dashed: the claim's
    slope, -1/4.""",
    "sensitivity": f"""Learning-rate sensitivity: the mean over the multipliers of the final loss, at most that at
    initialisation, less the lowest; only optimizers that have all these multipliers: {INTERVALS}.""",
    "final_loss": """Last held-out loss: mean over the seeds, bars from the smallest to the largest, small markers
    single seeds; a gap where a seed diverged.""",
    "spike_rate": "Spikes per 10,000 steps with exact 95% Poisson intervals.",
    "steps_to_target": """Median steps to the target, bars from the first seed to the last that reached it, small
    markers single seeds.""",
    "reached": f"""Runs that have reached the target (Kaplan-Meier), each optimizer at its own best learning rate;
    {LIFTED}.""",
    "profile": f"""Performance profile: the share of tasks and seeds in which an optimizer reaches the main target
    within a factor of the fastest optimizer's steps; tasks weigh the same; {LIFTED}. Shaded: 95% intervals by
    bootstrap over the seeds within each task, where each has six or more.""",
    "loss": f"{{task}}, at most {DRAWN} seeds of each cell: {LOSSES}; rows are learning-rate multipliers.",
    "shock": """{task}: response to a shock, mean over the seeds, bars and bands from the smallest to the largest, small
    markers single seeds. In brackets the largest step that the update rule allows, in lr.""",
}


class Drawing(NamedTuple):
    """What draws a figure, and its caption."""

    caption: str
    draw: Callable[[], Figure]


def caption(name: str, runs: Sequence[Run], **facts: Any) -> str:
    """The caption of a figure of these runs, on one line; its last sentence says n, the tasks and their scale."""
    return f"{' '.join(CAPTIONS[name].split()).format(**facts)} {about(runs)}"


def about(runs: Sequence[Run]) -> str:
    """What a figure stands on: "n: digits_vit, 48 runs, 8 seeds (26,538 parameters, 300 steps, scale laptop)."."""
    return f"n: {'; '.join(_about(task, group) for task, group in grouped(runs, 'ladder').items())}."


def _about(task: str, runs: Sequence[Run]) -> str:
    parameters = sorted({run.parameters for run in runs if run.parameters is not None})
    horizons = sorted({run.horizon for run in runs})
    scales = sorted({scale for run in runs if (scale := run.config.get("scale"))})
    facts = [f"{size:,} parameters" for size in parameters]
    facts.append(f"{' to '.join(f'{end:,}' for end in dict.fromkeys((horizons[0], horizons[-1])))} steps")
    facts += [f"scale {', '.join(scales)}"] if scales else []
    seeds = len({run.seed for run in runs})
    return f"{task}, {count(len(runs), 'run')}, {count(seeds, 'seed')} ({', '.join(facts)})"


def count(number: int, thing: str) -> str:
    """A number of things: "1 seed", "2 seeds"."""
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def file_name(text: str) -> str:
    """A label as part of a file's name."""
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)
