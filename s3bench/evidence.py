"""What claims are judged on: runs as a table in which optimizers are known by their settings, whatever their names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench import score
from s3bench.runs import Run
from s3bench.shocks import Pair, spikes_near

BETAS = {(0.9, 0.999): "adamw", (0.9, 0.95): "adamw_95", (0.95, 0.95): "adamw_same"}
SCORES = ["final_loss", "initial_loss", "spikes", "own_update", "before_spikes", "smallest_gradient"]  # of a run
COLUMNS = ["task", "ladder", "horizon", "optimizer", "lr_multiplier", "seed", "state", "steps", *SCORES]
COLUMNS += ["measured", "p", "same_beta", "look_ahead"]

OF_SHOCK = ["kind", "dose", "step", "length", "peak"]
TUNED = 2  # multipliers: of a single one nothing was chosen

Array = npt.NDArray[np.float64]


class Known(NamedTuple):
    """What the records show, a row per run: undisturbed ones, see `table`, and shocked ones, see `shock_table`."""

    runs: pd.DataFrame
    shocked: pd.DataFrame


def role(optimizer: Mapping[str, Any]) -> str | None:
    """What an optimizer's config is to the claims: "s3", "adamw", "adamw_95", ..., "s3 variant"; None: something else.

    "s3" is the paper's: p = 3, one β = 0.95, look-ahead.
    """
    name = str(optimizer["_target_"]).rpartition(".")[2]
    if name == "S3":
        p, same, look_ahead = parts(optimizer)
        return "s3" if (p, same, look_ahead, optimizer.get("beta", 0.95)) == (3, True, True, 0.95) else "s3 variant"
    if name == "SignSGD":
        return "signum" if optimizer.get("momentum", 0) else "signsgd"
    betas = tuple(optimizer.get("betas", (0.9, 0.999)))
    if name == "AdamW":
        return BETAS.get(betas)
    return "adam" if name == "Adam" and betas == (0.9, 0.999) else None


def parts(optimizer: Mapping[str, Any]) -> tuple[float, bool, bool]:
    """S3's order p, whether both averages have one β, and whether it looks ahead."""
    other = optimizer.get("denominator_beta")
    same = other is None or other == optimizer.get("beta", 0.95)
    return float(optimizer.get("p", 3.0)), same, bool(optimizer.get("nesterov", True))


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run that has a result and whose optimizer the claims know; `optimizer` is its role.

    `final_loss` of a run that diverged, or ended higher, is that at its initialisation: no less was reached.
    """
    rows = []
    for run in runs:
        settings = run.row["config"]["optimizer"]
        if not run.has_result or role(settings) is None:
            continue
        row = {key: run.row[key] for key in ("task", "ladder", "horizon", "lr_multiplier", "seed", "state", "steps")}
        row |= {key: run.scores.get(key, math.nan) for key in SCORES}
        row["final_loss"] = min(row["final_loss"], row["initial_loss"])
        row |= {"optimizer": role(settings), "measured": run.row["config"]["measure_every"] == 1}
        if row["optimizer"] in ("s3", "s3 variant"):
            row["p"], row["same_beta"], row["look_ahead"] = parts(settings)
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).reset_index(drop=True)


def shock_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One row per shocked run with a response, as `table` has it, with the shock and the response's peak.

    `spikes` are those at the shock or in the response, see shocks.spikes_near. A peak is no more than the loss at the
    initialisation, and that of a run that diverged: as with final losses, nothing is worse than not to have begun.
    """
    judged = [pair for pair in pairs if pair.response is not None and pair.response.window]
    known = table([pair.run for pair in judged])
    of_shock = []
    for pair in judged:
        settings = pair.run.row["config"]["optimizer"]
        if role(settings) is not None:
            peak = min(pair.response.peak, pair.run.scores["initial_loss"])  # type: ignore[union-attr]
            of_shock.append(pair.shock | {"peak": peak, "spikes": spikes_near(pair.run, pair)})
    return known.drop(columns="spikes").join(pd.DataFrame(of_shock, columns=[*OF_SHOCK, "spikes"]))


def at_best(runs: pd.DataFrame, optimizer: str) -> "pd.Series[float]":
    """Final losses by seed of a task's optimizer at its own best learning rate, see score.picked; none if not tuned."""
    picked = score.picked(chosen_from(runs[runs.optimizer == optimizer]))
    return pd.Series(picked.final_loss.to_numpy(dtype=np.float64), index=picked.seed.to_numpy())


def chosen_from(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of an optimizer on a task, none if a learning rate cannot have been chosen among them."""
    return runs if runs.lr_multiplier.nunique() >= TUNED else runs.iloc[:0]


def at_edge(runs: pd.DataFrame, optimizer: str) -> bool:
    """Whether the best multiplier of a task's optimizer is the smallest or largest of its grid, a better one beyond."""
    own = chosen_from(runs[runs.optimizer == optimizer])
    return not own.empty and bool(score.tuned(own).edge.iloc[0])


def log_ratios(own: "pd.Series[float]", other: "pd.Series[float]") -> Array:
    """log(own / other) of the seeds that both have; none where a loss is not positive."""
    seeds = own.index.intersection(other.index)
    mine, theirs = own.loc[seeds].to_numpy(), other.loc[seeds].to_numpy()
    if not len(seeds) or (mine <= 0).any() or (theirs <= 0).any():
        return np.array([])
    logs: Array = np.log(mine / theirs)
    return logs


def rates(runs: pd.DataFrame) -> "pd.Series[float]":
    """Spikes per 10,000 steps by seed, over all runs of a seed."""
    sums = runs.groupby("seed")[["spikes", "steps"]].sum()
    return pd.Series(1e4 * sums.spikes.to_numpy(float) / sums.steps.to_numpy(float), index=sums.index.to_numpy())


def same_cells(runs: pd.DataFrame, optimizers: Sequence[str]) -> pd.DataFrame:
    """The runs of these optimizers at multipliers and seeds that all of them have."""
    chosen = runs[runs.optimizer.isin(optimizers)]
    count = chosen.groupby(["lr_multiplier", "seed"]).optimizer.transform("nunique")
    return chosen[count == len(set(optimizers))]


def best_multiplier(runs: pd.DataFrame, optimizer: str) -> float:
    """The multiplier with the lowest mean final loss of a task's optimizer; NaN if it was not tuned."""
    own = chosen_from(runs[runs.optimizer == optimizer])
    if own.empty:
        return math.nan
    return float(score.tuned(own).best_multiplier.iloc[0])


def at(runs: pd.DataFrame, optimizer: str, multiplier: float) -> pd.DataFrame:
    """The runs of a task's optimizer at a multiplier."""
    own = runs[runs.optimizer == optimizer]
    return own[np.isclose(own.lr_multiplier, multiplier)]
