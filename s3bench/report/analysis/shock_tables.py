"""Shocked runs beside their undisturbed twins: the tables, and what the figure of a task shows."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench import record
from s3bench.report.analysis import cells, comparisons
from s3bench.report.analysis.runs import Run
from s3bench.report.analysis.shock_response import BACK, SMOOTH, WINDOW, Response, first_step, response
from s3bench.report.analysis.update_rules import worst_step
from s3bench.report.stats.bootstrap import mean_interval
from s3bench.report.stats.censored import median_steps
from s3bench.spikes.detector import DELTA

SHOCK = ["kind", "step", "length", "dose"]
SUMS = ["n", "diverged", "holes", "without_twin", "twin_diverged"]
TABLE = [*cells.CELL, *SHOCK, "worst_step", "worst_step_then", "update_max", *SUMS, "window"]
TABLE += [f"{name}{end}" for name in ("peak", "area", "lasting") for end in ("", "_low", "_high")]
TABLE += ["recovered", "median_recovery", "spikes", "twin_spikes"]
NO_TWIN = "its undisturbed twin, shock.kind=none, is {}"


class Pair(NamedTuple):
    """A shocked run and its undisturbed twin: the same in everything but the shock."""

    run: Run
    twin: Run | None
    response: Response | None = None  # where both have a result, and the twin did not diverge
    update_max: float = math.nan  # the largest update measured from the shock to the end of the response, over lr

    @property
    def shock(self) -> dict[str, Any]:
        """Of the shocked run."""
        return {key: self.run.row["config"]["shock"][key] for key in SHOCK}

    @property
    def key(self) -> dict[str, Any]:
        """What pairs of one row of the table have in common."""
        return {key: self.run.row[key] for key in cells.CELL} | self.shock

    @property
    def lasting(self) -> float:
        """The final held-out loss less the twin's."""
        assert self.twin is not None
        return float(self.run.scores["final_loss"] - self.twin.scores["final_loss"])


def paired(runs: Sequence[Run], shocked: Sequence[Run]) -> list[Pair]:
    """Every shocked run with its twin, if there is one, and its response. Raises UserError for a damaged record."""
    twins = {_seed_of_cell(run): run for run in runs}
    losses: dict[str, npt.NDArray[np.float64]] = {}  # of the twins, each read once
    found = []
    for run in shocked:
        twin = twins.get(_seed_of_cell(run))
        if twin is None or not run.has_result or twin.row["state"] != record.FINISHED:
            found.append(Pair(run, twin))
            continue
        name = twin.row["run_id"]
        if name not in losses:
            losses[name] = record.step_arrays(twin.row["folder"], ["loss"])["loss"]
        found.append(_judged(run, twin, losses[name]))
    return found


def _seed_of_cell(run: Run) -> tuple[Any, ...]:
    return tuple(run.row[key] for key in (*cells.CELL, "seed"))


def _judged(run: Run, twin: Run, losses: npt.NDArray[np.float64]) -> Pair:
    shock, diverged = run.row["config"]["shock"], run.row["state"] == record.DIVERGED
    steps = record.step_arrays(run.row["folder"], ["loss", "update_max"])
    first = first_step(shock["kind"], shock["step"], shock["length"])
    limit = run.row["config"]["task"]["spikes"].get("delta", DELTA)
    measured = steps.get("update_max", np.full(len(steps["loss"]), np.nan))[shock["step"] : first + WINDOW]
    found = response(steps["loss"], losses, first, limit=limit, diverged=diverged)
    return Pair(run, twin, found, float(np.fmax.reduce(measured, initial=math.nan)))


def shock_tables(pairs: Sequence[Pair], holes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All tables; that of holes is the given one with the shocked runs that have no response."""
    rows = [*holes.to_dict("records"), *shock_holes(pairs)]
    return {
        "shocks": shock_table(pairs),
        "shock_tests": shock_tests(pairs),
        "holes": pd.DataFrame(rows, columns=holes.columns),
    }


def shock_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One row per cell and shock. Means are over pairs whose shocked run did not diverge; n counts those that did too.

    `holes`: shocked runs without a result; `without_twin`: those whose twin has none; `twin_diverged`: those whose twin
    diverged. All three are left out.
    """
    rows = []
    for group in groups(pairs):
        judged = [(pair, pair.response) for pair in group if pair.response is not None]
        calm = [(pair, found) for pair, found in judged if pair.run.row["state"] != record.DIVERGED]
        optimizer, step = group[0].run.row["config"]["optimizer"], group[0].shock["step"]
        row: dict[str, Any] = group[0].key | {"worst_step": worst_step(optimizer)}
        row |= {"worst_step_then": worst_step(optimizer, step + 1), "n": len(judged)}
        row |= {"diverged": len(judged) - len(calm), **_left_out(group)}
        row["update_max"] = np.fmax.reduce([pair.update_max for pair in group], initial=math.nan)
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
    """The pairs of each row of the table, smaller shocks first."""
    groups: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: tuple(pair.shock.values())):
        groups.setdefault(tuple(pair.key.values()), []).append(pair)
    return list(groups.values())


def _left_out(group: Sequence[Pair]) -> dict[str, int]:
    over = [pair for pair in group if pair.run.has_result]
    without = sum(pair.twin is None or not pair.twin.has_result for pair in over)
    judged = sum(pair.response is not None for pair in over)
    return {"holes": len(group) - len(over), "without_twin": without, "twin_diverged": len(over) - judged - without}


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    known = [value for value in values if not math.isnan(value)]
    low, high = mean_interval(known)
    return {name: float(np.mean(known)) if known else math.nan, f"{name}_low": low, f"{name}_high": high}


def spikes_near(run: Run, pair: Pair) -> int:
    """Spikes that begin at the shock or in the response, of undisturbed batches at least in part."""
    shock = pair.shock
    first = first_step(shock["kind"], shock["step"], shock["length"])
    return sum(shock["step"] <= spike.onset < first + WINDOW and spike.end > first for spike in run.spikes)


def shock_facts(table: pd.DataFrame) -> dict[str, int]:
    """How many shocked runs a table of shocks is of, and the numbers of steps in its definitions."""
    count = int(table[["n", "holes", "without_twin", "twin_diverged"]].to_numpy().sum())
    return {"count": count, "window": WINDOW, "smooth": SMOOTH, "back": BACK}


def shock_tests(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Every optimizer against the baseline, see comparisons.shocks."""
    rows = [
        pair.key | {"seed": pair.run.row["seed"], "peak": pair.response.peak, "area": pair.response.area}
        for group in groups(pairs)
        for pair in group
        if pair.response is not None and pair.response.window
    ]
    return comparisons.shocks(pd.DataFrame(rows, columns=[*cells.CELL, *SHOCK, "seed", "peak", "area"]))


def shock_holes(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The shocked runs without a response, as rows of the table of holes: without a result, or without a twin's."""
    rows = []
    for pair in pairs:
        if pair.response is None:
            row = {key: pair.run.row[key] for key in ("run_id", "state", "steps", "horizon", "cause")}
            if pair.run.has_result:
                row["cause"] = NO_TWIN.format(record.MISSING if pair.twin is None else pair.twin.row["state"])
            rows.append(row)
    return rows
