"""Makes a Weights & Biases workspace and a report for runs of tracker=wandb; docs/dashboards.md shows them.

python scripts/wandb_dashboard.py --entity TEAM --project s3bench --experiment quickstart
python scripts/wandb_dashboard.py --entity TEAM --experiment ramp --results results/ramp    with its answers
python scripts/wandb_dashboard.py --experiment quickstart --json dashboard.json    sends nothing
"""

import argparse
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3bench.errors import UserError, one_line, unknown
from s3bench.report.analysis.replays import arm_table
from s3bench.report.analysis.results import Results, read_results
from s3bench.report.analysis.thresholds import threshold_table
from s3bench.report.claims.decided import shown
from s3bench.report.claims.judge import standings
from s3bench.report.figures.captions import file_name
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
ENDS = ("mean", "low", "high")  # of a claim's interval
COLUMNS = 3  # panels side by side in the workspace, as many as the package puts in a report

Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What only several runs of a results folder together say, as its report says it; one more run holds it in wandb.

    Attributes:
        thresholds: by task, "threshold/TASK/OPTIMIZER": the multiplier at which the loss left, where it is known.
        replays: by task and optimizer, "replay/TASK/OPTIMIZER/ARM": the share of the spikes that vanished.
        claims: by claim and number of blocks, "claim/ID/mean", "low" and "high".
    """

    thresholds: Mapping[str, Values] = field(default_factory=dict)
    replays: Mapping[str, Values] = field(default_factory=dict)
    claims: Mapping[str, list[Values]] = field(default_factory=dict)


def read_answers(results_dir: str) -> Answers:
    """Return what a results folder says. Raises UserError as a report does."""
    results = read_results(results_dir)
    return Answers(thresholds=_thresholds(results), replays=_replays(results), claims=_claims(Path(results_dir)))


def _thresholds(results: Results) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for row in threshold_table(results).to_dict("records"):
        if math.isfinite(row["threshold"]):
            key = f"threshold/{file_name(row['task'])}/{file_name(row['optimizer'])}"
            found.setdefault(row["task"], {})[key] = row["threshold"]
    return found


def _replays(results: Results) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for row in arm_table(results.replays).to_dict("records"):
        key = f"replay/{file_name(row['task'])}/{file_name(row['optimizer'])}/{file_name(row['arm'])}"
        found.setdefault(f"{row['task']}, {row['optimizer']}", {})[key] = row["share"]
    return found


def _claims(folder: Path) -> dict[str, list[Values]]:
    """Return a row for each block so far, without ends that are infinite: wandb keeps these as texts."""
    found = {}
    for standing in standings(folder):
        claim, rows = standing.claim, []
        for mean, (low, high) in zip(standing.means, standing.path, strict=True):
            ends = zip(ENDS, (shown(claim, value) for value in (mean, low, high)), strict=True)
            rows.append({f"claim/{claim.id}/{end}": value for end, value in ends if math.isfinite(value)})
        found[claim.id] = rows
    return found


def sections(answers: Answers) -> dict[str, list[Any]]:
    """Return the panels by section. A panel without a grouping of its own follows that of the runs.

    `answers` is what a results folder says: a panel for each of its claims, tasks with ramps, and replayed optimizers.
    """
    found = {
        "Claims": [
            _interval(claim, [f"claim/{claim}/{end}" for end in ENDS], log_y=all(_is_positive(row) for row in rows))
            for claim, rows in answers.claims.items()
        ],
        "Ramps": [
            _answer(f"Multiplier at which the loss left: {task}", values) for task, values in answers.thresholds.items()
        ],
        "Replayed spikes": [
            _answer(f"Share of spikes that vanished, by arm: {name}", values)
            for name, values in answers.replays.items()
        ],
        **_of_runs(),
    }
    return {title: panels for title, panels in found.items() if panels}


def _of_runs() -> dict[str, list[Any]]:
    """Return the panels that any runs fill."""
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


def workspace(entity: str, project: str, experiment: str | None, answers: Answers) -> ws.Workspace:
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
            for title, panels in sections(answers).items()
        ],
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=MAX_GROUPS),
        runset_settings=ws.RunsetSettings(filters=_filters(experiment), groupby=[ws.Config(key) for key in GROUPING]),
    )


def report(entity: str, project: str, experiment: str | None, answers: Answers) -> wr.Report:
    """Return the panels as a report: a page to share, with a table of the runs in each section."""
    blocks: list[Any] = []
    for title, panels in sections(answers).items():
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
    """Return a panel of metrics over the steps. Nothing is smoothed, or spikes would vanish.

    The line goes through the last value of each bucket of steps; the extremes of a bucket are a shade around it.
    """
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


def _interval(claim: str, metrics: Sequence[str], log_y: bool) -> wr.LinePlot:
    """Return a panel with a claim's mean and both ends of its interval, by the number of blocks."""
    return wr.LinePlot(
        title=f"{claim}: mean and interval after each block",
        x="block",
        y=list(metrics),
        log_y=log_y,
        groupby="None",
        aggregate=False,
        smoothing_type="none",
    )


def _is_positive(row: Mapping[str, float]) -> bool:
    return all(value > 0 for value in row.values())


def _answer(title: str, metrics: Iterable[str]) -> wr.BarPlot:
    """Return a panel with a bar for each value of the run that holds the answers, which no other run has."""
    return wr.BarPlot(title=title, metrics=list(metrics), groupby="None", aggregate=False, max_bars_to_show=MAX_GROUPS)


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


def send(answers: Answers, folder: str, *, entity: str | None, project: str, group: str | None, offline: bool) -> None:
    """Send answers as a run of their own, which replaces that of an earlier call; offline as files for `wandb sync`.

    Args:
        answers: what is sent.
        folder: the results folder.
        entity, project: as of the tracker.
        group: the experiment.
        offline: write files into the folder's `wandb` instead.
    """
    name = f"answers-{file_name(Path(folder).resolve().name)}"
    for earlier in Path(folder).glob(f"wandb/offline-run-*-{name}"):
        shutil.rmtree(earlier)
    with wandb.init(
        mode="offline" if offline else "online",
        entity=entity,
        project=project,
        group=group,
        id=name,  # a run of that id is replaced
        name=name,
        job_type="answers",
        dir=folder,
        settings=wandb.Settings(quiet=True, show_info=False, console="off", disable_git=True),
    ) as run:
        run.define_metric("claim/*", step_metric="block")
        for block in range(max(map(len, answers.claims.values()), default=0)):
            of_block = [rows[block] for rows in answers.claims.values() if block < len(rows)]
            run.log({"block": block + 1, **{key: value for row in of_block for key, value in row.items()}})
        for values in [*answers.thresholds.values(), *answers.replays.values()]:
            run.summary.update(values)


def main(arguments: list[str] | None = None) -> int:
    """Make the views; return the exit code: 0 when done, 1 if wandb refuses, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", help="account or team that owns the project")
    parser.add_argument("--project", default="s3bench", help="as in tracker.project (default: %(default)s)")
    parser.add_argument("--experiment", help="show only the runs of this experiment")
    text = "send its thresholds, replays and claims too, as one run; with --json as files for wandb sync"
    parser.add_argument("--results", metavar="RESULTS", help=text)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the specification to this file, and send nothing"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.entity is None and chosen.json is None:
            raise UserError("--entity is missing: the account or team that owns the project (wandb.ai/ENTITY/PROJECT)")
        answers = Answers() if chosen.results is None else read_answers(chosen.results)
        what = (chosen.entity or "", chosen.project, chosen.experiment, answers)
        views = {"workspace": workspace(*what), "report": report(*what)}
        if chosen.json is None:
            save(chosen, views)
        else:
            text = json.dumps({name: specification(view) for name, view in views.items()}, indent=2)
            chosen.json.write_text(text + "\n", encoding="utf-8")
        if chosen.results is not None:
            to = {"entity": chosen.entity, "project": chosen.project, "group": chosen.experiment}
            send(answers, chosen.results, **to, offline=chosen.json is not None)
    except Exception as error:  # wandb's errors share no base class
        if os.environ.get("S3BENCH_DEBUG"):
            raise
        print(f"wandb_dashboard: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
