"""Records as runs with their scores: read one at a time, on all cores if many; of its steps a run keeps a curve."""

import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from s3bench import identity, published, record, score
from s3bench.censored import NEVER, Steps, steps_to_target
from s3bench.errors import UserError, one_line, unknown
from s3bench.figures import Curve
from s3bench.labels import label
from s3bench.onset import Traces, growth, no_traces, traces
from s3bench.rules import known_rule
from s3bench.spikes import Spike, find_spikes
from s3bench.targets import check_targets, target_name

TREND_STEPS = 25  # window of the running median in the loss curves
CURVE_POINTS = 1000  # kept of a run's loss for the figures
READ = ["loss", "lr", "grad_norm", "update_rms", "update_max", "param_max"]  # columns of the steps
JUDGE = "judge.yaml"  # in a results folder: other targets and detector parameters than the records'
MANY = 200  # records from which on all cores read them


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


def read_runs(results_dir: str | Path) -> list[Run]:
    """The undisturbed runs of a results folder, scored, in the page's order, see `read_all`."""
    return read_all(results_dir)[0]


def read_all(results_dir: str | Path) -> tuple[list[Run], list[Run]]:
    """The runs of a results folder, scored, in the page's order: the undisturbed ones, and those with a shock.

    Where the folder holds a JUDGE, its targets and detector parameters are taken instead of the records'. A shocked run
    has the labels of its undisturbed twin. From 200 records on, one process per core reads them; a script
    that calls this needs `if __name__ == "__main__":`.

    Raises:
        UserError: no records, a damaged one, or records of one task that were not held to the same targets and
            detector parameters or had other data.
    """
    folders = record.folders(results_dir)
    measures = _measures(Path(results_dir, JUDGE))
    read = partial(read_run, measures=measures)
    if len(folders) < MANY:
        runs = list(map(read, folders))
    else:
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            runs = list(pool.map(read, folders, chunksize=16))
    for task in measures.keys() - {run.row["task"] for run in runs}:
        raise unknown(f"task in {Path(results_dir, JUDGE)}", task, {run.row["task"] for run in runs})
    _refuse_copies(runs)
    label([run.row for run in runs])
    _refuse_mixtures(runs)
    runs.sort(key=lambda run: tuple(run.row[key] for key in ORDER))
    shocks = [identity.shock(run.row["config"]) for run in runs]
    return (
        [run for run, shock in zip(runs, shocks, strict=True) if shock is None],
        [run for run, shock in zip(runs, shocks, strict=True) if shock is not None],
    )


ORDER = ("ladder", "horizon", "task", "optimizer", "lr_multiplier", "seed")


def _measures(file: Path) -> dict[str, dict[str, Any]]:
    """What a JUDGE says: targets and detector parameters by task; of none nothing. Raises UserError."""
    if not file.exists():
        return {}
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {one_line(error)}") from error
    for task, measure in given.items() if isinstance(given, dict) else [("", given)]:
        kinds = {"targets": list, "spikes": dict}
        if not isinstance(measure, dict) or any(type(x) is not kinds.get(key) for key, x in measure.items()):
            raise UserError(f"{file}: it must be {{TASK: {{targets: [...], spikes: {{...}}}}}}")
        check_targets(measure.get("targets", []), f"{file}: {task}.targets")
    return dict(given)


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
    run.curve = _thinned(loss, [spike.peak for spike in run.spikes], diverged)
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
    """The mean over spikes of how much larger updates were just before it, see onset.py; NaN of none."""
    logs = growth(steps["update_rms"], [spike.onset for spike in spikes]) if "update_rms" in steps else np.array([])
    return float(logs.mean()) if len(logs) else math.nan


def _thinned(loss: npt.NDArray[np.float64], peaks: Sequence[int], diverged: bool) -> Curve:
    """About CURVE_POINTS losses, among them the smallest and the largest of each stretch, and the peaks of spikes."""
    kept = np.arange(len(loss))
    if len(loss) > CURVE_POINTS:
        width = math.ceil(len(loss) / (CURVE_POINTS // 2))
        stretches = np.pad(loss, (0, -len(loss) % width), mode="edge").reshape(-1, width)
        begins = np.arange(0, len(loss), width)
        extremes = [begins + stretches.argmin(axis=1), begins + stretches.argmax(axis=1)]
        kept = np.unique([0, *peaks, *np.minimum(np.concatenate(extremes), len(loss) - 1), len(loss) - 1])
    trends = score.running_median(kept, loss, TREND_STEPS)
    with np.errstate(over="ignore"):  # half the memory; what is too large for it is as good as infinite in a figure
        losses, trend = loss[kept].astype(np.float32), trends.astype(np.float32)
    heights = [(peak, float(loss[peak])) for peak in peaks]
    return Curve(steps=kept.astype(np.int32), loss=losses, trend=trend, peaks=heights, diverged=diverged)


def _refuse_copies(runs: Sequence[Run]) -> None:
    """Raise UserError if one run stands in two folders: it would count as two seeds."""
    seen: dict[str, Path] = {}
    for run in runs:
        first = seen.setdefault(run.row["run_id"], run.row["folder"])
        if first != run.row["folder"]:
            raise UserError(f"{run.row['folder']} is a copy of {first}, the same run; move one of them away")


def _refuse_mixtures(runs: Sequence[Run]) -> None:
    """Raise UserError if runs of one task were not held to the same measure, or not made by the same code."""
    for task, group in grouped(runs, "task").items():
        for what, facts in (
            ("targets", [run.row["config"]["task"]["targets"] for run in group]),
            ("detector parameters", [run.row["config"]["task"]["spikes"] for run in group]),
            ("data", [run.row["fingerprint"] for run in group if run.has_result]),
            ("task's code", [run.row["config"]["code"].get("task") for run in group]),
            ("schedule's code", [run.row["config"]["code"].get("schedule") for run in group]),
            ("torch", [_version(run, "torch") for run in group if run.has_result]),
            ("task's library", [_library(run, run.row["config"]["task"]["build"]) for run in group if run.has_result]),
        ):
            mend = f"say in {JUDGE} what all are held to" if what in JUDGED else APART
            _refuse_several(task, what, facts, mend)
        for optimizer, of_it in grouped(group, "optimizer").items():
            _refuse_several(
                f"{task} with {optimizer}",
                "optimizer's code",
                [run.row["config"]["code"].get("optimizer") for run in of_it],
            )
            libraries = [_library(run, run.row["config"]["optimizer"]) for run in of_it if run.has_result]
            _refuse_several(f"{task} with {optimizer}", "optimizer's library", libraries)


JUDGED = ("targets", "detector parameters")
APART = "sweep into another results_dir, or delete those of one kind"


def _refuse_several(where: str, what: str, facts: Sequence[Any], mend: str = APART) -> None:
    different = list(dict.fromkeys(json.dumps(fact) for fact in facts))
    if len(different) > 1:
        raise UserError(
            f"the records of {where} differ in their {what} ({' and '.join(different[:2])}) and cannot stand in "
            f"one table; {mend}"
        )


def _version(run: Run, package: str) -> str | None:
    """Of a library that a run used; without what says for which device it was built."""
    for name, version in run.row["summary"]["versions"].items():
        if name.lower().replace("-", "_") == package.lower():
            return str(version).partition("+")[0]
    return None


def _library(run: Run, node: Mapping[str, Any]) -> str | None:
    """The version of the library that a _target_ comes from; None of code that is in no library."""
    package = node["_target_"].partition(".")[0]
    version = _version(run, package)
    return None if version is None else f"{package} {version}"


def grouped(runs: Sequence[Run], key: str) -> dict[str, list[Run]]:
    """The runs by a key of their rows, in their order."""
    of: dict[str, list[Run]] = {}
    for run in runs:
        of.setdefault(run.row[key], []).append(run)
    return of
