"""From command-line overrides to checked configs: Hydra composes the YAMLs, this file types, checks and names them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from functools import cache
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from s3bench import catalog
from s3bench.errors import UserError, one_line, unknown
from s3bench.record import identity
from s3bench.run.config import code_digest
from s3bench.run.config.overrides import is_structural, parse_override, parse_overrides
from s3bench.run.config.schema import FILLED_IN, RunConfig, ShockConfig, check_config


def run_config(overrides: list[str]) -> RunConfig:
    """The checked config of the one run that the overrides ask for. Raises UserError."""
    return _config(one_run(overrides))


def one_run(overrides: list[str]) -> list[Override]:
    """The overrides, parsed. Raises UserError if they ask for several runs."""
    given = parse_overrides(overrides)
    for override in [*given, *experiment_axes([o for o in given if not o.is_sweep_override()])]:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line} asks for several runs; s3bench sweep does that")
    return given


def experiment_axes(fixed: list[Override]) -> list[Override]:
    """The axes that the chosen experiment's YAML spans: hydra.sweeper.params, and those of the scale that is asked for.

    Raises UserError for a scale that the experiment does not have.
    """
    grid, scales, config = _compose(tuple(override.input_line for override in fixed if is_structural(override)))
    scale = next((override.value() for override in fixed if override.key_or_group == "scale"), config.scale)
    if scale is not None and not scales:
        raise UserError(f"scale={scale}: only an experiment has scales, and {config.names.experiment} has none")
    if scale is not None and scale not in scales:
        raise unknown("scale", str(scale), list(scales))
    grid = grid | scales.get(str(scale), {})
    return [parse_override(f"{key}={value}") for key, value in grid.items()]


@cache
def _compose(structural: tuple[str, ...]) -> tuple[dict[str, str], dict[str, dict[str, str]], DictConfig]:
    """The experiment's grid, that of each scale, and the typed config that Hydra composes, nothing resolved."""
    try:
        with hydra_on_configs() as search:
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


@contextmanager
def hydra_on_configs() -> Iterator[list[str]]:
    """Have Hydra look in the config folders within the block; yields the override that adds the user's own ones."""
    own, *others = catalog.config_dirs()
    places = ",".join("'file://{}'".format(str(folder).replace("'", r"\'")) for folder in others)
    with initialize_config_dir(version_base="1.3", config_dir=str(own), job_name="s3bench"):
        yield [f"hydra.searchpath=[{places}]"] if others else []


def _config(overrides: Sequence[Override]) -> RunConfig:
    """The checked config of one run."""
    return identified(typed_config(unresolved_config(overrides)))


def unresolved_config(overrides: Sequence[Override]) -> DictConfig:
    """The typed config with the overrides set, its interpolations unresolved."""
    _, _, composed = _compose(tuple(override.input_line for override in overrides if is_structural(override)))
    config = composed.copy()
    for override in overrides:
        if not is_structural(override):
            _set(config, override)
    return config


def typed_config(config: DictConfig) -> RunConfig:
    try:
        typed = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(typed, RunConfig)
    return typed


def identified(config: RunConfig) -> RunConfig:
    """The config, checked, with the digests and the run_id that are its own."""
    check_config(config)
    if config.shock.kind == "none":  # one run, whatever shocks a grid has beside it
        config = replace(config, shock=ShockConfig())
    parts = {"task": config.task.build, "optimizer": config.optimizer, "schedule": config.schedule}
    code = {part: code_digest.digest(node["_target_"]) for part, node in parts.items()}
    settings = {**vars(config), "task": vars(config.task), "shock": vars(config.shock), "code": code}
    run_id = identity.run_id(settings, config.names.task, config.names.optimizer)
    return replace(config, code=code, run_id=run_id)


def _set(config: DictConfig, override: Override) -> None:
    """Set an existing key of the config in place. Raises UserError: no such key, or a value of another type."""
    node = node_for(config, override)
    check_like(node, override)
    try:
        typed = is_dataclass(OmegaConf.get_type(node))  # such as shock={kind: noise}: what it leaves out is as before
        OmegaConf.update(config, override.key_or_group, override.value(), merge=typed)
    except OmegaConfBaseException as error:
        raise UserError(f"{override.input_line}: {str(error).splitlines()[0]}") from error


def node_for(config: DictConfig, override: Override) -> Any:
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


def check_like(node: Any, override: Override) -> None:
    """Raise UserError for a value of another type than that of the YAML."""
    value, old = override.value(), node._value()
    if not any(isinstance(text, str) and "${" in text for text in (old, value)):  # an interpolation may be anything
        for kinds in (bool, (int, float), str, list):
            if isinstance(old, kinds) and not isinstance(value, kinds):
                raise UserError(f"{override.input_line}: it must be like {old!r}, of the same type")
