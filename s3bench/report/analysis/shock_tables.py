"""Shocked runs beside their undisturbed twins, as tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench import record
from s3bench.record.shock_kinds import updates_remembered
from s3bench.report.analysis import cells, comparisons
from s3bench.report.analysis.runs import Run, largest
from s3bench.report.analysis.shock_response import BACK, SMOOTH, WINDOW, Response, first_step, response
from s3bench.report.analysis.update_rules import worst_step
from s3bench.report.stats.bootstrap import mean_interval
from s3bench.report.stats.censored import median_steps
from s3bench.spikes.delta import DELTA

SHOCK = ["kind", "step", "length", "dose"]
SUMS = ["n", "diverged", "holes", "without_twin", "twin_diverged"]
TABLE = [*cells.CELL, *SHOCK, "worst_step", "worst_step_then", "update_max", *SUMS, "window"]
TABLE += [f"{name}{end}" for name in ("peak", "area", "lasting") for end in ("", "_low", "_high")]
TABLE += ["recovered", "median_recovery", "spikes", "twin_spikes"]
NO_TWIN = "its undisturbed twin, shock.kind=none, is {}"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A shocked run and its undisturbed twin: the same in everything but the shock."""

    run: Run
    twin: Run | None
    response: Response | None = None  # where both have a result, and the twin did not diverge
    update_max: float = math.nan  # the largest update measured from the shock to the end of the response, over lr

    @property
    def shock(self) -> dict[str, Any]:
        """The shock: its kind, step, length and dose."""
        return {key: self.run.config["shock"][key] for key in SHOCK}

    @property
    def key(self) -> dict[str, Any]:
        """The cell and the shock, which the pairs of one row of the table have in common."""
        cell = (self.run.task_label, self.run.optimizer_label, self.run.lr_multiplier)
        return dict(zip(cells.CELL, cell, strict=True)) | self.shock

    @property
    def has_response(self) -> bool:
        """Whether the shocked run can be compared with its twin for at least one step."""
        return self.response is not None and self.response.window > 0

    @property
    def lasting(self) -> float:
        """The final held-out loss less the twin's."""
        assert self.twin is not None
        return self.run.final_loss - self.twin.final_loss


def paired(runs: Sequence[Run], shocked: Sequence[Run]) -> list[Pair]:
    """Pair every shocked run with its twin, if there is one, and measure its response.

    Raises UserError for a damaged record.
    """
    twins = {_seed_of_cell(run): run for run in runs}
    losses: dict[str, npt.NDArray[np.float64]] = {}  # of the twins, each read once
    found = []
    for run in shocked:
        twin = twins.get(_seed_of_cell(run))
        if twin is None or not run.has_result or twin.state != record.FINISHED:
            found.append(Pair(run=run, twin=twin))
            continue
        if twin.run_id not in losses:
            losses[twin.run_id] = record.step_arrays(twin.folder, ["loss"])["loss"]
        found.append(_with_response(run, twin, losses[twin.run_id]))
    return found


def _seed_of_cell(run: Run) -> tuple[Any, ...]:
    return run.task_label, run.optimizer_label, run.lr_multiplier, run.seed


def _with_response(run: Run, twin: Run, losses: npt.NDArray[np.float64]) -> Pair:
    shock = run.config["shock"]
    steps = record.step_arrays(run.folder, ["loss", "update_max"])
    first = first_step(shock["kind"], shock["step"], shock["length"])
    limit = run.detector.get("delta", DELTA)
    measured = steps.get("update_max", np.full(len(steps["loss"]), np.nan))[shock["step"] : first + WINDOW]
    found = response(steps["loss"], losses, first, limit=limit, diverged=run.has_diverged)
    return Pair(run=run, twin=twin, response=found, update_max=largest(measured))


def shock_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return one row per cell and shock.

    Means are over pairs whose shocked run did not diverge; `n` counts those that did, too. Three kinds of pairs are
    left out: `holes` counts the shocked runs without a result, `without_twin` those whose twin has none, and
    `twin_diverged` those whose twin diverged.
    """
    rows = []
    for group in groups(pairs):
        judged = [(pair, pair.response) for pair in group if pair.response is not None]
        calm = [(pair, found) for pair, found in judged if not pair.run.has_diverged]
        optimizer, updates = group[0].run.config["optimizer"], updates_remembered(group[0].shock)
        row: dict[str, Any] = group[0].key | {"worst_step": worst_step(optimizer)}
        row |= {"worst_step_then": worst_step(optimizer, updates + 1), "n": len(judged)}
        row |= {"diverged": len(judged) - len(calm), **_left_out(group)}
        row["update_max"] = largest(np.array([pair.update_max for pair in group]))
        row["window"] = min((found.window for _, found in judged), default=math.nan)
        row |= _mean("peak", [found.peak for _, found in calm]) | _mean("area", [found.area for _, found in calm])
        row |= _mean("lasting", [pair.lasting for pair, _ in calm])
        row["recovered"] = sum(found.recovery.reached for _, found in judged)
        row["median_recovery"] = median_steps([found.recovery for _, found in judged])
        row["spikes"] = sum(spikes_near(pair.run, pair) for pair, _ in judged)
        row["twin_spikes"] = sum(spikes_near(pair.twin, pair) for pair, _ in judged if pair.twin)
        rows.append(row)
    table = pd.DataFrame(rows, columns=TABLE)
    return table.astype({"worst_step": float, "worst_step_then": float})


def groups(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Group the pairs by the row of the table that they belong to, smaller shocks first."""
    groups: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: tuple(pair.shock.values())):
        groups.setdefault(tuple(pair.key.values()), []).append(pair)
    return list(groups.values())


def _left_out(group: Sequence[Pair]) -> dict[str, int]:
    """Count the pairs without a response, by what they lack."""
    over = [pair for pair in group if pair.run.has_result]
    without = sum(pair.twin is None or not pair.twin.has_result for pair in over)
    judged = sum(pair.response is not None for pair in over)
    return {"holes": len(group) - len(over), "without_twin": without, "twin_diverged": len(over) - judged - without}


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean of the numbers among the values, and its interval, as columns."""
    known = [value for value in values if not math.isnan(value)]
    low, high = mean_interval(known)
    return {name: float(np.mean(known)) if known else math.nan, f"{name}_low": low, f"{name}_high": high}


def spikes_near(run: Run, pair: Pair) -> int:
    """Count the spikes that begin at the shock or in the response, and last into undisturbed batches."""
    shock = pair.shock
    first = first_step(shock["kind"], shock["step"], shock["length"])
    return sum(shock["step"] <= spike.onset < first + WINDOW and spike.end > first for spike in run.spikes)


def shock_facts(table: pd.DataFrame) -> dict[str, int]:
    """Return how many shocked runs a table of shocks counts, and the numbers of steps in its definitions."""
    count = int(table[["n", "holes", "without_twin", "twin_diverged"]].to_numpy().sum())
    return {"count": count, "window": WINDOW, "smooth": SMOOTH, "back": BACK}


def shock_tests(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Compare every optimizer with the reference, see comparisons.shocks."""
    rows = [
        pair.key | {"seed": pair.run.seed, "peak": pair.response.peak, "area": pair.response.area}
        for group in groups(pairs)
        for pair in group
        if pair.response is not None and pair.has_response
    ]
    return comparisons.shocks(pd.DataFrame(rows, columns=[*cells.CELL, *SHOCK, "seed", "peak", "area"]))


def shock_holes(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return the shocked runs without a response, as rows of the table of holes."""
    rows = []
    for pair in pairs:
        if pair.response is None:
            row = {key: getattr(pair.run, key) for key in ("run_id", "state", "steps", "horizon", "cause")}
            if pair.run.has_result:
                row["cause"] = NO_TWIN.format(record.MISSING if pair.twin is None else pair.twin.state)
            rows.append(row)
    return rows
