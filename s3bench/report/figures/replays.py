"""The figures of replays: which spike is drawn, in which order its arms are, and the counts of all spikes."""

import math
from collections.abc import Sequence
from functools import partial

from s3bench.report.analysis.replays import OUTCOMES, PLACEBO, SAME, Arm, Replay, arm_table
from s3bench.report.analysis.runs import Run
from s3bench.report.figures import replay_plots
from s3bench.report.figures.captions import Drawing, caption, count, file_name

APART = (SAME, PLACEBO)  # the arms that change nothing that means anything


def replay_drawings(replays: Sequence[Replay], runs: Sequence[Run]) -> dict[str, Drawing]:
    """Return the figure of all outcomes, and for each task and optimizer that of its highest spike; none of none.

    `runs`: those of the results folder, shocked ones included.
    """
    if not replays:
        return {}
    groups = _by_optimizer(replays)
    tasks = [task for task, _ in groups]
    drawn = {"replay_outcomes": _outcomes(replays, _of(replays, runs))}
    for (task, optimizer), group in groups.items():
        name = task if tasks.count(task) == 1 else f"{task} {optimizer}"
        drawn[f"replay_{file_name(name)}"] = _one_spike(max(group, key=_height), runs)
    return drawn


def _by_optimizer(replays: Sequence[Replay]) -> dict[tuple[str, str], list[Replay]]:
    groups: dict[tuple[str, str], list[Replay]] = {}
    for replay in replays:
        groups.setdefault((replay.task, replay.optimizer), []).append(replay)
    return groups


def _height(replay: Replay) -> tuple[bool, float]:
    """Return the order of spikes by height; those within which the run diverged come last."""
    return math.isfinite(replay.window.height), replay.window.height


def _of(replays: Sequence[Replay], runs: Sequence[Run]) -> list[Run]:
    """Return the runs that were replayed."""
    replayed = {replay.run for replay in replays}
    return [run for run in runs if run.folder.name in replayed]


def _one_spike(replay: Replay, runs: Sequence[Run]) -> Drawing:
    of = _of([replay], runs)
    height = f"{replay.window.height:.3g}" if math.isfinite(replay.window.height) else "infinite"
    facts = {"task": replay.task, "optimizer": replay.optimizer, "onset": replay.onset, "height": height}
    facts |= {"lead": replay.onset - replay.step, "detector": _detectors(of)}
    arms = sorted((arm for arm in replay.arms if arm.name not in APART), key=_by_outcome)
    return Drawing(caption("replay", of, **facts), partial(replay_plots.one_spike, replay, arms))


def _by_outcome(arm: Arm) -> tuple[int, float, str]:
    return OUTCOMES.index(arm.outcome), arm.window.height, arm.name


def _detectors(runs: Sequence[Run]) -> str:
    """Return the parameters of the detector, of each task."""
    found = {run.task: run.detector for run in runs}
    texts = {task: ", ".join(f"{key} = {value}" for key, value in found[task].items()) for task in found}
    return "; ".join(texts.values() if len(texts) == 1 else [f"{task}: {text}" for task, text in texts.items()])


def _outcomes(replays: Sequence[Replay], runs: Sequence[Run]) -> Drawing:
    panels = {}
    for (task, optimizer), group in _by_optimizer(replays).items():
        bars = [
            replay_plots.Bar(
                name=row["arm"],
                counts=[row[outcome] for outcome in OUTCOMES],
                interval=(row["share_low"], row["share_high"]),
            )
            for row in arm_table(group).to_dict("records")
        ]
        panels[f"{task}, {optimizer}: {_counted(group)}"] = sorted(bars, key=_by_success)
    facts = {"spikes": _counted(replays), "detector": _detectors(runs)}
    return Drawing(caption("replay_outcomes", runs, **facts), partial(replay_plots.outcomes, panels))


def _counted(replays: Sequence[Replay]) -> str:
    return f"{count(len(replays), 'spike')} of {count(len({replay.run for replay in replays}), 'run')}"


def _by_success(bar: replay_plots.Bar) -> tuple[object, ...]:
    """Return the order of bars: the unchanged arm, the placebo, then those with which the largest shares vanished."""
    n = sum(bar.counts)
    return bar.name != SAME, bar.name != PLACEBO, *(-count / n for count in bar.counts), bar.name
