"""Makes a Weights & Biases workspace and a report for runs of tracker=wandb; docs/dashboards.md shows them.

python scripts/wandb_dashboard.py --entity TEAM --project s3bench --experiment quickstart
python scripts/wandb_dashboard.py --experiment quickstart --json dashboard.json    sends nothing
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

GROUPING = ("names.task", "names.optimizer", "lr_multiplier")  # of the runs; a group then holds the seeds
MAX_GROUPS = 100  # groups or runs that a panel shows; wandb's default of 10 is too few for a sweep
COLUMNS = 3  # panels side by side in the workspace, as many as the package puts in a report


def sections() -> dict[str, list[Any]]:
    """Return the panels by section. A panel without a grouping of its own follows that of the runs."""
    return {
        "Training loss": [
            _lines("Loss: median and range of the seeds", "train/loss"),
            _lines("Smallest and largest loss of ten steps", "train/loss_min", "train/loss_max"),
            _lines("Loss by optimizer, all multipliers shown", "train/loss", groupby=wr.Config("names.optimizer")),
        ],
        "Spike rates": [
            _bars("Spikes per 10,000 steps", "spikes_per_10k"),
            _bars(
                "Spikes per 10,000 steps by optimizer, all multipliers shown",
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
    """Return the panels as a workspace, with the table of the runs beside them to change grouping and filter."""
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
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=MAX_GROUPS),
        runset_settings=ws.RunsetSettings(filters=_filters(experiment), groupby=[ws.Config(key) for key in GROUPING]),
    )


def report(entity: str, project: str, experiment: str | None) -> wr.Report:
    """Return the panels as a report: a page to share, with a table of the runs in each section."""
    blocks: list[Any] = []
    for title, panels in sections().items():
        runs = wr.Runset(  # without a project: the report's
            name=experiment or "Runs",
            filters=_filters(experiment),
            groupby=[f"config.{key}" for key in GROUPING],
        )
        blocks += [wr.H2(title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(entity=entity, project=project, title=_name(experiment), blocks=blocks, width="fluid")


def _name(experiment: str | None) -> str:
    return f"s3bench {experiment or 'all experiments'}"


def _filters(experiment: str | None) -> list[Any]:
    """Return the filter for the runs of an experiment, after which the tracker names their group."""
    if experiment is None:
        return []
    if not re.fullmatch(r"[\w./-]+", experiment):  # the package puts it into an expression, unescaped
        raise UserError(f"--experiment is {experiment!r}; a name may have only letters, digits and _ - . /")
    return [ws.Metric("Group") == experiment]


def specification(view: Any) -> dict[str, Any]:
    """Return what is sent for a workspace or report, by the package's own model of it. Its ids are new at each call."""
    model = view._to_model()
    spec = model.spec.model_dump_json(by_alias=True, exclude_none=True)
    return {"displayName": model.display_name, "spec": json.loads(spec)}


def _lines(title: str, *metrics: str, log_y: bool = True, **settings: Any) -> wr.LinePlot:
    """Return a panel of metrics over the steps. Extremes are kept and nothing is smoothed, or spikes would vanish."""
    return wr.LinePlot(
        title=title,
        x="step",
        y=list(metrics),
        log_y=log_y,
        groupby_aggfunc="median",
        groupby_rangefunc="minmax",
        smoothing_type="none",
        point_visualization_method="bucketing-gorilla",
        max_runs_to_show=MAX_GROUPS,
        **settings,
    )


def _bars(title: str, metric: str, **settings: Any) -> wr.BarPlot:
    """Return a panel with the mean and the range of a summary's value in each group."""
    return wr.BarPlot(
        title=title,
        metrics=[metric],
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MAX_GROUPS,
        max_bars_to_show=MAX_GROUPS,
        **settings,
    )


def _against_multiplier(title: str, metric: str, log_y: bool = False) -> wr.ScatterPlot:
    """Return a panel with a point for each run."""
    return wr.ScatterPlot(
        title=title, x=wr.Config("lr_multiplier"), y=wr.SummaryMetric(metric), log_x=True, log_y=log_y
    )


def _sensitivity() -> wr.ParallelCoordinatesPlot:
    """Return a panel with a line for each run, from its settings to its results."""
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
    """Return a panel with the loss around one spike of each run, not grouped: the spikes are at different steps."""
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
    """Send both views; the package prints their addresses. Raises UserError if the server does not have the project."""
    projects = [project.name for project in wandb.Api().projects(chosen.entity)]
    if chosen.project not in projects:  # the package would create it
        raise unknown("project", chosen.project, projects)
    for view in views.values():
        view.save()


def main(arguments: list[str] | None = None) -> int:
    """Make the views; return the exit code: 0 when done, 1 if wandb refuses, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", help="account or team that owns the project")
    parser.add_argument("--project", default="s3bench", help="as in tracker.project (default: %(default)s)")
    parser.add_argument("--experiment", help="show only the runs of this experiment")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the specification to this file, and send nothing"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.entity is None and chosen.json is None:
            raise UserError("--entity is missing: the account or team that owns the project (wandb.ai/ENTITY/PROJECT)")
        views = {
            "workspace": workspace(chosen.entity or "", chosen.project, chosen.experiment),
            "report": report(chosen.entity or "", chosen.project, chosen.experiment),
        }
        if chosen.json is None:
            save(chosen, views)
        else:
            text = json.dumps({name: specification(view) for name, view in views.items()}, indent=2)
            chosen.json.write_text(text + "\n", encoding="utf-8")
    except Exception as error:  # wandb's errors share no base class
        if os.environ.get("S3BENCH_DEBUG"):
            raise
        print(f"wandb_dashboard: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
