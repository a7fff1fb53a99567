"""Damages the files of records in thousands of ways: no traceback, no hang, nothing that steers a terminal."""

import contextlib
import io
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3bench import cli, record
from s3bench.errors import UserError
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from tests.records import make
from tests.s3bench.record.broken import DEEP, KINDS, ODD, SIZES, change, in_time, mend_sums, replace

EXAMPLES = 5_000
OVER = ("config.yaml", "summary.json", "steps.parquet", "evals.parquet")
UNDER_WAY = ("config.yaml", "steps.0.jsonl", "evals.0.jsonl", "lease.0", "error.txt", "log.txt", "checkpoint")
TABLES = ("steps.parquet", "evals.parquet")
TOKENS = [
    *(b"\x00", b"\x1b]0;x\x07\x1b[2J", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r", b" ", b"-", b"9" * 20, b"9" * 5_000),
    *(
        b"null",
        b"[]",
        b"{}",
        b'"',
        b'"\\ud800"',
        b"1e999",
        b"NaN",
        b"-1",
        b"0",
        b"&a [*a]",
        b"<<: {a: 1}\n",
        b"!!set {a}",
    ),
    *(b"[" * DEEP, b'{"a":' * DEEP, b"- " * 1_500, b"x" * 100_000),
]
NAMES = ["lease.²", "steps.².jsonl", "lease.99999999", "lease.1", "checkpoint.x.pt", "steps.1.jsonl", "evals.00.jsonl"]


def told(*arguments: str) -> tuple[int, str]:
    """Return the exit code of a command and what it printed; an error that it does not handle is raised."""
    out, path = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), [*sys.path]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings(), in_time():
            warnings.simplefilter("ignore")
            code = cli.main(list(arguments))
    finally:
        sys.path[:] = path
    return code, out.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records: of a run that is over, and of one that failed on its way, with all files that it can have."""
    place = tmp_path_factory.mktemp("originals")
    make(place, spikes=(60,))
    config = run_config(["horizon=60", "eval_every=10", "checkpoint_every=0.001", "seed=1", f"results_dir={place}"])
    folder = record.folder_of(vars(config))

    def stop(line: str) -> None:
        if line.startswith("step 40/"):
            raise RuntimeError("no")

    assert run(config, stop) == "failed"
    (folder / "log.txt").write_text("a line\n")
    with record.leased(folder) as lease:
        held = record.lease_place(folder).with_name(f"lease.{lease.number}").read_bytes()
    (folder / "lease.0").write_bytes(held)
    assert record.checkpoints(folder)
    assert record.state(folder) == "running"
    for command in ("status", "report"):  # imports what the first one of a process imports, which takes long
        assert cli.main([command, str(place)]) == 0
    shutil.rmtree(place / "report")
    return place


@st.composite
def damages(draw: st.DrawFn) -> tuple[bool, str, Callable[[Path], None]]:
    """Draw which record is damaged, in which file, and how."""
    is_over = draw(st.booleans())
    name = draw(st.sampled_from(OVER if is_over else UNDER_WAY))
    ways = ["bytes", "bytes", "kind", "size", "names"]
    ways += ["value"] * 4 if name.endswith(("json", "jsonl", "yaml")) else ["table"] * 2 if name in TABLES else []
    way, number, odd = draw(st.sampled_from(ways)), draw(st.integers(0, 2**32)), draw(st.sampled_from(ODD))
    if way == "kind":
        return is_over, name, lambda file: replace(file, KINDS[sorted(KINDS)[number % len(KINDS)]])
    if way == "size":
        return is_over, name, lambda file: replace(file, SIZES[sorted(SIZES)[number % len(SIZES)]])
    if way == "value":
        return is_over, name, lambda file: change(file, number, odd)
    if way == "table":
        return is_over, name, lambda file: _other_table(file, number)
    if way == "names":
        extra = draw(st.sampled_from(NAMES))
        return is_over, name, lambda file: (file.parent / extra).write_bytes(TOKENS[number % len(TOKENS)])
    cuts = draw(
        st.lists(st.tuples(st.integers(0, 999), st.integers(0, 9), st.integers(0, 2**16)), min_size=1, max_size=4)
    )
    return is_over, name, lambda file: _other_bytes(file, cuts)


def _other_bytes(file: Path, cuts: list[tuple[int, int, int]]) -> None:
    content = bytearray(file.read_bytes())
    for share, way, number in cuts:
        at = share * len(content) // 999
        if way < 3 and at < len(content):
            content[at] ^= 1 << number % 8
        elif way < 5:
            del content[at : at + number % 300]
        elif way < 6:
            del content[at:]
        elif way < 8:
            content[at:at] = TOKENS[number % len(TOKENS)]
        else:
            content[at : at + number % 20] = TOKENS[number % len(TOKENS)]
    file.write_bytes(content)


def _other_table(file: Path, number: int) -> None:
    """Write a table that nobody expects, and its sum into the summary."""
    table = pd.read_parquet(file)
    columns = list(table)
    name, way = columns[number % len(columns)], number // 16 % 8
    if way == 0:
        table = table.drop(columns=name)
    elif way == 1:
        table[name] = ["x"] * len(table)
    elif way == 2:
        table[name] = np.nan
    elif way == 3:
        table[name] = table[name] > 0
    elif way == 4:
        table = table.iloc[:1]
    elif way == 5:
        table[name] = -1e308
    elif way == 6:
        table[name] = [[1.0]] * len(table)
    else:
        table = table.rename(columns={name: "\x1b[2J"})
    table.to_parquet(file)
    mend_sums(file.parent)


def _resumed(place: Path) -> None:
    """Train the run that was damaged on, as far as it lets itself be trained."""
    config = run_config(["horizon=60", "eval_every=10", "checkpoint_every=0.001", "seed=1", f"results_dir={place}"])
    with in_time(), contextlib.suppress(UserError, record.Busy, OSError):  # main makes one line of each
        assert run(config) in record.STATES


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(damage=damages(), number=st.integers(0, 19))
def test_a_damaged_file_is_a_line_whatever_the_damage(originals, tmp_path_factory, damage, number):
    is_over, name, make_damage = damage
    place = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(originals, place)
    (folder,) = place.glob("*-s0-*" if is_over else "*-s1-*")
    files = record.checkpoints(folder) if name == "checkpoint" else [folder / name]
    for file in files:
        make_damage(file)
    asked = [("status", str(place), *(["--json"] if number % 2 else []))]
    asked += [("report", str(place))] if number < 3 * is_over + 1 else []
    for arguments in asked:
        code, said = told(*arguments)
        assert code in (0, 1, 2)
        assert "Traceback" not in said
        assert all(char.isprintable() or char == "\n" for char in said), said
        assert code < 2 or said.count("\n") == 1, said
    if not is_over:
        if name != "lease.0":
            (folder / "lease.0").unlink()
        _resumed(place)
    shutil.rmtree(place)
