"""Spans the grid of a sweep: the checked config of every run that the overrides ask for."""

import itertools
import math
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from s3bench.errors import UserError, unknown
from s3bench.run.config.compose import experiment_axes
from s3bench.run.config.overrides import Setting, axis_length, parse_overrides, settings
from s3bench.run.config.reuse import configs_of_grid
from s3bench.run.config.schema import RunConfig

OF_A_SWEEP = ("launcher", "retries", "fail_fast", "scale")  # settings of the whole sweep: they cannot be axes

Axis = tuple[Override, ...]  # an override with a list of values, or several whose lists are gone through together


def run_configs(
    overrides: list[str], max_runs: float = math.inf, zipped: Sequence[Sequence[str]] = ()
) -> list[RunConfig]:
    """Return the checked config of every run that the overrides ask for, in order. Lists such as seed=0,1 span a grid.

    A key on the command line replaces the experiment's axis of that key.

    Args:
        zipped: keys whose lists are gone through together, the first values of all of them in one run, and so on.

    Raises:
        UserError: a mistake in the overrides, or more than `max_runs` points. The latter is raised before any is
            composed.
    """
    fixed, axes = _parse_grid(overrides, zipped)
    points = math.prod(axis_length(axis[0]) for axis in axes)
    if points > max_runs:
        raise UserError(f"this grid has {points:,} runs; to start more than {max_runs:,}, add --yes")
    configs: dict[str, RunConfig] = {}
    for point, config in configs_of_grid(fixed, [_values(axis) for axis in axes]):
        if configs.setdefault(config.run_id, config) != config:
            given = " ".join(setting.text for setting in point)
            raise UserError(
                f"two points of the grid have the same run_id, but differ in settings that are not part of it: {given}"
            )
    return list(configs.values())


def first_point(overrides: list[str], zipped: Sequence[Sequence[str]] = ()) -> list[Setting]:
    """Return the settings of the first run of a grid. Raises UserError."""
    fixed, axes = _parse_grid(overrides, zipped)
    return [*fixed, *itertools.chain.from_iterable(_values(axis)[0] for axis in axes)]


def _values(axis: Axis) -> list[tuple[Setting, ...]]:
    """Return the settings of each point on an axis."""
    return list(zip(*map(settings, axis), strict=True))


def _parse_grid(overrides: list[str], zipped: Sequence[Sequence[str]] = ()) -> tuple[list[Setting], list[Axis]]:
    """Return the settings of all runs, and the axes of the grid, none of them empty. Raises UserError."""
    given = parse_overrides(overrides)
    keys = {override.key_or_group for override in given}
    fixed = [setting for override in given if not override.is_sweep_override() for setting in settings(override)]
    grid = [axis for axis in experiment_axes(fixed) if axis.key_or_group not in keys]
    for axis in [*grid, *given]:
        if axis.is_sweep_override() and axis.key_or_group.split(".")[0] in OF_A_SWEEP:
            raise UserError(f"{axis.input_line}: {axis.key_or_group} must be the same for the whole sweep")
    axes = [*grid, *(override for override in given if override.is_sweep_override())]
    if not math.prod(map(axis_length, axes)):
        raise UserError("the grid is empty: one of its lists has no values")
    return fixed, _zipped(axes, zipped)


def _zipped(axes: Sequence[Override], zipped: Sequence[Sequence[str]]) -> list[Axis]:
    """Return the axes in their order, zipped ones in the place of their first. Raises UserError."""
    lists = {axis.key_or_group: axis for axis in axes}
    together: dict[str, tuple[str, ...]] = {}
    for keys in zipped:
        for key in keys:
            if key not in lists:
                raise unknown("list in --zip", key, lists)
            if key in together or keys.count(key) > 1:
                raise UserError(f"--zip names {key} twice")
        lengths = {key: axis_length(lists[key]) for key in keys}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{key} has {length:,}" for key, length in lengths.items())
            raise UserError(f"the lists of --zip must have the same number of values: {found}")
        together |= dict.fromkeys(keys, tuple(keys))
    groups = dict.fromkeys(together.get(key, (key,)) for key in lists)
    return [tuple(lists[key] for key in keys) for keys in groups]
