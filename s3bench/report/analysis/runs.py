"""Reads one record as a run with its scores. Of its steps a run keeps a thinned curve and the steps around spikes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from s3bench import record
from s3bench.errors import unknown
from s3bench.record import identity
from s3bench.record.judge import JUDGE, held_to, spikes_of
from s3bench.record.targets import target_name
from s3bench.report.analysis.loss_curve import Curve, thinned
from s3bench.report.analysis.spike_onsets import Traces, growth, no_traces, traces
from s3bench.report.analysis.update_rules import known_rule
from s3bench.report.stats.censored import NEVER, Steps, steps_to_target
from s3bench.report.stats.leaving import Threshold, end_level, threshold
from s3bench.spikes import Spike, published
from s3bench.spikes.divergence import death

READ = ["loss", "lr", "grad_norm", "update_rms", "update_max", "param_max"]  # columns of the steps

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One record and its scores. Scores are NaN or empty where the record has no result.

    Attributes:
        task, optimizer: the names of the YAML files.
        task_label, optimizer_label: the same, with the settings that differ from the usual ones: "s3 (p=2)".
        ladder: the task's label without the horizon; the same task at several horizons is one ladder.
        setup: the task's label without horizon and schedule: what a ramp and runs at fixed rates have in common.
        lr: the base learning rate times the multiplier.
        config: the resolved config, as it was recorded.
        summary: of a run with a result, see docs/records.md; else empty.
        cause: of a failed run, one line.
        targets, detector: what the run is held to: of the record, or of judge.yaml, which `judged_by` then lists.
        final_loss, initial_loss: held-out losses; `final_loss` is infinite if the run diverged.
        is_dead: whether its loss ends at that of a guess and has been there for long; not if it diverged.
        metrics: final value of each of the task's metrics; NaN if the run diverged.
        times: steps to each target, by its name.
        update_max: the largest update over the learning rate.
        own_update: the same, less what weight decay and rounding can have added to it.
        before_spikes: mean logarithm over spikes of the update's size just before the onset over its usual size.
        smallest_gradient: the smallest norm of the true gradient, of tasks that evaluate it.
        published: flagged steps, events and steps under each published definition of a spike.
        traces: updates and loss around the onsets of spikes.
        threshold: of a ramp, the multiplier at which its loss left.
        end_level: of a run at a constant rate, the median of its last losses; infinite if its loss left.
    """

    folder: Path
    run_id: str
    task: str
    optimizer: str
    task_label: str
    optimizer_label: str
    ladder: str
    setup: str
    lr_multiplier: float
    lr: float
    seed: int
    horizon: int
    state: str
    steps: int
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    cause: str | None
    targets: Sequence[Mapping[str, Any]]
    detector: Mapping[str, Any]
    judged_by: Sequence[str] = ()
    final_loss: float = math.nan
    initial_loss: float = math.nan
    is_dead: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    times: Mapping[str, Steps] = field(default_factory=dict)
    spikes: Sequence[Spike] = ()
    update_max: float = math.nan
    own_update: float = math.nan
    before_spikes: float = math.nan
    smallest_gradient: float = math.nan
    published: npt.NDArray[np.int64] = field(default_factory=published.no_counts)
    curve: Curve | None = None
    traces: Traces = field(default_factory=no_traces)
    threshold: Threshold | None = None
    end_level: float = math.nan

    @property
    def has_result(self) -> bool:
        """Whether the run is over and did not fail."""
        return self.state in record.OVER

    @property
    def has_diverged(self) -> bool:
        """Whether the run diverged."""
        return self.state == record.DIVERGED

    @property
    def target_names(self) -> list[str]:
        """The names of its task's targets in the order of the YAML: the main one first."""
        return [target_name(target) for target in self.targets]

    @property
    def shock(self) -> dict[str, Any] | None:
        """The shock of the run, None of an undisturbed one."""
        return identity.shock(self.config)

    @property
    def is_ramp(self) -> bool:
        """Whether its learning rate grows until its loss leaves: a test of stability, and no training."""
        return identity.is_ramp(self.config)

    @property
    def parameters(self) -> int | None:
        """How many parameters the model has; None without a result."""
        return self.summary.get("parameters")

    @property
    def fingerprint(self) -> str | None:
        """The digest of the task's data; None without a result."""
        return self.summary.get("fingerprint")


def read_run(folder: Path, judge: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Run:
    """Read a record and score it.

    Args:
        folder: the record's.
        judge: targets and detector parameters by task that replace those of the record, see record/judge.py.

    Raises:
        UserError: the record is damaged or an arm of a replay, or its targets or detector parameters cannot be used.
    """
    row = record.load_record(folder)
    record.refuse_arm(folder, row["config"])
    measure = held_to(row, judge)
    facts: dict[str, Any] = {
        **{key: row[key] for key in ("folder", "run_id", "task", "optimizer", "lr_multiplier", "lr", "seed")},
        **{key: row[key] for key in ("horizon", "state", "steps", "config", "summary", "cause")},
        **{"task_label": row["task"], "optimizer_label": row["optimizer"]},
        **{"ladder": row["task"], "setup": row["task"]},
        **{"targets": measure["targets"], "detector": measure["spikes"]},
        "judged_by": sorted(judge.get(row["task"], {})),
    }
    run = Run(**facts)
    return Run(**facts, **_scores(run, partial(spikes_of, row, judge=judge))) if run.has_result else run


def _scores(run: Run, find: Callable[[Array], list[Spike]]) -> dict[str, Any]:
    """Return the fields of a run that its steps and evaluations give; `find` finds the spikes in its losses."""
    columns = [*READ, "update_above_1"] if run.config["measure_every"] == 1 else READ
    steps = record.step_arrays(run.folder, columns, run.summary)
    evals = record.eval_arrays(run.folder, run.summary)
    spikes = find(steps["loss"])
    onsets, peaks = [spike.onset for spike in spikes], [spike.peak for spike in spikes]
    decay = known_rule(run.config["optimizer"])[1].get("weight_decay", 0.0)
    scores = {
        "final_loss": math.inf if run.has_diverged else float(evals["loss"][-1]),
        "initial_loss": float(evals["loss"][0]),
        "is_dead": not run.has_diverged and death(steps["loss"], float(evals["loss"][0])) < len(steps["loss"]),
        "metrics": {
            name: math.nan if run.has_diverged else float(values[-1])
            for name, values in evals.items()
            if name not in ("step", "loss")
        },
        "times": _times(run, evals),
        "spikes": tuple(spikes),
        "update_max": largest(steps["update_max"]) if "update_max" in steps else math.nan,
        "own_update": _own_update(steps, decay),
        "before_spikes": _before_spikes(steps, onsets),
        "smallest_gradient": float(evals["grad_norm"].min()) if "grad_norm" in evals else math.nan,
        "published": published.counts(steps["loss"], steps["grad_norm"]),
        "curve": thinned(steps["loss"], peaks, run.has_diverged),
    }
    if run.is_ramp:
        rates = steps["lr"] / run.config["task"]["lr"]
        scores["threshold"] = threshold(steps["loss"], rates, diverged=run.has_diverged)
    elif identity.is_constant(run.config):
        scores["end_level"] = end_level(steps["loss"], diverged=run.has_diverged)
    if {"update_rms", "update_above_1"} <= set(steps):
        scores["traces"] = traces(steps, onsets)
    return scores


def _times(run: Run, evals: Mapping[str, Array]) -> dict[str, Steps]:
    """Return the steps to each target. Raises UserError for a target on a metric that was not evaluated."""
    times = {}
    for target in run.targets:
        if target["metric"] not in evals:
            where = JUDGE if "targets" in run.judged_by else "the config of"
            raise unknown(f"metric of a target in {where} {run.folder}", target["metric"], evals.keys() - {"step"})
        bounds = {key: target[key] for key in ("at_most", "at_least") if key in target}
        reached = steps_to_target(evals["step"], evals[target["metric"]], **bounds)
        times[target_name(target)] = NEVER if run.has_diverged else reached
    return times


def largest(values: Array) -> float:
    """Return the largest value of the steps that were measured; NaN if none was."""
    return float(np.fmax.reduce(values, initial=math.nan))


def _own_update(steps: Mapping[str, Array], decay: float) -> float:
    """Return the largest update without what decoupled weight decay, and rounding to float32, can have added."""
    if "param_max" not in steps:
        return math.nan
    added = (decay + 2.0**-23 / steps["lr"]) * steps["param_max"]
    return largest(steps["update_max"] - added)


def _before_spikes(steps: Mapping[str, Array], onsets: Sequence[int]) -> float:
    """Return the mean over spikes of spike_onsets.growth; NaN without a spike that it can judge."""
    logs = growth(steps["update_rms"], onsets) if "update_rms" in steps else np.array([])
    return float(logs.mean()) if len(logs) else math.nan


def grouped(runs: Sequence[Run], key: str) -> dict[str, list[Run]]:
    """Group runs by one of their fields, in their order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(getattr(run, key), []).append(run)
    return groups
