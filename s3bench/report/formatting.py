"""Tables as people read them: numbers rounded, each beside its n and its spread."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

HEADERS = {
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
    "worst_step_then": "worst step then",
    "median_recovery": "median steps to recover",
    "sensitivity_mean": "sensitivity",
    "lr_multiplier": "×",
    "best_multiplier": "best ×",
    "final_loss_mean": "final loss",
    "update_max": "largest update",
    "runs_with_spike": "runs with a spike",
    "spikes_per_10k": "per 10,000 steps [95%]",
}


def format_table(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: numbers rounded, each beside its n and its spread."""
    if not len(table.columns):  # of no runs
        return table
    if name == "overview":
        return _shown_overview(table)
    if name == "published":
        return _shown_published(table)
    columns = {str(column): [_text(value) for value in table[column].tolist()] for column in table.columns}
    for value in [column.removesuffix("_sd") for column in columns if column.endswith("_sd")]:
        columns[f"{value}_mean"] = [
            _mean_and_sd(mean, sd) for mean, sd in zip(table[f"{value}_mean"], table[f"{value}_sd"], strict=True)
        ]
        for part in ("sd", "min", "max"):
            columns.pop(f"{value}_{part}", None)
    columns = _with_intervals(columns, table)
    if name == "cells":
        for row, (n, diverged) in enumerate(zip(table.n, table.diverged, strict=True)):
            if diverged:
                columns["final_loss_mean"][row] += f" ({n - diverged} of {n})"
        columns["spikes"] = _joined(columns, "{0} in {1} steps", "spikes", "steps")
        columns["runs_with_spike"] = _joined(columns, "{0} of {1}", "runs_with_spike", "n")
        del columns["steps"]
    if name == "tuned":
        edge = [" (edge)" if at_edge else "" for at_edge in table.edge]
        columns["best_multiplier"] = [text + at for text, at in zip(columns["best_multiplier"], edge, strict=True)]
        columns["n"] = _joined(columns, "{0} of {1}", "n", "seeds")
        for column in ("edge", "seeds"):
            del columns[column]
    if name == "shocks":
        columns["recovered"] = _joined(columns, "{0} of {1}", "recovered", "n")
        for column in ("holes", "without_twin", "twin_diverged"):
            if not table[column].any():
                del columns[column]
    if name == "targets":
        columns["reached"] = _joined(columns, "{0} of {1}", "reached", "n")
        del columns["n"]
    names = {name: HEADERS.get(name, name.removesuffix("_mean").replace("_", " ")) for name in columns}
    return pd.DataFrame(columns).rename(columns=names)


def _with_intervals(columns: Mapping[str, list[str]], table: pd.DataFrame) -> dict[str, list[str]]:
    """x, x_low and x_high as one column "x [x_low, x_high]"; without an x, as what is known of it."""
    joined = dict(columns)
    for low in [column for column in columns if column.endswith("_low")]:
        value = low.removesuffix("_low")
        ends = list(zip(table[low], table[f"{value}_high"], strict=True))
        del joined[f"{value}_high"]
        if value in columns:
            del joined[low]
            joined[value] = [
                text + _interval(*pair) if text != "-" else text
                for text, pair in zip(columns[value], ends, strict=True)
            ]
        else:
            texts = [(_interval(*pair).strip() or "-") if value == "interval" else _bounds(*pair) for pair in ends]
            joined = {value if key == low else key: texts if key == low else cells for key, cells in joined.items()}
    return joined


def _interval(low: float, high: float) -> str:
    """Such as " [1.2, 1.6]", nothing where there is none."""
    return "" if math.isnan(low) else f" [{_text(low)}, {_text(high)}]"


def _bounds(low: float, high: float) -> str:
    """What is known of a positive number between two bounds: "1.5", "1.2 to 1.6", "≥ 1.2", "≤ 1.6" or nothing."""
    if math.isnan(low) or (low == 0 and math.isinf(high)):
        return "-"
    if low == high:
        return _text(low)
    return f"≥ {_text(low)}" if math.isinf(high) else f"{'≤' if low == 0 else f'{_text(low)} to'} {_text(high)}"


def _shown_overview(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        best = f"{_mean_and_sd(row['final_loss_mean'], row['final_loss_sd'])} (n = {row['n']})" if row["n"] else "-"
        at = f" at {_picks(row['picks'])}{', the edge' if row['edge'] else ''}" if row["picks"] else ""
        n, lost = row["largest_n"], row["largest_diverged"]
        loss = _mean_and_sd(row["largest_final_loss_mean"], row["largest_final_loss_sd"])
        largest = f"{loss} (n = {_text(n)})"
        if lost > 0:
            others = f"; the others {loss} (n = {_text(n - lost)})" if n > lost else ""
            largest = f"{_text(lost)} of {_text(n)} diverged{others}"
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


def _picks(counts: str) -> str:
    """Of "1 (6), 0.3 (2)" "×1 (6), ×0.3 (2)", and "×1" where all seeds are at one multiplier."""
    parts = [f"×{part}" for part in counts.split(", ")]
    return ", ".join(parts) if len(parts) > 1 else parts[0].partition(" ")[0]


def _shown_published(table: pd.DataFrame) -> pd.DataFrame:
    """A row per series and cell, a column per definition: its score with its events, "-" where it has none."""
    rows = []
    for (task, series), of_series in table.groupby(["task", "series"], sort=False):
        for (optimizer, multiplier), group in of_series.groupby(["optimizer", "lr_multiplier"], sort=False):
            row = {"task": task, "series": series, "optimizer": optimizer, "×": _text(multiplier)}
            row["n"] = _text(int(group.runs.iloc[0]))
            row |= {f"{one['definition']} ({one['unit']})": _score_and_events(one) for one in group.to_dict("records")}
            rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["task", "series", "optimizer", "×", "n"]).fillna("-")


def _score_and_events(row: Mapping[Any, Any]) -> str:
    """Such as "0.15 (3)"; with the number of runs where not all were long enough."""
    if not row["n"]:
        return "-"
    of_some = f"; n = {row['n']}" if row["n"] < row["runs"] else ""
    return f"{_text(row['score'])} ({_text(row['events'])}{of_some})"


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
