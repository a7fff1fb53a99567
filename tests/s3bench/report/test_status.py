"""Status and dry runs: how far a sweep is, what it would do, how much time is left."""

import json
import os
import re
import subprocess
import sys

import pytest

from s3bench import cli, record
from s3bench.console import duration, seconds_left
from s3bench.record import config_file
from s3bench.report.status import show, snapshot, table_rows, watch
from s3bench.run.config.compose import run_config
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import as_dict
from s3bench.run.sweep import dry_run
from tests.records import make, make_ramp, summary


def test_a_run_under_way_shows_its_step_and_its_spikes_so_far(tmp_path, capsys):
    config = as_dict(run_config(["horizon=1000", f"results_dir={tmp_path}"]))
    losses = [2.0 - 0.001 * step + 0.01 * (step % 3) for step in range(300)]
    losses[200:210] = [9.0] * 10
    folder = record.plan(config)
    with record.leased(folder), record.Writer(folder, config) as writer:
        show(tmp_path)
        assert "step 0 of 1,000\n" in capsys.readouterr().out
        writer.add_steps([{"step": step, "loss": loss} for step, loss in enumerate(losses)])
        show(tmp_path)
    assert "step 300 of 1,000; spikes so far: 1, the last from step 200\n" in capsys.readouterr().out


def test_the_time_left_follows_from_the_speed_of_each_task():
    known = [("slow", 20.0, 10), ("fast", 1.0, 100)]
    assert seconds_left(known, [("slow", 5), ("fast", 100)], at_once=1) == 10 + 1
    assert seconds_left(known, [("slow", 5), ("fast", 100)], at_once=2) == 5.5
    assert seconds_left(known, [("new", 110)], at_once=1) == 21  # at the average speed of all tasks
    assert seconds_left([("slow", 3.0, 0)], [("slow", 5)], at_once=1) is None
    assert seconds_left(known, [], at_once=2) == 0


def test_durations_read_well():
    texts = {None: "?", 0.4: "0 s", 59.6: "1 min 0 s", 61: "1 min 1 s", 3599: "59 min 59 s", 7260: "2 h 1 min"}
    assert [duration(seconds) for seconds in texts] == list(texts.values())


def results(tmp_path):
    """Write six runs of two optimizers: finished, diverged, failed, and three missing; return their folders."""
    grid = ["optimizer=s3,adamw", "seed=0,1,2", "horizon=100", f"results_dir={tmp_path / 'r'}"]
    folders = record.plan_all([as_dict(config) for config in run_configs(grid)])
    rows = {"step": [0], "loss": [1.0], "lr": [1.0], "grad_norm": [1.0]}
    record.write_result(folders[0], rows, rows, summary("finished", 100, seconds=4.0, train_seconds=2.0, spikes=3))
    over = summary("diverged", 60, seconds=4.0, train_seconds=2.0)  # without a count of spikes
    record.write_result(folders[1], rows, rows, over)
    record.write_error(folders[2], "RuntimeError: no", "Traceback")
    return folders


def called(folder, monkeypatch, capsys, *arguments):
    """Run the command line in this process and in a folder; return its exit code, stdout and stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])  # main adds the folder
    capsys.readouterr()
    code = cli.main(list(arguments))
    return code, *capsys.readouterr()


def test_a_snapshot_holds_how_far_a_sweep_is(tmp_path):
    folders = results(tmp_path)
    losses = [2.0 - 0.001 * step + (5 if step == 30 else 0) for step in range(50)]
    under_way = folders[3]
    with record.leased(under_way), record.Writer(under_way, record.load_config(under_way)) as writer:
        writer.add_steps([{"step": step, "loss": loss} for step, loss in enumerate(losses)])
        standing = json.loads(json.dumps(snapshot(tmp_path / "r"), allow_nan=False))
    assert standing["runs"] == 6
    assert standing["states"] == {"finished": 1, "diverged": 1, "failed": 1, "running": 1, "missing": 2}
    assert (standing["steps"], standing["horizon"]) == (100 + 60 + 50, 600)
    assert standing["failed"] == [{"run_id": folders[2].name, "cause": "RuntimeError: no"}]
    (running,) = standing["running"]
    assert (running["run_id"], running["steps"], running["horizon"]) == (under_way.name, 50, 100)
    assert (running["spikes"], running["last_spike"]) == (1, 30)
    adamw, s3 = standing["groups"]
    assert (adamw["optimizer"], adamw["spikes"], adamw["states"]["running"]) == ("adamw", 1, 1)
    assert (s3["optimizer"], s3["spikes"], s3["steps_per_second"]) == ("s3", 3, 160 / 8)
    assert standing["seconds_left"] > 0


def test_no_spikes_are_0_where_steps_were_trained_and_nothing_where_none_were(tmp_path):
    make(tmp_path, "s3")
    make(tmp_path, "adamw", state="missing")
    cells = {row[1]: row[-1] for row in table_rows(snapshot(tmp_path))[1:]}
    assert cells == {"s3": "0", "adamw": ""}


def test_ramps_that_diverged_as_they_should_are_told_from_other_diverged_runs(tmp_path, capsys):
    make_ramp(tmp_path, "adamw", 0, 300, state="diverged")
    make_ramp(tmp_path, "adamw", 1, 300)
    make(tmp_path, "adamw", state="diverged")
    make(tmp_path, "s3", state="diverged")
    standing = snapshot(tmp_path)
    assert standing["diverged_ramps"] == 1
    groups = {group["optimizer"]: group for group in standing["groups"]}
    assert (groups["adamw"]["states"]["diverged"], groups["adamw"]["diverged_ramps"]) == (2, 1)
    assert (groups["s3"]["states"]["diverged"], groups["s3"]["diverged_ramps"]) == (1, 0)
    show(tmp_path)
    out = capsys.readouterr().out
    assert "2 (1 ramp)" in out
    assert "of those that diverged, ramps: 1;" in out


def test_status_reads_the_first_line_of_a_config_or_all_of_it_if_that_is_damaged(tmp_path, monkeypatch):
    folders = results(tmp_path)
    whole = record.load_rows(tmp_path / "r")
    for folder, damage in zip(
        folders, ("", "# s3bench run {", "# s3bench run {}", "# s3bench run 3", "# x"), strict=False
    ):
        lines = (folder / "config.yaml").read_text().split("\n")
        (folder / "config.yaml").write_text("\n".join([*[damage] * bool(damage), *lines[1:]]))
    assert record.load_rows(tmp_path / "r") == whole
    full = [record.load_record(folder) for folder in record.folders(tmp_path / "r")]
    assert [{key: value for key, value in row.items() if key != "config"} for row in full] == whole
    for folder in folders:
        folder.joinpath("config.yaml").write_text(config_file.config_text(record.load_config(folder)))
    monkeypatch.setattr("s3bench.record.reader.load_config", None)
    assert record.load_rows(tmp_path / "r") == whole


def test_other_files_in_a_results_folder_are_left_alone(tmp_path):
    folders = results(tmp_path)
    place = tmp_path / "r"
    (place / "notes.txt").write_text("x")
    for name, text in (("other", "a: ["), ("hydra", "task: 3\n"), ("quadratic-s3-x1-s0", "run_id: 1\n")):
        (place / name).mkdir()
        (place / name / "config.yaml").write_text(text)
    (place / "report").mkdir()
    assert record.folders(place) == sorted(folders)
    assert len(record.load_rows(place)) == len(record.load_records(place)) == 6
    assert record.superseded(place) == []
    assert {path.name for path in place.iterdir()} > {"notes.txt", "other", "hydra", "report"}


def test_status_in_the_terminal_as_json_and_again_until_ctrl_c(s3bench, tmp_path, monkeypatch, capsys):
    folders = results(tmp_path)
    shown = s3bench("status", "r").stdout
    assert "6 runs: 1 finished, 1 diverged, 1 failed, 3 missing" in shown
    assert f"failed: {folders[2].name}: RuntimeError: no" in shown
    assert json.loads(s3bench("status", "r", "--json").stdout) == snapshot(tmp_path / "r") | {"results": "r"}
    for wrong in ("0", "soon"):
        result = s3bench("status", "r", "--watch", wrong)
        assert result.returncode == 2
        assert f"{wrong!r} is not a number of seconds (at least 0.1)" in result.stderr
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt
        record.write_error(folders[5], "ValueError: late")

    monkeypatch.setattr("s3bench.report.status.time.sleep", sleep)
    code, stdout, stderr = called(tmp_path, monkeypatch, capsys, "status", "r", "--watch", "0.2")
    assert (code, stderr, slept) == (0, "", [0.2, 0.2])
    assert "ValueError: late" in stdout


def test_a_watch_lists_a_few_runs_and_counts_the_rest(tmp_path, monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    folders = results(tmp_path)
    record.write_error(folders[3], "ValueError: late")
    monkeypatch.setattr("s3bench.report.status.LISTED_BY_WATCH", 1)
    monkeypatch.setattr("s3bench.report.status.time.sleep", stop)
    watch(tmp_path / "r", 1.0)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert sum(line.startswith("failed: ") for line in lines) == 1
    assert "... and 1 more failed" in lines
    with record.leased(folders[4]), record.leased(folders[5]):
        watch(tmp_path / "r", 1.0)
    assert "... and 1 more running, 1 more failed" in capsys.readouterr().out


def test_a_dry_run_says_what_would_run_and_for_how_long_and_writes_nothing(tmp_path, monkeypatch, capsys):
    results(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    def said(*arguments):
        code, stdout, stderr = called(tmp_path, monkeypatch, capsys, "sweep", "--dry-run", *arguments)
        assert (code, stderr) == (0, "")
        return stdout

    grid = ["optimizer=s3,adamw", "seed=0,1,2", "horizon=100"]
    own = said(*grid, "results_dir=r", "--jobs", "2")
    assert "6 runs in r, 2 of them already over: 4 to run, 400 steps" in own
    assert "time: about 9 s with 2 runs at a time, measured in r" in own  # 4.5 s a run: 2, and 4 for 160 steps
    assert re.search(r"s3 +3 +2 +1 +100", own)
    beside = said(*grid, "results_dir=q", "--jobs", "1")
    assert "time: about 27 s with 1 runs at a time, measured in r" in beside
    unknown = said("task=regression", "horizon=1000", "results_dir=q")
    assert "time: unknown for regression (no finished run of it here or in a sibling folder)" in unknown
    assert "disk: about 45.5 kB, not measured; for regression an estimate, 40 bytes per step" in unknown
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["device=auto"], "time: about 9 s with 2 runs at a time"),  # one on each of two GPUs
        (["device=cuda:0"], "time: about 18 s with 1 runs at a time"),
        (["device=cuda", "launcher.runs_per_gpu=2"], "time: about 4 s with 4 runs at a time"),
        (["launcher=slurm"], "time: about 18 s for all runs together"),
    ],
)
def test_a_dry_run_knows_how_many_runs_a_sweep_would_train_at_a_time(tmp_path, monkeypatch, capsys, settings, said):
    results(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    dry_run.show(["optimizer=s3,adamw", "seed=0,1,2", "horizon=100", "results_dir=r", *settings])
    assert said in capsys.readouterr().out


def test_a_sweep_of_many_runs_asks_for_yes(tmp_path, monkeypatch, capsys):
    assert cli.MANY_RUNS == 20_000
    monkeypatch.setattr(cli, "MANY_RUNS", 1_000)
    many = ["sweep", "--dry-run", "results_dir=r"]
    refused = called(tmp_path, monkeypatch, capsys, *many, "seed=range(0,1001)")
    line = "s3bench: this grid has 1,001 runs; to start more than 1,000, add --yes\n"
    assert refused == (2, "", line)
    assert "1,001 runs in r" in called(tmp_path, monkeypatch, capsys, *many, "seed=range(0,1001)", "--yes")[1]
    assert "1,000 runs in r" in called(tmp_path, monkeypatch, capsys, *many, "seed=range(0,1000)")[1]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_results_folder_is_one_line(s3bench, tmp_path):
    results(tmp_path)
    place = tmp_path / "r"
    if subprocess.run(["mount", "--bind", place, place], check=False).returncode:
        pytest.skip("no mount here")
    try:
        if subprocess.run(["mount", "-o", "remount,ro,bind", place], check=False).returncode:
            pytest.skip("no read-only mount here")
        for command in (["sweep", "seed=7"], ["run", "seed=7"]):
            result = s3bench(*command, "results_dir=r")
            assert result.returncode == 2, result.stdout
            assert result.stderr.count("\n") == 1
            assert "cannot be written: Read-only file system" in result.stderr
        assert "6 runs: 1 finished" in s3bench("status", "r").stdout
        report = s3bench("report", "r")
        assert report.returncode == 2, report.stderr
        assert report.stderr == "s3bench: r/report cannot be written: Read-only file system\n"
    finally:
        subprocess.run(["umount", place], check=True)
