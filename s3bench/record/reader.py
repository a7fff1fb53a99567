"""Reads records back, as pandas tables or as arrays."""

import zlib
from collections.abc import Sequence
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
from s3bench.record.progress import has_result, progress, read_rows, read_summary, state

NEEDED = {STEPS: {"step", "loss", "lr", "grad_norm"}, EVALS: {"step", "loss"}}  # columns

Columns = dict[str, npt.NDArray[Any]]  # by name


def folders(results_dir: str | Path) -> list[Path]:
    """The records in a results folder, sorted by run_id; what else lies there is left alone.

    Raises UserError if there is no such folder, or no record.
    """
    place = Path(results_dir)
    if not place.is_dir():
        raise UserError(f"there is no results folder {place}; s3bench sweep makes one")
    found = [place / name for name in sorted(folder_names(place)) if _is_record(place / name)]
    if not found:
        raise UserError(f"{place} holds no records; a results folder is one such as results/quickstart")
    return found


def _is_record(folder: Path) -> bool:
    """Whether a folder is a run's, by its name or by what its config begins with: others too may hold a config.yaml."""
    if identity.RUN_ID.fullmatch(folder.name):
        return (folder / CONFIG).exists()
    return read_head(folder) is not None


def load_records(results_dir: str | Path) -> pd.DataFrame:
    """One row per run: its names, axes, state and summary; `config` and `summary` as dicts, `folder` as a Path.

    Columns: run_id, experiment, task, optimizer, lr_multiplier, lr, seed, horizon, state, steps, first_step, began,
    cause, seconds, train_seconds, parameters, fingerprint, device, folder, config, summary. Runs that are missing,
    running or failed have a row too, with None where there is nothing to say; first_step is where a run under way went
    on last, and began when that was. `load_steps` and `load_evals` read a run's rows.

    Raises:
        UserError: no such folder, no record in it, or a damaged one (named).
    """
    return pd.DataFrame([load_record(folder) for folder in folders(results_dir)])


def load_rows(results_dir: str | Path) -> list[dict[str, Any]]:
    """The rows of `load_records` without `config`, read in a fraction of the time. Raises UserError likewise."""
    return [
        _standing(folder, read_head(folder) or head_names(folder, load_config(folder)))
        for folder in folders(results_dir)
    ]


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
    config = load_config(folder)
    return {**_standing(folder, head_names(folder, config)), "config": config}


def _standing(folder: Path, names: dict[str, Any]) -> dict[str, Any]:
    """A row: what a run is and where it stands."""
    now = None if has_result(folder) else state(folder)
    summary = read_summary(folder) if now is None or now in OVER else {}
    row = {**names, "state": summary.get("state", now)}
    row["steps"], row["first_step"], row["began"] = (summary["steps"], 0, None) if summary else progress(folder)
    row["cause"] = first_line(folder / ERROR) if row["state"] == FAILED else None
    for key in ("seconds", "train_seconds", "parameters", "fingerprint", "device"):
        row[key] = summary.get(key)
    return {**row, "folder": folder, "summary": summary}


def _load(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    if (folder / SUMMARY).exists():
        return pd.DataFrame(_columns(folder, name, columns))
    try:
        if not (folder / CONFIG).exists():
            raise UserError(f"{folder} is not the folder of a run")
        return pd.DataFrame(read_rows(folder, name))
    except ValueError as error:
        raise damaged_record(folder, f"{name}.N{ROWS}", error) from error


def _columns(folder: Path, name: str, columns: Sequence[str] | None = None) -> Columns:
    path = folder / f"{name}.parquet"
    try:
        content = path.read_bytes()
        if zlib.crc32(content) != read_summary(folder)["crc32"][path.name]:
            raise ValueError("its CRC-32 is not the one in the summary")
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            there = file.schema_arrow.names
            if absent := NEEDED[name] - set(there):
                raise ValueError(f"no column {', '.join(sorted(absent))}")
            wanted = there if columns is None else [column for column in there if column in ("step", *columns)]
            table = file.read(wanted, use_threads=False)
        arrays = {column: table[column].to_numpy() for column in wanted}
        _check(arrays)
        return arrays if columns is None else {column: arrays[column] for column in wanted if column in columns}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_record(folder, path.name, error) from error


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
