"""Turns overrides into checked configs: Hydra composes the YAML files, this module types, checks and names them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from s3bench import catalog
from s3bench.errors import UserError, one_line, unknown
from s3bench.record import identity
from s3bench.run.config import code_digest
from s3bench.run.config.overrides import Setting, parse_override, parse_overrides, settings
from s3bench.run.config.schema import FILLED_IN, RunConfig, ShockConfig, check_config, declared_type

INTERPOLATION = "${"


@dataclass(frozen=True)
class Composed:
    """What the YAML files and the structural settings give, before values are set."""

    config: DictConfig  # typed; its interpolations are unresolved
    grid: dict[str, str]  # the axes of the experiment: hydra.sweeper.params
    scales: dict[str, dict[str, str]]  # the axes of each scale of the experiment


def run_config(overrides: list[str]) -> RunConfig:
    """Return the checked config of the one run that the overrides ask for. Raises UserError."""
    return identified(typed_config(unresolved_config(settings_of_run(overrides))))


def settings_of_run(overrides: list[str]) -> list[Setting]:
    """Return the overrides of one run as settings. Raises UserError if they ask for several runs."""
    given = parse_overrides(overrides)
    fixed = [setting for override in given if not override.is_sweep_override() for setting in settings(override)]
    for override in [*given, *experiment_axes(fixed)]:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line} asks for several runs; s3bench sweep trains those")
    return fixed


def experiment_axes(fixed: Sequence[Setting]) -> list[Override]:
    """Return the axes of the chosen experiment: those in hydra.sweeper.params, and those of the chosen scale.

    Raises UserError for a scale that the experiment does not have.
    """
    composed = _composed(fixed)
    scale = next((setting.value for setting in fixed if setting.key == "scale"), composed.config.scale)
    grid = composed.grid
    if scale is not None:
        if not composed.scales:
            experiment = composed.config.names.experiment
            raise UserError(f"scale={scale}: only an experiment can have scales, and {experiment} has none")
        if not isinstance(scale, str) or scale not in composed.scales:
            raise unknown("scale", str(scale), list(composed.scales))
        grid = grid | composed.scales[str(scale)]
    return [parse_override(f"{key}={value}") for key, value in grid.items()]


def unresolved_config(given: Sequence[Setting]) -> DictConfig:
    """Return the typed config with the settings made, its interpolations unresolved. Raises UserError."""
    config = _composed(given).config.copy()
    for setting in given:
        if not setting.is_structural:
            check_setting(config, setting)
            update(config, setting)
    return config


def typed_config(config: DictConfig) -> RunConfig:
    """Return the config with its interpolations resolved. Raises UserError."""
    try:
        typed = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(typed, RunConfig)
    return typed


def identified(config: RunConfig) -> RunConfig:
    """Return the config, checked, with its code digests and its run_id. Raises UserError."""
    check_config(config)
    if config.shock.kind == "none":  # one run, whatever shocks a grid has beside it
        config = replace(config, shock=ShockConfig())
    parts = {"task": config.task.build, "optimizer": config.optimizer, "schedule": config.schedule}
    if not identity.is_unclipped(vars(config)):
        parts["clip"] = config.clip
    code = {part: code_digest.digest(node["_target_"]) for part, node in parts.items()}
    nested = {key: vars(getattr(config, key)) for key in ("task", "shock", "replay")}
    decisive = {**vars(config), **nested, "code": code}
    run_id = identity.run_id(decisive, config.names.task, config.names.optimizer)
    return replace(config, code=code, run_id=run_id)


@contextmanager
def hydra_on_configs() -> Iterator[list[str]]:
    """Have Hydra look in the config folders within the block; yields the override that adds the user's own ones."""
    _find_plugins()
    own, *others = catalog.config_dirs()
    places = ",".join("'file://{}'".format(str(folder).replace("'", r"\'")) for folder in others)
    with initialize_config_dir(version_base="1.3", config_dir=str(own), job_name="s3bench"):
        yield [f"hydra.searchpath=[{places}]"] if others else []


@cache
def _find_plugins() -> None:
    """Have Hydra look for its plugins: among what is installed, not in the folder that the user works in."""
    places = sys.path.copy()
    sys.path[:] = [place for place in places if place not in ("", str(Path.cwd()))]
    try:
        Plugins.instance()
    finally:
        sys.path[:] = places


def _composed(given: Sequence[Setting]) -> Composed:
    return _compose(tuple(setting.text for setting in given if setting.is_structural), tuple(catalog.config_dirs()))


@cache
def _compose(structural: tuple[str, ...], _: tuple[Path, ...]) -> Composed:
    """Compose the YAML files. The folders with configs are part of the cache's key: the user's may be among them."""
    try:
        with hydra_on_configs() as search:
            composed = compose("run", [*search, *structural], return_hydra_config=True)
        hydra = composed.hydra
        keys = [str(key) for key in composed if key not in ("hydra", "scales")]
        config = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.masked_copy(composed, keys))
        chosen = {key: str(name) for key, name in hydra.runtime.choices.items() if key in catalog.GROUPS and name}
        config.names = OmegaConf.merge(config.names, chosen)
        OmegaConf.set_struct(config, True)
        assert isinstance(config, DictConfig)
        scales: Any = OmegaConf.to_container(composed.get("scales") or OmegaConf.create())
        return Composed(config=config, grid=dict(hydra.sweeper.params or {}), scales=scales)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:  # the last for ~task=0
        cause = one_line(error).partition(" : Override(")[0]  # a value of Hydra's, on which it prints itself
        raise UserError(f"{' '.join(structural)}: {cause}") from error


def update(config: DictConfig, setting: Setting) -> None:
    """Set an existing key of the config in place. Raises UserError for a value that its type does not allow."""
    # A part such as shock={kind: noise} keeps the keys that it does not name; a dict is replaced.
    merge = is_dataclass(declared_type(setting.key.split(".")))
    try:
        OmegaConf.update(config, setting.key, setting.value, merge=merge)
    except OmegaConfBaseException as error:
        raise UserError(f"{setting.text}: {str(error).splitlines()[0]}") from error


def check_setting(config: DictConfig, setting: Setting) -> None:
    """Raise UserError if the config lacks the key, or if it has a value of another type there."""
    node: Any = config
    is_interpolation = False
    path = setting.key.split(".")
    for depth, name in enumerate(path):
        if is_interpolation or not OmegaConf.is_dict(node) or name not in node:
            raise _unknown_key(setting.key, ".".join(path[:depth]), () if is_interpolation else node)
        is_interpolation = OmegaConf.is_interpolation(node, name)
        node = None if is_interpolation else node[name]
    if setting.value == "???":  # OmegaConf's sign for a value that is missing
        raise UserError(f"{setting.text}: a value is missing")
    if is_interpolation or (isinstance(setting.value, str) and INTERPOLATION in setting.value):
        return  # an interpolation may be of any type
    for kinds in (bool, (int, float), str):
        if isinstance(node, kinds) and not isinstance(setting.value, kinds):
            raise UserError(f"{setting.text}: it must be of the same type as {node!r}")
    if OmegaConf.is_list(node) and not isinstance(setting.value, list):
        raise UserError(f"{setting.text}: it must be a list, such as {node}")


def _unknown_key(key: str, above: str, node: Any) -> UserError:
    """Return the error for a key; what is allowed are the keys of the node above it."""
    allowed = [str(name) for name in node if name not in FILLED_IN] if OmegaConf.is_dict(node) else []
    if above:
        error = unknown("key", key, [f"{above}.{name}" for name in allowed if not name.startswith("_")])
        is_built = "_target_" in allowed
        return UserError(f"{error}; +{key}=VALUE adds an argument that its YAML lacks") if is_built else error
    return unknown("key", key, [*allowed, "experiment"])
