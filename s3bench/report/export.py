"""Writes the records of a results folder as four tables, for other tools: runs, steps, evaluations and spikes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3bench import record
from s3bench.record.judge import read_judge, spikes_of
from s3bench.spikes import Spike

STEP_COLUMNS = ("step", "loss", "lr", "grad_norm", "update_rms", "update_max", "update_above_1", "param_max")
SPIKE_COLUMNS = [field.name for field in fields(Spike)]
FOLDER = "export"  # in the results folder


def export_tables(results_dir: str | Path, kind: str) -> list[Path]:
    """Write the tables, and return their files.

    Args:
        results_dir: the results folder.
        kind: "csv" or "parquet".

    Raises:
        UserError: there is no record in the folder, or a damaged one.
    """
    rows = [record.load_record(folder) for folder in record.folders(results_dir)]
    judge = read_judge(results_dir)
    out = Path(results_dir, FOLDER)
    out.mkdir(exist_ok=True)
    runs = pd.DataFrame([_run(row) for row in rows])
    evals = [_with_run(row, record.load_evals(row["folder"])) for row in rows]
    spikes = [_with_run(row, pd.DataFrame(_spikes(row, judge), columns=SPIKE_COLUMNS)) for row in rows]
    tables = {
        "runs": iter([runs]),
        "steps": (_with_run(row, _steps(row)) for row in rows),  # one run at a time: they may not fit into memory
        "evals": iter([_together(evals)]),
        "spikes": iter([_together(spikes)]),
    }
    write = {"csv": _write_csv, "parquet": _write_parquet}[kind]
    files = []
    for name, parts in tables.items():
        file = out / f"{name}.{kind}"
        draft = file.with_name(f".{file.name}.draft")
        write(draft, parts)
        files.append(draft.replace(file))
    return files


def _run(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's names, axes and outcome: what of its row and its summary is a number or a text."""
    whole = {key: value for key, value in {**row, **row["summary"], **row}.items() if key != "folder"}
    return {
        key: value if isinstance(value, str | int | float) or value is None else str(value)
        for key, value in whole.items()
        if not isinstance(value, dict | list)
    }


def _steps(row: Mapping[str, Any]) -> pd.DataFrame:
    steps = record.load_steps(row["folder"])
    return steps.reindex(columns=list(STEP_COLUMNS)).astype(dict.fromkeys(STEP_COLUMNS[1:], float) | {"step": "int64"})


def _spikes(row: Mapping[str, Any], judge: Mapping[str, Any]) -> list[dict[str, Any]]:
    losses = record.load_steps(row["folder"])
    return [vars(spike) for spike in spikes_of(row, losses["loss"], judge)] if len(losses) else []


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return tables one below the other; empty ones only give the columns."""
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _with_run(row: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the run_id as its first column."""
    table.insert(0, "run_id", pd.Series(row["run_id"], index=table.index, dtype=str))
    return table


def _write_csv(file: Path, parts: Iterator[pd.DataFrame]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        for number, part in enumerate(parts):
            part.to_csv(out, index=False, header=number == 0)


def _write_parquet(file: Path, parts: Iterable[pd.DataFrame]) -> None:
    writer = None
    for part in parts:
        table = pa.Table.from_pandas(part, preserve_index=False)
        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table.cast(writer.schema))
    if writer:
        writer.close()
