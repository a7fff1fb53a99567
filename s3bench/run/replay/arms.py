"""Makes the config of an arm: the YAML file of the arm is laid over the config of the run.

In the YAML file, `${run.KEY}` is a value of the run's config, `${usual.grad_norm}` and `${usual.update_rms}` are
medians before the arm departs, `${spike.batches}` is the number of batches up to the onset, and `${times:A,B}` is a
product. A node with a `_target_` replaces the run's; `optimizer: s3` names another YAML file; anything else is merged.
Under `replay` an arm can set `state`, `noise` and `ahead`, see ReplayConfig.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from s3bench import catalog
from s3bench.errors import UserError, one_line, unknown
from s3bench.run.config.compose import identified, typed_config
from s3bench.run.config.schema import FILLED_IN, ReplayConfig, RunConfig, as_dict
from s3bench.run.replay.source import LEAD, Episode, Source

FOLDER = "replays"  # of the arms' records, in the results folder
CHANGEABLE = ("state", "noise", "ahead")  # keys of `replay` that an arm's YAML file may set
GROUPS = ("optimizer", "schedule", "clip")  # in which an arm may name another YAML file

OmegaConf.register_new_resolver("times", lambda a, b: float(a) * float(b), replace=True)


def find_arms(names: list[str] | None) -> dict[str, Path]:
    """Return the YAML files of the named arms; of all arms for None. Raises UserError for an unknown one."""
    files = catalog.choices("arm")
    for name in names or ():
        if name not in files:
            raise unknown("arm", name, files)
    return files if names is None else {name: files[name] for name in names}


def arm_config(source: Source, episode: Episode, name: str, file: Path) -> RunConfig:
    """Return the config of one arm of an episode.

    Raises:
        UserError: the YAML file has a mistake, or does not suit the run.
    """
    run = as_dict(source.config)
    usual = source.usual(episode)
    arm, names = _named_files(name, _read(name, file))
    own = {key: value for key, value in run.items() if not _replaced(arm.get(key))}
    given = {"run": run, "usual": usual, "spike": {"onset": episode.spike.onset, "batches": LEAD + 1}}
    try:
        laid = OmegaConf.merge(OmegaConf.create({**own, **given}), arm)
        plain: Any = OmegaConf.to_container(laid, resolve=True)
        kept = {key: value for key, value in plain.items() if key not in given}
        config = typed_config(OmegaConf.merge(OmegaConf.structured(RunConfig), kept))  # type: ignore[arg-type]
        changed = config.replay
        return identified(
            replace(
                config,
                names=replace(config.names, **names),
                results_dir=str(source.folder.parent / FOLDER),
                measure_every=1,
                keep_before_spikes=0,
                replay=ReplayConfig(
                    run=source.config.run_id,
                    arm=name,
                    onset=episode.spike.onset,
                    step=episode.step,
                    until=episode.until,
                    **{key: getattr(changed, key) for key in CHANGEABLE},
                ),
            )
        )
    except (OmegaConfBaseException, ValueError, UserError) as error:
        raise UserError(f"arm {name} does not suit the run {source.folder.name}: {one_line(error)}") from error


def _read(name: str, file: Path) -> dict[str, Any]:
    """Return the content of an arm's YAML file. Raises UserError unless it lays settings over a run's config."""
    try:
        arm = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"arm {name}: {file} cannot be read ({one_line(error)})") from error
    allowed = set(RunConfig.__dataclass_fields__) - set(FILLED_IN) | {"replay"}
    if not isinstance(arm, dict):
        raise UserError(f"arm {name}: {file} must hold settings of a run, such as lr_multiplier")
    for key in arm:
        if key not in allowed:
            raise unknown(f"key of arm {name}", str(key), allowed)
    settings = arm.get("replay", {})
    if not isinstance(settings, dict):
        raise UserError(f"arm {name}: replay is {settings!r}; it must hold {', '.join(CHANGEABLE)}")
    for key in settings:
        if key not in CHANGEABLE:
            raise unknown(f"key of replay in arm {name}", str(key), CHANGEABLE)
    return arm


def _named_files(name: str, arm: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an arm with the content of the YAML files that it names, and their names by group. Raises UserError."""
    names = {group: arm[group] for group in GROUPS if isinstance(arm.get(group), str)}
    for group, chosen in names.items():
        files = catalog.choices(group)
        if chosen not in files:
            raise unknown(f"{group} of arm {name}", chosen, files)
        arm = {**arm, group: yaml.safe_load(files[chosen].read_text(encoding="utf-8"))}
    return arm, names


def _replaced(node: Any) -> bool:
    """Return whether a node of an arm takes the place of the run's."""
    return isinstance(node, dict) and "_target_" in node
