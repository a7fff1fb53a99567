"""Collects the figures that these records allow."""

from collections.abc import Sequence

from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.shock_tables import Pair
from s3bench.report.figures import style
from s3bench.report.figures.captions import Drawing, file_name
from s3bench.report.figures.overview import loss_drawing, multiplier_drawings, target_drawings
from s3bench.report.figures.paper import paper_drawings
from s3bench.report.figures.shocks import shock_drawings


def drawings(runs: Sequence[Run], pairs: Sequence[Pair]) -> dict[str, Drawing]:
    """All figures of what has a result, by name; none if nothing has.

    Args:
        runs: the undisturbed ones.
        pairs: the shocked ones, see shocks.paired.
    """
    looks = style.looks(sorted({run.row["optimizer"] for run in [*runs, *(pair.run for pair in pairs)]}))
    with_result = [run for run in runs if run.has_result]
    made: dict[str, Drawing] = {}
    if with_result:
        made |= multiplier_drawings(with_result, looks)
        made |= target_drawings(with_result, looks)
        made |= paper_drawings(with_result, looks)
        for task, group in grouped(with_result, "task").items():
            made[f"loss_{file_name(task)}"] = loss_drawing(task, group, looks)
    return made | shock_drawings(pairs, looks)
