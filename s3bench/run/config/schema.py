"""The typed config of a run, and the ranges of its values."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import MISSING

from s3bench.errors import UserError, unknown
from s3bench.record.targets import check_targets

CHOICES = {
    "decay": ("all", "matrices"),  # see run/weight_decay.py
    "precision": ("float32", "bf16"),  # see run/learner.py
    "parallel": ("ddp", "fsdp2"),
}
SHOCKS = ("none", "gradient", "noise", "labels")  # see run/shock.py
FILLED_IN = ("names", "code", "run_id", "hydra")  # keys that are not for setting


@dataclass
class TaskConfig:
    """configs/task/: how the task is built, and what its results are held against."""

    build: dict[str, Any] = MISSING  # the task's class (_target_) and its arguments
    lr: float = MISSING  # tuned base learning rate
    horizon: int = MISSING  # steps
    eval_every: int = MISSING  # steps
    targets: list[dict[str, Any]] = MISSING  # {metric, at_most} or {metric, at_least}, the main one first
    spikes: dict[str, Any] = MISSING  # the detector's parameters
    download: bool = False  # whether data that are missing are downloaded, where their library can


@dataclass
class ShockConfig:
    """What disturbs a run on purpose, see run/shock.py. Without a kind, the other keys mean nothing."""

    kind: str = "none"  # one of SHOCKS
    step: int = 0  # the first that is disturbed
    length: int = 1  # steps
    dose: float = 1.0  # the factor of kind gradient


@dataclass
class Names:
    """The YAML files that were chosen; filled in."""

    task: str = ""
    optimizer: str = ""
    schedule: str = ""
    tracker: str = ""
    launcher: str = ""
    experiment: str = "adhoc"


@dataclass
class RunConfig:
    """configs/run.yaml, typed, and the run's names."""

    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    tracker: dict[str, Any] = MISSING
    launcher: dict[str, Any] = MISSING
    lr_multiplier: float = MISSING
    seed: int = MISSING
    horizon: int = MISSING
    eval_every: int = MISSING
    shock: ShockConfig = field(default_factory=ShockConfig)
    measure_every: int = MISSING
    stop_diverged: int | None = None
    clip_norm: float | None = None
    decay: str = MISSING
    accumulate: int = MISSING
    precision: str = MISSING
    compile: bool = MISSING
    channels_last: bool = MISSING
    checkpointing: bool = MISSING
    parallel: str = MISSING
    threads: int = MISSING
    device: str = MISSING
    workers: int = MISSING
    checkpoint_every: float = MISSING
    retries: int = MISSING
    fail_fast: bool = MISSING
    scale: str | None = None
    results_dir: str = MISSING
    data_dir: str = MISSING
    names: Names = field(default_factory=Names)
    code: dict[str, str] = field(default_factory=dict)  # digests of the task's, optimizer's and schedule's; filled in
    run_id: str = ""  # filled in


def check_config(config: RunConfig) -> None:
    """Raise UserError for a value outside its range."""
    at_least_1 = {key: getattr(config, key) for key in ("horizon", "eval_every", "measure_every", "accumulate")}
    if config.stop_diverged is not None:
        at_least_1["stop_diverged"] = config.stop_diverged
    for key, value in at_least_1.items():
        if value < 1:
            raise UserError(f"{key} is {value}; it must be at least 1")
    positive = {
        "lr_multiplier": config.lr_multiplier,
        "task.lr": config.task.lr,
        "clip_norm": config.clip_norm,
        "checkpoint_every": config.checkpoint_every,
    }
    for key, number in positive.items():
        if number is not None and not (number > 0 and math.isfinite(number)):
            raise UserError(f"{key} is {number}; it must be a number above 0")
    if not 0 <= config.seed < 2**63:
        raise UserError(f"seed is {config.seed}; it must be at least 0 and below 2**63")
    if not config.results_dir:
        raise UserError("results_dir is empty; it must be a folder")
    for key, allowed in CHOICES.items():
        if getattr(config, key) not in allowed:
            raise unknown(key, getattr(config, key), allowed)
    for key, least in {"threads": 1, "workers": 0, "retries": 0}.items():
        if not least <= getattr(config, key) <= 1024:
            raise UserError(f"{key} is {getattr(config, key)}; it must be from {least} to 1024")
    for key, may_be_null in {"jobs": True, "runs_per_gpu": False}.items():
        number = config.launcher.get(key, 1)
        whole = isinstance(number, int) and not isinstance(number, bool) and number >= 1
        if not whole and not (number is None and may_be_null):
            or_null = "null or " if may_be_null else ""
            raise UserError(f"launcher.{key} is {number!r}; it must be {or_null}a whole number above 0")
    _check_shock(config.shock, config.horizon)
    check_targets(config.task.targets, "task.targets")
    for key, node in (
        ("task.build", config.task.build),
        ("optimizer", config.optimizer),
        ("schedule", config.schedule),
        ("tracker", config.tracker),
    ):
        if not isinstance(node.get("_target_"), str):
            raise UserError(f"{key} has no _target_, the import path of what it builds")


def _check_shock(shock: ShockConfig, horizon: int) -> None:
    """Raise UserError for a shock that there cannot be."""
    if shock.kind not in SHOCKS:
        raise unknown("shock.kind", shock.kind, SHOCKS)
    if shock.kind == "none":
        return
    if not 0 <= shock.step < horizon:
        raise UserError(f"shock.step is {shock.step}; it must be from 0 to {horizon - 1}, within the horizon")
    if not 1 <= shock.length <= horizon - shock.step:
        raise UserError(
            f"shock.length is {shock.length}; it must be from 1 to {horizon - shock.step}, "
            f"as the horizon is {horizon} and the shock begins at step {shock.step}"
        )
    if not (shock.dose > 0 and math.isfinite(shock.dose)):
        raise UserError(f"shock.dose is {shock.dose}; it must be a number above 0")
    if shock.kind != "gradient" and shock.dose != 1:
        raise UserError(f"shock.dose is {shock.dose:g}; a shock of kind {shock.kind} has none, only gradient has")


def as_dict(config: RunConfig) -> dict[str, Any]:
    """The config as plain data, for config.yaml."""
    return asdict(config)
