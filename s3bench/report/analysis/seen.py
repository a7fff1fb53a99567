"""Says in one line what the records show: who spiked, at which rate losses left, and what became of replayed spikes."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from s3bench.report.analysis.replays import PLACEBO, SAME, Replay
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.thresholds import threshold_table

MOST = 6  # tasks, and optimizers of a task, that the line names
EARLY = 0.05  # of the horizon: spikes that begin there are counted apart, or not at all


def seen(results: Results) -> str:
    """Return the line. Where a task has runs at its tuned learning rate, only the spikes of those count."""
    tasks = [_of_task(task, group) for task, group in grouped(results.with_result, "task_label").items()]
    ramps = _of_ramps(results)
    return ". ".join([*tasks[:MOST], *ramps[:MOST], *_of_replays(results.replays)]) or "No run is over"


def _of_task(task: str, runs: Sequence[Run]) -> str:
    tuned = [run for run in runs if run.lr_multiplier == 1]
    counts = [
        f"{optimizer} in {sum(map(_is_spiky, own))} of {len(own)} runs{_highest(own)}"
        for optimizer, own in grouped(tuned or runs, "optimizer_label").items()
    ]
    others = f" and {len(counts) - MOST} other optimizers" if len(counts) > MOST else ""
    where = f"after the first {EARLY:.0%} of the steps on {task}{' at ×1' if tuned else ''}"
    return f"Spikes {where}: {', '.join(counts[:MOST])}{others}"


def _late(run: Run) -> list[float]:
    return [spike.height for spike in run.spikes if spike.onset >= EARLY * run.horizon]


def _is_spiky(run: Run) -> bool:
    return bool(_late(run)) or run.has_diverged


def _highest(runs: Sequence[Run]) -> str:
    """Return the height of the highest late spike in parentheses; nothing if there is none."""
    heights = [height for run in runs for height in _late(run)]
    if not heights:
        return ""
    return f" (up to +{max(heights):.3g})" if all(map(math.isfinite, heights)) else " (not finite)"


def _of_ramps(results: Results) -> list[str]:
    """Return for each task with ramps the rates at which losses left."""
    lines = []
    for task, rows in threshold_table(results).groupby("task", sort=False):
        found = [f"{row['optimizer']} {_rate(row)}" for row in rows.to_dict("records")]
        others = f" and {len(found) - MOST} other optimizers" if len(found) > MOST else ""
        lines.append(f"Thresholds on {task}: {', '.join(found[:MOST])}{others}")
    return lines


def _rate(row: Mapping[Hashable, Any]) -> str:
    least, most = row["threshold_least"], row["threshold_most"]
    if least == most:
        return f"×{least:.3g}"
    return f"above ×{least:.3g}" if least > 0 else f"at most ×{most:.3g}" if math.isfinite(most) else "unknown"


def _of_replays(replays: Sequence[Replay]) -> list[str]:
    """Return which arms prevented all replayed spikes."""
    outcomes: dict[str, list[bool]] = {}
    for replay in replays:
        for arm in replay.arms:
            outcomes.setdefault(arm.name, []).append(arm.outcome == "vanished")
    if not outcomes:
        return []
    always = [name for name, vanished in outcomes.items() if all(vanished)]
    others = [name for name in outcomes if name not in (*always, SAME, PLACEBO)]
    count = "the replayed spike" if len(replays) == 1 else f"all {len(replays)} replayed spikes"
    prevented = f"These prevented {count}: {', '.join(always)}" if always else f"Nothing prevented {count}"
    return [f"{prevented}; these did not: {', '.join(others)}" if others else prevented]
