"""Writes and reads config.yaml: the resolved config, below one line with the names and axes of the run."""

import json
from pathlib import Path
from typing import Any

import yaml

from s3bench.record import identity
from s3bench.record.files import CONFIG, damaged_record, folder_of, other_version

HEAD = "# s3bench run "  # the first line of config.yaml goes on with a JSON object, see head_names
PRIVATE = ("setup", "additional_parameters")  # of a launcher: commands of a cluster, which may hold tokens
READER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
WRITER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

KINDS: dict[str, type] = {"run_id": str, "experiment": str, "task": str, "optimizer": str, "seed": int, "horizon": int}
KINDS |= {"lr_multiplier": float, "lr": float}  # of the names and axes of a run


def load_config(folder: Path) -> dict[str, Any]:
    """The resolved config of a run. Raises UserError if it is damaged, or of another version of s3bench."""
    try:
        config = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), READER)
        identity.settings(config), config["task"]["targets"], config["task"]["spikes"]  # others rely on them
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise damaged_record(folder, CONFIG, error) from error
    if "code" not in config:
        raise other_version(folder)
    return dict(config)


def head_names(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a row says of the run itself."""
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
    """What config.yaml holds."""
    head = json.dumps(head_names(folder_of(config), config))
    said = {key: value for key, value in config["launcher"].items() if key not in PRIVATE}
    return f"{HEAD}{head}\n{yaml.dump({**config, 'launcher': said}, Dumper=WRITER, sort_keys=False)}"


def read_head(folder: Path) -> dict[str, Any] | None:
    """The `head_names` in the first line of a run's config; None where it is damaged, or there is none."""
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            line = file.readline(4096)
        if not line.startswith(HEAD):
            return None
        names = json.loads(line[len(HEAD) :])
        return {**names, **{key: kind(names[key]) for key, kind in KINDS.items()}}
    except (OSError, ValueError, LookupError, TypeError):
        return None
