"""Collects the figures that these records allow."""

from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import grouped
from s3bench.report.figures import style
from s3bench.report.figures.bounds import bound_drawings
from s3bench.report.figures.captions import Drawing, file_name
from s3bench.report.figures.overview import loss_drawing, multiplier_drawings, target_drawings
from s3bench.report.figures.paper import paper_drawings
from s3bench.report.figures.replays import replay_drawings
from s3bench.report.figures.shocks import shock_drawings
from s3bench.report.figures.thresholds import threshold_drawings


def drawings(results: Results) -> dict[str, Drawing]:
    """Return all figures that these results allow, by name; none if no run has a result."""
    shown = [*results.runs, *results.ramps, *(pair.run for pair in results.pairs)]
    looks = style.looks(sorted({run.optimizer_label for run in shown}))
    made: dict[str, Drawing] = {}
    if results.with_result:
        made |= multiplier_drawings(results, looks)
        made |= target_drawings(results, looks)
        made |= paper_drawings(results, looks)
        for task, group in grouped(results.with_result, "task_label").items():
            made[f"loss_{file_name(task)}"] = loss_drawing(task, group, looks)
    found = made | threshold_drawings(results, looks) | shock_drawings(results.pairs, looks) | bound_drawings(results)
    return found | replay_drawings(results.replays, shown)
