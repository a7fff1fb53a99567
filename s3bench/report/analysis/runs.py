"""Records as runs with their scores: read one at a time, on all cores if many; of its steps a run keeps a curve."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from s3bench import record
from s3bench.errors import UserError, unknown
from s3bench.record.targets import target_name
from s3bench.report.analysis.loss_curve import Curve, thinned
from s3bench.report.analysis.spike_onsets import Traces, growth, no_traces, traces
from s3bench.report.analysis.update_rules import known_rule
from s3bench.report.stats.censored import NEVER, Steps, steps_to_target
from s3bench.spikes import Spike, find_spikes, published

READ = ["loss", "lr", "grad_norm", "update_rms", "update_max", "param_max"]  # columns of the steps
JUDGE = "judge.yaml"  # in a results folder: other targets and detector parameters than the records'


@dataclass
class Run:
    """A record with its scores, all empty where it has no result. Of its steps it keeps a curve and those at spikes."""

    row: dict[str, Any]  # of load_record; `task` and `optimizer` are labels, `ladder` the task's without the horizon
    scores: dict[str, Any] = field(default_factory=dict)
    times: dict[str, Steps] = field(default_factory=dict)  # by target
    spikes: list[Spike] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)  # the names of the task's own
    published: npt.NDArray[np.int64] = field(default_factory=published.no_counts)
    curve: Curve | None = None
    traces: Traces = field(default_factory=no_traces)  # of updates and loss around the onsets of its spikes

    @property
    def has_result(self) -> bool:
        """Whether the run is over and did not fail."""
        return self.row["state"] in record.OVER

    @property
    def targets(self) -> list[str]:
        """The names of its task's targets, as the YAML orders them: the main one first."""
        return [target_name(target) for target in self.row["config"]["task"]["targets"]]


def read_run(folder: Path, measures: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Run:
    """A record with its scores; `measures`: targets and detector parameters instead of its own, by task."""
    run = Run(record.load_record(folder))
    run.row["measure"] = sorted(measures.get(run.row["task"], {}))
    run.row["config"]["task"] |= measures.get(run.row["task"], {})
    if not run.has_result:
        return run
    columns = [*READ, "update_above_1"] if run.row["config"]["measure_every"] == 1 else READ
    steps, evals = record.step_arrays(folder, columns), record.eval_arrays(folder)
    task, loss = run.row["config"]["task"], steps["loss"]
    try:
        run.spikes = _without_resumed(find_spikes(loss, **task["spikes"]), run.row["summary"])
    except (TypeError, ValueError) as error:
        where = JUDGE if "spikes" in run.row["measure"] else "its config"
        raise UserError(f"{folder}: the detector parameters in {where} cannot be used ({error})") from error
    diverged = run.row["state"] == record.DIVERGED
    run.metrics = [name for name in evals if name not in ("step", "loss")]
    for target in task["targets"]:
        if target["metric"] not in evals:
            what = f"metric of a target in {JUDGE if 'targets' in run.row['measure'] else 'the config of'} {folder}"
            raise unknown(what, target["metric"], evals.keys() - {"step"})
        bounds = {key: target[key] for key in ("at_most", "at_least") if key in target}
        time = NEVER if diverged else steps_to_target(evals["step"], evals[target["metric"]], **bounds)
        run.times[target_name(target)] = time
    run.scores = {
        "final_loss": math.inf if diverged else float(evals["loss"][-1]),
        "initial_loss": float(evals["loss"][0]),
        "spikes": len(run.spikes),
        "update_max": _largest(steps["update_max"]) if "update_max" in steps else math.nan,
        "own_update": _own_update(steps, known_rule(run.row["config"]["optimizer"])[1].get("weight_decay", 0.0)),
        "before_spikes": _before_spikes(steps, run.spikes),
        "smallest_gradient": float(evals["grad_norm"].min()) if "grad_norm" in evals else math.nan,
        **{name: math.nan if diverged else float(evals[name][-1]) for name in run.metrics},
        **{name: int(time.high) if time.reached else None for name, time in run.times.items()},
    }
    run.published = published.counts(loss, steps["grad_norm"])
    if {"update_rms", "update_above_1"} <= set(steps):
        run.traces = traces(steps, [spike.onset for spike in run.spikes])
    run.curve = thinned(loss, [spike.peak for spike in run.spikes], diverged)
    return run


def _without_resumed(spikes: list[Spike], summary: dict[str, Any]) -> list[Spike]:
    """The spikes that do not begin where a run went on from a checkpoint inexactly, on a GPU or another machine."""
    inexact = {resumed["step"] for resumed in summary.get("resumed", []) if not resumed["exact"]}
    return [spike for spike in spikes if spike.onset not in inexact]


def _largest(values: npt.NDArray[np.float64]) -> float:
    """The largest of the steps that were measured; NaN of none."""
    return float(np.fmax.reduce(values, initial=math.nan))


def _own_update(steps: Mapping[str, npt.NDArray[np.float64]], decay: float) -> float:
    """The largest update without what decoupled weight decay, and rounding to float32, can have added to it."""
    if "param_max" not in steps:
        return math.nan
    added = (decay + 2.0**-23 / steps["lr"]) * steps["param_max"]
    return _largest(steps["update_max"] - added)


def _before_spikes(steps: Mapping[str, npt.NDArray[np.float64]], spikes: Sequence[Spike]) -> float:
    """The mean over spikes of how much larger updates were just before it, see spike_onsets.py; NaN of none."""
    logs = growth(steps["update_rms"], [spike.onset for spike in spikes]) if "update_rms" in steps else np.array([])
    return float(logs.mean()) if len(logs) else math.nan


def grouped(runs: Sequence[Run], key: str) -> dict[str, list[Run]]:
    """The runs by a key of their rows, in their order."""
    of: dict[str, list[Run]] = {}
    for run in runs:
        of.setdefault(run.row[key], []).append(run)
    return of
