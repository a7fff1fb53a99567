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


@dataclass
class Run:
    """A record with its rows and its scores."""

    row: dict[str, Any]  # of load_records
    steps: pd.DataFrame
    evals: pd.DataFrame
    spikes: list[Spike]
    scores: dict[str, Any]

    @property
    def has_result(self) -> bool:
        """Whether the run is over and did not fail."""
        return self.row["state"] in record.OVER


def write_report(results_dir: str | Path) -> Path:
    """Write <results_dir>/report/ and return its index.html. Raises UserError: no records, or a damaged one."""
    runs = [_read(row) for row in _rows(_labelled(record.load_records(results_dir)))]
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


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _labelled(records: pd.DataFrame) -> pd.DataFrame:
    """The records in the order of the page, with labels that tell different configs of one name apart: "s3 (p=2.5)"."""
    for name, column in (("optimizer", "optimizer"), ("task", "task")):
        for label, group in records.groupby(column):
            configs = [_settings(config, name) for config in group.config]
            differing = [key for key in configs[0] if len({json.dumps(c.get(key)) for c in configs}) > 1]
            if differing:
                details = [", ".join(f"{key}={c.get(key)}" for key in differing) for c in configs]
                records.loc[group.index, column] = [f"{label} ({detail})" for detail in details]
    return records.sort_values(["task", "optimizer", "lr_multiplier", "seed"], kind="stable")


def _settings(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """What makes runs of one name different: an optimizer's arguments; a task's, with horizon and schedule."""
    if group == "optimizer":
        return {key: value for key, value in config["optimizer"].items() if not key.startswith("_")}
    build = {key: value for key, value in config["task"]["build"].items() if key not in ("seed", "data_dir")}
    whole = {key: config[key] for key in ("horizon", "clip_norm")}
    return build | whole | {"lr": config["task"]["lr"], "schedule": config["names"]["schedule"]}


def _read(row: dict[str, Any]) -> Run:
    """The run with its rows, its spikes and its scores; empty of scores where it has no result."""
    steps, evals = record.load_steps(row["folder"]), record.load_evals(row["folder"])
    run = Run(row, steps, evals, [], {})
    if not run.has_result:
        return run
    task = row["config"]["task"]
    run.spikes = find_spikes(steps.loss.to_numpy(), **task["spikes"])
    finished = row["state"] == record.FINISHED
    run.scores = {
        "final_loss": float(evals.loss.iloc[-1]) if finished else math.inf,
        "spikes": len(run.spikes),
        "update_max": float(steps.update_max.max()) if "update_max" in steps else math.nan,
        **{name: float(evals[name].iloc[-1]) if finished else math.nan for name in metrics(evals)},
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
    if run.row["state"] == record.DIVERGED or target["metric"] not in run.evals:
        return None
    return score.steps_to_target(run.evals.step, run.evals[target["metric"]], **bounds)


def make_tables(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """All tables, unformatted: tuned, cells, targets, spikes, holes, runs."""
    columns = ["run_id", "task", "optimizer", "lr_multiplier", "lr", "seed", "horizon", "state", "steps"]
    plain = pd.DataFrame([{key: run.row[key] for key in columns} | run.scores for run in runs])
    for name in ("final_loss", "spikes", "update_max"):
        if name not in plain:
            plain[name] = np.nan  # no run has a result
    names = list(dict.fromkeys(name for run in runs if run.has_result for name in metrics(run.evals)))
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
    return {
        "tuned": score.tuned(plain),
        "cells": score.cells(plain, names),
        "targets": _targets(runs),
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
            for target in run.row["config"]["task"]["targets"]:
                name = target_name(target)
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


def make_figures(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """All figures of what has a result, by name; none if nothing has."""
    drawn: dict[str, Figure] = {}
    with_result = [run for run in runs if run.has_result]
    if not with_result:
        return drawn
    tasks = list(dict.fromkeys(run.row["task"] for run in with_result))
    panels = {task: [run for run in with_result if run.row["task"] == task] for task in tasks}
    cells = tables["cells"]
    losses = {task: _final_losses(of_task, cells) for task, of_task in panels.items()}
    drawn["final_loss"] = figures.over_multipliers(losses, ylabel="final held-out loss", beyond="diverged")
    rates = {task: _spike_rates(of_task, cells) for task, of_task in panels.items()}
    drawn["spike_rate"] = figures.over_multipliers(rates, ylabel="spikes per 10,000 steps", from_zero=True)
    steps = {
        f"{task}: {name}": _steps_to_target(of_task, name)
        for task, of_task in panels.items()
        for name in [target_name(target) for target in of_task[0].row["config"]["task"]["targets"]][-1:]
    }
    drawn["steps_to_target"] = figures.over_multipliers(
        steps, ylabel="steps to target", beyond="not reached", from_zero=True
    )
    for task, of_task in panels.items():
        drawn[f"loss_{_file_name(task)}"] = _loss_figure(task, of_task)
    return drawn


def _by_optimizer(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.row["optimizer"], []).append(run)
    return groups


def _final_losses(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, figures.Series]:
    """Mean, smallest and largest over the finished seeds; diverged ones as infinite points."""
    return {
        optimizer: figures.Series(
            multipliers=cell.lr_multiplier.tolist(),
            middle=cell.final_loss_mean.tolist(),
            low=cell.final_loss_min.tolist(),
            high=cell.final_loss_max.tolist(),
            points=[(run.row["lr_multiplier"], run.scores["final_loss"]) for run in group],
        )
        for optimizer, group in _by_optimizer(runs).items()
        for cell in [_cells_of(cells, group)]
    }


def _spike_rates(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, figures.Series]:
    """The rate of each cell with its exact interval."""
    return {
        optimizer: figures.Series(
            multipliers=cell.lr_multiplier.tolist(),
            middle=cell.spikes_per_10k.tolist(),
            low=cell.spikes_per_10k_low.tolist(),
            high=cell.spikes_per_10k_high.tolist(),
        )
        for optimizer, group in _by_optimizer(runs).items()
        for cell in [_cells_of(cells, group)]
    }


def _cells_of(cells: pd.DataFrame, group: Sequence[Run]) -> pd.DataFrame:
    """The cells of a task and optimizer that have a result."""
    first = group[0].row
    chosen = cells[(cells.task == first["task"]) & (cells.optimizer == first["optimizer"]) & (cells.n > 0)]
    return pd.DataFrame(chosen)


def _steps_to_target(runs: Sequence[Run], name: str) -> dict[str, figures.Series]:
    """The median over the seeds, a gap where it is infinite; seeds that never reached it as infinite points."""
    series = {}
    for optimizer, group in _by_optimizer(runs).items():
        multipliers = sorted({run.row["lr_multiplier"] for run in group})
        steps = {m: [r.scores[name] for r in group if r.row["lr_multiplier"] == m] for m in multipliers}
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


def _loss_figure(task: str, runs: Sequence[Run]) -> Figure:
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
    seeds = len({run.row["seed"] for run in runs})
    title = f"{task}: raw training loss of {seeds} seeds, running median over {TREND_STEPS} steps, ▼ spikes"
    return figures.loss_curves(curves, title)


def shown(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: numbers rounded, each beside its n and its spread."""
    columns = {column: _cells_of_text(table[column]) for column in table.columns}
    if name in ("cells", "tuned"):
        for value in [column.removesuffix("_mean") for column in table.columns if column.endswith("_mean")]:
            both = _joined(columns, "{0} ± {1}", f"{value}_mean", f"{value}_sd")
            columns[f"{value}_mean"] = [text.replace("- ± -", "-") for text in both]
            for part in ("sd", "min", "max"):
                columns.pop(f"{value}_{part}", None)
    if name == "cells":
        columns["spikes"] = _joined(columns, "{0} in {1} steps", "spikes", "steps")
        interval = [f"spikes_per_10k{part}" for part in ("", "_low", "_high")]
        columns["spikes_per_10k"] = _joined(columns, "{0} [{1}, {2}]", *interval)
        for column in ("steps", *interval[1:]):
            del columns[column]
    if name == "tuned":
        edge = [" (edge of the grid)" if at_edge else "" for at_edge in table.edge]
        columns["best_multiplier"] = [text + at for text, at in zip(columns["best_multiplier"], edge, strict=True)]
        del columns["edge"]
    if name == "targets":
        columns["reached"] = _joined(columns, "{0} of {1}", "reached", "n")
        del columns["n"]
    names = {column: column.removesuffix("_mean").replace("_", " ").replace("lr multiplier", "×") for column in columns}
    return pd.DataFrame(columns).rename(columns=names)


def _joined(columns: Mapping[str, Sequence[str]], pattern: str, *names: str) -> list[str]:
    return [pattern.format(*cells) for cells in zip(*(columns[name] for name in names), strict=True)]


def _cells_of_text(column: "pd.Series[Any]") -> list[str]:
    return [_text(value) for value in column.tolist()]


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


def findings(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """What the tables show, per task, in sentences: without a verdict, each number beside its n and its spread."""
    cells, best = tables["cells"], tables["tuned"]
    sentences: dict[str, list[str]] = {}
    for task in dict.fromkeys(cells.task):
        of_task, said = cells[(cells.task == task) & (cells.n > 0)], []
        ranked = best[(best.task == task) & (best.n > 1)].sort_values("final_loss_mean")
        if len(ranked):
            order = _listing(ranked, "final_loss_mean", "final_loss_sd")
            said.append(
                f"At its own best learning rate, picked on other seeds, from the lowest final loss up: {order}."
            )
        largest = of_task.lr_multiplier.max()
        there = of_task[of_task.lr_multiplier == largest].sort_values("final_loss_mean")
        said.append(
            f"At the largest learning rate, ×{largest:g}: {_listing(there, 'final_loss_mean', 'final_loss_sd')}."
        )
        counts = of_task.groupby("optimizer", sort=False)[["spikes", "steps"]].sum()
        spikes = ", ".join(f"{name} {row.spikes:,} in {row.steps:,} steps" for name, row in counts.iterrows())
        said.append(f"Spikes over all learning rates: {spikes}.")
        sentences[str(task)] = said
    return sentences


def _listing(table: pd.DataFrame, mean: str, sd: str) -> str:
    """ "s3 0.12 ± 0.01 (n = 2), ..."."""
    entries = []
    for row in _rows(table):
        lost = f", {row['diverged']} diverged" if row.get("diverged") else ""
        entries.append(f"{row['optimizer']} {_text(row[mean])} ± {_text(row[sd])} (n = {row['n']}{lost})")
    return ", ".join(entries)


def _page(results_dir: str, runs: Sequence[Run], tables: Mapping[str, pd.DataFrame], images: Mapping[str, Path]) -> str:
    """The page: everything in one file, and everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("s3bench"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    states = pd.Series([run.row["state"] for run in runs]).value_counts()
    tasks: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.has_result:
            tasks.setdefault(run.row["task"], {"parameters": run.row["parameters"], "horizons": set(), "seeds": set()})
            tasks[run.row["task"]]["horizons"].add(run.row["horizon"])
            tasks[run.row["task"]]["seeds"].add(run.row["seed"])
    seeds = min((len(task["seeds"]) for task in tasks.values()), default=0)
    return environment.get_template("report.html").render(
        version=__version__,
        results_dir=results_dir,
        states={state: int(states[state]) for state in record.STATES if state in states},
        runs=len(runs),
        tasks=tasks,
        seeds=seeds,
        smallest_p=2.0 ** (1 - seeds) if seeds else None,
        findings=findings(tables),
        tables={name: shown(name, table) for name, table in tables.items()},
        images={name: base64.b64encode(path.read_bytes()).decode() for name, path in images.items()},
        commands=sorted({_command(run) for run in runs}),
    )


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


def _command(run: Run) -> str:
    experiment = run.row["experiment"]
    return f"s3bench sweep experiment={experiment}" if experiment != "adhoc" else "s3bench sweep (by hand)"


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in text)
