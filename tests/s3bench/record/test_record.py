"""The record: what is written, what is read back, and what damage looks like."""

import json
import multiprocessing
import os
import random
import signal
import time
import zlib
from pathlib import Path

import pandas as pd
import pytest
import yaml

from s3bench import record
from s3bench.errors import UserError
from tests.records import SUMMARY, config, rows, write


def test_what_was_written_is_read_back_exactly(tmp_path):
    folder = write(tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.yaml",
        "evals.parquet",
        "steps.parquet",
        "summary.json",
    ]
    steps = record.load_steps(folder)
    assert steps.step.tolist() == [0, 1, 2]
    assert steps.loss.tolist() == [1 / 3, 1 / 4, 1 / 5]
    assert steps.update_max.isna().tolist() == [True, True, False]
    assert record.load_evals(folder).to_dict("records") == [{"step": 0, "loss": 2.0, "accuracy": 0.5}]
    (run,) = record.load_records(tmp_path).to_dict("records")
    assert (run["task"], run["optimizer"], run["lr_multiplier"], run["state"]) == ("quadratic", "s3", 1.0, "finished")
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["_target_"] == "optimizers.S3"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary.pop("crc32")) == {"evals.parquet", "steps.parquet"}
    assert summary == SUMMARY


def test_a_planned_run_is_missing_until_it_runs(tmp_path):
    folder = record.plan(config(tmp_path))
    assert record.state(folder) == "missing"
    with record.leased(folder), record.Writer(folder, config(tmp_path)) as writer:
        assert record.state(folder) == "running"
        assert record.steps_so_far(folder) == 0
        writer.add_steps(rows(0, 120))
        assert record.steps_so_far(folder) == 120
        assert len(record.load_steps(folder)) == 120
        assert record.load_records(tmp_path).steps.tolist() == [120]
    assert record.state(folder) == "missing"


def test_a_failed_run_has_its_cause_and_may_be_tried_again(tmp_path):
    folder = record.plan(config(tmp_path))
    with record.Writer(folder, config(tmp_path)) as writer:
        writer.fail("ValueError: no", "Traceback ...")
    assert record.state(folder) == "failed"
    assert record.outcome(folder) == "failed: ValueError: no"
    assert record.load_records(tmp_path).cause.tolist() == ["ValueError: no"]
    write(tmp_path)
    assert record.state(folder) == "finished"
    assert not (folder / "error.txt").exists()


def _plan_and_lock(tmp_path: Path, barrier, got) -> None:
    barrier.wait(60)
    try:
        with record.leased(record.plan(config(tmp_path))):
            got.value += 1
            time.sleep(0.5)
    except record.Busy:
        pass


def test_two_processes_never_hold_one_record(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, got = context.Barrier(2), context.Value("i", 0)
    processes = [context.Process(target=_plan_and_lock, args=(tmp_path, barrier, got)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert got.value == 1


def _write_and_hang(folder: Path, settings: dict, started) -> None:
    with record.leased(folder):
        writer = record.Writer(folder, settings)
        writer.add_steps(rows(0, 50))
        writer._files["steps"].write('{"step": 50, "lo')  # killed in the middle of a row
        writer._files["steps"].flush()
        started.set()
        signal.pause()


def test_after_sigkill_the_flushed_rows_are_readable_and_the_run_is_missing(tmp_path):
    folder = record.plan(config(tmp_path))
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_write_and_hang, args=(folder, config(tmp_path), started))
    process.start()
    assert started.wait(60)
    assert record.state(folder) == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert record.state(folder) == "missing"
    assert len(record.load_steps(folder)) == record.steps_so_far(folder) == 50
    write(tmp_path)
    assert record.state(folder) == "finished"


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("summary.json", truncate),
        ("summary.json", lambda file: file.write_text('{"state": "won", "steps": 3}')),
        ("config.yaml", lambda file: file.write_text("a: [")),
        ("config.yaml", lambda file: file.write_text("a: 1")),
        ("steps.parquet", truncate),
        ("steps.parquet", lambda file: file.unlink()),
        ("evals.parquet", lambda file: file.write_bytes(b"")),
        ("evals.parquet", lambda file: pd.DataFrame({"step": [], "loss": []}).to_parquet(file)),
    ],
)
def test_a_damaged_record_is_named_on_one_line(tmp_path, name, damage):
    folder = write(tmp_path)
    damage(folder / name)
    with pytest.raises(UserError, match=f"the record .* is damaged, in {name}") as caught:  # noqa: PT012
        for run in record.load_records(tmp_path).itertuples():
            record.load_steps(run.folder)
            record.load_evals(run.folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["steps.parquet", "evals.parquet"])
def test_no_flipped_bit_changes_what_is_read(tmp_path, name):
    folder = write(tmp_path)
    load = record.load_steps if name.startswith("steps") else record.load_evals
    whole, content = load(folder), (folder / name).read_bytes()
    for place in random.Random(0).sample(range(8 * len(content)), 300):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        (folder / name).write_bytes(damaged)
        try:
            read = load(folder)
        except UserError as error:
            assert "is damaged" in str(error)  # noqa: PT017
        else:
            pd.testing.assert_frame_equal(read, whole)


def test_a_folder_that_is_missing_or_has_no_record_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="there is no results folder"):
        record.load_records(tmp_path / "none")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").write_text("x")
    with pytest.raises(UserError, match="contains no records"):
        record.load_records(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_user_error():
    with pytest.raises(UserError, match="cannot be written"):
        record.plan(config(Path("/proc/results")))


def summarise(folder):
    """Write the summary of tables that other code wrote."""
    sums = {"steps.parquet": zlib.crc32((folder / "steps.parquet").read_bytes()), "evals.parquet": 0}
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "crc32": sums}))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [("loss", ["a", "b", "c"], "loss does not hold numbers"), ("step", [0, 2, 2], "step 2 comes after step 2")],
)
def test_columns_that_are_not_steps_or_numbers_are_named(tmp_path, column, values, said):
    rows = pd.DataFrame({"step": [0, 1, 2], "loss": [3.0, 2, 1], "lr": [1.0] * 3, "grad_norm": [1.0] * 3})
    rows.assign(**{column: values}).to_parquet(tmp_path / "steps.parquet")
    summarise(tmp_path)
    with pytest.raises(UserError, match=said):
        record.load_steps(tmp_path)


def test_arrays_are_the_columns_of_the_tables(tmp_path):
    folder = write(tmp_path)
    arrays = record.step_arrays(folder, ["loss", "update_max", "none"])
    assert list(arrays) == ["loss", "update_max"]
    pd.testing.assert_frame_equal(pd.DataFrame(arrays), record.load_steps(folder)[["loss", "update_max"]])
    pd.testing.assert_frame_equal(pd.DataFrame(record.eval_arrays(folder)), record.load_evals(folder))


def test_a_result_written_by_columns_is_the_same_record(tmp_path):
    first = write(tmp_path)
    steps, evals = record.load_steps(first), record.load_evals(first)
    second = record.plan(config(tmp_path, "seed=1"))
    record.write_result(second, steps.to_dict("list"), dict(evals.items()), SUMMARY)
    assert record.state(second) == "finished"
    pd.testing.assert_frame_equal(record.load_steps(second), steps)
    pd.testing.assert_frame_equal(record.load_evals(second), evals)


def test_only_the_columns_asked_for_are_read(tmp_path):
    rows = pd.DataFrame({"step": [0], "loss": [3.0], "lr": [1.0], "grad_norm": [1.0]})
    rows.to_parquet(tmp_path / "steps.parquet")
    summarise(tmp_path)
    assert list(record.load_steps(tmp_path, ["loss", "update_max"]).columns) == ["loss"]


def test_reading_the_rows_of_a_folder_that_is_not_a_run_is_a_user_error(tmp_path):
    for load in (record.load_steps, record.load_evals):
        with pytest.raises(UserError, match="is not the folder of a run"):
            load(tmp_path / "none")


def test_a_record_leaves_out_the_commands_of_a_cluster(tmp_path):
    secret = ["launcher=slurm", "+launcher.setup=['export TOKEN=abc']", "launcher.additional_parameters={a: abc}"]
    folder = record.plan(config(tmp_path, *secret))
    assert "abc" not in (folder / "config.yaml").read_text()
    assert "hydra_launcher" in record.load_config(folder)["launcher"]
