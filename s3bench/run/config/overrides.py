"""Parses overrides (key=value) from the command line, and the lists that span a grid."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Transformer, ValueType
from hydra.errors import HydraException

from s3bench import catalog
from s3bench.errors import UserError, one_line, unknown
from s3bench.run.config.schema import FILLED_IN, RunConfig


def parse_overrides(overrides: list[str]) -> list[Override]:
    """The overrides, each key at most once."""
    given = [parse_override(text) for text in overrides]
    for key, count in Counter(override.key_or_group for override in given).items():
        if count > 1:
            raise UserError(f"{key} is given twice")
    return given


def parse_override(text: str) -> Override:
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
        for choice in axis_points(override):
            name = choice.value()
            if not isinstance(name, str) or name not in catalog.choices(group):
                raise unknown(group, str(name), catalog.choices(group))
    return override


def axis_length(axis: Override) -> int:
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


def axis_points(axis: Override) -> list[Override]:
    """A list override (seed=0,1) as one override per value."""
    if not axis.is_sweep_override():
        return [axis]
    axis_length(axis)  # raises for what has none
    key, as_text = axis.get_key_element(), Transformer.str
    values: Iterator[Any] = axis.sweep_iterator()
    return [
        replace(axis, value_type=ValueType.ELEMENT, _value=value, input_line=f"{key}={as_text(value)}")
        for value in values
    ]


def is_structural(override: Override) -> bool:
    """Whether Hydra must see the override: a choice in a group, or a key added or deleted. Others are set here."""
    return override.key_or_group in catalog.GROUPS or override.is_add() or override.is_delete()


def input_lines(overrides: Iterator[Override]) -> tuple[str | None, ...]:
    return tuple(override.input_line for override in overrides)


def is_value(override: Override) -> bool:
    """Whether the override sets a key to a number or a text, and not to a structure or an interpolation."""
    value = override.value()
    is_text = isinstance(value, str) and "${" not in value and value != "???"  # ???: OmegaConf's word for none
    return (value is None or isinstance(value, int | float) or is_text) and not is_structural(override)
