"""What claims are judged on: runs as a table in which optimizers are known by their settings, whatever their names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.record.files import DIVERGED
from s3bench.report.analysis import cells
from s3bench.report.analysis.runs import Run
from s3bench.report.analysis.shock_tables import Pair, spikes_near
from s3bench.report.analysis.update_rules import known_rule

BETA = 0.95  # S3's
EPS = 1e-8  # Adam's and AdamW's
BETAS = {(0.9, 0.999): "adamw", (0.9, 0.95): "adamw_95", (0.95, 0.95): "adamw_same"}
SCORES = ["final_loss", "initial_loss", "spikes", "own_update", "before_spikes", "smallest_gradient"]  # of a run
COLUMNS = ["task", "ladder", "horizon", "optimizer", "lr_multiplier", "seed", "state", "steps", *SCORES]
COLUMNS += ["measured", "p", "same_beta", "look_ahead"]

OF_SHOCK = ["kind", "dose", "step", "length", "peak"]

Array = npt.NDArray[np.float64]
Slot = tuple[str, str | None, tuple[float, bool, bool] | None]


class Known(NamedTuple):
    """What the records show: a row for each undisturbed run with a result, and for each shocked one with a response."""

    runs: pd.DataFrame
    shocked: pd.DataFrame


def role(optimizer: Mapping[str, Any]) -> str | None:
    """What an optimizer's config is to the claims: "s3", "adamw", "adamw_95", ..., "s3 variant"; None: something else.

    "s3" is the paper's: p = 3, one β = 0.95, look-ahead; a variant has that β too, and another of the three. What
    ascends, or has another ε than its class, is something else.
    """
    rule, settings = known_rule(optimizer)
    if settings.get("maximize") or settings.get("eps", EPS) != EPS:
        return None
    if rule == "s3":
        if settings["beta"] != BETA:
            return None
        return "s3" if parts(optimizer) == (3, True, True) else "s3 variant"
    if rule == "signsgd":
        return "signum" if settings["momentum"] else "signsgd"
    if not rule or settings["amsgrad"]:
        return None
    betas = tuple(settings["betas"])
    if rule == "adamw":
        return BETAS.get(betas)
    return "adam" if betas == (0.9, 0.999) else None


def parts(optimizer: Mapping[str, Any]) -> tuple[float, bool, bool]:
    """S3's order p, whether both averages have one β, and whether it looks ahead."""
    settings = known_rule(optimizer)[1]
    return float(settings["p"]), settings["denominator_beta"] == settings["beta"], bool(settings["nesterov"])


def gathered(runs: Sequence[Run], pairs: Sequence[Pair]) -> tuple[Known, list[tuple[str, str]]]:
    """What the records show, and what of them is left out: (task, in words).

    Where a task has one role with several settings (another weight decay), those with the most runs are taken, of
    equals the first: two results of one seed are not two seeds.
    """
    results = [run for run in runs if run.has_result]
    responses = [pair for pair in pairs if pair.response is not None and pair.response.window]
    counts: dict[Slot, dict[str, int]] = {}
    for run in [*results, *(pair.run for pair in responses)]:
        labels = counts.setdefault(_slot(run), {})
        labels[run.row["optimizer"]] = labels.get(run.row["optimizer"], 0) + 1
    chosen = {slot: max(labels, key=lambda label: labels[label]) for slot, labels in counts.items() if slot[1]}
    left_out = []
    for (task, name, of), own in chosen.items():
        for label in counts[task, name, of].keys() - {own}:
            left_out.append((task, f"{task}: one setting of {name}; {own} is judged, {label} is not"))

    def judged(run: Run) -> bool:
        return bool(chosen.get(_slot(run)) == run.row["optimizer"])

    undisturbed = pd.DataFrame([_row(run) for run in results if judged(run)], columns=COLUMNS)
    shocked = [_shocked(pair) for pair in responses if judged(pair.run)]
    return Known(undisturbed, pd.DataFrame(shocked, columns=[*COLUMNS, *OF_SHOCK])), sorted(left_out)


def _slot(run: Run) -> Slot:
    """What the claims know a run by: its task, its role and, of a variant of S3, its parts."""
    settings = run.row["config"]["optimizer"]
    name = role(settings)
    return run.row["task"], name, parts(settings) if name == "s3 variant" else None


def _row(run: Run) -> dict[str, Any]:
    """A run with a result as the claims see it; `optimizer` is its role.

    `final_loss` of a run that diverged, or ended higher, is that at its initialisation: no less was reached. One that
    diverged has one spike at least: a loss may leave for good without coming back to be seen as one.
    """
    settings = run.row["config"]["optimizer"]
    row = {key: run.row[key] for key in ("task", "ladder", "horizon", "lr_multiplier", "seed", "state", "steps")}
    row |= {key: run.scores.get(key, math.nan) for key in SCORES}
    row["final_loss"] = min(row["final_loss"], row["initial_loss"])
    row["spikes"] = _spikes(run, row["spikes"])
    row |= {"optimizer": role(settings), "measured": run.row["config"]["measure_every"] == 1}
    if row["optimizer"] in ("s3", "s3 variant"):
        row["p"], row["same_beta"], row["look_ahead"] = parts(settings)
    return row


def _shocked(pair: Pair) -> dict[str, Any]:
    """A shocked run with a response, with the shock and the response's peak.

    `spikes` are those at the shock or in the response, see shocks.spikes_near. A peak is no more than the loss at the
    initialisation, and that of a run that diverged: as with final losses, nothing is worse than not to have begun.
    """
    row = _row(pair.run)
    peak = min(pair.response.peak, row["initial_loss"])  # type: ignore[union-attr]
    return row | pair.shock | {"peak": peak, "spikes": _spikes(pair.run, spikes_near(pair.run, pair))}


def _spikes(run: Run, found: int) -> int:
    return max(found, 1) if run.row["state"] == DIVERGED else found


def at_best(runs: pd.DataFrame, optimizer: str) -> "pd.Series[float]":
    """Final losses by seed of a task's optimizer at its own best learning rate, see cells.picked; none if not tuned."""
    picked = cells.picked(chosen_from(runs[runs.optimizer == optimizer]))
    return pd.Series(picked.final_loss.to_numpy(dtype=np.float64), index=picked.seed.to_numpy())


def chosen_from(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of an optimizer on a task, none if a learning rate cannot have been chosen among them."""
    return runs if runs.lr_multiplier.nunique() >= cells.TUNED else runs.iloc[:0]


def at_edge(runs: pd.DataFrame, optimizer: str) -> bool:
    """Whether the best multiplier of a task's optimizer is the smallest or largest of its grid, a better one beyond."""
    own = chosen_from(runs[runs.optimizer == optimizer])
    return not own.empty and bool(cells.tuned(own).edge.iloc[0])


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
    return float(cells.tuned(own).best_multiplier.iloc[0])


def at(runs: pd.DataFrame, optimizer: str, multiplier: float) -> pd.DataFrame:
    """The runs of a task's optimizer at a multiplier."""
    own = runs[runs.optimizer == optimizer]
    return own[np.isclose(own.lr_multiplier, multiplier)]
