"""Makes a Weights & Biases workspace and a report for runs of tracker=wandb; docs/dashboards.md shows them.

python scripts/wandb_dashboard.py --entity TEAM --project s3bench --experiment quickstart
python scripts/wandb_dashboard.py --experiment quickstart --json dashboard.json    nothing is sent
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from s3bench.errors import UserError, one_line, unknown
from s3bench.run.tracking import PICTURES

try:
    import wandb
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
except ModuleNotFoundError:
    print("a dashboard needs wandb-workspaces: pip install 's3bench[dashboards]'", file=sys.stderr)
    raise SystemExit(2) from None

GROUPING = ("names.task", "names.optimizer", "lr_multiplier")  # of the runs; what is left in a group are the seeds
MOST = 100  # groups that a panel shows; wandb's own 10 are fewer than a sweep has
COLUMNS = 3  # panels beside each other in the workspace; the package sets as many in the report


def sections() -> dict[str, list[Any]]:
    """The panels by section; where a panel names no grouping of its own, it follows that of the runs."""
    return {
        "Training loss": [
            _lines("Loss: median and range of the seeds", "train/loss"),
            _lines("Least and largest loss of ten steps", "train/loss_min", "train/loss_max"),
            _lines(
                "Loss by optimizer, all multipliers that are shown", "train/loss", groupby=wr.Config("names.optimizer")
            ),
        ],
        "Spike rates": [
            _bars("Spikes per 10,000 steps", "spikes_per_10k"),
            _bars(
                "Spikes per 10,000 steps by optimizer, all multipliers that are shown",
                "spikes_per_10k",
                groupby=wr.Config("names.optimizer"),
            ),
            _against_multiplier("Spikes per 10,000 steps against the multiplier", "spikes_per_10k"),
        ],
        "Learning-rate sensitivity": [
            _against_multiplier("Final loss on held-out data against the multiplier", "eval/loss", log_y=True),
            _sensitivity(),
        ],
        "Update sizes": [
            _lines("Root mean square of the update", "train/update_rms"),
            _lines("Largest coordinate of the update", "train/update_max"),
            _lines("Share of coordinates above 1", "train/update_above_1", log_y=False),
        ],
        "Evaluations": [
            _lines("Loss on held-out data", "eval/loss"),
            _lines("All metrics", log_y=False, metric_regex="eval/.*"),
        ],
        "Spikes": [_picture(number) for number in range(1, PICTURES + 1)],
    }


def workspace(entity: str, project: str, experiment: str | None) -> ws.Workspace:
    """The panels as a workspace: beside them is the table of the runs, where their grouping and filter are changed."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_name(experiment),
        sections=[
            ws.Section(
                name=title,
                panels=panels,
                is_open=True,
                layout_settings=ws.SectionLayoutSettings(columns=COLUMNS, rows=-(-len(panels) // COLUMNS)),
            )
            for title, panels in sections().items()
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=MOST),
        runset_settings=ws.RunsetSettings(filters=_filters(experiment), groupby=[ws.Config(key) for key in GROUPING]),
    )


def report(entity: str, project: str, experiment: str | None) -> wr.Report:
    """The panels as a report: a page for somebody else, each section with its own table of the runs."""
    blocks: list[Any] = []
    for title, panels in sections().items():
        runs = wr.Runset(  # without a project of its own: the report's
            name=experiment or "Runs",
            filters=_filters(experiment),
            groupby=[f"config.{key}" for key in GROUPING],
        )
        blocks += [wr.H2(title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(entity=entity, project=project, title=_name(experiment), blocks=blocks, width="fluid")


def _name(experiment: str | None) -> str:
    return f"s3bench {experiment or 'all experiments'}"


def _filters(experiment: str | None) -> list[Any]:
    """The runs of an experiment: tracking.py names their group after it."""
    if experiment is None:
        return []
    if not re.fullmatch(r"[\w./-]+", experiment):  # the package writes it into an expression, unescaped
        raise UserError(f"--experiment is {experiment!r}; a name has letters, digits and _ - . / alone")
    return [ws.Metric("Group") == experiment]


def specification(view: Any) -> dict[str, Any]:
    """What is sent for a workspace or report, by the package's own model of it; the ids are new each time."""
    model = view._to_model()
    spec = model.spec.model_dump_json(by_alias=True, exclude_none=True)
    return {"displayName": model.display_name, "spec": json.loads(spec)}


def _lines(title: str, *metrics: str, log_y: bool = True, **settings: Any) -> wr.LinePlot:
    """Metrics over the steps; no smoothing, and of many points the extremes stay, for a spike must not vanish."""
    return wr.LinePlot(
        title=title,
        x="step",
        y=list(metrics),
        log_y=log_y,
        groupby_aggfunc="median",
        groupby_rangefunc="minmax",
        smoothing_type="none",
        point_visualization_method="bucketing-gorilla",
        max_runs_to_show=MOST,
        **settings,
    )


def _bars(title: str, metric: str, **settings: Any) -> wr.BarPlot:
    """The mean of a summary's value over a group, and its range."""
    return wr.BarPlot(
        title=title,
        metrics=[metric],
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST,
        max_bars_to_show=MOST,
        **settings,
    )


def _against_multiplier(title: str, metric: str, log_y: bool = False) -> wr.ScatterPlot:
    """A point for each run."""
    return wr.ScatterPlot(
        title=title, x=wr.Config("lr_multiplier"), y=wr.SummaryMetric(metric), log_x=True, log_y=log_y
    )


def _sensitivity() -> wr.ParallelCoordinatesPlot:
    """A line for each run, from its settings to what came of it."""
    return wr.ParallelCoordinatesPlot(
        title="From optimizer, multiplier and seed to loss and spikes",
        columns=[
            wr.ParallelCoordinatesPlotColumn(wr.Config("names.optimizer")),
            wr.ParallelCoordinatesPlotColumn(wr.Config("lr_multiplier"), log=True),
            wr.ParallelCoordinatesPlotColumn(wr.Config("seed")),
            wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("eval/loss"), log=True),
            wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("spikes_per_10k")),
        ],
    )


def _picture(number: int) -> wr.LinePlot:
    """The loss around a spike of each run, not grouped: they lie at different steps."""
    return wr.LinePlot(
        title=f"Spike {number} of each run",
        x=f"spikes/{number}/step",
        y=[f"spikes/{number}/loss"],
        log_y=True,
        groupby="None",
        aggregate=False,
        smoothing_type="none",
        point_visualization_method="bucketing-gorilla",
    )


def save(chosen: argparse.Namespace, views: dict[str, Any]) -> None:
    """Send both; the package prints where they are. Raises UserError where the server has no such project."""
    projects = [project.name for project in wandb.Api().projects(chosen.entity)]
    if chosen.project not in projects:  # the package would make a new one
        raise unknown("project", chosen.project, projects)
    for view in views.values():
        view.save()


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when it is made, 1 when wandb refuses, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", help="account or team whose project it is")
    parser.add_argument("--project", default="s3bench", help="as in tracker.project (default: %(default)s)")
    parser.add_argument("--experiment", help="the runs of this one only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the specification there, send nothing")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.entity is None and chosen.json is None:
            raise UserError("--entity is missing: the account or team whose project it is (wandb.ai/ENTITY/PROJECT)")
        views = {
            "workspace": workspace(chosen.entity or "", chosen.project, chosen.experiment),
            "report": report(chosen.entity or "", chosen.project, chosen.experiment),
        }
        if chosen.json is None:
            save(chosen, views)
        else:
            text = json.dumps({name: specification(view) for name, view in views.items()}, indent=2)
            chosen.json.write_text(text + "\n", encoding="utf-8")
    except Exception as error:  # wandb's errors have no base class in common
        if os.environ.get("S3BENCH_DEBUG"):
            raise
        print(f"wandb_dashboard: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
