"""The files of a run: the only code that knows their names, how they are written, and how they are read back.

    results/<experiment>/<run_id>/
        config.yaml     the resolved config; its presence makes the folder a record
        steps.parquet   one row per step: step, loss, lr, grad_norm and, on measured steps, update_rms and update_max
        evals.parquet   one row per evaluation: step, loss and the task's metrics
        summary.json    state, steps, versions, ...; written last and atomically: where it is, the run is over
        error.txt       of a failed run: the cause on the first line, then the traceback
        log.txt         what the run printed, if it printed anything

While a run is under way its rows stand in steps.jsonl and evals.jsonl, and its process holds a lock on the folder.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from s3bench.errors import UserError

CONFIG, SUMMARY, ERROR, LOG = "config.yaml", "summary.json", "error.txt", "log.txt"
STEPS, EVALS, ROWS = "steps", "evals", ".jsonl"
NEEDED = {STEPS: {"step", "loss", "lr", "grad_norm"}, EVALS: {"step", "loss"}}  # columns

MISSING, RUNNING, FINISHED, DIVERGED, FAILED = "missing", "running", "finished", "diverged", "failed"
STATES = (FINISHED, DIVERGED, FAILED, RUNNING, MISSING)
OVER = (FINISHED, DIVERGED)  # states with a result


# What cannot change a run's result: places, mirrors, names, the device, and what a report does with the record.
NOT_IDENTITY = (
    *("tracker", "launcher", "device", "parallel", "workers", "results_dir", "data_dir", "names", "run_id"),
    *("checkpoint_every", "retries", "fail_fast"),
)
NOT_TASK_IDENTITY = (
    "horizon",
    "eval_every",
    "targets",
    "spikes",
    "download",
)  # the run has its own horizon and eval_every
NOT_BUILD_IDENTITY = ("data_dir", "workers", "download")  # of the task's arguments

Columns = dict[str, npt.NDArray[Any]]  # by name


class Busy(Exception):
    """Another process is at this run."""


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that can change the result of the run."""

    part = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    part["task"] = {key: value for key, value in config["task"].items() if key not in NOT_TASK_IDENTITY}
    build = config["task"]["build"]
    part["task"]["build"] = {key: value for key, value in build.items() if key not in NOT_BUILD_IDENTITY}
    return part


def folder_of(config: dict[str, Any]) -> Path:
    """Where the record of a run is, or would be."""
    return Path(config["results_dir"], config["run_id"])


def plan(config: dict[str, Any]) -> Path:
    """The folder of a run, made with its config if it is not there: from now on the run is known to be missing."""
    folder = folder_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            _write(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a record; the kernel releases it when the process ends. Raises Busy if another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for attempt in range(20):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if attempt == 19:
                    raise Busy(folder) from error
                time.sleep(0.01)  # one who looks whether it is locked holds it for a moment
        yield
    finally:
        os.close(descriptor)


class Writer:
    """Writes one record anew: rows as they come, the rest at the end. For a process that holds its lock."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        _write(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
        for name in (SUMMARY, ERROR, f"{STEPS}.parquet", f"{EVALS}.parquet"):
            (folder / name).unlink(missing_ok=True)
        self._files = {name: (folder / f"{name}{ROWS}").open("w", encoding="utf-8") for name in (STEPS, EVALS)}

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add_steps(self, rows: list[dict[str, Any]]) -> None:
        """Append rows of steps.parquet."""
        self._append(STEPS, rows)

    def add_eval(self, row: dict[str, Any]) -> None:
        """Append a row of evals.parquet."""
        self._append(EVALS, [row])

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the record of a finished or diverged run."""
        for file in self._files.values():
            file.close()
        steps, evals = (_by_column(_rows(self.folder / f"{name}{ROWS}")) for name in (STEPS, EVALS))
        write_result(self.folder, steps, evals, summary)
        for name in (STEPS, EVALS):
            (self.folder / f"{name}{ROWS}").unlink()

    def fail(self, cause: str, traceback: str) -> None:
        """Close the record of a failed run; its rows so far stay."""
        write_error(self.folder, cause, traceback)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        file = self._files[name]
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()


def write_result(
    folder: Path, steps: Mapping[str, Sequence[Any]], evals: Mapping[str, Sequence[Any]], summary: dict[str, Any]
) -> None:
    """Write what makes a planned record that of a run that is over: the columns of both tables, then the summary."""
    for name, columns in ((STEPS, steps), (EVALS, evals)):
        types = {key: pa.int64() if key == "step" else pa.float64() for key in columns}
        table = pa.table({key: pa.array(values, types[key]) for key, values in columns.items()})
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", use_dictionary=False)
    _write(folder / SUMMARY, json.dumps(summary, indent=1))


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, None where a row lacks one."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}


def write_error(folder: Path, cause: str, details: str = "") -> None:
    """Mark a run as failed."""
    _write(folder / ERROR, f"{cause}\n\n{details}")


def state(folder: Path) -> str:
    """The state of a record; missing also where there is none."""
    if not (folder / SUMMARY).exists() and _is_locked(folder):
        return RUNNING
    if (folder / SUMMARY).exists():  # perhaps only now
        return str(_summary(folder)["state"])
    return FAILED if (folder / ERROR).exists() else MISSING


def has_result(folder: Path) -> bool:
    """Whether the run is over, finished or diverged."""
    return (folder / SUMMARY).exists()


def outcome(folder: Path) -> str:
    """The state of a record and, of a failed run, the cause, on one line."""
    now = state(folder)
    return f"{now}: {_first_line(folder / ERROR)}" if now == FAILED else now


def steps_so_far(folder: Path) -> int:
    """How many steps a run under way has written."""
    rows = folder / f"{STEPS}{ROWS}"
    try:
        with rows.open("rb") as file:
            file.seek(max(0, rows.stat().st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) + 1 if lines else 0
    except (OSError, ValueError, TypeError):
        return 0


def folders(results_dir: str | Path) -> list[Path]:
    """The records in a results folder, sorted by run_id. Raises UserError if there is no such folder, or no record."""
    place = Path(results_dir)
    if not place.is_dir():
        raise UserError(f"there is no results folder {place}; s3bench sweep makes one")
    found = sorted(file.parent for file in place.glob(f"*/{CONFIG}"))
    if not found:
        raise UserError(f"{place} holds no records; a results folder is one such as results/quickstart")
    return found


def load_records(results_dir: str | Path) -> pd.DataFrame:
    """One row per run: its names, axes, state and summary; `config` and `summary` as dicts, `folder` as a Path.

    Columns: run_id, experiment, task, optimizer, lr_multiplier, lr, seed, horizon, began, state, steps, cause, seconds,
    train_seconds, parameters, fingerprint, device, folder, config, summary. Runs that are missing, running or failed
    have a row too, with None where there is nothing to say. `load_steps` and `load_evals` read a run's rows.

    Raises:
        UserError: no such folder, no record in it, or a damaged one (named).
    """
    return pd.DataFrame([load_record(folder) for folder in folders(results_dir)])


def load_steps(folder: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of every step of a run, from step 0; those so far if it is not over. Raises UserError if damaged.

    Args:
        folder: of the run.
        columns: those to read, of a run that is over; one that the record lacks is left out.
    """
    return _load(Path(folder), STEPS, columns)


def load_evals(folder: str | Path) -> pd.DataFrame:
    """The rows of every evaluation of a run; those so far if it is not over. Raises UserError if damaged."""
    return _load(Path(folder), EVALS)


def step_arrays(folder: Path, columns: Sequence[str]) -> Columns:
    """The columns of `load_steps` as arrays, of a run that is over: faster, where there are many runs."""
    return _columns(folder, STEPS, columns)


def eval_arrays(folder: Path) -> Columns:
    """The columns of `load_evals` as arrays, of a run that is over."""
    return _columns(folder, EVALS)


def load_record(folder: Path) -> dict[str, Any]:
    """One row of `load_records`. Raises UserError if the record is damaged."""
    try:
        config = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        names = config["names"]
        row = {
            "run_id": config["run_id"],
            "experiment": names["experiment"],
            "task": names["task"],
            "optimizer": names["optimizer"],
            "lr_multiplier": float(config["lr_multiplier"]),
            "lr": config["task"]["lr"] * config["lr_multiplier"],
            "seed": int(config["seed"]),
            "horizon": int(config["horizon"]),
        }
        identity(config), config["task"]["targets"], config["task"]["spikes"]  # there, for those who rely on it
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise _damaged(folder, CONFIG, error) from error
    row["began"] = (folder / CONFIG).stat().st_mtime  # where it runs: it is written anew when a run begins
    row["state"] = state(folder)
    summary = _summary(folder) if row["state"] in OVER else {}
    row["steps"] = summary["steps"] if summary else steps_so_far(folder)
    row["cause"] = _first_line(folder / ERROR) if row["state"] == FAILED else None
    for key in ("seconds", "train_seconds", "parameters", "fingerprint", "device"):
        row[key] = summary.get(key)
    return {**row, "folder": folder, "config": config, "summary": summary}


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if summary["state"] not in OVER or not isinstance(summary["steps"], int):
            raise ValueError(f"state {summary['state']!r}, steps {summary['steps']!r}")
        return dict(summary)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _damaged(folder, SUMMARY, error) from error


def _load(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    if (folder / SUMMARY).exists():
        return pd.DataFrame(_columns(folder, name, columns))
    try:
        return pd.DataFrame(_rows(folder / f"{name}{ROWS}"))
    except ValueError as error:
        raise _damaged(folder, f"{name}{ROWS}", error) from error


def _columns(folder: Path, name: str, columns: Sequence[str] | None = None) -> Columns:
    path = folder / f"{name}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if absent := NEEDED[name] - set(there):
                raise ValueError(f"no column {', '.join(sorted(absent))}")
            wanted = there if columns is None else [column for column in there if column in ("step", *columns)]
            table = file.read(wanted, use_threads=False)
        arrays = {column: table[column].to_numpy() for column in wanted}
        _check(arrays)
        return arrays if columns is None else {column: arrays[column] for column in wanted if column in columns}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(folder, path.name, error) from error


def _check(columns: Columns) -> None:
    """Raise ValueError unless there are rows, all numbers, in the order of their steps."""
    if not len(columns["step"]):
        raise ValueError("no rows")
    for name, values in columns.items():
        if values.dtype.kind not in "iufb":
            raise ValueError(f"the column {name} holds no numbers")
    back = np.flatnonzero(np.diff(columns["step"]) <= 0)
    if len(back):
        raise ValueError(f"step {columns['step'][back[0] + 1]} after step {columns['step'][back[0]]}")


def _rows(file: Path) -> list[dict[str, Any]]:
    """The whole rows of a file of JSON lines; a killed run may leave half a row at the end."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def _damaged(folder: Path, name: str, error: Exception) -> UserError:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(f"the record {folder} is damaged, in {name} ({what}); delete that folder and sweep again")


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]


def _write(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _is_locked(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
