"""Holds what a figure is before it is drawn: what it needs, how it is drawn, and its caption with n, task and scale."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from s3bench.report.analysis.loss_curve import TREND_STEPS
from s3bench.report.analysis.runs import Run, grouped

DRAWN = 10  # seeds at most in a panel of all loss curves
A_RESULT = "a run with a result"
AT_BEST = "two multipliers and, at each, two seeds with a result"  # else no rate is picked on the other seeds
ABLATION = "with another order p, with another β in the denominator, and without the look-ahead"
SEEDS = "small markers are single seeds"
INTERVALS = f"the mean over the seeds, with its 95% bootstrap interval if there are six or more; {SEEDS}"
LOSSES = f"""the raw training loss of every step and its running median over {TREND_STEPS} steps, one line per seed.
    ▼ marks a spike's peak (at the upper edge if the peak is above it), a dotted line where a run diverged"""
ROWS = "Rows are learning-rate multipliers"
LIFTED = "Lines are lifted a little so that none hides another"

UNKNOWN = "its model, its steps and its number of seeds are not known here; those of this figure stand at the end"

BECAME = """What became of the spike is judged from there to the arm's end by the detector ({detector}):
    vanished, no spike begins; smaller, the highest one is at most half as high as the run's; delayed, one more than
    half as high begins, the first more than 20 steps after the run's onset; persisted, anything else, and any
    spike within which the arm diverged"""

# What a figure needs, by its name, or by the beginning of its name if each task has one
NEEDS = {
    "fig2": "a spike at step 30 or later in a run with measure_every=1",
    "fig5": f"S3 on one task {ABLATION}",
    "ablation": f"S3 on one task {ABLATION}, each with {AT_BEST}",
    "fig6": "AdamW with equal betas",
    "horizons": f"a task at two horizons, each with {AT_BEST}",
    "rate": f"a task at two horizons whose evaluations have the true gradient's norm, each with {AT_BEST}",
    "sensitivity": "a seed with a result at every multiplier of its optimizer, at two or more",
    "final_loss": A_RESULT,
    "spike_rate": A_RESULT,
    "steps_to_target": f"{A_RESULT} on a task with a target",
    "reached": f"a task with a target, {AT_BEST}",
    "profile": f"two tasks with targets that were reached, each with {AT_BEST}",
    "loss": A_RESULT,
    "shock": "a shocked run with its undisturbed twin",
    "bounds": "an optimizer with several pairs of betas on one task, whose largest step is known",
    "thresholds": "a ramp with a result, see docs/ramp.md",
    "verdicts": "blocks of s3bench decide",
    "replay": "a spike that was replayed, see s3bench replay",
    "replay_outcomes": "a spike that was replayed, see s3bench replay",
}
CAPTIONS = {
    "fig2": f"""Updates and loss around the onsets of spikes (step 0): medians over the spikes, with bands from the
    first to the third quartile. The size of an update is its root mean square, divided by the median from 50 to 10
    steps before the onset; the loss is less its median there. All learning rates together, and only spikes before which
    every update was measured. {{spikes}}. The paper's Figure 2 shows the mean size of updates beside the training loss;
    {UNKNOWN}.""",
    "fig5": f"""{{task}}: every row of the ablation of S3 at the learning rate {{lr:g}} (×{{multiplier:g}}), the one in
    its grid that is nearest to the paper's {{paper:g}}. Each panel shows {LOSSES}. Another β: the denominator has a
    different one. Equal learning rates are not equal step sizes across p. The paper's Figure 5 shows some of these
    rows; {UNKNOWN}.""",
    "ablation": f"""The ablation of S3: final evaluation losses against the order p, with one β for both averages or
    another one in the denominator, with look-ahead or without. Each variant is at its own best learning rate, picked on
    other seeds. Shown is {INTERVALS}.""",
    "fig6": f"""{{task}}: AdamW with betas (.9, .999), (.9, .95) and (.95, .95), as far as there are runs. Each panel
    shows {LOSSES}. {ROWS}. The paper's Figure 6 shows Adam with equal betas; {UNKNOWN}.""",
    "horizons": f"""Final evaluation losses against the horizon. Every horizon has its own runs with a full schedule,
    and every optimizer its own best learning rate at each, picked on other seeds. Shown is {INTERVALS}. A gap means
    that a run diverged.""",
    "rate": f"""The smallest norm of the true gradient at any evaluation of a run of T steps, against T, at each
    optimizer's best learning rate for T, picked on other seeds by the final loss. Shown is {INTERVALS}. The dashed line
    has the claim's slope, -1/4.""",
    "sensitivity": f"""Learning-rate sensitivity: the mean of the final losses over the multipliers, each at most the
    loss at initialisation, less the lowest. Only optimizers that have all these multipliers are compared. Shown is
    {INTERVALS}.""",
    "final_loss": f"""Loss of the last evaluation, on held-out data or, where the task is to memorise, on what it trains
    on: the mean over the seeds, with bars from the smallest to the largest; {SEEDS}. A gap means that a seed
    diverged.""",
    "spike_rate": "Spikes per 10,000 steps, with exact 95% Poisson intervals.",
    "steps_to_target": f"""Median steps to the target, with bars from the first seed that reached it to the last;
    {SEEDS}.""",
    "reached": f"""Runs that have reached the target (Kaplan-Meier), each optimizer at its own best learning rate.
    {LIFTED}.""",
    "profile": f"""Performance profile: the share of tasks and seeds in which an optimizer reaches the main target
    within a factor of the fastest optimizer's steps. All tasks have the same weight. {LIFTED}. Shaded are 95% intervals
    by bootstrap over the seeds within each task, if each has six or more.""",
    "loss": f"{{task}}, at most {DRAWN} seeds of each cell: {LOSSES}. {ROWS}.{{left_out}}",
    "shock": f"""{{task}}: response to a shock, the mean over the seeds, with bars and bands from the smallest to the
    largest; {SEEDS}. Kinds with a single shock stand side by side. In brackets is the largest step that the update rule
    allows, in units of lr.""",
    "bounds": """{task}: the largest measured update of any coordinate, less what weight decay can have added,
    beside the largest that the rule allows for any gradients up to the last update. One optimizer has several pairs of
    betas.""",
    "thresholds": f"""Ramps: the learning-rate multiplier at which the training loss left, the geometric mean over the
    seeds with its 95% interval (Student's, of the logarithms); {SEEDS}. An open arrowhead is a run of which only a
    bound is known: it never left (to the right), or left before the rate had grown (to the left); then there is no
    mean.""",
    "verdicts": """How the intervals of the claims narrowed (docs/decide.md): the mean over the blocks so far, and the
    interval that holds after every block at once, of the comparison that supports the claim least. The claim holds
    below the dashed line; the dotted line is no effect. What lies outside a panel is drawn at its edge.""",
    "replay": f"""{{task}}: the highest replayed spike of {{optimizer}}, which begins at step {{onset:,}} and has the
    height {{height}}. The run was trained again to {{lead}} steps before the onset (dotted line), and on from there
    once per arm, with one thing changed. Above, on the left: same, in which nothing is changed, and placebo, whose
    parameters are changed by next to nothing; on the right: the size of the updates without a change. Below: each arm
    in colour, over the run in grey; a red dotted line is where its loss was no longer finite. {BECAME}.""",
    "replay_outcomes": f"""What became of {{spikes}} when the run was trained again to shortly before the spike and on
    from there, once per arm, with one thing changed. Of the share that vanished, the exact 95% interval is on the
    right; spikes of one run are not independent, so it is too narrow where a run has several. same: nothing is changed.
    placebo: the parameters are changed by next to nothing; what it prevents, chance does. {BECAME}.""",
}


class Drawing(NamedTuple):
    """A figure that is not drawn yet, with its caption."""

    caption: str
    draw: Callable[[], Figure]


def caption(name: str, runs: Sequence[Run], **facts: Any) -> str:
    """Return the caption of a figure of these runs, on one line; its last sentence has n, the tasks and their scale."""
    return f"{' '.join(CAPTIONS[name].split()).format(**facts)} {about(runs)}"


def about(runs: Sequence[Run]) -> str:
    """Return "n: digits_vit, 48 runs, 8 seeds (26,538 parameters, 300 steps, scale laptop).", the runs of a figure."""
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
    """Return a number with its noun: "1 seed", "2 seeds"."""
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def file_name(text: str) -> str:
    """Return a label as part of a file name."""
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)
