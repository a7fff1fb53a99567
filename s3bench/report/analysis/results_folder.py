"""Reads a results folder as runs, and refuses records that cannot be compared in one table."""

import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from s3bench import record
from s3bench.console import say
from s3bench.errors import UserError
from s3bench.record.judge import JUDGE, read_judge
from s3bench.report.analysis.labels import labels
from s3bench.report.analysis.runs import Run, grouped, read_run

MANY = 200  # records from which on all cores read them
APART = "sweep into another results_dir, or delete those of one kind"


def read_runs(results_dir: str | Path) -> list[Run]:
    """Read, score and label the runs of a results folder, shocked ones included, in the page's order.

    Where the folder holds a JUDGE, its targets and detector parameters replace those of the records. A shocked run has
    the labels of its undisturbed twin. From MANY records on, one process per core reads them; a script that calls this
    needs `if __name__ == "__main__":`.

    Raises:
        UserError: no records, a damaged one, or records of one task that were not held to the same targets and
            detector parameters, had other data, or were made by other code.
    """
    replaced = set(record.superseded(results_dir))
    if replaced:
        say(f"left out: {len(replaced)} records without a result, which runs of other code replace", file=sys.stderr)
    folders = [folder for folder in record.folders(results_dir) if folder not in replaced]
    read = partial(read_run, judge=read_judge(results_dir))
    if len(folders) < MANY:
        runs = list(map(read, folders))
    else:
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            runs = list(pool.map(read, folders, chunksize=16))
    _refuse_copies(runs)
    runs = [replace(run, **label._asdict()) for run, label in zip(runs, labels(runs), strict=True)]
    _refuse_mixtures(runs)
    return sorted(runs, key=_page_order)


def _page_order(run: Run) -> tuple[Any, ...]:
    return run.ladder, run.horizon, run.task_label, run.optimizer_label, run.lr_multiplier, run.seed


def _refuse_copies(runs: Sequence[Run]) -> None:
    """Raise UserError if one run is in two folders: it would count as two seeds."""
    seen: dict[str, Path] = {}
    for run in runs:
        first = seen.setdefault(run.run_id, run.folder)
        if first != run.folder:
            raise UserError(f"{run.folder} is a copy of {first}, the same run; move one of them away")


def _refuse_mixtures(runs: Sequence[Run]) -> None:
    """Raise UserError if runs of one task were not held to the same measure, or were made by different code.

    A ramp is held against all runs of its setup, whatever their schedule, and to no target and no detector parameter.
    """
    for run in runs:
        if run.is_ramp and run.shock is not None:
            raise UserError(f"{run.folder} is a ramp with a shock, for which there is no score; move it away")
    others, ramps = ([run for run in runs if run.is_ramp is kind] for kind in (False, True))
    for task, group in grouped(others, "task_label").items():
        mend = f"put into {JUDGE} what all are held to"
        _refuse_several(task, "targets", [run.targets for run in group], mend)
        _refuse_several(task, "detector parameters", [run.detector for run in group], mend)
    for task, group in [*grouped(others, "task_label").items(), *grouped(ramps, "task_label").items()]:
        _refuse_several(task, "schedule's code", [run.config["code"].get("schedule") for run in group], APART)
        against = [run for run in others if run.setup == group[0].setup] if group[0].is_ramp else []
        _refuse_other_code(task, [*group, *against])


def _refuse_other_code(task: str, runs: Sequence[Run]) -> None:
    """Raise UserError if runs had other data, or were made by other code of a task or an optimizer, or by a library."""
    over = [run for run in runs if run.has_result]
    _refuse_several(task, "data", [run.fingerprint for run in over], APART)
    _refuse_several(task, "task's code", [run.config["code"].get("task") for run in runs], APART)
    _refuse_several(task, "torch", [_version(run, "torch") for run in over], APART)
    _refuse_several(task, "task's library", [_library(run, run.config["task"]["build"]) for run in over], APART)
    for optimizer, of_it in grouped(runs, "optimizer_label").items():
        codes = [run.config["code"].get("optimizer") for run in of_it]
        libraries = [_library(run, run.config["optimizer"]) for run in of_it if run.has_result]
        clips = [code["clip"] for code in (run.config["code"] for run in of_it) if "clip" in code]
        _refuse_several(f"{task} with {optimizer}", "optimizer's code", codes, APART)
        _refuse_several(f"{task} with {optimizer}", "clip's code", clips, APART)
        _refuse_several(f"{task} with {optimizer}", "optimizer's library", libraries, APART)


def _refuse_several(where: str, what: str, facts: Sequence[Any], mend: str) -> None:
    different = list(dict.fromkeys(json.dumps(fact) for fact in facts))
    if len(different) > 1:
        raise UserError(
            f"the records of {where} differ in their {what} ({' and '.join(different[:2])}) and cannot be compared in "
            f"one table; {mend}"
        )


def _version(run: Run, package: str) -> str | None:
    """Return the version of a library that a run used, without the part that names the device it was built for."""
    for name, version in run.summary["versions"].items():
        if name.lower().replace("-", "_") == package.lower():
            return str(version).partition("+")[0]
    return None


def _library(run: Run, node: Mapping[str, Any]) -> str | None:
    """Return the library, and its version, that a _target_ comes from; None for code that is in no library."""
    package = node["_target_"].partition(".")[0]
    version = _version(run, package)
    return None if version is None else f"{package} {version}"
