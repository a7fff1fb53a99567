"""The figures of shocks: arrays for the plots, from the tables of shocked runs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from s3bench.record.shock_kinds import KINDS
from s3bench.report.analysis.runs import grouped
from s3bench.report.analysis.shock_tables import Pair, groups
from s3bench.report.analysis.update_rules import worst_step
from s3bench.report.figures import plots, style
from s3bench.report.figures.captions import Drawing, caption, file_name


def shock_drawings(pairs: Sequence[Pair], looks: Mapping[str, style.Look]) -> dict[str, Drawing]:
    """Return a figure for each task and multiplier that has responses, by its name."""
    drawn = {}
    judged = [pair for pair in pairs if pair.has_response]
    for task in dict.fromkeys(pair.run.task_label for pair in judged):
        of_task = [pair for pair in judged if pair.run.task_label == task]
        multipliers = sorted({pair.run.lr_multiplier for pair in of_task})
        for multiplier in multipliers:
            group = [pair for pair in of_task if pair.run.lr_multiplier == multiplier]
            name = task if len(multipliers) == 1 else f"{task} ×{multiplier:g}"
            bounds = {pair.run.optimizer_label: worst_step(pair.run.config["optimizer"]) for pair in group}
            drawn[f"shock_{file_name(name)}"] = Drawing(
                caption("shock", [pair.run for pair in group], task=name),
                partial(plots.shock_responses, _panel_rows(group), looks, bounds),
            )
    return drawn


def _panel_rows(pairs: Sequence[Pair]) -> list[plots.ShockRow]:
    """Return peak and area against the dose, for each kind of shock, and the response to one shock over time."""
    kinds: dict[str, list[Pair]] = {}
    for group in groups(pairs):
        shock = group[0].shock
        name = f"{shock['kind']}, {_steps(shock['length'])}" if _axis(group) == "dose" else shock["kind"]
        kinds.setdefault(name, []).extend(group)
    rows = []
    for name, of_kind in kinds.items():
        x = _axis(of_kind)
        xlabel = "dose" if x == "dose" else "length in steps"
        for measure in ("peak", "area"):
            panels = {step: _series(group, x, measure) for step, group in _by(of_kind, "step").items()}
            rows.append(plots.ShockRow(ylabel=f"{name}\n{measure}", xlabel=xlabel, panels=panels))
    most = max(kinds.values(), key=len)
    x = _axis(most)
    doses = _by(most, x)
    chosen = max(doses, key=lambda dose: (len(_by(doses[dose], "step")), dose))  # what most steps have
    title = f"{most[0].shock['kind']} {f'× {chosen:g}' if x == 'dose' else f'for {_steps(chosen)}'}\nexcess loss"
    panels = {step: _over_time(group) for step, group in _by(doses[chosen], "step").items()}
    return [*rows, plots.ShockRow(ylabel=title, xlabel="steps after the shock", panels=panels, over_time=True)]


def _axis(pairs: Sequence[Pair]) -> str:
    """Return the key of a kind of shock that its panels have as x."""
    return "dose" if KINDS[pairs[0].shock["kind"]].has_dose else "length"


def _steps(count: int) -> str:
    return f"{count} step{'s' if count != 1 else ''}"


def _by(pairs: Sequence[Pair], key: str) -> dict[Any, list[Pair]]:
    of: dict[Any, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: float(pair.shock[key])):
        of.setdefault(pair.shock[key], []).append(pair)
    return of


def _by_optimizer(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    names = grouped([pair.run for pair in pairs], "optimizer_label")
    return {name: [pair for pair in pairs if pair.run.optimizer_label == name] for name in names}


def _series(pairs: Sequence[Pair], x: str, measure: str) -> dict[str, plots.Series]:
    """Return mean, smallest and largest over the seeds by dose; a gap where one diverged, as infinite points."""
    series = {}
    for optimizer, group in _by_optimizer(pairs).items():
        values = {dose: [getattr(pair.response, measure) for pair in of] for dose, of in _by(group, x).items()}
        known = [dose for dose in values if np.isfinite(values[dose]).all()]
        series[optimizer] = plots.Series(
            x=known,
            middle=[float(np.mean(values[dose])) for dose in known],
            low=[min(values[dose]) for dose in known],
            high=[max(values[dose]) for dose in known],
            points=[(dose, value) for dose in values for value in values[dose]],
        )
    return series


def _over_time(pairs: Sequence[Pair]) -> dict[str, plots.Series]:
    """Return the mean excess of each optimizer's runs that did not diverge, by the steps since the response's first."""
    series = {}
    for optimizer, group in _by_optimizer(pairs).items():
        found = [pair.response.excess for pair in group if pair.response and np.isfinite(pair.response.peak)]
        if found:
            rows = np.stack([excess[: min(map(len, found))] for excess in found])
            steps = np.arange(1.0, rows.shape[1] + 1)
            low, high = rows.min(axis=0), rows.max(axis=0)
            middle = rows.mean(axis=0)
            series[optimizer] = plots.Series(
                x=steps.tolist(), middle=middle.tolist(), low=low.tolist(), high=high.tolist()
            )
    return series
