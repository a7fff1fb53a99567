"""Reads a results folder as runs, and refuses records that cannot stand in one table."""

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from s3bench import record
from s3bench.errors import UserError, one_line, unknown
from s3bench.record import identity
from s3bench.record.targets import check_targets
from s3bench.report.analysis.labels import label
from s3bench.report.analysis.runs import JUDGE, Run, grouped, read_run

MANY = 200  # records from which on all cores read them


def read_runs(results_dir: str | Path) -> list[Run]:
    """The undisturbed runs of a results folder, scored, in the page's order, see `read_all`."""
    return read_all(results_dir)[0]


def read_all(results_dir: str | Path) -> tuple[list[Run], list[Run]]:
    """The runs of a results folder, scored, in the page's order: the undisturbed ones, and those with a shock.

    Where the folder holds a JUDGE, its targets and detector parameters are taken instead of the records'. A shocked run
    has the labels of its undisturbed twin. From 200 records on, one process per core reads them; a script
    that calls this needs `if __name__ == "__main__":`.

    Raises:
        UserError: no records, a damaged one, or records of one task that were not held to the same targets and
            detector parameters or had other data.
    """
    folders = record.folders(results_dir)
    measures = _measures(Path(results_dir, JUDGE))
    read = partial(read_run, measures=measures)
    if len(folders) < MANY:
        runs = list(map(read, folders))
    else:
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            runs = list(pool.map(read, folders, chunksize=16))
    for task in measures.keys() - {run.row["task"] for run in runs}:
        raise unknown(f"task in {Path(results_dir, JUDGE)}", task, {run.row["task"] for run in runs})
    _refuse_copies(runs)
    label([run.row for run in runs])
    _refuse_mixtures(runs)
    runs.sort(key=lambda run: tuple(run.row[key] for key in ORDER))
    shocks = [identity.shock(run.row["config"]) for run in runs]
    return (
        [run for run, shock in zip(runs, shocks, strict=True) if shock is None],
        [run for run, shock in zip(runs, shocks, strict=True) if shock is not None],
    )


ORDER = ("ladder", "horizon", "task", "optimizer", "lr_multiplier", "seed")


def _measures(file: Path) -> dict[str, dict[str, Any]]:
    """What a JUDGE says: targets and detector parameters by task; of none nothing. Raises UserError."""
    if not file.exists():
        return {}
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {one_line(error)}") from error
    for task, measure in given.items() if isinstance(given, dict) else [("", given)]:
        kinds = {"targets": list, "spikes": dict}
        if not isinstance(measure, dict) or any(type(x) is not kinds.get(key) for key, x in measure.items()):
            raise UserError(f"{file}: it must be {{TASK: {{targets: [...], spikes: {{...}}}}}}")
        check_targets(measure.get("targets", []), f"{file}: {task}.targets")
    return dict(given)


def _refuse_copies(runs: Sequence[Run]) -> None:
    """Raise UserError if one run stands in two folders: it would count as two seeds."""
    seen: dict[str, Path] = {}
    for run in runs:
        first = seen.setdefault(run.row["run_id"], run.row["folder"])
        if first != run.row["folder"]:
            raise UserError(f"{run.row['folder']} is a copy of {first}, the same run; move one of them away")


def _refuse_mixtures(runs: Sequence[Run]) -> None:
    """Raise UserError if runs of one task were not held to the same measure, or not made by the same code."""
    for task, group in grouped(runs, "task").items():
        for what, facts in (
            ("targets", [run.row["config"]["task"]["targets"] for run in group]),
            ("detector parameters", [run.row["config"]["task"]["spikes"] for run in group]),
            ("data", [run.row["fingerprint"] for run in group if run.has_result]),
            ("task's code", [run.row["config"]["code"].get("task") for run in group]),
            ("schedule's code", [run.row["config"]["code"].get("schedule") for run in group]),
            ("torch", [_version(run, "torch") for run in group if run.has_result]),
            ("task's library", [_library(run, run.row["config"]["task"]["build"]) for run in group if run.has_result]),
        ):
            mend = f"say in {JUDGE} what all are held to" if what in JUDGED else APART
            _refuse_several(task, what, facts, mend)
        for optimizer, of_it in grouped(group, "optimizer").items():
            _refuse_several(
                f"{task} with {optimizer}",
                "optimizer's code",
                [run.row["config"]["code"].get("optimizer") for run in of_it],
            )
            libraries = [_library(run, run.row["config"]["optimizer"]) for run in of_it if run.has_result]
            _refuse_several(f"{task} with {optimizer}", "optimizer's library", libraries)


JUDGED = ("targets", "detector parameters")
APART = "sweep into another results_dir, or delete those of one kind"


def _refuse_several(where: str, what: str, facts: Sequence[Any], mend: str = APART) -> None:
    different = list(dict.fromkeys(json.dumps(fact) for fact in facts))
    if len(different) > 1:
        raise UserError(
            f"the records of {where} differ in their {what} ({' and '.join(different[:2])}) and cannot stand in "
            f"one table; {mend}"
        )


def _version(run: Run, package: str) -> str | None:
    """Of a library that a run used; without what says for which device it was built."""
    for name, version in run.row["summary"]["versions"].items():
        if name.lower().replace("-", "_") == package.lower():
            return str(version).partition("+")[0]
    return None


def _library(run: Run, node: Mapping[str, Any]) -> str | None:
    """The version of the library that a _target_ comes from; None of code that is in no library."""
    package = node["_target_"].partition(".")[0]
    version = _version(run, package)
    return None if version is None else f"{package} {version}"
