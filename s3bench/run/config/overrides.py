"""Parses overrides (key=value) from the command line, and the lists that span a grid."""

import math
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, RangeSweep, Sweep, Transformer
from hydra.errors import HydraException

from s3bench import catalog
from s3bench.errors import UserError, one_line, unknown
from s3bench.run.config.schema import FILLED_IN, RunConfig


@dataclass(frozen=True)
class Setting:
    """An override with a single value: one of a run's, or one of the values on an axis of a grid."""

    key: str  # a config group, or the path of a value, such as "optimizer.p"
    value: Any
    text: str  # the override, as it could be given on the command line
    is_structural: bool  # whether Hydra composes with it: a choice in a group, or a key added or deleted

    @property
    def is_plain(self) -> bool:
        """Whether it sets a key to a number or a text, and not to a structure or an interpolation."""
        is_text = isinstance(self.value, str) and "${" not in self.value and self.value != "???"  # OmegaConf's missing
        is_scalar = self.value is None or isinstance(self.value, int | float)
        return (is_scalar or is_text) and not self.is_structural


def parse_overrides(overrides: list[str]) -> list[Override]:
    """Return the parsed overrides. Raises UserError, also if a key is given twice."""
    given = [parse_override(text) for text in overrides]
    for key, count in Counter(override.key_or_group for override in given).items():
        if count > 1:
            raise UserError(f"{key} is given twice")
    return given


def parse_override(text: str) -> Override:
    """Return a parsed override. Raises UserError for a key that cannot be set, or an unknown name in a config group."""
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError) as error:  # the latter for a number of thousands of digits
        hint = "a value with special characters must be quoted: key='\"value\"'"
        raise UserError(f"{text!r} is not an override such as lr_multiplier=10 ({one_line(error)}); {hint}") from error
    group = override.key_or_group
    if group.split(".")[0] in FILLED_IN:
        raise UserError(f"{group} is set automatically and cannot be overridden")
    names = {field.name for field in fields(RunConfig)} | set(catalog.GROUPS)
    if override.is_add() and group.split(".")[0].split("@")[0].split("/")[0] not in names:
        raise unknown("key", group, names - set(FILLED_IN))
    if group == "experiment" and override.is_sweep_override():
        raise UserError(f"{text}: only one experiment can be chosen at a time")
    if group in catalog.GROUPS and not override.is_delete():
        if isinstance(override.value(), RangeSweep):  # numbers, perhaps without an end
            raise unknown(group, text.partition("=")[2], catalog.choices(group))
        for choice in settings(override):
            if not isinstance(choice.value, str) or choice.value not in catalog.choices(group):
                raise unknown(group, str(choice.value), catalog.choices(group))
    return override


def axis_length(axis: Override) -> int:
    """Return how many values an override has. Raises UserError if they cannot be listed."""
    if not axis.is_sweep_override():
        return 1
    values = axis.value()
    if isinstance(values, ChoiceSweep) and not any(isinstance(value, Sweep) for value in values.list):
        return len(values.list)
    if isinstance(values, RangeSweep):
        return _range_length(values, str(axis.input_line))
    raise UserError(f"{axis.input_line} has no list of values; give one: 1,2,3")


def _range_length(values: RangeSweep, text: str) -> int:
    """Return how many numbers a range has. Raises UserError if it has no end."""
    try:
        numbers = values.range()
        if isinstance(numbers, range):
            return len(numbers)
        start, stop, step = map(float, (numbers.start, numbers.stop, numbers.step))
        return max(0, math.ceil((stop - start) / step))
    except (ValueError, ArithmeticError) as error:
        raise UserError(f"{text}: a range's numbers must be finite and its step not 0, such as range(0,8)") from error


def settings(override: Override) -> list[Setting]:
    """Return an override as one setting per value. Raises UserError if its values cannot be listed."""
    key = override.key_or_group
    is_structural = key in catalog.GROUPS or override.is_add() or override.is_delete()
    if not override.is_sweep_override():
        return [Setting(key, override.value(), str(override.input_line), is_structural)]
    axis_length(override)  # raises if there is no list
    begin = override.get_key_element()
    return [
        Setting(key, _unquoted(value), f"{begin}={Transformer.str(value)}", is_structural)
        for value in override.sweep_iterator()
    ]


def _unquoted(value: Any) -> Any:
    """Return a parsed value without Hydra's marks of quotes."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    if isinstance(value, dict):
        return {_unquoted(key): _unquoted(item) for key, item in value.items()}
    return value
