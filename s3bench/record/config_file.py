"""Writes and reads config.yaml: one line with the names and axes of the run, then the resolved config."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from s3bench.record import identity
from s3bench.record.files import CONFIG, damaged_record, folder_of, other_version
from s3bench.record.opening import check_plain, opened, parsed, read_text
from s3bench.record.shock_kinds import KINDS as SHOCKS
from s3bench.record.targets import check_targets

HEAD = "# s3bench run "  # the first line of config.yaml continues with a JSON object, see head_names
LONGEST_HEAD = 4096  # bytes of the first line that are read
LARGEST = 2**20  # bytes; libyaml reads a megabyte in a second or two
CLUSTER_COMMANDS = ("setup", "additional_parameters")  # of a launcher; left out, since they may hold tokens
WRITER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# PyYAML's composer recurses in C, and crashes some thousand levels deep. A level takes one of these characters.
OPENING, DEEPEST = re.compile(r"^[ ?:\t-]+|[\[{]", re.MULTILINE), 1000

KINDS: dict[str, type] = {"run_id": str, "experiment": str, "task": str, "optimizer": str}
KINDS |= {"lr_multiplier": float, "lr": float, "seed": int, "horizon": int}  # of the names and axes of a run
NUMBER = int | float
NODES: dict[str, dict[str, Any]] = {  # what a config must hold, with its types
    "": {"task": dict, "optimizer": dict, "schedule": dict, "names": dict, "code": dict, "measure_every": int},
    "task": {"build": dict, "lr": NUMBER, "targets": list, "spikes": dict},
    **{node: {"_target_": str} for node in ("task.build", "optimizer", "schedule")},
    "names": dict.fromkeys(("experiment", "task", "optimizer", "schedule"), str),
}
OPTIONAL: dict[str, dict[str, Any]] = {  # what these nodes must hold where a config has them
    "clip": {"_target_": str},
    "shock": {"kind": str, "step": int, "length": int, "dose": NUMBER},
    "replay": {"run": str, "arm": str, "onset": int, "step": int, "until": int},
}


class _Reader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML without its merges (<<), which no config has, and which can make a few lines endless."""

    def flatten_mapping(self, node: Any) -> None:
        """Leave a merge as it is: an error."""


def load_config(folder: Path) -> dict[str, Any]:
    """Return the resolved config of a run.

    Raises:
        UserError: config.yaml is damaged, or was written by another version of s3bench.
    """
    try:
        text = read_text(folder / CONFIG, LARGEST)
        if max(map(len, OPENING.findall(text)), default=0) > DEEPEST or len(re.findall(r"[\[{]", text)) > DEEPEST:
            raise ValueError("it is nested too deeply")
        config = yaml.load(text, _Reader)
        check_plain(config)
        identity.settings(config)
        if "code" not in config:
            raise other_version(folder)
        _check(folder, config)
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
        raise damaged_record(folder, CONFIG, error) from error
    return dict(config)


def has_ramp(folder: Path) -> bool:
    """Return whether a run is a ramp, by the text of its config.yaml: in a small part of the time of load_config.

    Raises:
        UserError: config.yaml cannot be read.
    """
    try:
        return f"_target_: {identity.RAMP}\n" in read_text(folder / CONFIG, LARGEST)
    except (ValueError, OSError) as error:
        raise damaged_record(folder, CONFIG, error) from error


def _check(folder: Path, config: dict[str, Any]) -> None:
    """Raise an error unless a config has the parts that its readers rely on."""
    for place, kinds in (NODES | {node: kinds for node, kinds in OPTIONAL.items() if config.get(node)}).items():
        node: Any = config
        for name in filter(None, place.split(".")):
            node = node[name]
        for key, kind in kinds.items():
            if not isinstance(node[key], kind):
                raise TypeError(f"{f'{place}.{key}'.removeprefix('.')} is {node[key]!r}")
    check_targets(config["task"]["targets"], f"{folder / CONFIG}: task.targets")
    for name, value in config["task"]["spikes"].items():
        if not (isinstance(name, str) and isinstance(value, NUMBER)):
            raise TypeError(f"task.spikes has {name}: {value!r}")
    shock, scale = identity.shock(config), config.get("scale")
    if (shock is not None and shock["kind"] not in SHOCKS) or not isinstance(scale, str | None):
        raise ValueError(f"shock {shock!r}, scale {scale!r}")


def head_names(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the names and axes of a run, as a row of `load_records` begins with them.

    Raises:
        UserError: the config lacks one of them, or it has the wrong type.
    """
    try:
        lr = config["task"]["lr"] * config["lr_multiplier"]
        return _typed(
            {**config, **{key: config["names"][key] for key in ("experiment", "task", "optimizer")}, "lr": lr}
        )
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise damaged_record(folder, CONFIG, error) from error


def _typed(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return names and axes with the types that they have; raise an error where one is missing or cannot be."""
    typed = {key: kind(names[key]) for key, kind in KINDS.items()}
    check_plain(typed)
    if not (typed["horizon"] >= 1 and math.isfinite(typed["lr"]) and math.isfinite(typed["lr_multiplier"])):
        raise ValueError(f"horizon {typed['horizon']}, lr {typed['lr']}, lr_multiplier {typed['lr_multiplier']}")
    return typed


def config_text(config: dict[str, Any]) -> str:
    """Return the content of config.yaml."""
    head = json.dumps(head_names(folder_of(config), config))
    launcher = {key: value for key, value in config["launcher"].items() if key not in CLUSTER_COMMANDS}
    return f"{HEAD}{head}\n{yaml.dump({**config, 'launcher': launcher}, Dumper=WRITER, sort_keys=False)}"


def read_head(folder: Path) -> dict[str, Any] | None:
    """Return the `head_names` in the first line of a run's config; None if it has no such line, or a damaged one."""
    try:
        with opened(folder / CONFIG) as file:
            line = file.readline(LONGEST_HEAD).decode()
        return _typed(parsed(line[len(HEAD) :])) if line.startswith(HEAD) else None
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None
