"""Records become a report: tables, figures and one page that opens without a network."""

import base64
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s3bench import __version__, figures, record, score
from s3bench.errors import UserError
from s3bench.spikes import Spike, find_spikes

TREND_STEPS = 25  # window of the running median in the loss curves
EARLY = 0.05  # of the horizon: spikes that begin there are counted apart


@dataclass
class Run:
    """A record with its rows and its scores; both empty where it has no result."""

    row: dict[str, Any]  # of load_records
    steps: pd.DataFrame
    evals: pd.DataFrame
    spikes: list[Spike]
    scores: dict[str, Any]

    @property
    def has_result(self) -> bool:
        """Whether the run is over and did not fail."""
        return self.row["state"] in record.OVER

    @property
    def targets(self) -> list[str]:
        """The names of its task's targets, as the YAML orders them."""
        return [target_name(target) for target in self.row["config"]["task"]["targets"]]


def write_report(results_dir: str | Path) -> Path:
    """Write <results_dir>/report/ and return its index.html.

    Raises UserError: no records, a damaged one, or records of one task that were not held to the same targets and
    detector parameters or had other data.
    """
    runs = [_read(row) for row in _labelled(record.load_records(results_dir))]
    _refuse_mixtures(runs)
    tables = make_tables(runs)
    drawn = make_figures(runs, tables)
    report = Path(results_dir) / "report"
    draft = report.with_name(f".report-{os.getpid()}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        files = {name: figures.save(figure, _made(draft / "figures") / name) for name, figure in drawn.items()}
        for name, table in tables.items():
            table.to_csv(_made(draft / "tables") / f"{name}.csv", index=False)
            (draft / "tables" / f"{name}.md").write_text(markdown(shown(name, table)), encoding="utf-8")
        page = _page(str(results_dir), runs, tables, {name: paths[0] for name, paths in files.items()})
        (draft / "index.html").write_text(page, encoding="utf-8")
        shutil.rmtree(report, ignore_errors=True)
        draft.rename(report)
    except OSError as error:
        raise UserError(f"{report} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report / "index.html"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _labelled(records: pd.DataFrame) -> list[dict[str, Any]]:
    """The records in the page's order, with labels that tell different settings under one name apart: "s3 (p=2.5)".

    What else than the optimizer, the learning rate's multiplier and the seed can change a result makes another task.
    """
    settings = [_flat(record.identity(config)) for config in records.config]
    for column, belongs in (
        ("optimizer", lambda key: key.startswith("optimizer.")),
        ("task", lambda key: not key.startswith("optimizer.")),
    ):
        for label, group in records.groupby(column):
            own = [{key: text for key, text in settings[index].items() if belongs(key)} for index in group.index]
            differing = [
                key for key in dict.fromkeys(key for s in own for key in s) if len({s.get(key) for s in own}) > 1
            ]
            if differing:
                short = {key: key.rpartition(".")[2] for key in differing}
                details = [", ".join(f"{short[key]}={s.get(key, '-')}" for key in differing) for s in own]
                records.loc[group.index, column] = [f"{label} ({detail})" for detail in details]
    return _rows(records.sort_values(["task", "optimizer", "lr_multiplier", "seed"], kind="stable"))


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as {"optimizer.p": "3.0"}, without the axes of a grid."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{key}.")
        elif key not in ("seed", "lr_multiplier"):
            flat[f"{above}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _read(row: dict[str, Any]) -> Run:
    """The run with its rows, its spikes and its scores."""
    run = Run(row, pd.DataFrame(), pd.DataFrame(), [], {})
    if not run.has_result:
        return run
    run.steps, run.evals = record.load_steps(row["folder"]), record.load_evals(row["folder"])
    task = row["config"]["task"]
    try:
        run.spikes = find_spikes(run.steps.loss.to_numpy(), **task["spikes"])
    except (TypeError, ValueError) as error:
        raise UserError(f"{row['folder']}: task.spikes in its config cannot be used ({error})") from error
    finished = row["state"] == record.FINISHED
    run.scores = {
        "final_loss": float(run.evals.loss.iloc[-1]) if finished else math.inf,
        "spikes": len(run.spikes),
        "update_max": float(run.steps.update_max.max()) if "update_max" in run.steps else math.nan,
        **{name: float(run.evals[name].iloc[-1]) if finished else math.nan for name in metrics(run.evals)},
    }
    for target in task["targets"]:
        run.scores[target_name(target)] = _reached(run, target)
    return run


def metrics(evals: pd.DataFrame) -> list[str]:
    """The columns of a task's own metrics."""
    return [str(name) for name in evals.columns if name not in ("step", "loss")]


def target_name(target: Mapping[str, Any]) -> str:
    """A target in words: "loss ≤ 0.5"."""
    sign = "≤" if "at_most" in target else "≥"
    return f"{target['metric']} {sign} {target.get('at_most', target.get('at_least')):g}"


def _reached(run: Run, target: Mapping[str, Any]) -> int | None:
    """The steps to a target; a diverged run never reached it."""
    bounds = {key: target[key] for key in ("at_most", "at_least") if key in target}
    if run.row["state"] == record.DIVERGED:
        return None
    return score.steps_to_target(run.evals.step, run.evals[target["metric"]], **bounds)


def _refuse_mixtures(runs: Sequence[Run]) -> None:
    """Raise UserError if runs of one task were not held to the same measure."""
    for task, group in _groups(runs, "task").items():
        for what, facts in (
            ("targets", [run.row["config"]["task"]["targets"] for run in group]),
            ("detector parameters", [run.row["config"]["task"]["spikes"] for run in group]),
            ("data", [run.row["fingerprint"] for run in group if run.has_result]),
        ):
            different = list(dict.fromkeys(json.dumps(fact) for fact in facts))
            if len(different) > 1:
                raise UserError(
                    f"the records of {task} differ in their {what} ({' and '.join(different[:2])}) and cannot stand in "
                    "one table; sweep into another results_dir, or delete those of one kind"
                )


def _groups(runs: Sequence[Run], key: str) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.row[key], []).append(run)
    return groups


def make_tables(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """All tables, unformatted."""
    columns = ["run_id", "task", "optimizer", "lr_multiplier", "lr", "seed", "horizon", "state", "steps"]
    plain = pd.DataFrame([{key: run.row[key] for key in columns} | run.scores for run in runs])
    for name in ("final_loss", "spikes", "update_max"):
        if name not in plain:
            plain[name] = np.nan  # no run has a result
    names = list(dict.fromkeys(name for run in runs for name in metrics(run.evals)))
    spikes = [
        {key: run.row[key] for key in ("task", "optimizer", "lr_multiplier", "seed")} | vars(spike)
        for run in runs
        for spike in run.spikes
    ]
    holes = [
        {key: run.row[key] for key in ("run_id", "state", "steps", "horizon", "cause")}
        for run in runs
        if not run.has_result
    ]
    tables = {"tuned": score.tuned(plain), "cells": score.cells(plain, names), "targets": _targets(runs)}
    return {
        "overview": _overview(runs, tables),
        **tables,
        "spikes": pd.DataFrame(spikes, columns=["task", "optimizer", "lr_multiplier", "seed", *Spike.__annotations__]),
        "holes": pd.DataFrame(holes, columns=["run_id", "state", "steps", "horizon", "cause"]),
        "runs": plain,
        "environment": _environments(runs),
    }


def _targets(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per cell and target: how many runs reached it, and in how many steps."""
    rows: dict[tuple[Any, ...], list[int | None]] = {}
    for run in runs:
        if run.has_result:
            for name in run.targets:
                rows.setdefault((*(run.row[key] for key in score.CELL), name), []).append(run.scores[name])
    table = []
    for key, steps in rows.items():
        reached = [step for step in steps if step is not None]
        row = dict(zip((*score.CELL, "target"), key, strict=True))
        row |= {"n": len(steps), "reached": len(reached), "median_steps": score.median_steps(steps)}
        row |= {"min_steps": min(reached, default=math.nan), "max_steps": max(reached, default=math.nan)}
        table.append(row)
    columns = [*score.CELL, "target", "n", "reached", "median_steps", "min_steps", "max_steps"]
    return pd.DataFrame(table, columns=columns)


def _overview(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per task and optimizer: at its best learning rate, at the task's largest, spikes, the last target."""
    rows = []
    for task, of_task in _groups(runs, "task").items():
        largest = max(run.row["lr_multiplier"] for run in of_task)
        for optimizer, group in _groups(of_task, "optimizer").items():
            (best,) = _rows(_part(tables["tuned"], task=task, optimizer=optimizer))
            results = [run for run in group if run.has_result]
            row: dict[str, Any] = {"task": task, "optimizer": optimizer}
            row |= {key: best[key] for key in ("n", "best_multiplier", "edge", "final_loss_mean", "final_loss_sd")}
            at_largest = _rows(_part(tables["cells"], task=task, optimizer=optimizer, lr_multiplier=largest))
            row["largest_multiplier"] = largest
            for key in ("n", "diverged", "final_loss_mean", "final_loss_sd"):
                row[f"largest_{key}"] = at_largest[0][key] if at_largest else math.nan
            row |= {"runs": len(results), "runs_with_spike": sum(bool(run.spikes) for run in results)}
            row["target"] = group[0].targets[-1] if group[0].targets else None
            where = {"task": task, "optimizer": optimizer, "lr_multiplier": best["best_multiplier"]}
            reached = _rows(_part(tables["targets"], **where, target=row["target"]))
            for key in ("reached", "n", "median_steps"):
                row[f"target_{key}"] = reached[0][key] if reached else math.nan
            rows.append(row)
    return pd.DataFrame(rows)


def _part(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows that have these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _environments(runs: Sequence[Run]) -> pd.DataFrame:
    """What the runs ran on; more than one row if they ran on different things."""
    rows = []
    for run in runs:
        if run.has_result:
            summary = run.row["summary"]
            rows.append({"device": summary["device"], "commit": summary["commit"] or "unknown", **summary["versions"]})
    if not rows:
        return pd.DataFrame(columns=["runs", "device", "commit"])
    table = pd.DataFrame(rows).fillna("-")
    return table.groupby(list(table.columns), sort=False).size().rename("runs").reset_index()


def make_figures(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """All figures of what has a result, by name; none if nothing has."""
    drawn: dict[str, Figure] = {}
    tasks = _groups([run for run in runs if run.has_result], "task")
    if not tasks:
        return drawn
    looks = figures.looks(sorted({run.row["optimizer"] for run in runs}))
    cells = tables["cells"]
    drawn["final_loss"] = figures.over_multipliers(
        {task: _final_losses(group, cells) for task, group in tasks.items()},
        looks,
        ylabel="final held-out loss",
        beyond="diverged",
    )
    drawn["spike_rate"] = figures.over_multipliers(
        {task: _spike_rates(group, cells) for task, group in tasks.items()},
        looks,
        ylabel="spikes per 10,000 steps",
        from_zero=True,
        lines=False,
    )
    panels = {}
    for task, group in tasks.items():
        if group[0].targets:
            panels[f"{task}: {group[0].targets[-1]}"] = _steps_to_target(group, group[0].targets[-1])
    if panels:
        drawn["steps_to_target"] = figures.over_multipliers(
            panels, looks, ylabel="steps to target", beyond="not reached", from_zero=True
        )
    for task, group in tasks.items():
        drawn[f"loss_{_file_name(task)}"] = _loss_figure(group, looks)
    return drawn


def _final_losses(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, figures.Series]:
    """Mean, smallest and largest over the seeds, a gap where one diverged; diverged ones as infinite points."""
    series = _cell_series(runs, _part(cells, diverged=0), "final_loss_mean", "final_loss_min", "final_loss_max")
    for optimizer, group in _groups(runs, "optimizer").items():
        series[optimizer].points = [(run.row["lr_multiplier"], run.scores["final_loss"]) for run in group]
    return series


def _spike_rates(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, figures.Series]:
    """The rate of each cell with its exact interval."""
    return _cell_series(runs, cells, "spikes_per_10k", "spikes_per_10k_low", "spikes_per_10k_high")


def _cell_series(runs: Sequence[Run], cells: pd.DataFrame, *columns: str) -> dict[str, figures.Series]:
    """Three columns of the cells of a task's runs, as middle, low and high, by optimizer."""
    series = {}
    for optimizer, group in _groups(runs, "optimizer").items():
        cell = _part(cells, task=group[0].row["task"], optimizer=optimizer)
        cell = cell[cell.n > 0]
        middle, low, high = (cell[column].tolist() for column in columns)
        series[optimizer] = figures.Series(cell.lr_multiplier.tolist(), middle, low, high)
    return series


def _steps_to_target(runs: Sequence[Run], name: str) -> dict[str, figures.Series]:
    """The median over the seeds, a gap where it is infinite; seeds that never reached it as infinite points."""
    series = {}
    for optimizer, group in _groups(runs, "optimizer").items():
        multipliers = sorted({run.row["lr_multiplier"] for run in group})
        steps = {m: [run.scores[name] for run in group if run.row["lr_multiplier"] == m] for m in multipliers}
        median = {m: score.median_steps(steps[m]) for m in multipliers}
        known = [m for m in multipliers if math.isfinite(median[m])]  # at least half of the seeds reached it
        reached = {m: [step for step in steps[m] if step is not None] for m in known}
        series[optimizer] = figures.Series(
            multipliers=known,
            middle=[median[m] for m in known],
            low=[min(reached[m]) for m in known],
            high=[max(reached[m]) for m in known],
            points=[(m, math.inf if step is None else step) for m in multipliers for step in steps[m]],
        )
    return series


def _loss_figure(runs: Sequence[Run], looks: Mapping[str, figures.Look]) -> Figure:
    curves: dict[tuple[float, str], list[figures.Curve]] = {}
    for run in runs:
        loss = run.steps.loss.to_numpy()
        curves.setdefault((run.row["lr_multiplier"], run.row["optimizer"]), []).append(
            figures.Curve(
                steps=run.steps.step.to_numpy(),
                loss=loss,
                trend=score.running_median(loss, TREND_STEPS),
                peaks=[spike.peak for spike in run.spikes],
                diverged=run.row["state"] == record.DIVERGED,
            )
        )
    return figures.loss_curves(curves, looks)


HEADERS = {
    "lr_multiplier": "×",
    "best_multiplier": "best ×",
    "final_loss_mean": "final loss",
    "update_max": "largest update",
    "runs_with_spike": "runs with a spike",
    "spikes_per_10k": "per 10,000 steps [95%]",
}


def shown(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: numbers rounded, each beside its n and its spread."""
    if name == "overview":
        return _shown_overview(table)
    columns = {str(column): [_text(value) for value in table[column].tolist()] for column in table.columns}
    for value in [column.removesuffix("_mean") for column in columns if column.endswith("_mean")]:
        columns[f"{value}_mean"] = [
            _mean_and_sd(mean, sd) for mean, sd in zip(table[f"{value}_mean"], table[f"{value}_sd"], strict=True)
        ]
        for part in ("sd", "min", "max"):
            columns.pop(f"{value}_{part}", None)
    if name == "cells":
        for row, (n, diverged) in enumerate(zip(table.n, table.diverged, strict=True)):
            if diverged:
                columns["final_loss_mean"][row] += f" ({n - diverged} of {n})"
        columns["spikes"] = _joined(columns, "{0} in {1} steps", "spikes", "steps")
        columns["runs_with_spike"] = _joined(columns, "{0} of {1}", "runs_with_spike", "n")
        interval = [f"spikes_per_10k{part}" for part in ("", "_low", "_high")]
        columns["spikes_per_10k"] = _joined(columns, "{0} [{1}, {2}]", *interval)
        for column in ("steps", *interval[1:]):
            del columns[column]
    if name == "tuned":
        edge = [" (edge)" if at_edge else "" for at_edge in table.edge]
        columns["best_multiplier"] = [text + at for text, at in zip(columns["best_multiplier"], edge, strict=True)]
        columns["n"] = _joined(columns, "{0} of {1}", "n", "seeds")
        for column in ("edge", "seeds"):
            del columns[column]
    if name == "targets":
        columns["reached"] = _joined(columns, "{0} of {1}", "reached", "n")
        del columns["n"]
    names = {name: HEADERS.get(name, name.removesuffix("_mean").replace("_", " ")) for name in columns}
    return pd.DataFrame(columns).rename(columns=names)


def _shown_overview(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in _rows(table):
        best = f"{_mean_and_sd(row['final_loss_mean'], row['final_loss_sd'])} (n = {row['n']})" if row["n"] else "-"
        at = f" at ×{row['best_multiplier']:g}{', the edge' if row['edge'] else ''}" if row["n"] else ""
        n, lost = row["largest_n"], row["largest_diverged"]
        largest = f"{_mean_and_sd(row['largest_final_loss_mean'], row['largest_final_loss_sd'])} (n = {_text(n)})"
        if lost > 0:
            largest = f"{_text(lost)} of {_text(n)} diverged; the others {_text(row['largest_final_loss_mean'])}"
        if not n > 0:
            largest = "-"
        reached = f"{_text(row['target_reached'])} of {_text(row['target_n'])}"
        steps = f", median step {_text(row['target_median_steps'])}" if row["target_reached"] else ""
        rows.append(
            {
                "task": row["task"],
                "optimizer": row["optimizer"],
                "final loss at its best learning rate": best + at,
                f"at the largest, ×{row['largest_multiplier']:g}": largest,
                "runs with a spike": f"{row['runs_with_spike']} of {row['runs']}",
                "target, at its best": f"{row['target']}: {reached}{steps}"
                if row["target_n"] == row["target_n"]
                else "-",
            }
        )
    return pd.DataFrame(rows).fillna("-")


def _joined(columns: Mapping[str, Sequence[str]], pattern: str, *names: str) -> list[str]:
    return [pattern.format(*cells) for cells in zip(*(columns[name] for name in names), strict=True)]


def _mean_and_sd(mean: float, sd: float) -> str:
    """Such as 0.168 ± 0.066: the deviation with two digits, the mean with as many decimals, at most four."""
    if not (math.isfinite(mean) and math.isfinite(sd)):
        return _text(mean)
    decimals = min(4, max(0, 1 - math.floor(math.log10(sd)))) if sd > 0 else 4
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _text(value: Any) -> str:
    """A cell: four digits, "-" for nothing, ∞."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞"
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def markdown(table: pd.DataFrame) -> str:
    """A table of strings as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _page(results_dir: str, runs: Sequence[Run], tables: Mapping[str, pd.DataFrame], images: Mapping[str, Path]) -> str:
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
        for task, group in _groups(with_result, "task").items()
    }
    overview = tables["overview"]
    return environment.get_template("report.html").render(
        version=__version__,
        results_dir=results_dir,
        states={state: int(states[state]) for state in record.STATES if state in states},
        runs=len(runs),
        tasks=tasks,
        overviews={task: shown("overview", _part(overview, task=task)).drop(columns="task") for task in tasks},
        tables={name: shown(name, table) for name, table in tables.items()},
        early=len(early),
        trend_steps=TREND_STEPS,
        images={name: base64.b64encode(path.read_bytes()).decode() for name, path in images.items()},
        experiments=sorted({run.row["experiment"] for run in runs}),
    )


def _paired_seeds(runs: Sequence[Run]) -> int:
    """How many seeds every optimizer has a result for."""
    seeds = [{run.row["seed"] for run in group} for group in _groups(runs, "optimizer").values()]
    return len(set.intersection(*seeds))


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)
