"""Declares the typed config of a run, with the allowed range of each value beside its field."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

from omegaconf import MISSING

from s3bench.errors import UserError, unknown
from s3bench.record.shock_kinds import DOSED, KINDS, either
from s3bench.record.targets import check_targets

STATES = ("kept", "fresh", "watched")  # of an arm's optimizer, see run/replay/departure.py
FILLED_IN = ("names", "code", "run_id", "replay", "hydra")  # keys that cannot be overridden

Check = Callable[[str, Any], None]  # takes a key and its value; raises UserError
Metadata = dict[str, Check]  # of a field: {"check": Check}; None passes every check


def _in_range(least: int, most: float = math.inf) -> Metadata:
    """Return the metadata of a number from `least` to `most`."""

    def check(key: str, value: float) -> None:
        if not least <= value <= most:
            allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise UserError(f"{key} is {value}; it must be {allowed}")

    return {"check": check}


def _one_of(*allowed: str) -> Metadata:
    """Return the metadata of a text that must be one of those allowed."""

    def check(key: str, value: str) -> None:
        if value not in allowed:
            raise unknown(key, value, allowed)

    return {"check": check}


def _check_positive(key: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise UserError(f"{key} is {value}; it must be a number above 0")


def _check_folder(key: str, value: str) -> None:
    if not value:
        raise UserError(f"{key} is empty; it must be a folder")


def _check_target(key: str, node: Mapping[str, Any]) -> None:
    if not isinstance(node.get("_target_"), str):
        raise UserError(f"{key} has no _target_, the import path of what it builds")


def _check_launcher(key: str, launcher: Mapping[str, Any]) -> None:
    """Raise UserError unless the numbers of runs are positive integers; `jobs` may be null."""
    for name, may_be_null in {"jobs": True, "runs_per_gpu": False}.items():
        number = launcher.get(name, 1)
        is_count = isinstance(number, int) and not isinstance(number, bool) and number >= 1
        if not is_count and not (number is None and may_be_null):
            or_null = "null or " if may_be_null else ""
            raise UserError(f"{key}.{name} is {number!r}; it must be {or_null}a positive integer")


POSITIVE: Metadata = {"check": _check_positive}
FOLDER: Metadata = {"check": _check_folder}
BUILT: Metadata = {"check": _check_target}  # a node that Hydra instantiates
LAUNCHER: Metadata = {"check": _check_launcher}
TARGETS: Metadata = {"check": lambda key, value: check_targets(value, key)}


@dataclass
class TaskConfig:
    """configs/task/: how the task is built, and what its results are held against."""

    build: dict[str, Any] = field(default=MISSING, metadata=BUILT)  # the task's class (_target_) and its arguments
    lr: float = field(default=MISSING, metadata=POSITIVE)  # tuned base learning rate
    horizon: int = MISSING  # steps
    eval_every: int = MISSING  # steps
    targets: list[dict[str, Any]] = field(default=MISSING, metadata=TARGETS)  # the main one first
    spikes: dict[str, Any] = MISSING  # the detector's parameters
    download: bool = False  # whether missing data are downloaded, if their library can do that


@dataclass
class ShockConfig:
    """A disturbance on purpose, see run/shock.py. If the kind is "none", the other keys have no effect."""

    kind: str = field(default="none", metadata=_one_of("none", *KINDS))
    step: int = 0  # the first disturbed step
    length: int = 1  # steps; of kind stale, how many before the first disturbed step the state is from
    dose: float = 1.0  # the strength, of the kinds that have one


@dataclass
class ReplayConfig:
    """What makes a run one arm of a replay, see run/replay/. It is filled in: of any other run `run` is empty.

    An arm is another run, continued from shortly before one of its spikes with one thing changed.
    """

    run: str = ""  # the run_id of the run that is continued
    arm: str = ""  # the name of the YAML file that says what is changed
    onset: int = 0  # the step at which the spike begins
    step: int = 0  # the first step of the arm; those before it are the run's own
    until: int = 0  # the step before which the arm ends; its schedule ends at the run's horizon
    state: str = field(default="kept", metadata=_one_of(*STATES))  # of the optimizer
    noise: float = field(default=0.0, metadata=_in_range(0))  # parameters are multiplied by 1 + noise × normal numbers
    ahead: int = field(default=0, metadata=_in_range(0))  # step t trains on the batch of step t + ahead


@dataclass
class Names:
    """The names of the chosen YAML files; filled in."""

    task: str = ""
    optimizer: str = ""
    clip: str = ""
    schedule: str = ""
    tracker: str = ""
    launcher: str = ""
    experiment: str = "adhoc"


@dataclass
class RunConfig:
    """configs/run.yaml, typed, and the run's names."""

    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: dict[str, Any] = field(default=MISSING, metadata=BUILT)
    clip: dict[str, Any] = field(default=MISSING, metadata=BUILT)
    schedule: dict[str, Any] = field(default=MISSING, metadata=BUILT)
    tracker: dict[str, Any] = field(default=MISSING, metadata=BUILT)
    launcher: dict[str, Any] = field(default=MISSING, metadata=LAUNCHER)
    lr_multiplier: float = field(default=MISSING, metadata=POSITIVE)
    seed: int = field(default=MISSING, metadata=_in_range(0, 2**63 - 1))
    horizon: int = field(default=MISSING, metadata=_in_range(1))
    eval_every: int = field(default=MISSING, metadata=_in_range(1))
    shock: ShockConfig = field(default_factory=ShockConfig)
    measure_every: int = field(default=MISSING, metadata=_in_range(1))
    keep_before_spikes: int = field(default=MISSING, metadata=_in_range(0))
    replay: ReplayConfig = field(default_factory=ReplayConfig)  # filled in
    stop_diverged: int | None = field(default=None, metadata=_in_range(1))
    decay: str = field(default=MISSING, metadata=_one_of("all", "matrices"))  # see run/weight_decay.py
    accumulate: int = field(default=MISSING, metadata=_in_range(1))
    precision: str = field(default=MISSING, metadata=_one_of("float32", "bf16"))  # see run/learner.py
    compile: bool = MISSING
    channels_last: bool = MISSING
    checkpointing: bool = MISSING
    parallel: str = field(default=MISSING, metadata=_one_of("ddp", "fsdp2"))
    threads: int = field(default=MISSING, metadata=_in_range(1, 1024))
    device: str = MISSING
    workers: int = field(default=MISSING, metadata=_in_range(0, 1024))
    checkpoint_every: float = field(default=MISSING, metadata=POSITIVE)
    retries: int = field(default=MISSING, metadata=_in_range(0, 1024))
    fail_fast: bool = MISSING
    scale: str | None = None
    results_dir: str = field(default=MISSING, metadata=FOLDER)
    data_dir: str = MISSING
    names: Names = field(default_factory=Names)
    code: dict[str, str] = field(default_factory=dict)  # code digests of task, optimizer, clip and schedule; filled in
    run_id: str = ""  # filled in


PARTS = (RunConfig, TaskConfig, ShockConfig, ReplayConfig, Names)
TYPES = {part: get_type_hints(part) for part in PARTS}  # of all fields


def check_config(config: RunConfig) -> None:
    """Raise UserError for a value outside its range."""
    _check_fields(config)
    if config.shock.kind != "none":
        _check_shock(config.shock, config.horizon)


def _check_fields(node: Any, above: str = "") -> None:
    for one in fields(node):
        value = getattr(node, one.name)
        if type(value) in TYPES:
            _check_fields(value, f"{above}{one.name}.")
        elif value is not None and "check" in one.metadata:
            one.metadata["check"](f"{above}{one.name}", value)


def _check_shock(shock: ShockConfig, horizon: int) -> None:
    """Raise UserError for a shock that does not fit into the run."""
    if not 0 <= shock.step < horizon:
        raise UserError(f"shock.step is {shock.step}; it must be from 0 to {horizon - 1}, within the horizon")
    if KINDS[shock.kind].memory == "old" and not 1 <= shock.length <= shock.step:
        raise UserError(
            f"shock.length is {shock.length}; it must be at least 1 and at most shock.step, {shock.step}, "
            f"because the state of a shock of kind {shock.kind} is that of `length` steps before"
        )
    if not 1 <= KINDS[shock.kind].hits(shock.length) <= horizon - shock.step:
        raise UserError(
            f"shock.length is {shock.length}; it must be from 1 to {horizon - shock.step}, "
            f"because the horizon is {horizon} and the shock begins at step {shock.step}"
        )
    _check_positive("shock.dose", shock.dose)
    if not KINDS[shock.kind].has_dose and shock.dose != 1:
        allowed = f"only a shock of kind {either(DOSED)} has a dose, not {shock.kind}"
        raise UserError(f"shock.dose is {shock.dose:g}; {allowed}")


def declared_type(path: Sequence[str]) -> Any:
    """Return the type that the schema declares for a place in the config; Any for what lies in a dict or a list."""
    kind: Any = RunConfig
    for name in path:
        if kind not in TYPES:
            return Any
        kind = TYPES[kind][name]
    return kind


def as_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain data, for config.yaml."""
    return asdict(config)
