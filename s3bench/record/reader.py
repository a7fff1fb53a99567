"""Reads records back, as pandas tables, dicts or arrays."""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.record.config_file import head_names, load_config, read_head
from s3bench.record.files import (
    CONFIG,
    ERROR,
    EVALS,
    FAILED,
    OVER,
    ROWS,
    STEPS,
    SUMMARY,
    damaged_record,
    first_line,
    folder_names,
)
from s3bench.record.opening import opened
from s3bench.record.progress import Progress, has_result, read_progress, read_rows, read_summary, state

NEEDED = {STEPS: {"step", "loss", "lr", "grad_norm"}, EVALS: {"step", "loss"}}  # columns that each table must have

LARGEST, MAGIC = 2**31, b"PAR1"  # bytes of a table, and its first ones

Columns = dict[str, npt.NDArray[Any]]  # by name


def folders(results_dir: str | Path) -> list[Path]:
    """Return the folders of the records in a results folder, sorted by run_id; anything else in it is left alone.

    Args:
        results_dir: the results folder, such as results/quickstart.

    Raises:
        UserError: there is no such folder, or no record in it.
    """
    results = Path(results_dir)
    if not results.is_dir():
        raise UserError(f"there is no results folder {results}; s3bench sweep creates one")
    found = [results / name for name in sorted(folder_names(results)) if _is_record(results / name)]
    if not found:
        raise UserError(f"{results} contains no records; name a results folder such as results/quickstart")
    return found


def refuse_arm(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise UserError if a record is an arm of a replay: it counts with the run that it comes from, and is none itself.

    Args:
        folder: the record.
        config: the resolved config of the run.
    """
    if identity.replay(config) is not None:
        results = os.path.relpath(folder.resolve().parent.parent)
        raise UserError(
            f"{folder.parent} holds arms of replays, which count with the runs that they come from: "
            f"s3bench report {results}"
        )


def _is_record(folder: Path) -> bool:
    """Tell whether a folder is a run's, by its name or by the first line of its config.yaml, which others have too."""
    if identity.RUN_ID.fullmatch(folder.name):
        return os.path.lexists(folder / CONFIG)
    return read_head(folder) is not None


def load_records(results_dir: str | Path) -> pd.DataFrame:
    """Return the records of a results folder as a table, one row per run, sorted by run_id.

    Runs that are missing, running or failed have a row too. `load_steps` and `load_evals` read a run's rows.

    Args:
        results_dir: the results folder, such as results/quickstart.

    Returns:
        A table with these columns; what is unknown is missing, as None or NaN:

        - run_id, experiment, task, optimizer (str), lr_multiplier, lr (float), seed, horizon (int): names and axes; lr
          is the task's learning rate times the multiplier, horizon a number of steps.
        - state (str): finished, diverged, failed, running or missing.
        - steps (int): the steps trained, or written so far.
        - first_step (int): the step from which the run's last process trained; 0 for a run that is over.
        - began (float): when that process began, in seconds since the epoch; only for a run that is not over.
        - cause (str): the first line of error.txt; only for a failed run.
        - seconds, train_seconds (float): the time of the whole run, and of its training loop; only for a run that is
          over, as the next three.
        - parameters (int): how many the model has.
        - fingerprint (str): of the data.
        - device (str): the device that the run was trained on.
        - folder (Path): the record.
        - summary (dict): the content of summary.json; empty unless the run is over.
        - config (dict): the resolved config.

        A run is over when it has finished or diverged.

    Raises:
        UserError: there is no such folder, no record in it, or a damaged one, which the message names.

    Example:
        >>> runs = load_records("results/quickstart")
        >>> runs[runs.state == "diverged"].groupby("optimizer").lr_multiplier.min()
    """
    return pd.DataFrame([load_record(folder) for folder in folders(results_dir)])


def load_rows(results_dir: str | Path, damaged: list[UserError] | None = None) -> list[dict[str, Any]]:
    """Return the rows of `load_records` as dicts without `config`, read in a fraction of the time.

    Args:
        results_dir: the results folder, such as results/quickstart.
        damaged: takes the errors of damaged records, which then have no row; without it the first is raised.

    Raises:
        UserError: there is no such folder, no record in it, or a damaged one, which the message names.

    Example:
        >>> sum(row["steps"] for row in load_rows("results/quickstart"))
    """
    rows = []
    for folder in folders(results_dir):
        try:
            rows.append(_row(folder, read_head(folder) or head_names(folder, load_config(folder))))
        except UserError as error:
            if damaged is None:
                raise
            damaged.append(error)
    return rows


def load_record(folder: Path) -> dict[str, Any]:
    """Return one row of `load_records` as a dict.

    Args:
        folder: the record.

    Raises:
        UserError: the record is damaged, or was made by another version of s3bench.

    Example:
        >>> load_record(folders("results/quickstart")[0])["state"]
    """
    config = load_config(folder)
    return {**_row(folder, head_names(folder, config)), "config": config}


def load_steps(folder: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table of a run with one row per step, from step 0; of the steps so far if the run is not over.

    Args:
        folder: the record.
        columns: the columns to read, for a run that is over; one that the record lacks is left out. None reads all.

    Returns:
        A table with these columns:

        - step (int64): the updates applied so far.
        - loss (float64): on the training batch, before update `step`.
        - lr (float64): the learning rate of update `step`.
        - grad_norm (float64): the norm of the gradient before clipping.
        - update_rms, update_max, update_above_1 (float64): the root mean square and the largest absolute value of the
          update u = (x_t - x_{t-1}) / lr_t over all coordinates, weight decay included, and the share of coordinates
          with abs(u) > 1; NaN on steps that were not measured, and no column if none was.
        - param_max (float64): the largest absolute value of a parameter before the update; NaN or absent likewise.

    Raises:
        UserError: the record is damaged, or the folder is not the folder of a run.

    Example:
        >>> loss = load_steps(folders("results/quickstart")[0]).loss
    """
    return _load(Path(folder), STEPS, columns)


def load_evals(folder: str | Path) -> pd.DataFrame:
    """Return a table of a run with one row per evaluation; of the evaluations so far if the run is not over.

    Args:
        folder: the record.

    Returns:
        A table with the columns step (int64, the updates applied so far), loss (float64, on held-out data) and one for
        each of the task's metrics (float64).

    Raises:
        UserError: the record is damaged, or the folder is not the folder of a run.

    Example:
        >>> last = load_evals(folders("results/quickstart")[0]).iloc[-1]
    """
    return _load(Path(folder), EVALS)


def step_arrays(folder: Path, columns: Sequence[str], summary: Mapping[str, Any] | None = None) -> Columns:
    """Return columns of `load_steps` as arrays, for a run that is over: faster where there are many runs.

    Args:
        folder: the record.
        columns: the columns to read; one that the record lacks is left out.
        summary: the record's, of `load_record`; read from its file if it is not given.

    Returns:
        Arrays of shape (steps,) by column, with the dtypes of `load_steps`.

    Raises:
        UserError: the record is damaged, or the run is not over.

    Example:
        >>> loss = step_arrays(folders("results/quickstart")[0], ["loss"])["loss"]
    """
    return _columns(folder, STEPS, columns, summary)


def eval_arrays(folder: Path, summary: Mapping[str, Any] | None = None) -> Columns:
    """Return the columns of `load_evals` as arrays, for a run that is over.

    Args:
        folder: the record.
        summary: as for `step_arrays`.

    Returns:
        Arrays of shape (evaluations,) by column, with the dtypes of `load_evals`.

    Raises:
        UserError: the record is damaged, or the run is not over.
    """
    return _columns(folder, EVALS, summary=summary)


def _row(folder: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `load_records` without the config, of a run with these names and axes."""
    summary = read_summary(folder) if has_result(folder) else {}
    reached = summary["state"] if summary else state(folder)
    if reached in OVER and not summary:  # it has ended in between
        summary = read_summary(folder)
    progress = Progress(steps=summary["steps"]) if summary else read_progress(folder)
    row = {**names, "state": reached, **asdict(progress)}
    try:
        row["cause"] = first_line(folder / ERROR) if reached == FAILED else None
    except OSError as error:
        raise damaged_record(folder, ERROR, error) from error
    for key in ("seconds", "train_seconds", "parameters", "fingerprint", "device"):
        row[key] = summary.get(key)
    return {**row, "folder": folder, "summary": summary}


def _load(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table of a run, from its Parquet file or from the rows so far."""
    if has_result(folder):
        return pd.DataFrame(_columns(folder, name, columns))
    try:
        if not (folder / CONFIG).exists():
            raise UserError(f"{folder} is not the folder of a run")
        return pd.DataFrame(read_rows(folder, name))
    except (ValueError, OSError) as error:
        raise damaged_record(folder, f"{name}.N{ROWS}", error) from error


def _columns(
    folder: Path, name: str, columns: Sequence[str] | None = None, summary: Mapping[str, Any] | None = None
) -> Columns:
    """Return columns of a table's Parquet file, checked against its CRC-32 in the summary."""
    path = folder / f"{name}.parquet"
    try:
        with opened(path, LARGEST) as table_file:
            content = table_file.read(len(MAGIC))
            content += table_file.read() if content == MAGIC else b""
        if zlib.crc32(content) != (summary or read_summary(folder))["crc32"][path.name]:
            raise ValueError(f"its CRC-32 differs from the one in {SUMMARY}")
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            there = file.schema_arrow.names
            if absent := NEEDED[name] - set(there):
                raise ValueError(f"it has no column {', '.join(sorted(absent))}")
            wanted = there if columns is None else [column for column in there if column in ("step", *columns)]
            table = file.read(wanted, use_threads=False)
        arrays = {column: table[column].to_numpy() for column in wanted}
        _check(arrays)
        return arrays if columns is None else {column: arrays[column] for column in wanted if column in columns}
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
        raise damaged_record(folder, path.name, error) from error


def _check(columns: Columns) -> None:
    """Raise ValueError unless there are rows, all of them numbers, in ascending order of their steps."""
    if not len(columns["step"]):
        raise ValueError("it has no rows")
    for name, values in columns.items():
        if values.dtype.kind not in ("iu" if name == "step" else "iuf"):
            raise ValueError(f"its column {name} does not hold {'whole ' * (name == 'step')}numbers")
    back = np.flatnonzero(np.diff(columns["step"]) <= 0)
    if len(back):
        raise ValueError(f"step {columns['step'][back[0] + 1]} comes after step {columns['step'][back[0]]}")


def altered(results_dir: str | Path | None, error: Exception) -> UserError:
    """Return the error for the first record below a folder whose settings are not those that its run_id was made of.

    Asked when a command stumbles over a value: one that was changed by hand, or on a bad disk, can be anything.

    Args:
        results_dir: the folder; None if there is none.
        error: what the command stumbled over, which is raised again if no record was altered.
    """
    for file in sorted(Path(results_dir).glob(f"**/{CONFIG}")) if results_dir else ():
        try:
            config = load_config(file.parent)
            if config["run_id"] != identity.run_id(config, config["names"]["task"], config["names"]["optimizer"]):
                raise ValueError("its settings are not those that its run_id was made of")
        except UserError:
            continue  # a folder of something else, or named as damaged by whoever reads it
        except (LookupError, TypeError, ValueError, AttributeError) as reason:
            return damaged_record(file.parent, CONFIG, reason)
    raise error
