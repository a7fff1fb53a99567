"""What the runs of a results folder are held to: targets and detector parameters, of their records or of judge.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import yaml

from s3bench.errors import UserError, one_line, unknown
from s3bench.record.opening import check_plain, read_text
from s3bench.record.reader import load_rows
from s3bench.record.targets import check_targets
from s3bench.spikes import Spike, find_spikes

JUDGE = "judge.yaml"  # in a results folder: targets and detector parameters that replace those of the records


def read_judge(results_dir: str | Path) -> dict[str, dict[str, Any]]:
    """Return the targets and detector parameters in the JUDGE of a results folder, by task; empty if it has none.

    Raises:
        UserError: the file has a mistake, or the folder has no run of one of its tasks.
    """
    file = Path(results_dir, JUDGE)
    try:
        given = yaml.safe_load(read_text(file)) or {}
        check_plain(given)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {one_line(error)}") from error
    for task, measure in given.items() if isinstance(given, dict) else [("", given)]:
        kinds = {"targets": list, "spikes": dict}
        if not isinstance(measure, dict) or any(type(x) is not kinds.get(key) for key, x in measure.items()):
            raise UserError(f"{file}: it must be {{TASK: {{targets: [...], spikes: {{...}}}}}}")
        check_targets(measure.get("targets", []), f"{file}: {task}.targets")
    tasks = {row["task"] for row in load_rows(results_dir)}
    for task in given.keys() - tasks:
        raise unknown(f"task in {file}", task, tasks)
    return dict(given)


def held_to(row: Mapping[str, Any], judge: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `targets` of a run, and as `spikes` its detector parameters.

    Args:
        row: the run's, of `load_record`.
        judge: what `read_judge` returned.
    """
    recorded = row["config"]["task"]
    return {"targets": recorded["targets"], "spikes": recorded["spikes"], **judge.get(row["task"], {})}


def spikes_of(row: Mapping[str, Any], loss: npt.ArrayLike, judge: Mapping[str, Mapping[str, Any]]) -> list[Spike]:
    """Return the spikes of a run in their order, less those that begin where it resumed from a checkpoint inexactly.

    A resume is inexact on a GPU or on another machine.

    Args:
        row, judge: as for `held_to`.
        loss: of each step, shape (steps,).

    Raises:
        UserError: the detector parameters cannot be used.
    """
    try:
        found = find_spikes(loss, **held_to(row, judge)["spikes"])
    except (TypeError, ValueError, OverflowError) as error:
        where = JUDGE if "spikes" in judge.get(row["task"], {}) else "its config"
        raise UserError(f"{row['folder']}: the detector parameters in {where} cannot be used ({error})") from error
    inexact = {resumed["step"] for resumed in row["summary"].get("resumed", []) if not resumed["exact"]}
    return [spike for spike in found if spike.onset not in inexact]
