"""The report page: one file that opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import pandas as pd

from s3bench import __version__, comparisons, published, record
from s3bench.censored import IN_A_ROW
from s3bench.inference import pairs_needed, smallest_p
from s3bench.runs import TREND_STEPS, Run, grouped
from s3bench.shown import shown
from s3bench.tables import part

DRAWN = 10  # seeds at most in a panel of loss curves
EARLY = 0.05  # of the horizon: spikes that begin there are counted apart


def page(results_dir: str, runs: Sequence[Run], tables: Mapping[str, pd.DataFrame], images: Mapping[str, Path]) -> str:
    """The page: everything in one file, and everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("s3bench"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    states = pd.Series([run.row["state"] for run in runs]).value_counts()
    with_result = [run for run in runs if run.has_result]
    early = [s for run in with_result for s in run.spikes if s.onset < EARLY * run.row["horizon"]]
    tasks = {
        task: {
            "parameters": group[0].row["parameters"],
            "horizon": group[0].row["horizon"],
            "seeds": sorted({run.row["seed"] for run in group}),
            "paired": _paired_seeds(group),
            "spikes": group[0].row["config"]["task"]["spikes"],
        }
        for task, group in grouped(with_result, "task").items()
    }
    overview = tables["overview"]
    return environment.get_template("report.html").render(
        version=__version__,
        results_dir=results_dir,
        states={state: int(states[state]) for state in record.STATES if state in states},
        runs=len(runs),
        tasks=tasks,
        overviews={task: shown("overview", part(overview, task=task)).drop(columns="task") for task in tasks},
        tables={name: shown(name, table) for name, table in tables.items()},
        published={task: _published(part(tables["published"], task=task)) for task in tasks},
        definitions=published.DEFINITIONS,
        spam=published.SPAM,
        early=len(early),
        trend_steps=TREND_STEPS,
        drawn=DRAWN,
        in_a_row=IN_A_ROW,
        baselines=comparisons.BASELINES,
        pairs_needed=pairs_needed(),
        smallest_p=smallest_p,
        images={name: base64.b64encode(path.read_bytes()).decode() for name, path in images.items()},
        experiments=sorted({run.row["experiment"] for run in runs}),
    )


def _published(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A task's published definitions as the page shows them, by series."""
    return {
        str(series): shown("published", group).drop(columns=["task", "series"])
        for series, group in table.groupby("series", sort=False)
    }


def _paired_seeds(runs: Sequence[Run]) -> int:
    """How many seeds every optimizer has a result for."""
    seeds = [{run.row["seed"] for run in group} for group in grouped(runs, "optimizer").values()]
    return len(set.intersection(*seeds))
