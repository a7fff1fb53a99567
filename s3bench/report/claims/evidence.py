"""The evidence for claims: runs as a table in which optimizers are known by their settings, whatever their names."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run
from s3bench.report.analysis.shock_tables import Pair, spikes_near
from s3bench.report.analysis.update_rules import known_rule
from s3bench.report.claims.verdicts import Finding
from s3bench.report.stats.paired_tests import log_ratios

BETA = 0.95  # S3's
EPS = 1e-8  # Adam's and AdamW's
BETAS = {(0.9, 0.999): "adamw", (0.9, 0.95): "adamw_95", (0.95, 0.95): "adamw_same"}
SCORES = ["final_loss", "initial_loss", "spikes", "own_update", "before_spikes", "smallest_gradient"]  # of a run
COLUMNS = ["task", "ladder", "horizon", "optimizer", "lr_multiplier", "seed", "state", "steps", *SCORES]
COLUMNS += ["measured", "p", "same_beta", "look_ahead"]

IN_PAIRS = f"in pairs of seeds, each at {cells.TUNED} learning rates or more and with losses above 0"
OF_SHOCK = ["kind", "dose", "step", "length", "peak"]

Array = npt.NDArray[np.float64]
Slot = tuple[str, str | None, tuple[float, bool, bool] | None]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a claim is judged by."""

    findings: list[Finding] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what else would show more
    absent: list[str] = field(default_factory=list)  # comparisons that the claim names and the records lack

    def compare(self, where: str, found: Mapping[str, Finding | None]) -> None:
        """Add the findings of a task's comparisons; those without one are absent, unless all of them are."""
        findings = [finding for finding in found.values() if finding]
        self.findings.extend(findings)
        if findings:
            self.absent.extend(f"{where}: {what} {IN_PAIRS}" for what, finding in found.items() if not finding)

    def or_lacking(self, lacks: str) -> "Evidence":
        """Return this evidence or, where there is no finding, one that names only what the records lack."""
        return self if self.findings else Evidence(missing=[lacks], absent=self.absent)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A claim of the paper and the rule that leads to its verdict."""

    id: str
    statement: str  # the paper's, in one sentence
    words: str  # when the claim is supported, and when not
    judge: Callable[["Known"], Evidence]


class Known(NamedTuple):
    """What the records show: one row per undisturbed run with a result, and one per shocked run with a response."""

    runs: pd.DataFrame
    shocked: pd.DataFrame


def role(optimizer: Mapping[str, Any]) -> str | None:
    """Return the role of an optimizer's config in the claims: "s3", "adamw", "adamw_95", ..., "s3 variant".

    "s3" is the paper's: p = 3, one β = 0.95, look-ahead. A variant has that β too, but differs in one of the three.
    None for an optimizer that maximizes or whose ε differs from the class default, and for all other optimizers.
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
    """Return S3's order p, whether both averages share one β, and whether it looks ahead."""
    settings = known_rule(optimizer)[1]
    return float(settings["p"]), settings["denominator_beta"] == settings["beta"], bool(settings["nesterov"])


def gathered(results: Results) -> tuple[Known, list[tuple[str, str]]]:
    """Return what the records show, and what of them is left out: (task, in words).

    Where a task has one role with several settings (such as two weight decays), the settings with the most runs are
    taken, on a tie the first: two results of one seed are not two seeds.
    """
    over = results.with_result
    responses = [pair for pair in results.pairs if pair.has_response]
    counts: dict[Slot, dict[str, int]] = {}
    for run in [*over, *(pair.run for pair in responses)]:
        labels = counts.setdefault(_slot(run), {})
        labels[run.optimizer_label] = labels.get(run.optimizer_label, 0) + 1
    chosen = {slot: max(labels, key=lambda label: labels[label]) for slot, labels in counts.items() if slot[1]}
    left_out = []
    for (task, name, of), own in chosen.items():
        for label in counts[task, name, of].keys() - {own}:
            left_out.append((task, f"{task}: one setting of {name}; {own} is judged, {label} is not"))

    def is_judged(run: Run) -> bool:
        return bool(chosen.get(_slot(run)) == run.optimizer_label)

    undisturbed = pd.DataFrame([_row(run) for run in over if is_judged(run)], columns=COLUMNS)
    shocked = [_shocked(pair) for pair in responses if is_judged(pair.run)]
    return Known(undisturbed, pd.DataFrame(shocked, columns=[*COLUMNS, *OF_SHOCK])), sorted(left_out)


def _slot(run: Run) -> Slot:
    """Return what identifies a run in the claims: its task, its role and, for a variant of S3, its parts."""
    settings = run.config["optimizer"]
    name = role(settings)
    return run.task_label, name, parts(settings) if name == "s3 variant" else None


def _row(run: Run) -> dict[str, Any]:
    """Return a run with a result as the claims see it; `optimizer` is its role.

    The `final_loss` of a run that diverged, or ended above its loss at initialisation, is the loss at initialisation:
    nothing lower was reached. A run that diverged has at least one spike: its loss may leave for good without a return
    that would end a spike.
    """
    settings = run.config["optimizer"]
    row: dict[str, Any] = {"task": run.task_label, "ladder": run.ladder, "horizon": run.horizon}
    row |= {"lr_multiplier": run.lr_multiplier, "seed": run.seed, "state": run.state, "steps": run.steps}
    row |= {key: getattr(run, key) for key in SCORES}
    row["final_loss"] = min(run.final_loss, run.initial_loss)
    row["spikes"] = _spikes(run, len(run.spikes))
    row |= {"optimizer": role(settings), "measured": run.config["measure_every"] == 1}
    if row["optimizer"] in ("s3", "s3 variant"):
        row["p"], row["same_beta"], row["look_ahead"] = parts(settings)
    return row


def _shocked(pair: Pair) -> dict[str, Any]:
    """Return a shocked run with a response as the claims see it, with the shock and the response's peak.

    `spikes` counts those at the shock or in the response, see shock_tables.spikes_near. A peak is at most the loss at
    initialisation, also that of a run that diverged: as with final losses, nothing is worse than not to have begun.
    """
    row = _row(pair.run)
    peak = min(pair.response.peak, row["initial_loss"])  # type: ignore[union-attr]
    return row | pair.shock | {"peak": peak, "spikes": _spikes(pair.run, spikes_near(pair.run, pair))}


def _spikes(run: Run, found: int) -> int:
    return max(found, 1) if run.has_diverged else found


def at_best(runs: pd.DataFrame, optimizer: str) -> "pd.Series[float]":
    """Return the final losses by seed of a task's optimizer at its own best learning rate; empty if it is not tuned."""
    picked = cells.runs_at_best(chosen_from(runs[runs.optimizer == optimizer]))
    return pd.Series(picked.final_loss.to_numpy(dtype=np.float64), index=picked.seed.to_numpy())


def chosen_from(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of an optimizer on a task; none if too few learning rates are there to choose from."""
    return runs if runs.lr_multiplier.nunique() >= cells.TUNED else runs.iloc[:0]


def at_edge(runs: pd.DataFrame, optimizer: str) -> bool:
    """Return whether an optimizer's best multiplier is at the edge of its grid: a better one may lie outside."""
    own = chosen_from(runs[runs.optimizer == optimizer])
    return not own.empty and bool(cells.best_rates(own).edge.iloc[0])


def log_loss_ratios(own: "pd.Series[float]", other: "pd.Series[float]") -> Array:
    """Return log(own / other) of the seeds that both have; empty if any of these losses is not positive."""
    seeds = own.index.intersection(other.index)
    mine, theirs = own.loc[seeds].to_numpy(), other.loc[seeds].to_numpy()
    if not len(seeds) or (mine <= 0).any() or (theirs <= 0).any():
        return np.array([])
    return log_ratios(mine, theirs)


def rates(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return spikes per 10,000 steps by seed, over all runs of a seed."""
    sums = runs.groupby("seed")[["spikes", "steps"]].sum()
    return pd.Series(1e4 * sums.spikes.to_numpy(float) / sums.steps.to_numpy(float), index=sums.index.to_numpy())


def same_cells(runs: pd.DataFrame, optimizers: Sequence[str]) -> pd.DataFrame:
    """Return the runs of these optimizers at the multipliers and seeds that all of them have."""
    chosen = runs[runs.optimizer.isin(optimizers)]
    count = chosen.groupby(["lr_multiplier", "seed"]).optimizer.transform("nunique")
    return chosen[count == len(set(optimizers))]


def best_multiplier(runs: pd.DataFrame, optimizer: str) -> float:
    """Return the multiplier with the lowest mean final loss of a task's optimizer; NaN if it was not tuned."""
    own = chosen_from(runs[runs.optimizer == optimizer])
    if own.empty:
        return math.nan
    return float(cells.best_rates(own).best_multiplier.iloc[0])


def at(runs: pd.DataFrame, optimizer: str, multiplier: float) -> pd.DataFrame:
    """Return the runs of a task's optimizer at a multiplier."""
    own = runs[runs.optimizer == optimizer]
    return own[np.isclose(own.lr_multiplier, multiplier)]


def tasks_with(runs: pd.DataFrame, *optimizers: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tasks that have runs of all of these optimizers."""
    for task, group in runs.groupby("task", sort=False):
        if set(optimizers) <= set(group.optimizer):
            yield str(task), group


def edges(runs: pd.DataFrame, *optimizers: str) -> list[str]:
    """List, in words, those of a task's optimizers whose best learning rate is at the edge of the grid."""
    task = runs.task.iloc[0]
    return [f"{task}: a longer grid for {name}, best at its edge" for name in optimizers if at_edge(runs, name)]


def all_edges(runs: pd.DataFrame, *optimizers: str) -> list[str]:
    """List the same over all tasks that have runs of all of these optimizers."""
    return [said for _, group in tasks_with(runs, *optimizers) for said in edges(group, *optimizers)]


def lacking(findings: Sequence[Finding], *optimizers: str) -> list[str]:
    """List what is missing where there is no finding at all."""
    return [] if findings else [f"no task has runs of {', '.join(optimizers)} {IN_PAIRS}"]
