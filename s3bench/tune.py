"""Measures a task's settings and writes them into its YAML: base learning rate, targets, detector parameters."""

import math
import re
import textwrap
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from s3bench import catalog, record
from s3bench.errors import UserError, unknown
from s3bench.report.analysis.calibrate import LOW, calibrate, smallest_height
from s3bench.run.config.compose import run_config
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import as_dict
from s3bench.run.sweep.sweep import sweep

OPTIMIZER = "adamw_95"
GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # multipliers; the outer ones only where the best is beside
FIRST = slice(2, 7)  # of the grid
LR_SEEDS = range(100, 106)  # no experiment reports on seeds from 100 on
TARGET_SEEDS = range(100, 112)
CALM = (0.1, LOW)  # multipliers of runs that should not spike,
CALM_OPTIMIZERS = (OPTIMIZER, "s3")
CALM_STEPS = 33_000  # at least
END = 2**62  # a step after the last one
WIDTH = 120  # of the YAML's lines
GAP = r"( |\n# )"  # between two words of a wrapped comment
NOTE = re.compile(rf"^# Measured on \d(.|\n# )*?`s3bench{GAP}tune(.|\n# )*?\blr{GAP}\S+\.\n", re.MULTILINE)  # a call's

Array = npt.NDArray[Any]
Curve = tuple[Array, Array] | None  # the steps and values of a run's evaluations, lower ones better; None: diverged


def tune(task: str, overrides: Sequence[str]) -> Path:
    """Measure a task and write its settings; returns the YAML's path. What is there of an earlier call is used.

    All is measured by the metric of the YAML's first target, or by the loss where it has none. The base learning rate
    is AdamW's (.9, .95) best of a grid around the YAML's, by the median of where six seeds end. The targets are where
    twelve seeds end at that rate: the median, then the ladder around it. The detector's parameters are those of
    calibrate.py, from runs at a tenth and three tenths of that rate.

    Raises:
        UserError: no such task, an override that changes what is measured, or a run that failed.
    """
    files = catalog.choices("task")
    if task not in files:
        raise unknown("task", task, files)
    config = run_config([f"task={task}", *overrides])
    if config.run_id != run_config([f"task={task}"]).run_id:
        raise UserError("tune measures what the task's YAML says; only device, workers, data_dir and tracker are free")
    given, place = [f"task={task}", *overrides], Path("results", "tuning", task)
    main = next(iter(config.task.targets), {"metric": "loss"})  # which every evaluation has
    metric = Metric(main["metric"], -1 if "at_least" in main else 1)
    by_multiplier = _grid([*given, f"results_dir={place / 'lr'}"], metric)
    best = min(by_multiplier, key=lambda multiplier: _median_end(by_multiplier[multiplier]))
    lr = float(f"{config.task.lr * best:.2g}")
    given = [*given, f"task.lr={lr}", f"results_dir={place / 'end'}"]
    ends = _sweep([*given, f"optimizer={OPTIMIZER}", "lr_multiplier=1"], TARGET_SEEDS)
    seeds = max(3, math.ceil(CALM_STEPS / (len(CALM) * len(CALM_OPTIMIZERS) * config.horizon)))
    axes = [f"optimizer={','.join(CALM_OPTIMIZERS)}", f"lr_multiplier={','.join(map(str, CALM))}"]
    calm = _sweep([*given, *axes], range(100, 100 + seeds))
    what = (
        f"Measured on {date.today()}, {_machine(ends[0])}, on seeds from 100 on, by `s3bench tune {task}`. "
        f"AdamW (.9, .95) ends at {metric.name} {_ends(by_multiplier, metric, config.task.lr)}."
    )
    note = textwrap.wrap(what, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    measured = {
        "lr": [*note, f"lr: {lr:g}"],
        "targets": _targets([metric.of(folder) for folder in ends], metric, config.horizon),
        "spikes": [_spikes(calm, smallest_height(as_dict(config)))],
    }
    _write(files[task], measured)
    return files[task]


class Metric(NamedTuple):
    """What is measured at an evaluation, the metric of the task's main target."""

    name: str
    sign: int  # 1: lower values are better, -1: higher ones

    def of(self, folder: Path) -> Curve:
        """Of a run, its sign applied."""
        if record.state(folder) == record.DIVERGED:
            return None
        evals = record.eval_arrays(folder)
        if self.name not in evals:
            raise unknown("metric in task.targets", self.name, set(evals) - {"step"})
        return evals["step"], self.sign * evals[self.name]

    def written(self, value: float) -> str:
        """A value with its sign taken off, to three digits."""
        return f"{self.sign * value:.3g}"


def _grid(given: list[str], metric: Metric) -> dict[float, list[Curve]]:
    """The curves of each seed by multiplier; the grid is widened while the best one is at its edge."""
    found: dict[float, list[Curve]] = {}
    begin, end = FIRST.start, FIRST.stop
    while new := [multiplier for multiplier in GRID[begin:end] if multiplier not in found]:
        for multiplier in new:
            runs = _sweep([*given, f"optimizer={OPTIMIZER}", f"lr_multiplier={multiplier}"], LR_SEEDS)
            found[multiplier] = [metric.of(folder) for folder in runs]
        best = min(found, key=lambda multiplier: _median_end(found[multiplier]))
        begin, end = max(0, begin - (best == GRID[begin])), min(len(GRID), end + (best == GRID[end - 1]))
    return dict(sorted(found.items()))


def _sweep(given: list[str], seeds: range) -> list[Path]:
    """The records of the runs."""
    overrides = [*given, f"seed=range({seeds.start},{seeds.stop})"]
    folders = [record.folder_of(as_dict(config)) for config in run_configs(overrides)]
    if sweep(overrides):
        raise UserError(
            "a run failed, and without it nothing is written; the same command goes on with what is missing"
        )
    if any(record.state(folder) == record.RUNNING for folder in folders):
        raise UserError("another process is at some of the runs; when it is done, the same command goes on")
    return folders


def _values(runs: list[Curve], step: int) -> list[float]:
    """The value of each run at the evaluation next to a step; infinite where it diverged."""
    return [math.inf if run is None else float(run[1][np.abs(run[0] - step).argmin()]) for run in runs]


def _median_end(runs: list[Curve]) -> float:
    return float(np.median(_values(runs, END)))


def _ends(by_multiplier: dict[float, list[Curve]], metric: Metric, lr: float) -> str:
    """Where the grid ended, in words: "0.17 at lr 0.001, ..."."""
    return ", ".join(f"{metric.written(_median_end(runs))} at lr {lr * m:.2g}" for m, runs in by_multiplier.items())


def _targets(runs: list[Curve], metric: Metric, horizon: int) -> list[str]:
    """The lines of the targets: the median end first, then what is easier, then what is harder."""
    half, three_quarters = horizon // 2, 3 * horizon // 4
    rungs = [
        (np.median(_values(runs, END)), "the main one: the median of where AdamW (.9, .95) ends"),
        (np.median(_values(runs, half)), f"its median at step {half}"),
        (np.median(_values(runs, three_quarters)), f"at step {three_quarters}"),
        (_lower_quartile(_values(runs, END)), "the better quartile of where it ends"),
    ]
    known: dict[str, str] = {}  # two that are equal are one
    for value, what in rungs:
        if math.isfinite(value):
            known.setdefault(metric.written(value), what)
    if not known:
        raise UserError("AdamW (.9, .95) diverged at its best learning rate: there is no target")
    bound = "at_most" if metric.sign > 0 else "at_least"
    lines = [f"  - {{metric: {metric.name}, {bound}: {value}}} # {what}" for value, what in known.items()]
    return ["targets:", *lines]


def _lower_quartile(ends: list[float]) -> float:
    with np.errstate(invalid="ignore"):  # between two that diverged
        return float(np.quantile(ends, 0.25))


def _spikes(folders: list[Path], smallest: float) -> str:
    """The line of the detector's parameters."""
    losses = [record.step_arrays(folder, ["loss"])["loss"] for folder in folders]
    found = calibrate(losses, smallest)
    if found is None:
        steps = sum(map(len, losses))
        raise UserError(
            f"{steps:,} steps at lr / 10 and lr × {LOW:g} are not calm: the detector finds spikes everywhere"
        )
    parameters = f"{{k: {found.k:.1f}, delta: {found.delta}, ceiling: {found.ceiling}}}"
    return f"spikes: {parameters} # {found.spikes} in {found.steps:,} calm steps, at lr / 10 and lr × {LOW:g}"


def _machine(folder: Path) -> str:
    summary: dict[str, Any] = record.load_record(folder)["summary"]
    return f"{summary['device']}, torch {summary['versions']['torch']}"


def _write(file: Path, measured: dict[str, list[str]]) -> None:
    """Put the lines of each key in the place of those that it has in the YAML, or at the end; all others stay."""
    text = NOTE.sub("", file.read_text(encoding="utf-8"))
    lines = text.splitlines()
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in reversed(root.value):
        if key.value in measured:
            lines[key.start_mark.line : _last_line(value) + 1] = measured[key.value]
    there = {key.value for key, _ in root.value}
    lines += [line for key, own in measured.items() if key not in there for line in own]
    text = "\n".join(lines) + "\n"
    yaml.safe_load(text)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}; it would say:\n{text}") from error


def _last_line(node: yaml.Node) -> int:
    """Of a YAML value, from 0; a block ends with its last value, for PyYAML counts the comments below it in."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    return int(node.end_mark.line)
