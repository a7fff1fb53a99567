"""Turns a recorded config into a config of today, if today's code would train the same run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.run.config.compose import identified, typed_config
from s3bench.run.config.schema import RunConfig


def recorded_config(folder: Path, recorded: Mapping[str, Any], what: str) -> RunConfig:
    """Return a recorded config as this version types it.

    Args:
        folder: the record's, for messages.
        recorded: its config.
        what: what is to be done with the run, for messages: "replayed".

    Raises:
        UserError: another version or other code trained the run, or it is an arm of a replay.
    """
    try:
        typed = typed_config(OmegaConf.merge(OmegaConf.structured(RunConfig), recorded))  # type: ignore[arg-type]
    except (OmegaConfBaseException, UserError) as error:
        raise UserError(f"the run {folder} was made by another version of s3bench; it cannot be {what}") from error
    today = identified(typed)
    changed = [part for part, digest in today.code.items() if (recorded.get("code") or {}).get(part) != digest]
    if changed:
        raise UserError(
            f"the run {folder} was trained by other code of its {' and '.join(changed)}; it cannot be {what}"
        )
    if identity.replay(recorded) is not None:
        raise UserError(f"the run {folder} is itself an arm of a replay; replay the run that it comes from")
    return typed
