"""When two runs are the same: the part of a config that can change a run's result, and the run_id made of it.

A run_id is TASK-OPTIMIZER-xMULTIPLIER-sSEED-DIGEST-CODE. DIGEST is that of the settings, CODE that of the code.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# What cannot change a run's result: paths, mirrors, names, the device, and what a report does with the record.
NOT_DECISIVE = {"tracker", "launcher", "device", "parallel", "workers", "results_dir", "data_dir", "names", "run_id"}
NOT_DECISIVE |= {"keep_before_spikes", "checkpoint_every", "retries", "fail_fast", "scale"}
NOT_DECISIVE_OF_TASK = {"targets", "spikes", "download", "horizon", "eval_every"}  # the run itself has the last two
NOT_DECISIVE_OF_BUILD = {"data_dir", "workers", "download"}  # arguments of the task

UNCLIPPED, GLOBAL_NORM = "optimizers.clipping.Clip", "optimizers.clipping.GlobalNorm"
RAMP, CONSTANT = "s3bench.run.ramp.ramp", "s3bench.schedule.constant"

BEGINNING = r".+-x[^-]+(-\d+)?-s\d+-[0-9a-f]{10}"  # of a run_id: all but the digest of the code
RUN_ID = re.compile(BEGINNING + "(-[0-9a-f]{6})?")
WITHOUT_CODE = re.compile(BEGINNING)  # the run_id of a version of s3bench that did not digest the code


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a resolved config that can change the run's result; a shock or replay only if there is one."""
    part = {key: value for key, value in config.items() if key not in NOT_DECISIVE}
    if shock(config) is None:
        part.pop("shock", None)
    if replay(config) is None:
        part.pop("replay", None)
    part |= _clipping(part.pop("clip", None), part.pop("clip_norm", None))
    part["task"] = {key: value for key, value in config["task"].items() if key not in NOT_DECISIVE_OF_TASK}
    build = config["task"]["build"]
    part["task"]["build"] = {key: value for key, value in build.items() if key not in NOT_DECISIVE_OF_BUILD}
    return part


def is_unclipped(config: Mapping[str, Any]) -> bool:
    """Return whether neither gradients nor updates are clipped."""
    return bool(config["clip"]["_target_"] == UNCLIPPED)


def _clipping(clip: Mapping[str, Any] | None, clip_norm: float | None) -> dict[str, Any]:
    """Return the settings of the clipping: `clip`, or `clip_norm`: null for none.

    Until 0.2 the key clip_norm, a number or null, said what was clipped. A run that is not clipped has the settings and
    the digest that it had then, and one with a clip_norm has the settings of the clip that does the same.
    """
    if clip_norm is not None:
        clip = {"_target_": GLOBAL_NORM, "max_norm": clip_norm}
    return {"clip_norm": None} if clip is None or clip["_target_"] == UNCLIPPED else {"clip": dict(clip)}


def shock(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the shock of a resolved config; None for an undisturbed run, and for one older than shocks."""
    given: dict[str, Any] = config.get("shock") or {"kind": "none"}
    return None if given["kind"] == "none" else given


def replay(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what makes a run an arm of a replay, see ReplayConfig; None for any other run."""
    given: dict[str, Any] = config.get("replay") or {"run": ""}
    return given if given["run"] else None


def is_ramp(config: Mapping[str, Any]) -> bool:
    """Return whether a run's learning rate grows until its loss leaves: it is a test, and no training."""
    return bool(config["schedule"]["_target_"] == RAMP)


def is_constant(config: Mapping[str, Any]) -> bool:
    """Return whether a run's learning rate is constant after its warm-up."""
    return bool(config["schedule"]["_target_"] == CONSTANT)


def run_id(config: Mapping[str, Any], task: str, optimizer: str) -> str:
    """Return the run_id of a resolved config whose task and optimizer have these names."""
    decisive = settings(config)
    code = decisive.pop("code")
    if (arm := replay(config)) is not None:
        optimizer = f"{optimizer}.{arm['arm']}"
    readable = f"{task}-{optimizer}-x{config['lr_multiplier']:g}-s{config['seed']}"
    return f"{readable}-{_digest(_numbers_as_floats(decisive), 10)}-{_digest(code, 6)}"


def without_code(name: str) -> str:
    """Return a run_id without the digest of the code; for any other name the name with a "/", which no run_id has."""
    return name.rpartition("-")[0] if RUN_ID.fullmatch(name) else f"{name}/"


def _digest(value: Any, length: int) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:length]


def _numbers_as_floats(value: Any) -> Any:
    """Return the value with every int as a float, so that p=3 and p=3.0 are one run."""
    if isinstance(value, dict):
        return {key: _numbers_as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
