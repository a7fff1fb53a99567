"""From command-line overrides to checked configs: Hydra composes the YAMLs, this file types, checks and names them."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Transformer, ValueType
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from s3bench import catalog, identity, source
from s3bench.errors import UserError, one_line, unknown
from s3bench.grid import KeyPath, copies, with_value
from s3bench.targets import check_targets

CHOICES = {
    "decay": ("all", "matrices"),  # see groups.py
    "precision": ("float32", "bf16"),  # see learner.py
    "parallel": ("ddp", "fsdp2"),
}
OF_A_SWEEP = ("launcher", "retries", "fail_fast", "scale")  # no axes of a grid
SHOCKS = ("none", "gradient", "noise", "labels")  # see shock.py
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
    """What disturbs a run on purpose, see shock.py. Without a kind, the rest says nothing and is as it stands here."""

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


def run_configs(overrides: list[str], most: float = math.inf) -> list[RunConfig]:
    """The checked config of every run that the overrides ask for; lists (seed=0,1) span a grid, in their order.

    A grid of the experiment yields to the command line, key by key. Raises UserError, also for a grid of more than
    `most` points, before it is spanned.
    """
    given = _parsed(overrides)
    keys = {override.key_or_group for override in given}
    fixed = [override for override in given if not override.is_sweep_override()]
    grid = [axis for axis in _experiment_grid(fixed) if axis.key_or_group not in keys]
    for axis in [*grid, *given]:
        if axis.is_sweep_override() and axis.key_or_group.split(".")[0] in OF_A_SWEEP:
            raise UserError(f"{axis.input_line}: {axis.key_or_group} is one for the whole sweep")
    axes = [*grid, *(override for override in given if override.is_sweep_override())]
    points = math.prod(map(_length, axes))
    if not points:
        raise UserError("the grid is empty: one of its lists has no value")
    if points > most:
        raise UserError(f"this grid has {points:,} runs; for more than {most:,}, --yes says that they are meant")
    configs: dict[str, RunConfig] = {}
    for point, config in _spanned(fixed, [_points(axis) for axis in axes]):
        if configs.setdefault(config.run_id, config) != config:
            asked = " ".join(f"{override.input_line}" for override in point)
            raise UserError(f"{asked} and another point of the grid are one run with two different settings")
    return list(configs.values())


def run_config(overrides: list[str]) -> RunConfig:
    """The checked config of the one run that the overrides ask for. Raises UserError."""
    given = _parsed(overrides)
    for override in [*given, *_experiment_grid([o for o in given if not o.is_sweep_override()])]:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line} asks for several runs; s3bench sweep does that")
    return _config(given)


def _parsed(overrides: list[str]) -> list[Override]:
    """The overrides, each key at most once."""
    given = [_parse(text) for text in overrides]
    for key, count in Counter(override.key_or_group for override in given).items():
        if count > 1:
            raise UserError(f"{key} is given twice")
    return given


def _parse(text: str) -> Override:
    """An override, checked for a key that is not for setting and an unknown name of a group."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        hint = "a value with other than simple characters stands in quotes: key='\"value\"'"
        raise UserError(f"{text!r} is no override such as lr_multiplier=10 ({one_line(error)}); {hint}") from error
    group = override.key_or_group
    if group.split(".")[0] in FILLED_IN:
        raise UserError(f"{group} is not for setting")
    names = {field.name for field in fields(RunConfig)} | set(catalog.GROUPS)
    if override.is_add() and group.split(".")[0].split("@")[0].split("/")[0] not in names:
        raise unknown("key", group, names - set(FILLED_IN))
    if group == "experiment" and override.is_sweep_override():
        raise UserError(f"{text}: one experiment at a time")
    if group in catalog.GROUPS and not override.is_delete():
        for choice in _points(override):
            name = choice.value()
            if not isinstance(name, str) or name not in catalog.choices(group):
                raise unknown(group, str(name), catalog.choices(group))
    return override


def _length(axis: Override) -> int:
    """How many values an override has."""
    if not axis.is_sweep_override():
        return 1
    values = axis.value()
    if isinstance(values, ChoiceSweep):
        return len(values.list)
    if isinstance(values, RangeSweep):
        among = values.range()
        if isinstance(among, range):
            return len(among)
        start, stop, step = map(float, (among.start, among.stop, among.step))
        return max(0, math.ceil((stop - start) / step))
    raise UserError(f"{axis.input_line} cannot be listed; needed is a list: 1,2,3")


def _points(axis: Override) -> list[Override]:
    """A list override (seed=0,1) as one override per value."""
    if not axis.is_sweep_override():
        return [axis]
    _length(axis)  # raises for what has none
    key, as_text = axis.get_key_element(), Transformer.str
    values: Iterator[Any] = axis.sweep_iterator()
    return [
        replace(axis, value_type=ValueType.ELEMENT, _value=value, input_line=f"{key}={as_text(value)}")
        for value in values
    ]


def _experiment_grid(fixed: list[Override]) -> list[Override]:
    """The axes that the chosen experiment's YAML spans: hydra.sweeper.params, and those of the scale that is asked for.

    Raises UserError for a scale that the experiment does not have.
    """
    grid, scales, config = _compose(tuple(override.input_line for override in fixed if _is_structural(override)))
    scale = next((override.value() for override in fixed if override.key_or_group == "scale"), config.scale)
    if scale is not None and not scales:
        raise UserError(f"scale={scale}: only an experiment has scales, and {config.names.experiment} has none")
    if scale is not None and scale not in scales:
        raise unknown("scale", str(scale), list(scales))
    grid = grid | scales.get(str(scale), {})
    return [_parse(f"{key}={value}") for key, value in grid.items()]


def _is_structural(override: Override) -> bool:
    """Whether Hydra must see the override: a choice in a group, or a key added or deleted. Others are set here."""
    return override.key_or_group in catalog.GROUPS or override.is_add() or override.is_delete()


@cache
def _compose(structural: tuple[str, ...]) -> tuple[dict[str, str], dict[str, dict[str, str]], DictConfig]:
    """The experiment's grid, that of each scale, and the typed config that Hydra composes, nothing resolved."""
    own, *others = catalog.config_dirs()
    places = ",".join("'file://{}'".format(str(folder).replace("'", r"\'")) for folder in others)
    search = [f"hydra.searchpath=[{places}]"] if others else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(own)):
            composed = compose("run", [*search, *structural], return_hydra_config=True)
        hydra = composed.hydra
        settings = {str(key): composed._get_node(key) for key in composed if key not in ("hydra", "scales")}
        config = OmegaConf.merge(OmegaConf.structured(RunConfig), settings)
        chosen = {key: str(name) for key, name in hydra.runtime.choices.items() if key in catalog.GROUPS and name}
        config.names = OmegaConf.merge(config.names, chosen)
        OmegaConf.set_struct(config, True)
        assert isinstance(config, DictConfig)
        scales: Any = OmegaConf.to_container(composed.get("scales") or OmegaConf.create())
        return dict(hydra.sweeper.params or {}), scales, config
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{' '.join(structural)}: {one_line(error)}") from error


def _config(overrides: Sequence[Override]) -> RunConfig:
    """The checked config of one run."""
    return _named(_typed(_unresolved(overrides)))


def _spanned(fixed: list[Override], axes: list[list[Override]]) -> Iterator[tuple[tuple[Override, ...], RunConfig]]:
    """The points of a grid, each with what `_config` makes of it: composed once for all that differ in values alone."""
    movable: dict[tuple[str | None, ...], dict[str, list[KeyPath]]] = {}
    composed: dict[tuple[str | None, ...], tuple[DictConfig, RunConfig]] = {}
    converted: dict[tuple[Any, ...], Any] = {}
    for point in itertools.product(*axes):
        overrides = [*fixed, *point]
        shape = _lines(override for override in point if not _is_value(override))
        if shape not in movable:
            movable[shape] = _movable(_unresolved(overrides), overrides, point)
        places = movable[shape]
        base = _lines(override for override in point if override.key_or_group not in places)
        if base not in composed:
            kept = [override for override in overrides if override.key_or_group not in places]
            composed[base] = _unresolved(kept), _typed(_unresolved(overrides))
        unset, config = composed[base]
        for override in point:
            if override.key_or_group in places:
                what = (base, override.input_line)
                if what not in converted:
                    converted[what] = _converted(unset, override)
                for place in places[override.key_or_group]:
                    config = with_value(config, place, converted[what])
        yield point, _named(config)


def _lines(overrides: Iterator[Override]) -> tuple[str | None, ...]:
    return tuple(override.input_line for override in overrides)


def _is_value(override: Override) -> bool:
    """Whether the override sets a key to a number or a text, and not to a structure or an interpolation."""
    value = override.value()
    is_text = isinstance(value, str) and "${" not in value and value != "???"  # ???: OmegaConf's word for none
    return (value is None or isinstance(value, int | float) or is_text) and not _is_structural(override)


def _movable(
    unresolved: DictConfig, overrides: Sequence[Override], point: tuple[Override, ...]
) -> dict[str, list[KeyPath]]:
    """The keys of a grid's point whose other values need no composing, and all places that hold their values."""
    keys = [override.key_or_group for override in overrides if not _is_structural(override)]
    places = {o.key_or_group: copies(unresolved, o.key_or_group, keys) for o in point if _is_value(o)}
    return {key: found for key, found in places.items() if found is not None}


def _unresolved(overrides: Sequence[Override]) -> DictConfig:
    """The typed config with the overrides set, its interpolations unresolved."""
    _, _, composed = _compose(tuple(override.input_line for override in overrides if _is_structural(override)))
    config = composed.copy()
    for override in overrides:
        if not _is_structural(override):
            _set(config, override)
    return config


def _typed(config: DictConfig) -> RunConfig:
    try:
        typed = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(typed, RunConfig)
    return typed


def _named(config: RunConfig) -> RunConfig:
    """The config, checked, with the digests and the run_id that are its own."""
    _check(config)
    if config.shock.kind == "none":  # one run, whatever shocks a grid has beside it
        config = replace(config, shock=ShockConfig())
    parts = {"task": config.task.build, "optimizer": config.optimizer, "schedule": config.schedule}
    code = {part: source.digest(node["_target_"]) for part, node in parts.items()}
    settings = {**vars(config), "task": vars(config.task), "shock": vars(config.shock), "code": code}
    run_id = identity.run_id(settings, config.names.task, config.names.optimizer)
    return replace(config, code=code, run_id=run_id)


def _set(config: DictConfig, override: Override) -> None:
    """Set an existing key of the config in place. Raises UserError: no such key, or a value of another type."""
    node = _node(config, override)
    _check_like(node, override)
    try:
        typed = is_dataclass(OmegaConf.get_type(node))  # such as shock={kind: noise}: what it leaves out is as before
        OmegaConf.update(config, override.key_or_group, override.value(), merge=typed)
    except OmegaConfBaseException as error:
        raise UserError(f"{override.input_line}: {str(error).splitlines()[0]}") from error


def _converted(config: DictConfig, override: Override) -> Any:
    """The value that the key of a config would have, set to it. Raises UserError as `_set` does."""
    node = _node(config, override)
    _check_like(node, override)
    alone = copy(node)
    try:
        alone._set_value(override.value())
        return alone._value()
    except OmegaConfBaseException as error:
        raise UserError(f"{override.input_line}: {str(error).splitlines()[0]}") from error


def _node(config: DictConfig, override: Override) -> Any:
    """The node of a config that an override is for. Raises UserError if there is none."""
    node: Any = config
    path = override.key_or_group.split(".")
    for depth, name in enumerate(path):
        if not isinstance(node, DictConfig) or name not in node:
            above = ".".join(path[:depth])
            keys = [str(key) for key in node if key not in FILLED_IN] if isinstance(node, DictConfig) else []
            keys += [] if above else ["experiment"]
            raise unknown("key", override.key_or_group, [f"{above}.{key}" if above else key for key in keys])
        node = node._get_node(name)
    return node


def _check_like(node: Any, override: Override) -> None:
    """Raise UserError for a value of another type than that of the YAML."""
    value, old = override.value(), node._value()
    if not any(isinstance(text, str) and "${" in text for text in (old, value)):  # an interpolation may be anything
        for kinds in (bool, (int, float), str, list):
            if isinstance(old, kinds) and not isinstance(value, kinds):
                raise UserError(f"{override.input_line}: it must be like {old!r}, of the same type")


def _check(config: RunConfig) -> None:
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
