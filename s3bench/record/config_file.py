"""Writes and reads config.yaml: one line with the names and axes of the run, then the resolved config."""

import json
from pathlib import Path
from typing import Any

import yaml

from s3bench.record import identity
from s3bench.record.files import CONFIG, damaged_record, folder_of, other_version

HEAD = "# s3bench run "  # the first line of config.yaml continues with a JSON object, see head_names
LONGEST_HEAD = 4096  # characters of the first line that are read
CLUSTER_COMMANDS = ("setup", "additional_parameters")  # of a launcher; left out, since they may hold tokens
READER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
WRITER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

KINDS: dict[str, type] = {"run_id": str, "experiment": str, "task": str, "optimizer": str, "seed": int, "horizon": int}
KINDS |= {"lr_multiplier": float, "lr": float}  # of the names and axes of a run


def load_config(folder: Path) -> dict[str, Any]:
    """Return the resolved config of a run.

    Raises:
        UserError: config.yaml is damaged, or was written by another version of s3bench.
    """
    try:
        config = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), READER)
        _check(config)
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise damaged_record(folder, CONFIG, error) from error
    if "code" not in config:
        raise other_version(folder)
    return dict(config)


def _check(config: Any) -> None:
    """Raise an error unless a config has the parts that its readers rely on."""
    identity.settings(config)
    if absent := {"targets", "spikes"} - set(config["task"]):
        raise ValueError(f"task has no {' and no '.join(sorted(absent))}")


def head_names(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the names and axes of a run, as a row of `load_records` begins with them.

    Raises:
        UserError: the config lacks one of them, or it has the wrong type.
    """
    try:
        names = config["names"]
        return {
            "run_id": str(config["run_id"]),
            "experiment": str(names["experiment"]),
            "task": str(names["task"]),
            "optimizer": str(names["optimizer"]),
            "lr_multiplier": float(config["lr_multiplier"]),
            "lr": float(config["task"]["lr"] * config["lr_multiplier"]),
            "seed": int(config["seed"]),
            "horizon": int(config["horizon"]),
        }
    except (LookupError, TypeError, ValueError) as error:
        raise damaged_record(folder, CONFIG, error) from error


def config_text(config: dict[str, Any]) -> str:
    """Return the content of config.yaml."""
    head = json.dumps(head_names(folder_of(config), config))
    launcher = {key: value for key, value in config["launcher"].items() if key not in CLUSTER_COMMANDS}
    return f"{HEAD}{head}\n{yaml.dump({**config, 'launcher': launcher}, Dumper=WRITER, sort_keys=False)}"


def read_head(folder: Path) -> dict[str, Any] | None:
    """Return the `head_names` in the first line of a run's config; None if it has no such line, or a damaged one."""
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            line = file.readline(LONGEST_HEAD)
        if not line.startswith(HEAD):
            return None
        names = json.loads(line[len(HEAD) :])
        return {**names, **{key: kind(names[key]) for key, kind in KINDS.items()}}
    except (OSError, ValueError, LookupError, TypeError):
        return None
