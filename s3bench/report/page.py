"""Makes the report page: one file that opens without a network."""

import base64
import hashlib
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from s3bench import __version__, record
from s3bench.record.judge import JUDGE
from s3bench.report import page_data
from s3bench.report.analysis import comparisons
from s3bench.report.analysis.loss_curve import TREND_STEPS
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.seen import EARLY
from s3bench.report.analysis.shock_tables import shock_facts
from s3bench.report.analysis.tables import rows_with
from s3bench.report.analysis.thresholds import MARGIN
from s3bench.report.findings import findings
from s3bench.report.formatting import format_table
from s3bench.report.page_data import curve_data
from s3bench.report.replay_text import changes, sentences
from s3bench.report.stats.censored import IN_A_ROW
from s3bench.report.stats.leaving import RISE, WINDOW
from s3bench.report.stats.paired_tests import pairs_needed, smallest_p
from s3bench.spikes import published

ADHOC = "adhoc"  # the experiment of runs whose grid was given on the command line
LARGEST_SVG = 100_000  # bytes
COLOURS = 256  # of a figure that is embedded as PNG: a third of the bytes
LONGEST = 3_000  # rows of a table on the page
ROWS = 30  # rows of a table that are there at first; the script draws the others when it is asked for them
WORDS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
MERGED = ("overview", "published", "field", "thresholds")  # tables whose rows are others once they are formatted
TEMPLATES = resources.files("s3bench.report") / "templates"


def page(
    results_dir: str,
    results: Results,
    tables: Mapping[str, pd.DataFrame],
    images: Mapping[str, tuple[str, Sequence[Path]]],
    claims: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Make the page: everything in one file, and everything escaped.

    Args:
        results_dir: the folder, as the commands on the page name it.
        results: the runs and what they share.
        tables: those of make_tables.
        images: the caption of each figure and its files, the first as SVG, the second as PNG, by name.
        claims: the verdicts, with the keys of report/claims.json; all but `id` and `verdict` may be missing.
    """
    judged = [claim for claim in claims if claim.get("n", 1)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("s3bench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["digest"] = _digest
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("report.html").render(
        version=__version__,
        results_dir=results_dir,
        commands=_decide_commands(results_dir, judged) or _commands(results_dir, [*results.runs, *results.ramps]),
        images={name: (caption, _embedded(*files[:2])) for name, (caption, files) in images.items()},
        ablated=any(name.startswith("fig5_") for name in images),
        verdicts=judged,
        verdict_table=_verdict_table(judged),
        unjudged=_in_words(len(claims) - len(judged), "more claim" if judged else "claim"),
        findings=findings(tables),
        curves=curve_data(results),
        **_about_runs(results),
        **_about_tables(results, tables),
        **_constants(),
        style=_text("uplot/uPlot.min.css") + _text("report.css"),
        scripts=[f"/*\n{_text('uplot/LICENSE')}*/\n{_text('uplot/uPlot.iife.min.js')}", _text("report.js")],
    )


def _about_runs(results: Results) -> dict[str, Any]:
    """Return what the page tells about the runs: states, tasks, early spikes, and what judge.yaml replaced."""
    states = pd.Series([run.state for run in results.runs]).value_counts()
    early = [spike for run in results.with_result for spike in run.spikes if spike.onset < EARLY * run.horizon]
    return {
        "runs": len(results.runs),
        "ramps": len(results.ramps),
        "states": {state: int(states[state]) for state in record.STATES if state in states},
        "tasks": {task: _facts(group) for task, group in grouped(results.with_result, "task_label").items()},
        "early": len(early),
        "judged": sorted({f"{run.task}: {what}" for run in results.runs for what in run.judged_by}),
    }


def _about_tables(results: Results, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the tables as the page shows them, those of single tasks apart."""
    tasks = list(grouped(results.with_result, "task_label"))
    return {
        "tables": {name: _shown(name, table) for name, table in tables.items() if name != "published"},
        "counts": {name: len(table) for name, table in tables.items()},
        "overviews": {task: _overview(rows_with(tables["overview"], task=task)) for task in tasks},
        "published": {task: _published(rows_with(tables["published"], task=task)) for task in tasks},
        "shocks": shock_facts(tables["shocks"]),
        "replayed": sentences(tables["replay"]) if "replay" in tables else [],
        "no_spikes": results.no_spikes,
        "arms": changes(tables["replay"]) if "replay" in tables else {},
    }


def _constants() -> dict[str, Any]:
    """Return what the page tells about the methods: definitions, and the numbers in them."""
    return {
        "definitions": published.DEFINITIONS,
        "spam": published.SPAM,
        "trend_steps": TREND_STEPS,
        "in_a_row": IN_A_ROW,
        "leaving": {"rise": RISE, "window": WINDOW, "margin": MARGIN},
        "references": comparisons.REFERENCES,
        "pairs_needed": pairs_needed(),
        "smallest_p": smallest_p,
        "judge": JUDGE,
        "first_rows": ROWS,
        "many": page_data.MANY,
    }


def _shown(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the first LONGEST rows of a table as the page shows them."""
    if name in MERGED:
        return _first_rows(format_table(name, table), name)
    return _first_rows(format_table(name, table.head(LONGEST)), name, len(table))


def _first_rows(shown: pd.DataFrame, name: str, rows: int | None = None) -> pd.DataFrame:
    """Return the first LONGEST rows of a formatted table, with what the page says about the others as `attrs`."""
    left_out = (len(shown) if rows is None else rows) - LONGEST
    shown = shown.head(LONGEST)
    shown.attrs = {"left_out": left_out, "name": name} if left_out > 0 else {}
    return shown


def _overview(table: pd.DataFrame) -> pd.DataFrame:
    """Return a task's overview as the page shows it."""
    return _shown("overview", table).drop(columns="task")


def _facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the page tells about a task, from its runs with a result."""
    return {
        "parameters": "an unknown number of" if runs[0].parameters is None else f"{runs[0].parameters:,}",
        "horizon": runs[0].horizon,
        "seeds": sorted({run.seed for run in runs}),
        "paired": _paired_seeds(runs),
        "spikes": runs[0].detector,
    }


def _published(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a task's published definitions as the page shows them, by series."""
    return {
        str(series): _shown("published", group).drop(columns=["task", "series"])
        for series, group in table.groupby("series", sort=False)
    }


def _paired_seeds(runs: Sequence[Run]) -> int:
    """Count the seeds that every optimizer has a result for."""
    seeds = [{run.seed for run in group} for group in grouped(runs, "optimizer_label").values()]
    return len(set.intersection(*seeds))


def _embedded(svg: Path, png: Path) -> str:
    """Return a figure as a data URL: SVG, or PNG with fewer colours where the SVG is large."""
    if svg.stat().st_size <= LARGEST_SVG:
        kind, content = "svg+xml", svg.read_bytes()
    else:
        small = io.BytesIO()
        with Image.open(png) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        kind, content = "png", small.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _in_words(count: int, what: str) -> str:
    """Return "Eight more claims", or nothing for none."""
    number = WORDS[count] if count < len(WORDS) else f"{count:,}"
    return f"{number} {what}{'s' * (count != 1)}" if count else ""


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """Return the SHA-256 digest of a script: the page's content policy allows only scripts with these digests."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _verdict_table(claims: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the numbers of the verdicts as the page shows them."""
    rows = []
    for claim in claims:
        low, high = claim.get("interval") or (None, None)
        row = {name: claim.get(name) for name in ("id", "verdict", "effect", "n", "test")}
        row |= {"effect_low": low, "effect_high": high}
        rows.append(row | {"cells": "; ".join(map(str, claim.get("cells") or [])) or None})
    return format_table("verdicts", pd.DataFrame(rows).fillna(math.nan)) if rows else pd.DataFrame()


def _decide_commands(results_dir: str, claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the commands that make the blocks again; none if the records have no blocks."""
    asked: dict[tuple[str, ...], None] = {}
    for claim in claims:
        words = claim.get("words") or {}
        of_paper = () if claim["id"].startswith("C") else (claim["id"],)
        what = ("--optimizer", words["OWN"], "--against", words["OTHER"]) if words else of_paper
        if claim.get("scale"):
            asked[(*what, "--scale", claim["scale"])] = None
    made = [["s3bench", "decide", *what, "--results", results_dir] for what in asked]
    return [shlex.join(command) for command in [*made, ["s3bench", "report", results_dir]]] if made else []


def _commands(results_dir: str, runs: Sequence[Run]) -> list[str]:
    """Return the commands that repeat the sweeps, one per experiment or per task for grids by hand, and the report."""
    grids: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        names = run.config["names"]
        clip = names.get("clip", "none")  # records of before 0.3 have no such name
        by_hand = (f"task={names['task']}", *([f"clip={clip}"] if clip != "none" else []))
        by_hand = (*by_hand, f"schedule={names['schedule']}", f"horizon={run.horizon}")
        scale = run.config.get("scale")
        named = (f"experiment={names['experiment']}", *([f"scale={scale}"] if scale else []))
        key = by_hand if names["experiment"] == ADHOC else named
        grids.setdefault(key, []).append(run)
    place = f"results_dir={results_dir}"
    sweeps = [["s3bench", "sweep", *key, *_axes(key, group), place] for key, group in grids.items()]
    return [shlex.join(command) for command in [*sweeps, ["s3bench", "report", results_dir]]]


def _axes(key: tuple[str, ...], runs: Sequence[Run]) -> list[str]:
    """Return the lists of a grid; none for an experiment, whose YAML has them."""
    if key[0].startswith("experiment="):
        return []
    values = {"optimizer": sorted({run.optimizer for run in runs})}
    for axis in ("lr_multiplier", "seed"):
        values[axis] = [f"{value:g}" for value in sorted({getattr(run, axis) for run in runs})]
    return [f"{axis}={','.join(listed)}" for axis, listed in values.items()]
