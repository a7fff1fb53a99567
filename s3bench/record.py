"""The files of a run: the only code that knows their names, how they are written, and how they are read back.

    results/<experiment>/<run_id>/
        config.yaml     the resolved config; its presence makes the folder a record; its first line is a comment with
                        the names and axes of the run, for those who look at many
        steps.parquet   one row per step: step, loss, lr, grad_norm and, on measured steps, update_rms, update_max,
                        update_above_1 and param_max
        evals.parquet   one row per evaluation: step, loss and the task's metrics
        summary.json    state, steps, versions, ...; written last and atomically: where it is, the run is over
        error.txt       of a failed run: the cause on the first line, then the traceback
        log.txt         what the run printed, if it printed anything

While a run is under way:

        lease.N              who trains it, see lease.py; N counts the processes that have
        steps.N.jsonl, evals.N.jsonl   the rows of the Nth process; the first line says from which step it went on
        checkpoint.STEP.pt   the last two, see checkpoint.py; .unfit those that did not fit the model or optimizer

Rows are only ever appended, each process to files of its own: rows from the step on at which a later process went on
do not count.
"""

import json
import math
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from s3bench import identity, lease
from s3bench.errors import UserError
from s3bench.lease import Busy as Busy
from s3bench.lease import Lease

CONFIG, SUMMARY, ERROR, LOG, LEASE = "config.yaml", "summary.json", "error.txt", "log.txt", "lease"
STEPS, EVALS, ROWS = "steps", "evals", ".jsonl"
HEAD = "# s3bench run "  # the first line of config.yaml goes on with a JSON object, see _names
PRIVATE = ("setup", "additional_parameters")  # of a launcher: commands of a cluster, which may hold tokens
PLANNED_AT_ONCE = 16
READER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
WRITER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
NEEDED = {STEPS: {"step", "loss", "lr", "grad_norm"}, EVALS: {"step", "loss"}}  # columns

MISSING, RUNNING, FINISHED, DIVERGED, FAILED = "missing", "running", "finished", "diverged", "failed"
STATES = (FINISHED, DIVERGED, FAILED, RUNNING, MISSING)
OVER = (FINISHED, DIVERGED)  # states with a result

KINDS: dict[str, type] = {"run_id": str, "experiment": str, "task": str, "optimizer": str, "seed": int, "horizon": int}
KINDS |= {"lr_multiplier": float, "lr": float}  # of the names and axes of a run

Columns = dict[str, npt.NDArray[Any]]  # by name


def folder_of(config: dict[str, Any]) -> Path:
    """Where the record of a run is, or would be."""
    return Path(config["results_dir"], config["run_id"])


def plan(config: dict[str, Any]) -> Path:
    """The folder of a run, made with its config if it is not there: from now on the run is known to be missing."""
    folder = folder_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            _write(folder / CONFIG, _config_text(config))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def plan_all(configs: Sequence[dict[str, Any]]) -> list[Path]:
    """`plan` for many runs: the disk writes several at once faster than one after the other."""
    with ThreadPoolExecutor(PLANNED_AT_ONCE) as pool:
        return list(pool.map(plan, configs))


def superseded(folders: Iterable[Path]) -> list[Path]:
    """Records without result or checkpoint, made with other code than planned runs which are the same but for it.

    A run_id ends with the digest of the code, so that nothing has to be read but the names of the folders.
    """
    planned = {(folder.parent, folder.name) for folder in folders}
    cells = {(place, identity.without_code(name)) for place, name in planned}
    there = [(place, name) for place in {place for place, _ in planned} for name in _folder_names(place)]
    return [
        Path(place, name)
        for place, name in there
        if (place, name) not in planned and (place, identity.without_code(name)) in cells and _may_go(Path(place, name))
    ]


def _may_go(folder: Path) -> bool:
    kept = has_result(folder) or checkpoints(folder)
    return (folder / CONFIG).exists() and not kept and state(folder) in (FAILED, MISSING)


def refuse_other_version(places: Iterable[Path]) -> None:
    """Raise UserError if a results folder has a record of another version of s3bench, to be seen by its name."""
    for place in places:
        for name in _folder_names(place):
            if identity.WITHOUT_CODE.fullmatch(name) and (place / name / CONFIG).exists():
                raise _other_version(place / name)


def _other_version(folder: Path) -> UserError:
    return UserError(
        f"the record {folder} is of another version of s3bench and cannot stand beside new ones; "
        "sweep into another results_dir, or move it away"
    )


def remove(folder: Path) -> None:
    """Remove the record of a run."""
    shutil.rmtree(folder)


@contextmanager
def leased(folder: Path, dead: int | None = None) -> Iterator[Lease]:
    """Hold the lease on a record. Raises Busy if another process has it; `dead`: the number of one that has died."""
    held = Lease(lease_place(folder), 1 + _last_number(folder), dead)
    try:
        yield held
    finally:
        held.release()


def lease_place(folder: Path) -> Path:
    """Where the leases on a record lie, for lease.py."""
    return folder / LEASE


class Writer:
    """Writes one record: rows as they come, the rest at the end. For a process that holds its lease.

    Args:
        folder: the record's.
        config: the run's.
        number: of the lease.
        first_step: from which step on this process trains; the rows before it are those that are there.

    Raises Busy where another process has used the number.
    """

    def __init__(self, folder: Path, config: dict[str, Any], number: int = 0, first_step: int = 0) -> None:
        self.folder = folder
        _write(folder / CONFIG, _config_text(config))
        for name in (SUMMARY, ERROR, f"{STEPS}.parquet", f"{EVALS}.parquet"):
            (folder / name).unlink(missing_ok=True)
        try:
            self._files = {n: _rows_file(folder, n, number).open("x", encoding="utf-8") for n in (STEPS, EVALS)}
        except FileExistsError as error:
            raise Busy(folder) from error
        for name in self._files:
            self._append(name, [{"from": first_step, "began": time.time()}])

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

    def sync(self) -> None:
        """See to it that the rows so far outlast the machine."""
        for file in self._files.values():
            os.fsync(file.fileno())

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the record of a finished or diverged run."""
        for file in self._files.values():
            file.close()
        steps, evals = (_by_column(_rows(self.folder, name)) for name in (STEPS, EVALS))
        write_result(self.folder, steps, evals, summary)
        (self.folder / ERROR).unlink(missing_ok=True)  # of another process's try
        for done in [*self.folder.glob("checkpoint.*"), *_under_way(self.folder)]:
            done.unlink(missing_ok=True)

    def fail(self, cause: str, traceback: str) -> None:
        """Close the record of a failed run; its rows so far stay."""
        write_error(self.folder, cause, traceback)

    def _append(self, name: str, rows: list[dict[str, Any]]) -> None:
        file = self._files[name]
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()


def write_checkpoint(folder: Path, step: int, write: Callable[[BinaryIO], None]) -> None:
    """Have the checkpoint before a step written, whole or not at all, and keep the one before it."""
    file = folder / f"checkpoint.{step:012d}.pt"
    draft = _draft(file)
    try:
        with draft.open("wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    for old in checkpoints(folder)[2:]:
        old.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("checkpoint.*.pt"), reverse=True)


def set_checkpoints_aside(folder: Path) -> None:
    """Have a run go on from none of its checkpoints; they are kept until it is over."""
    for file in checkpoints(folder):
        file.replace(file.with_suffix(".unfit"))


def has_rows(folder: Path, step: int, evals: int) -> bool:
    """Whether the rows of all steps before `step`, and of that many evaluations, are there to go on from."""
    steps, evaluations = rows_before(folder, step)
    return [row.get("step") for row in steps] == list(range(step)) and len(evaluations) == evals


def rows_before(folder: Path, step: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of steps and evaluations of a run under way that lie before a step; none where they are damaged."""
    try:
        steps, evals = (_rows(folder, name, step) for name in (STEPS, EVALS))
        return steps, evals
    except (ValueError, OSError):
        return [], []


def write_result(
    folder: Path, steps: Mapping[str, Sequence[Any]], evals: Mapping[str, Sequence[Any]], summary: dict[str, Any]
) -> None:
    """Write what makes a planned record that of a run that is over: the columns of both tables, then the summary."""
    sums = {}
    for name, columns in ((STEPS, steps), (EVALS, evals)):
        types = {key: pa.int64() if key == "step" else pa.float64() for key in columns}
        table = pa.table({key: pa.array(values, types[key]) for key, values in columns.items()})
        file = folder / f"{name}.parquet"
        pq.write_table(table, file, compression="zstd", use_dictionary=False)
        sums[file.name] = zlib.crc32(file.read_bytes())
    _write(folder / SUMMARY, json.dumps({**summary, "crc32": sums}, indent=1))


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, None where a row lacks one."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}


def write_error(folder: Path, cause: str, details: str = "") -> None:
    """Mark a run as failed."""
    _write(folder / ERROR, f"{cause}\n\n{details}")


def failed_at(folder: Path) -> int | None:
    """What tells one failure of a run from the next; None if it has none."""
    try:
        return (folder / ERROR).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def state(folder: Path) -> str:
    """The state of a record; missing also where there is none."""
    if not (folder / SUMMARY).exists() and lease.is_held(lease_place(folder)):
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


def size(folder: Path) -> int:
    """The bytes of a record's files."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def steps_so_far(folder: Path) -> int:
    """How many steps of a run under way are written."""
    return progress(folder)[0]


def progress(folder: Path) -> tuple[int, int, float | None]:
    """Of a run under way: the steps written, from which its last process went on, and when that began (in s)."""
    files = [file for file in _under_way(folder) if file.name.startswith(f"{STEPS}.")]
    if not files:
        return 0, 0, None
    try:
        with files[-1].open("rb") as file:
            start = json.loads(file.readline())
            file.seek(max(0, files[-1].stat().st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
        last = json.loads(lines[-1]) if lines else start
        return (last["step"] + 1 if "step" in last else start["from"]), start["from"], start["began"]
    except (OSError, ValueError, TypeError, KeyError):
        return 0, 0, None


def resumed(folder: Path) -> list[int]:
    """The steps at which a later process went on with a run under way, and which still count."""
    starts: list[int] = []
    for file in _under_way(folder):
        if file.name.startswith(f"{STEPS}."):
            try:
                with file.open("rb") as lines:
                    start = json.loads(lines.readline())["from"]
            except (ValueError, KeyError, TypeError):
                continue
            starts = [*(step for step in starts if step < start), start]
    return [step for step in starts if step > 0]


def folders(results_dir: str | Path) -> list[Path]:
    """The records in a results folder, sorted by run_id; what else lies there is left alone.

    Raises UserError if there is no such folder, or no record.
    """
    place = Path(results_dir)
    if not place.is_dir():
        raise UserError(f"there is no results folder {place}; s3bench sweep makes one")
    found = [place / name for name in sorted(_folder_names(place)) if _is_record(place / name)]
    if not found:
        raise UserError(f"{place} holds no records; a results folder is one such as results/quickstart")
    return found


def _folder_names(place: Path) -> list[str]:
    try:
        with os.scandir(place) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []


def _is_record(folder: Path) -> bool:
    """Whether a folder is a run's, by its name or by what its config begins with: others too may hold a config.yaml."""
    if identity.RUN_ID.fullmatch(folder.name):
        return (folder / CONFIG).exists()
    return _head(folder) is not None


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
    return [_standing(folder, _head(folder) or _names(folder, load_config(folder))) for folder in folders(results_dir)]


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
    return {**_standing(folder, _names(folder, config)), "config": config}


def load_config(folder: Path) -> dict[str, Any]:
    """The resolved config of a run. Raises UserError if it is damaged, or of another version of s3bench."""
    try:
        config = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), READER)
        identity.settings(config), config["task"]["targets"], config["task"]["spikes"]  # others rely on them
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise _damaged(folder, CONFIG, error) from error
    if "code" not in config:
        raise _other_version(folder)
    return dict(config)


def _names(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a row says of the run itself."""
    try:
        names = config["names"]
        return {
            "run_id": str(config["run_id"]),
            "experiment": str(names["experiment"]),
            "task": str(names["task"]),
            "optimizer": str(names["optimizer"]),
            "lr_multiplier": float(config["lr_multiplier"]),
            "lr": float(config["task"]["lr"] * config["lr_multiplier"]),
            "seed": int(config["seed"]),
            "horizon": int(config["horizon"]),
        }
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(folder, CONFIG, error) from error


def _config_text(config: dict[str, Any]) -> str:
    """What config.yaml holds."""
    head = json.dumps(_names(folder_of(config), config))
    said = {key: value for key, value in config["launcher"].items() if key not in PRIVATE}
    return f"{HEAD}{head}\n{yaml.dump({**config, 'launcher': said}, Dumper=WRITER, sort_keys=False)}"


def _head(folder: Path) -> dict[str, Any] | None:
    """The `_names` in the first line of a run's config; None where it is damaged, or there is none."""
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            line = file.readline(4096)
        if not line.startswith(HEAD):
            return None
        names = json.loads(line[len(HEAD) :])
        return {**names, **{key: kind(names[key]) for key, kind in KINDS.items()}}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _standing(folder: Path, names: dict[str, Any]) -> dict[str, Any]:
    """A row: what a run is and where it stands."""
    now = None if has_result(folder) else state(folder)
    summary = _summary(folder) if now is None or now in OVER else {}
    row = {**names, "state": summary.get("state", now)}
    row["steps"], row["first_step"], row["began"] = (summary["steps"], 0, None) if summary else progress(folder)
    row["cause"] = _first_line(folder / ERROR) if row["state"] == FAILED else None
    for key in ("seconds", "train_seconds", "parameters", "fingerprint", "device"):
        row[key] = summary.get(key)
    return {**row, "folder": folder, "summary": summary}


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if summary["state"] not in OVER or not isinstance(summary["steps"], int):
            raise ValueError(f"state {summary['state']!r}, steps {summary['steps']!r}")
        if not {f"{name}.parquet" for name in (STEPS, EVALS)} <= set(summary["crc32"]):
            raise ValueError("a file without its CRC-32")
        return dict(summary)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _damaged(folder, SUMMARY, error) from error


def _load(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    if (folder / SUMMARY).exists():
        return pd.DataFrame(_columns(folder, name, columns))
    try:
        if not (folder / CONFIG).exists():
            raise UserError(f"{folder} is not the folder of a run")
        return pd.DataFrame(_rows(folder, name))
    except ValueError as error:
        raise _damaged(folder, f"{name}.N{ROWS}", error) from error


def _columns(folder: Path, name: str, columns: Sequence[str] | None = None) -> Columns:
    path = folder / f"{name}.parquet"
    try:
        content = path.read_bytes()
        if zlib.crc32(content) != _summary(folder)["crc32"][path.name]:
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


def _rows_file(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.{number}{ROWS}"


def _under_way(folder: Path) -> list[Path]:
    """The files of rows of a run under way, those of one table in the order of the processes that wrote them."""
    parts = (file.name.split(".") for file in folder.glob(f"*{ROWS}"))
    kept = sorted((name, int(number)) for name, number, *_ in parts if name in (STEPS, EVALS) and number.isdigit())
    return [_rows_file(folder, name, number) for name, number in kept]


def _last_number(folder: Path) -> int:
    """The highest number of a process that has written rows; -1 if there is none."""
    return max((int(file.name.split(".")[1]) for file in _under_way(folder)), default=-1)


def _rows(folder: Path, name: str, end: float = math.inf) -> list[dict[str, Any]]:
    """The rows of a run under way that count, of steps before `end`; a killed run may leave half a row in a file."""
    rows: list[dict[str, Any]] = []
    for file in _under_way(folder):
        if file.name.startswith(f"{name}."):
            lines = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
            if lines:
                rows = [row for row in rows if row["step"] < lines[0]["from"]] + lines[1:]
    return [row for row in rows if row["step"] < end]


def _damaged(folder: Path, name: str, error: Exception) -> UserError:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(f"the record {folder} is damaged, in {name} ({what}); delete that folder and sweep again")


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]


def _write(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = _draft(file)
    try:
        with draft.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _draft(file: Path) -> Path:
    return file.with_name(f".{file.name}.{uuid.uuid4().hex}.draft")
