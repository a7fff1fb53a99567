"""Measures a task's settings and writes them into its YAML: base learning rate, targets, detector parameters."""

import io
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from s3bench import catalog, record
from s3bench.console import say
from s3bench.errors import UserError, unknown
from s3bench.report.analysis.calibrate import LOW, calibrate, smallest_height
from s3bench.run.config.compose import run_config
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import RunConfig, as_dict
from s3bench.run.sweep.sweep import sweep

TUNER = "adamw_95"  # the optimizer that a task is tuned with
MULTIPLIERS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the YAML's learning rate, ascending
FIRST_TRIED = slice(2, 7)  # of the multipliers; the others follow only where the best one is at the edge
LR_SEEDS = range(100, 106)  # no experiment reports on seeds from 100 up
TARGET_SEEDS = range(100, 112)
CALM_MULTIPLIERS = (0.1, LOW)  # of runs that are not expected to spike
CALM_OPTIMIZERS = (TUNER, "s3")
CALM_STEPS = 33_000  # at least this many steps calibrate the detector
END = 2**62  # a step after the last one
WIDTH = 120  # characters in a line of a YAML file
GAP = r"( |\n# )"  # between two words of a wrapped comment
NOTE = re.compile(rf"^# Measured on \d(.|\n# )*?`s3bench{GAP}tune(.|\n# )*?\blr{GAP}\S+\.\n", re.MULTILINE)  # see _note

Array = npt.NDArray[Any]
Evaluations = tuple[Array, Array] | None  # steps and values of one run, lower values are better; None: diverged


class Metric(NamedTuple):
    """What the targets are measured by."""

    name: str
    sign: int  # 1: lower values are better, -1: higher values are better

    def evaluations(self, folder: Path) -> Evaluations:
        """Return a run's evaluations with the sign applied, None if the run diverged. Raises UserError."""
        if record.state(folder) == record.DIVERGED:
            return None
        evals = record.eval_arrays(folder)
        if self.name not in evals:
            raise unknown("metric in task.targets", self.name, set(evals) - {"step"})
        return evals["step"], self.sign * evals[self.name]

    def rounded(self, value: float) -> float:
        """Return a value to three digits, with the sign taken off again."""
        return float(f"{self.sign * value:.3g}")


@dataclass(frozen=True)
class Measured:
    """The measured settings of a task, with the comments that stand beside them in its YAML."""

    note: str
    lr: float
    targets: list[dict[str, Any]]  # {metric, at_most} or {metric, at_least}, the main one first
    target_comments: list[str]
    spikes: dict[str, float]
    spikes_comment: str


def tune(task: str, overrides: Sequence[str]) -> Path:
    """Measure a task, write its settings and return the YAML's path. Runs of an earlier call are used again.

    Everything is measured by the metric of the YAML's first target, or by the loss if the YAML has none. The base
    learning rate is the one at which AdamW (.9, .95) ends best, of a grid around the YAML's, by the median over six
    seeds. The targets are where twelve seeds end at that rate: the median first, then the ladder around it. The
    detector's parameters are those of calibrate.py, from runs at a tenth and three tenths of that rate; they stay as
    they are if these spike too.

    Raises:
        UserError: an unknown task, an override that changes what is measured, or a run that failed.
    """
    file, config = _task(task, overrides)
    metric = _metric(config)
    given, results = [f"task={task}", *overrides], Path("results", "tuning", task)
    by_multiplier = try_learning_rates([*given, f"results_dir={results / 'lr'}"], metric)
    lr = float(f"{config.task.lr * _best(by_multiplier):.2g}")
    given = [*given, f"task.lr={lr}", f"results_dir={results / 'end'}"]
    ends = train([*given, f"optimizer={TUNER}", "lr_multiplier=1"], TARGET_SEEDS)
    targets, target_comments = ladder([metric.evaluations(folder) for folder in ends], metric, config.horizon)
    spikes, spikes_comment = _spikes(
        _calm_runs(given, config.horizon), smallest_height(as_dict(config)), config.task.spikes
    )
    measured = Measured(
        note=_note(task, _machine(ends[0]), by_multiplier, metric, config.task.lr),
        lr=lr,
        targets=targets,
        target_comments=target_comments,
        spikes=spikes,
        spikes_comment=spikes_comment,
    )
    write_settings(file, measured)
    return file


def _task(task: str, overrides: Sequence[str]) -> tuple[Path, RunConfig]:
    """Return a task's YAML and its config. Raises UserError."""
    files = catalog.choices("task")
    if task not in files:
        raise unknown("task", task, files)
    config = run_config([f"task={task}", *overrides])
    if config.run_id != run_config([f"task={task}"]).run_id:
        raise UserError(
            "tune measures the task as its YAML defines it; only device, workers, data_dir and tracker can be set"
        )
    return files[task], config


def _metric(config: RunConfig) -> Metric:
    """Return the metric of the main target; without targets the loss, which every evaluation has."""
    main = next(iter(config.task.targets), {"metric": "loss"})
    return Metric(main["metric"], -1 if "at_least" in main else 1)


def try_learning_rates(given: list[str], metric: Metric) -> dict[float, list[Evaluations]]:
    """Return the evaluations of each seed by multiplier. The grid is widened while its best one is at the edge."""
    found: dict[float, list[Evaluations]] = {}
    begin, end = FIRST_TRIED.start, FIRST_TRIED.stop
    while new := [multiplier for multiplier in MULTIPLIERS[begin:end] if multiplier not in found]:
        for multiplier in new:
            folders = train([*given, f"optimizer={TUNER}", f"lr_multiplier={multiplier}"], LR_SEEDS)
            found[multiplier] = [metric.evaluations(folder) for folder in folders]
        best = _best(found)
        begin = max(0, begin - (best == MULTIPLIERS[begin]))
        end = min(len(MULTIPLIERS), end + (best == MULTIPLIERS[end - 1]))
    return dict(sorted(found.items()))


def _best(by_multiplier: dict[float, list[Evaluations]]) -> float:
    """Return the multiplier with the lowest median at the end."""
    return min(by_multiplier, key=lambda multiplier: _median_end(by_multiplier[multiplier]))


def _calm_runs(given: list[str], horizon: int) -> list[Path]:
    """Return the records of as many runs at low learning rates as CALM_STEPS asks for."""
    seeds = max(3, math.ceil(CALM_STEPS / (len(CALM_MULTIPLIERS) * len(CALM_OPTIMIZERS) * horizon)))
    optimizers, multipliers = ",".join(CALM_OPTIMIZERS), ",".join(map(str, CALM_MULTIPLIERS))
    return train([*given, f"optimizer={optimizers}", f"lr_multiplier={multipliers}"], range(100, 100 + seeds))


def train(given: list[str], seeds: range) -> list[Path]:
    """Train the runs that are not over yet and return the records of all. Raises UserError."""
    overrides = [*given, f"seed=range({seeds.start},{seeds.stop})"]
    folders = [record.folder_of(as_dict(config)) for config in run_configs(overrides)]
    if sweep(overrides):
        raise UserError("a run failed, so nothing was written; run the same command again to resume")
    if any(record.state(folder) == record.RUNNING for folder in folders):
        raise UserError(
            "another process is training some of the runs; when it is done, run the same command again to resume"
        )
    return folders


def _values(runs: list[Evaluations], step: int) -> list[float]:
    """Return the value of each run at the evaluation nearest to a step; infinite where the run diverged."""
    return [math.inf if run is None else float(run[1][np.abs(run[0] - step).argmin()]) for run in runs]


def _median_end(runs: list[Evaluations]) -> float:
    return float(np.median(_values(runs, END)))


def ladder(runs: list[Evaluations], metric: Metric, horizon: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the targets and a comment for each: the median end first, then easier ones, then a harder one.

    Raises UserError if more than half of the runs diverged.
    """
    half, three_quarters = horizon // 2, 3 * horizon // 4
    rungs = [
        (np.median(_values(runs, END)), "the main one: the median of where AdamW (.9, .95) ends"),
        (np.median(_values(runs, half)), f"its median at step {half}"),
        (np.median(_values(runs, three_quarters)), f"at step {three_quarters}"),
        (_lower_quartile(_values(runs, END)), "the better quartile of where it ends"),
    ]
    comments: dict[float, str] = {}  # equal rungs are one target, with the comment of the first
    for value, comment in rungs:
        if math.isfinite(value):
            comments.setdefault(metric.rounded(value), comment)
    if not comments:
        raise UserError("AdamW (.9, .95) diverged at its best learning rate: no target can be set")
    bound = "at_most" if metric.sign > 0 else "at_least"
    return [{"metric": metric.name, bound: value} for value in comments], list(comments.values())


def _lower_quartile(ends: list[float]) -> float:
    with np.errstate(invalid="ignore"):  # between two runs that diverged
        return float(np.quantile(ends, 0.25))


def _spikes(folders: list[Path], smallest: float, own: dict[str, float]) -> tuple[dict[str, float], str]:
    """Return the detector's parameters, calibrated on calm runs, and a comment.

    Where runs at low rates spike too, as on a task that is there for its spikes, they are the YAML's `own`.
    """
    losses = [record.step_arrays(folder, ["loss"])["loss"] for folder in folders]
    found = calibrate(losses, smallest)
    if found is None:
        say(f"the detector is not calibrated: runs at lr / 10 and lr × {LOW:g} spike too; it stays as it was")
        return own, f"not calibrated: runs at lr / 10 and lr × {LOW:g} spike too"
    comment = f"{found.spikes} in {found.steps:,} calm steps, at lr / 10 and lr × {LOW:g}"
    return {"k": round(found.k, 1), "delta": found.delta, "ceiling": found.ceiling}, comment


def _machine(folder: Path) -> str:
    summary: dict[str, Any] = record.load_record(folder)["summary"]
    return f"{summary['device']}, torch {summary['versions']['torch']}"


def _note(task: str, machine: str, by_multiplier: dict[float, list[Evaluations]], metric: Metric, lr: float) -> str:
    """Return the comment above the learning rate, which NOTE finds again: how it was measured."""
    ends = ", ".join(
        f"{metric.rounded(_median_end(runs)):g} at lr {lr * multiplier:.2g}"
        for multiplier, runs in by_multiplier.items()
    )
    return (
        f"Measured on {date.today()}, {machine}, with seeds from 100 up, by `s3bench tune {task}`. "
        f"AdamW (.9, .95) ends at {metric.name} {ends}."
    )


def write_settings(file: Path, measured: Measured) -> None:
    """Write measured settings into a task's YAML, with their comments; everything else in it stays.

    Raises UserError if the file cannot be written.
    """
    text = NOTE.sub("", file.read_text(encoding="utf-8"))
    yaml = round_trip(text)
    settings = yaml.load(text)
    _replace(settings, "lr", measured.lr, [])
    note = textwrap.fill(measured.note, WIDTH - len("# "), break_on_hyphens=False)
    settings.yaml_set_comment_before_after_key("lr", before=note)
    targets = CommentedSeq(map(_on_one_line, measured.targets))
    _replace(settings, "targets", targets, measured.target_comments)
    _replace(settings, "spikes", _on_one_line(measured.spikes), [measured.spikes_comment])
    text = _dumped(yaml, settings)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}; its text would be:\n{text}") from error


class _Representer(RoundTripRepresenter):
    """Writes null as `null`, which ruamel would leave out."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def round_trip(text: str) -> YAML:
    """Return the reader and writer that leaves a YAML text as it is.

    Lists are indented, as in this project's files, or not: whichever returns this text unchanged, if one does.
    """
    indented, flush = YAML(), YAML()
    indented.indent(mapping=2, sequence=4, offset=2)
    for yaml in (indented, flush):
        yaml.width = 2**20  # never wrap
        yaml.preserve_quotes = True
        yaml.Representer = _Representer
    return flush if _dumped(flush, flush.load(text)) == text else indented


def _dumped(yaml: YAML, settings: Any) -> str:
    stream = io.StringIO()
    yaml.dump(settings, stream)
    return stream.getvalue()


def _on_one_line(mapping: dict[str, Any]) -> CommentedMap:
    node = CommentedMap(mapping)
    node.fa.set_flow_style()
    return node


def _replace(settings: CommentedMap, key: str, value: Any, comments: Sequence[str]) -> None:
    """Replace a value and the comments at the ends of its lines, one per item of a list; the lines below it stay."""
    below = _comments_below(settings, key) if key in settings else ""
    settings[key] = value
    holder, places = (value, range(len(value))) if isinstance(value, CommentedSeq) else (settings, [key])
    ends = [f"# {comment}\n" for comment in comments] or ["\n"]
    ends[-1] += below
    for place, end in zip(places, ends, strict=True):
        holder.ca.items.setdefault(place, [None] * 4)[_slot(holder)] = CommentToken(end, CommentMark(0))


def _comments_below(holder: Any, place: Any) -> str:
    """Return the comment lines between a value and the next key: ruamel keeps them with the value's last part."""
    value, token = holder[place], (holder.ca.items.get(place) or [None] * 4)[_slot(holder)]
    if token is not None:
        return str(token.value).partition("\n")[2]
    if not isinstance(value, CommentedMap | CommentedSeq) or not value:
        return ""
    if value.ca.end:
        return "".join(token.value for token in value.ca.end)
    return _comments_below(value, list(value)[-1] if isinstance(value, CommentedMap) else len(value) - 1)


def _slot(holder: Any) -> int:
    """Return the place of the comment after a value among ruamel's four comments of a map's key or a list's item."""
    return 0 if isinstance(holder, CommentedSeq) else 2
