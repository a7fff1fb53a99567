"""Formats tables for people: numbers are rounded, and each one is next to its n and its spread."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

DIGITS = 4  # significant ones of a number
SPREAD_DIGITS = 2  # the same, of a standard deviation; its mean has as many decimals

HEADERS = {  # of columns whose name with blanks for underscores would not do
    "running_time": "expected running time",
    "difference": "difference [95%]",
    "ratio": "ratio of rates [95%]",
    "loss_ratio": "final loss over baseline's [95%]",
    "interval": "[95%]",
    "p_holm": "p, Holm",
    "p_poisson": "p if Poisson",
    "peak": "peak [95%]",
    "area": "area [95%]",
    "lasting": "lasting harm [95%]",
    "median_recovery": "median steps to recover",
    "lr_multiplier": "×",
    "own_update": "largest update without decay",
    "worst_step_in_run": "worst step of the run",
    "best_multiplier": "best ×",
    "update_max": "largest update",
    "runs_with_spike": "runs with a spike",
    "spikes_per_10k": "per 10,000 steps [95%]",
    "share": "share vanished [95%]",
    "end_loss_ratio": "loss at the end over the run's",
    "arm_height": "arm's height",
    "arm_onset": "arm's onset",
    "number": "number in its run",
}

Row = Mapping[Any, Any]


class Layout(NamedTuple):
    """How the columns of a table become fewer."""

    merge: Mapping[str, str] = {}  # column -> pattern of its cells, with the names of the columns that go into them
    note: Mapping[str, Callable[[Row], str]] = {}  # column -> what follows the number in a row
    drop: Sequence[str] = ()  # columns that are part of others by then
    drop_zeros: Sequence[str] = ()  # columns that say something only if they are not 0 throughout


def _finished(row: Row) -> str:
    return f" ({row['n'] - row['diverged']} of {row['n']})" if row["diverged"] else ""


def _edge(row: Row) -> str:
    return " (edge)" if row["edge"] else ""


LAYOUTS = {
    "cells": Layout(
        note={"final_loss_mean": _finished},
        merge={"spikes": "{spikes} in {steps} steps", "runs_with_spike": "{runs_with_spike} of {n}"},
        drop=["steps"],
        drop_zeros=["dead"],
    ),
    "tuned": Layout(
        note={"best_multiplier": _edge},
        merge={"n": "{n} of {seeds}"},
        drop=["edge", "seeds"],
    ),
    "targets": Layout(merge={"reached": "{reached} of {n}"}, drop=["n"]),
    "spike_rates": Layout(drop_zeros=["dead", "baseline_dead"]),
    "shocks": Layout(merge={"recovered": "{recovered} of {n}"}, drop_zeros=["holes", "without_twin", "twin_diverged"]),
    "replay": Layout(
        merge={outcome: f"{{{outcome}}} of {{n}}" for outcome in ("vanished", "smaller", "delayed", "persisted")},
        drop=["n", "exact"],
    ),
}


def format_table(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of texts, with fewer columns: a mean with its deviation, a value with its interval in one cell."""
    if not len(table.columns):  # a table of no runs
        return table
    if name == "overview":
        return pd.DataFrame([_overview_row(row) for row in table.to_dict("records")]).fillna("-")
    if name == "published":
        return _published(table)
    if name == "field":
        return _field(table)
    if name == "thresholds":
        return _thresholds(table)
    layout = LAYOUTS.get(name, Layout())
    texts = _with_intervals(_with_spreads(table.map(_text), table), table)
    for column, note in layout.note.items():
        texts[column] += [note(row) for row in table.to_dict("records")]
    rows = texts.to_dict("records")
    for column, pattern in layout.merge.items():
        texts[column] = [pattern.format_map(row) for row in rows]
    zeros = [column for column in layout.drop_zeros if not table[column].any()]
    headers = {column: _header(column, has_interval=f"{column}_low" in table) for column in map(str, texts)}
    return texts.drop(columns=[*layout.drop, *zeros]).rename(columns=headers)


def _header(column: str, *, has_interval: bool) -> str:
    text = HEADERS.get(column, column.removesuffix("_mean").replace("_", " "))
    return text if has_interval else text.removesuffix(" [95%]")


def _with_spreads(texts: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Merge x_mean and x_sd into x_mean, and drop x_min and x_max."""
    for value in _stems(table, "_sd"):
        texts[f"{value}_mean"] = _cells(mean_and_sd, table, f"{value}_mean", f"{value}_sd")
        texts = texts.drop(columns=[f"{value}_{part}" for part in ("sd", "min", "max")], errors="ignore")
    return texts


def _with_intervals(texts: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Merge x, x_low and x_high into "x [x_low, x_high]"; without x, show the bounds alone."""
    for value in _stems(table, "_low"):
        low, high = f"{value}_low", f"{value}_high"
        intervals = _cells(_interval, table, low, high)
        if value in texts:
            pairs = zip(texts[value], intervals, strict=True)
            texts[value] = [text + interval if text != "-" else text for text, interval in pairs]
            texts = texts.drop(columns=[low, high])
        else:
            alone = [interval.strip() or "-" for interval in intervals]
            texts[low] = alone if value == "interval" else _cells(_bounds, table, low, high)
            texts = texts.drop(columns=high).rename(columns={low: value})
    return texts


def _stems(table: pd.DataFrame, suffix: str) -> list[str]:
    return [column.removesuffix(suffix) for column in table.columns if column.endswith(suffix)]


def _cells(text: Callable[[float, float], str], table: pd.DataFrame, *columns: str) -> list[str]:
    return [text(*values) for values in zip(*(table[column] for column in columns), strict=True)]


def _interval(low: float, high: float) -> str:
    """Return " [1.2, 1.6]", or nothing if there is no interval."""
    return "" if math.isnan(low) else f" [{_text(low)}, {_text(high)}]"


def _bounds(low: float, high: float) -> str:
    """Return what two bounds say about a positive number: "1.5", "1.2 to 1.6", "≥ 1.2", "≤ 1.6" or "-"."""
    if math.isnan(low) or (low == 0 and math.isinf(high)):
        return "-"
    if low == high:
        return _text(low)
    return f"≥ {_text(low)}" if math.isinf(high) else f"{'≤' if low == 0 else f'{_text(low)} to'} {_text(high)}"


def _overview_row(row: Row) -> dict[str, Any]:
    best = f"{mean_and_sd(row['final_loss_mean'], row['final_loss_sd'])} (n = {row['n']})" if row["n"] else "-"
    at = f" at {_picks(row['picks'])}{_place_in_grid(row)}" if row["picks"] else ""
    target = "-"
    if row["target_n"] > 0:
        steps = f", median step {_text(row['target_median_steps'])}" if row["target_reached"] else ""
        target = f"{row['target']}: {_text(row['target_reached'])} of {_text(row['target_n'])}{steps}"
    return {
        "task": row["task"],
        "optimizer": row["optimizer"],
        "final loss at its best learning rate": best + at,
        f"at the largest, ×{row['largest_multiplier']:g}": _at_largest(row),
        "runs with a spike": f"{row['runs_with_spike']} of {row['runs']}",
        "target, at its best": target,
    }


def _place_in_grid(row: Row) -> str:
    """Return ", the edge" or ", the only one" of a best learning rate that is the last or the only one of its grid."""
    if "," not in row["grid"]:
        return ", the only one"
    return ", the edge" if row["edge"] else ""


def _at_largest(row: Row) -> str:
    """Return the final loss at the largest multiplier, and how many runs diverged there."""
    n, diverged = row["largest_n"], row["largest_diverged"]
    if not n > 0:
        return "-"
    loss = mean_and_sd(row["largest_final_loss_mean"], row["largest_final_loss_sd"])
    if not diverged:
        return f"{loss} (n = {_text(n)})"
    others = f"; the others {loss} (n = {_text(n - diverged)})" if n > diverged else ""
    return f"{_text(diverged)} of {_text(n)} diverged{others}"


def _picks(counts: str) -> str:
    """Return "×1 (6), ×0.3 (2)" for "1 (6), 0.3 (2)", and "×1" if all seeds are at one multiplier."""
    parts = [f"×{part}" for part in counts.split(", ")]
    return ", ".join(parts) if len(parts) > 1 else parts[0].partition(" ")[0]


def _published(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per series and cell, a column per definition: its score with its events, or "-"."""
    rows = []
    for (task, series), of_series in table.groupby(["task", "series"], sort=False):
        for (optimizer, multiplier), group in of_series.groupby(["optimizer", "lr_multiplier"], sort=False):
            row = {"task": task, "series": series, "optimizer": optimizer, "×": _text(multiplier)}
            row["n"] = _text(int(group.runs.iloc[0]))
            row |= {f"{one['definition']} ({one['unit']})": _score_and_events(one) for one in group.to_dict("records")}
            rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["task", "series", "optimizer", "×", "n"]).fillna("-")


def _field(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per optimizer, with four columns per task: at its best learning rate / 3 / 10 times it."""
    rows: dict[str, dict[str, Any]] = {}
    for one in table.to_dict("records"):
        row = rows.setdefault(one["optimizer"], {"optimizer": one["optimizer"], "n": _text(one["n"])})
        edge = " (edge)" if one["edge"] else ""
        row[f"{one['task']}: best ×; largest without a spike"] = (
            f"{_text(one['best_multiplier'])}{edge}; {_text(one['largest_without_spike'])}"
        )
        for column, words in {"per_10k": "spikes per 10,000 steps", "burden": "burden", "loss": "final loss"}.items():
            values = (one[f"{column}_{factor}"] for factor in ("best", "x3", "x10"))
            row[f"{one['task']}: {words}"] = " / ".join(short(value) for value in values)
        row[f"{one['task']}: time of a step"] = short(one["step_time"])
        if "threshold" in one:
            row[f"{one['task']}: threshold of the ramp"] = _known_or_bounds(one, "threshold")
    return pd.DataFrame(list(rows.values())).fillna("-")


def _thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per task and optimizer; without the headroom where the folder has no best rates for it."""
    rows = []
    for one in table.to_dict("records"):
        apart = {"never left": one["censored"], "left before the rate grew": one["early"]}
        of_them = ", ".join(f"{count} {what}" for what, count in apart.items() if count)
        row = {"task": one["task"], "optimizer": one["optimizer"]}
        row["n"] = f"{one['n']} ({of_them})" if of_them else _text(one["n"])
        row["threshold [95%]"] = _known_or_bounds(one, "threshold")
        row["over the reference's [95%]"] = _known_or_bounds(one, "ratio")
        row["headroom"] = _text(one["headroom"])
        row |= {"stable at fixed rates": one["stable"] or "-", "fixed rates": one["check"]}
        row["largest stable fixed rate"] = _bounds(one["fixed_least"], one["fixed_most"])
        rows.append(row)
    headers = ["task", "optimizer", "n", "threshold [95%]"]
    shown = pd.DataFrame(rows, columns=None if rows else headers)
    return shown if table.headroom.notna().any() else shown.drop(columns="headroom", errors="ignore")


def _known_or_bounds(row: Row, name: str) -> str:
    """Return "62.1 [48, 78.2]" for a value that is known, "≥ 62.1" and the like for one that has bounds."""
    value, least, most = row[name], row[f"{name}_least"], row[f"{name}_most"]
    if math.isnan(value):
        return _bounds(least, most)
    return _text(value) + _interval(row[f"{name}_low"], row[f"{name}_high"])


def short(value: float) -> str:
    """Return a number with two digits."""
    return f"{value:.2g}" if math.isfinite(value) and abs(value) < 100 else _text(float(f"{value:.2g}"))


def _score_and_events(row: Row) -> str:
    """Return "0.15 (3)", with the number of runs if some were too short."""
    if not row["n"]:
        return "-"
    of_some = f"; n = {row['n']}" if row["n"] < row["runs"] else ""
    return f"{_text(row['score'])} ({_text(row['events'])}{of_some})"


def mean_and_sd(mean: float, sd: float) -> str:
    """Return "0.168 ± 0.066": both with as many decimals as the deviation needs, at most four."""
    if not (math.isfinite(mean) and math.isfinite(sd)):
        return _text(mean)
    decimals = min(4, max(0, SPREAD_DIGITS - 1 - math.floor(math.log10(sd)))) if sd > 0 else 4
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _text(value: Any) -> str:
    """Return a cell's text: a rounded number, "∞", or "-" for a missing value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞"
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.{DIGITS}g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts as Markdown."""
    # DataFrame.to_markdown would not escape "|", and pads or joins cells in another way than all tables kept so far
    lines: list[list[Any]] = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
