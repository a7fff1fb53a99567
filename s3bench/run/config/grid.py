"""Which values of a grid can be put into a config that is composed already, instead of composing each point anew.

That is so where nothing but plain copies (`seed: ${seed}`) depends on the value. Composing takes milliseconds, putting
a value in takes microseconds, and a grid of 10,000 runs has a few hundred different values.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import is_dataclass, replace
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, Node, ValueNode
from omegaconf.errors import OmegaConfBaseException

from s3bench.errors import UserError
from s3bench.run.config.compose import (
    check_like,
    experiment_axes,
    identified,
    node_for,
    typed_config,
    unresolved_config,
)
from s3bench.run.config.overrides import axis_length, axis_points, input_lines, is_structural, is_value, parse_overrides
from s3bench.run.config.schema import RunConfig

KeyPath = tuple[str, ...]

# ${a.b}, or an environment variable, which nothing in a config changes; innermost first
REFERENCE = re.compile(r"\$\{(?:oc\.env:[^${}]*|(\w+(?:\.\w+)*))\}")


def copies(config: DictConfig, key: str, others: Sequence[str]) -> list[KeyPath] | None:
    """Where a value of the config stands, its own place first; None if more than copies of it depends on it.

    Args:
        config: composed, with its interpolations unresolved.
        key: the value's, such as "optimizer.p".
        others: keys that are set too. One that is above a copy would overwrite it.
    """
    texts = dict(_interpolations(config))
    found = [tuple(key.split("."))]
    if not isinstance(_node(config, found[0]), ValueNode):
        return None
    for path in found:
        if any(path[: len(above)] == above for other in others if (above := tuple(other.split("."))) != path):
            return None
        for place, text in texts.items():
            references = _references(text)
            if place == found[0]:
                continue  # overwritten
            if references is None or any(path[: len(above)] == above for above in references - {path}):
                return None
            if path in references:
                if text != "${" + ".".join(path) + "}" or not _takes_anything(config, place):
                    return None
                found.append(place)
    return found


def with_value(node: Any, path: KeyPath, value: Any) -> Any:
    """The dataclass or dict with a value at a path; what lies beside the path is shared with the first one."""
    if not path:
        return value
    key, *rest = path
    inner = with_value(getattr(node, key) if is_dataclass(node) else node[key], tuple(rest), value)
    return replace(node, **{key: inner}) if is_dataclass(node) else {**node, key: inner}  # type: ignore[type-var]


def _interpolations(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """The texts in a config that refer to something else, and where they stand."""
    text = node._value()
    if isinstance(text, str):
        if "${" in text:
            yield path, text
    elif isinstance(node, DictConfig) and isinstance(text, dict):
        for key, inner in text.items():
            yield from _interpolations(inner, (*path, str(key)))
    elif isinstance(node, ListConfig) and isinstance(text, list):
        for index, inner in enumerate(text):
            yield from _interpolations(inner, (*path, str(index)))


def _references(text: str) -> set[KeyPath] | None:
    """The places that a text refers to; None if it says more than this file understands."""
    found: set[KeyPath] = set()
    while match := REFERENCE.search(text):
        if match[1]:
            found.add(tuple(match[1].split(".")))
        text = f"{text[: match.start()]}*{text[match.end() :]}"  # a * stands in no name of the config
    return None if "${" in text else found


def _takes_anything(config: DictConfig, place: KeyPath) -> bool:
    """Whether a place has no type of its own, to which its value would be converted."""
    node = _node(config, place)
    return isinstance(node, ValueNode) and node._metadata.ref_type is Any


def _node(config: DictConfig, place: KeyPath) -> Any:
    """What stands at a place; None in a list, or where there is nothing."""
    node: Any = config
    for key in place:
        node = node._get_node(key) if isinstance(node, DictConfig) and key in node.keys() else None  # noqa: SIM118
    return node


OF_A_SWEEP = ("launcher", "retries", "fail_fast", "scale")  # no axes of a grid


def run_configs(overrides: list[str], most: float = math.inf) -> list[RunConfig]:
    """The checked config of every run that the overrides ask for; lists (seed=0,1) span a grid, in their order.

    A grid of the experiment yields to the command line, key by key. Raises UserError, also for a grid of more than
    `most` points, before it is spanned.
    """
    fixed, axes = _axes(overrides)
    points = math.prod(map(axis_length, axes))
    if points > most:
        raise UserError(f"this grid has {points:,} runs; for more than {most:,}, --yes says that they are meant")
    configs: dict[str, RunConfig] = {}
    for point, config in _spanned(fixed, [axis_points(axis) for axis in axes]):
        if configs.setdefault(config.run_id, config) != config:
            asked = " ".join(f"{override.input_line}" for override in point)
            raise UserError(f"{asked} and another point of the grid are one run with two different settings")
    return list(configs.values())


def first_point(overrides: list[str]) -> list[Override]:
    """The overrides of the first run that the overrides ask for. Raises UserError."""
    fixed, axes = _axes(overrides)
    return [*fixed, *(axis_points(axis)[0] for axis in axes)]


def _axes(overrides: list[str]) -> tuple[list[Override], list[Override]]:
    """The overrides with one value, and the axes of the grid, none of them empty. Raises UserError."""
    given = parse_overrides(overrides)
    keys = {override.key_or_group for override in given}
    fixed = [override for override in given if not override.is_sweep_override()]
    grid = [axis for axis in experiment_axes(fixed) if axis.key_or_group not in keys]
    for axis in [*grid, *given]:
        if axis.is_sweep_override() and axis.key_or_group.split(".")[0] in OF_A_SWEEP:
            raise UserError(f"{axis.input_line}: {axis.key_or_group} is one for the whole sweep")
    axes = [*grid, *(override for override in given if override.is_sweep_override())]
    if not math.prod(map(axis_length, axes)):
        raise UserError("the grid is empty: one of its lists has no value")
    return fixed, axes


def _spanned(fixed: list[Override], axes: list[list[Override]]) -> Iterator[tuple[tuple[Override, ...], RunConfig]]:
    """The points of a grid, each with what `_config` makes of it: composed once for all that differ in values alone."""
    movable: dict[tuple[str | None, ...], dict[str, list[KeyPath]]] = {}
    composed: dict[tuple[str | None, ...], tuple[DictConfig, RunConfig]] = {}
    converted: dict[tuple[Any, ...], Any] = {}
    for point in itertools.product(*axes):
        overrides = [*fixed, *point]
        shape = input_lines(override for override in point if not is_value(override))
        if shape not in movable:
            movable[shape] = _movable(unresolved_config(overrides), overrides, point)
        places = movable[shape]
        base = input_lines(override for override in point if override.key_or_group not in places)
        if base not in composed:
            kept = [override for override in overrides if override.key_or_group not in places]
            composed[base] = unresolved_config(kept), typed_config(unresolved_config(overrides))
        unset, config = composed[base]
        for override in point:
            if override.key_or_group in places:
                what = (base, override.input_line)
                if what not in converted:
                    converted[what] = _converted(unset, override)
                for place in places[override.key_or_group]:
                    config = with_value(config, place, converted[what])
        yield point, identified(config)


def _movable(
    unresolved: DictConfig, overrides: Sequence[Override], point: tuple[Override, ...]
) -> dict[str, list[KeyPath]]:
    """The keys of a grid's point whose other values need no composing, and all places that hold their values."""
    keys = [override.key_or_group for override in overrides if not is_structural(override)]
    places = {o.key_or_group: copies(unresolved, o.key_or_group, keys) for o in point if is_value(o)}
    return {key: found for key, found in places.items() if found is not None}


def _converted(config: DictConfig, override: Override) -> Any:
    """The value that the key of a config would have, set to it. Raises UserError as `_set` does."""
    node = node_for(config, override)
    check_like(node, override)
    alone = copy(node)
    try:
        alone._set_value(override.value())
        return alone._value()
    except OmegaConfBaseException as error:
        raise UserError(f"{override.input_line}: {str(error).splitlines()[0]}") from error
