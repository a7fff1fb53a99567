"""Tests the command line as a user runs it, in an empty folder: each command as a console script at least once."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s3bench import record
from tests.conftest import mistake, small_disk, until

CLI = Path(sys.executable).with_name("s3bench")
OWN_OPTIMIZER = """\
import torch

class Halving(torch.optim.SGD):
    \"\"\"SGD at half the learning rate.\"\"\"
    def __init__(self, params, lr, strength=0.5):
        super().__init__(params, lr=lr * strength)
"""


@pytest.mark.usefixtures("undrawn")  # the second report
def test_a_repeated_sweep_trains_only_missing_runs_and_its_report_is_written(s3bench, tmp_path):
    grid = ["sweep", "task=quadratic", "optimizer=s3,adamw", "lr_multiplier=1,10", "seed=0,1", "results_dir=results/q"]
    first = s3bench(*grid)
    assert first.returncode == 0, first.stderr
    assert "8 runs: 8 finished" in first.stdout
    removed = sorted((tmp_path / "results" / "q").iterdir())[0]
    others = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in record.folders(tmp_path / "results/q")}
    del others[removed]
    shutil.rmtree(removed)
    again = s3bench(*grid)
    assert "7 of them already over" in again.stdout
    assert again.stdout.count("finished  ") == 1
    assert (removed / "summary.json").exists()
    assert all((folder / "summary.json").stat().st_mtime_ns == time for folder, time in others.items())

    status = s3bench("status", "results/q")
    assert "8 runs: 8 finished" in status.stdout
    report = s3bench("report", "results/q", process=True)
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "results/q/report/index.html").exists()
    assert s3bench("report", "results/q").returncode == 0  # a second time, over the first report


def test_a_failing_run_is_reported_with_its_cause_and_the_others_finish(s3bench, tmp_path):
    (tmp_path / "moody.py").write_text(
        "import os\nfrom tasks.quadratic import Quadratic\n\n"
        "class Moody(Quadratic):\n"
        "    def loss(self, model, batch):\n"
        "        if self.seed == 1:\n            raise RuntimeError('not\\nin the mood')\n"
        "        if self.seed == 2:\n            os.kill(os.getpid(), 9)\n"
        "        return super().loss(model, batch)\n"
    )
    result = s3bench("sweep", "task=quadratic", "task.build._target_=moody.Moody", "seed=0,1,2,3", "results_dir=r")
    assert result.returncode == 1
    assert "4 runs: 2 finished, 2 failed" in result.stdout
    assert "failed: RuntimeError: not in the mood" in result.stdout
    assert "failed: the process was killed by SIGKILL" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    status = s3bench("status", "r")
    assert status.returncode == 0
    assert "not in the mood" in status.stdout
    (tmp_path / "moody.py").write_text("from tasks.quadratic import Quadratic as Moody\n")
    assert "4 runs: 4 finished" in s3bench("sweep", *result.args[2:]).stdout


def processes_of(folder):
    """Return the processes whose current folder is this one."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").readlink() == folder:
                found.add(int(place.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_leaves_no_worker_behind(tmp_path, number):
    command = [str(CLI), "sweep", "task=quadratic", "horizon=200000", "seed=0,1", "results_dir=r", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(list(tmp_path.glob("r/*/steps.0.jsonl"))) == 2, 120)
    process.send_signal(number)
    process.wait(60)
    until(lambda: not processes_of(tmp_path), 20)
    assert set(record.load_records(tmp_path / "r").state) == {"missing"}
    process.stdout.close()
    process.stderr.close()


@pytest.mark.slow
def test_ctrl_c_at_any_moment_prints_one_line(tmp_path):
    command = [str(CLI), "sweep", "task=quadratic", "horizon=200000", "seed=0,1", "results_dir=r"]
    for pause in (0.3, 1.5, 5):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals the whole group
        _, stderr = process.communicate(timeout=60)
        assert "Traceback" not in stderr, stderr
    assert not any(file.read_text() for file in tmp_path.glob("r/*/log.txt"))


@pytest.mark.slow
def test_a_reader_who_leaves_does_not_end_the_runs(tmp_path):
    for command in ("run horizon=3000 eval_every=20", "sweep seed=0,1 horizon=500 --jobs 1"):
        line = f"{CLI} {command} results_dir=r 2> errors | head -1"
        subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, check=False, stdout=subprocess.DEVNULL)
        assert (tmp_path / "errors").read_text() == ""
    assert record.load_records(tmp_path / "r").state.tolist() == ["finished"] * 3


@pytest.mark.parametrize("text", ["x = (", "raise ValueError('at import')", "import no_such_module"])
def test_an_optimizer_that_cannot_be_imported_is_reported_on_one_line(s3bench, tmp_path, text):
    (tmp_path / "broken.py").write_text(text)
    line = mistake(s3bench("sweep" if text == "x = (" else "run", "optimizer._target_=broken.Own"))
    assert "optimizer s3: cannot import its _target_ broken.Own" in line
    assert not (tmp_path / "results").exists()


def test_a_run_whose_worker_exits_without_a_result_has_failed(s3bench, tmp_path):
    (tmp_path / "silent.py").write_text(
        "import os\nfrom tasks.quadratic import Quadratic\n\n"
        "class Silent(Quadratic):\n"
        "    def loss(self, model, batch):\n        os._exit(self.seed)\n"
    )
    result = s3bench("sweep", "task.build._target_=silent.Silent", "seed=0,3", "results_dir=r")
    assert result.returncode == 1
    assert "2 runs: 2 failed" in result.stdout
    assert "the process ended with exit code 3" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_reported_on_one_line_and_no_run_counts_as_finished(s3bench, tmp_path):
    died = "no space is left on the disk that holds the results"
    with small_disk(tmp_path / "small", "64k"):
        for command in (["run"], ["sweep", "--jobs", "1"]):
            result = s3bench(*command, "horizon=5000", "results_dir=small/r")
            assert result.returncode == 1
            if command == ["run"]:
                assert result.stderr == "s3bench: OSError: [Errno 28] No space left on device\n"
            else:
                (name,) = (folder.name for folder in tmp_path.glob("small/r/*"))
                assert not result.stderr
                assert f"{name} failed: {died}\n" in result.stdout
                assert "1 runs: 1 failed; " in result.stdout
            assert "Traceback" not in result.stdout + result.stderr
            assert not list(tmp_path.glob("small/r/*/summary.json"))


def test_an_interrupted_sweep_leaves_its_runs_to_be_resumed(tmp_path):
    command = [str(CLI), "sweep", "task=quadratic", "horizon=20000", "seed=range(0,3)", "results_dir=r", "--jobs", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: list(tmp_path.glob("r/*/steps.0.jsonl")), 120)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; run the same command again to resume" in stderr
    assert "Traceback" not in stderr
    states = record.load_records(tmp_path / "r").state.tolist()
    assert len(states) == 3
    assert "missing" in states
    assert "running" not in states


def test_a_run_that_fails_says_where_its_traceback_is(s3bench, tmp_path):
    (tmp_path / "gloomy.py").write_text(
        "from tasks.quadratic import Quadratic\n\n"
        "class Gloomy(Quadratic):\n"
        "    def loss(self, model, batch):\n        raise RuntimeError('not in the mood')\n"
    )
    result = s3bench("run", "task.build._target_=gloomy.Gloomy", "horizon=5")
    assert result.returncode == 1
    (error,) = tmp_path.glob("results/adhoc/*/error.txt")
    place = error.parent.relative_to(tmp_path)
    assert (
        f"failed: RuntimeError: not in the mood; the record is {place}; its error.txt has the traceback"
        in result.stdout
    )
    assert "Traceback" in error.read_text()


def test_run_prints_its_evaluations_and_where_the_record_is(s3bench, tmp_path):
    result = s3bench("run", "optimizer=adamw", "horizon=40", process=True)
    assert result.returncode == 0, result.stderr
    assert "step 40/40  loss" in result.stdout
    (folder,) = record.folders(tmp_path / "results" / "adhoc")
    assert f"finished; the record is results/adhoc/{folder.name}" in result.stdout
    again = s3bench("run", "optimizer=adamw", "horizon=40")
    assert "step" not in again.stdout
    assert "finished" in again.stdout


def test_a_users_optimizer_needs_one_yaml_and_its_file(s3bench, tmp_path):
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    (tmp_path / "configs" / "optimizer" / "halving.yaml").write_text(
        "# SGD at half the learning rate\n_target_: halving.Halving\n_partial_: true\nstrength: 0.5\n"
    )
    (tmp_path / "halving.py").write_text(OWN_OPTIMIZER)
    assert "halving  " in s3bench("list", "optimizers").stdout
    grid = ["optimizer=halving,adamw", "lr_multiplier=1,10", "horizon=30", "results_dir=r"]
    result = s3bench("sweep", *grid)
    assert result.returncode == 0, result.stderr + result.stdout
    runs = record.load_records(tmp_path / "r")
    assert set(runs.optimizer) == {"halving", "adamw"}
    line = mistake(s3bench("run", "optimizer=halving", "+optimizer.strenth=1"))
    assert "unknown argument of optimizer halving 'strenth'. Did you mean strength?" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "task=quadrtic"], "unknown task 'quadrtic'. Did you mean quadratic?"),
        (["sweep", "experiment=quickstat"], "unknown experiment 'quickstat'. Did you mean quickstart?"),
        (["sweep", "optimizer.p=0.5,2"], "optimizer s3: p is 0.5; it must be at least 1"),
        (["run", "device=cuda:7"], "device 'cuda:7' is not available; choose from: auto, cpu"),
        (["run", "results_dir=/proc/none"], "cannot be written"),
        (["status", "results/none"], "there is no results folder"),
        (["report", "results/none"], "there is no results folder"),
        (["report", "."], "contains no records"),
        (["serve", "results/none"], "there is no results folder"),
        (["figure", "fig2", "results/none"], "there is no results folder"),
        (["spikes", "none.csv"], "there is no file none.csv"),
        (["list", "models"], "invalid choice: 'models'"),
        (["decide", "C4", "--budget", "1m", "devise=cpu"], "unknown key 'devise'. Did you mean device?"),
        (["decide", "C99"], "unknown claim 'C99'"),
        (["replay", "results/none"], "there is no results folder"),
        (["calibrate", "results/none"], "there is no results folder"),
        (["tune", "quadrtic"], "unknown task 'quadrtic'"),
        (["swep"], "invalid choice: 'swep'"),
        (["sweep", "--jobs", "0"], "'0' is not a positive integer"),
        ([], "required: COMMAND"),
        (
            ["spikes", "x.csv", "--jsson"],
            "unknown option of s3bench spikes '--jsson'. Did you mean --json? Choose from",
        ),
        (["sweep", "seed=0,1", "--jbos=2"], "unknown option of s3bench sweep '--jbos'. Did you mean --jobs?"),
        (["--jobs", "2", "sweep"], "argument COMMAND: invalid choice: '2' (choose from 'run', 'sweep'"),
        (
            ["status", "r", "q"],
            "unexpected argument 'q'; usage: s3bench status [-h] [--watch [SECONDS] | --json] RESULTS",
        ),
        (["run", "~task=0"], "~task=0: ValueError: Config group override deletion value must be a string"),
        (["run", f"task={'x' * 100_000}"], f"{'x' * 1_900} [...] "),
    ],
)
def test_a_mistake_is_reported_on_one_line_with_exit_code_2(s3bench, tmp_path, arguments, said):
    assert said in mistake(s3bench(*arguments))
    assert not (tmp_path / "results").exists()  # nothing is left half-written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "results/none"], "there is no results folder"),  # of the side that trains
        (["report", "results/none"], "there is no results folder"),  # of the side that reads
        (["swep"], "invalid choice: 'swep'"),  # of neither
    ],
)
def test_a_mistake_is_one_line_of_a_process_of_its_own_too(s3bench, arguments, said):
    assert said in mistake(s3bench(*arguments, process=True))


def test_a_damaged_record_is_reported_on_one_line_with_exit_code_2(s3bench, tmp_path):
    assert s3bench("run", "horizon=5", "results_dir=r").returncode == 0
    (folder,) = record.folders(tmp_path / "r")
    (folder / "steps.parquet").write_bytes(b"PAR1")
    assert f"the record r/{folder.name} is damaged, in steps.parquet" in mistake(s3bench("report", "r"))
    assert not (tmp_path / "r" / "report").exists()


def test_debug_shows_the_traceback(s3bench):
    told = s3bench("run", "task=x", S3BENCH_DEBUG="1")
    assert "Traceback" in told.stderr
    assert told.returncode == 2


def test_spikes_of_any_curve(s3bench, tmp_path):
    loss = np.linspace(3, 2, 500)
    loss[300:310] += 1
    loss[499] = math.nan
    pd.DataFrame({"step": range(500), "train loss": loss}).to_csv(tmp_path / "curve.csv", index=False)
    result = s3bench("spikes", "curve.csv", "--column", "train loss", process=True)
    assert result.returncode == 0, result.stderr
    assert "2 spikes in 500 steps, 40.00 per 10,000 steps" in result.stdout
    found = json.loads(s3bench("spikes", "curve.csv", "--column", "train loss", "--json").stdout)["spikes"]
    assert [(spike["onset"], spike["end"], spike["kind"]) for spike in found] == [
        (300, 310, "recovered"),
        (499, 500, "diverged"),
    ]
    pd.DataFrame({"loss": loss}).to_parquet(tmp_path / "curve.parquet")
    assert "2 spikes" in s3bench("spikes", "curve.parquet").stdout
    line = mistake(s3bench("spikes", "curve.csv", "--column", "trainloss"))
    assert "unknown column of curve.csv 'trainloss'. Did you mean train loss? Choose from: step, train loss" in line


def test_spikes_are_printed_in_the_files_steps_and_drawn(s3bench, tmp_path):
    loss = np.linspace(3, 2, 500)
    loss[300:310] += 1
    loss[499] = math.nan
    rows = [{"step": 10 * index, "train_loss": value} for index, value in enumerate(loss.tolist())]
    (tmp_path / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = s3bench("spikes", "curve.jsonl", "--plot", "curve.png")
    assert result.returncode == 0, result.stderr
    assert "train_loss: 2 spikes in 500 values" in result.stdout
    assert "the steps are not consecutive (every 10, from 0 to 4990)" in result.stdout
    assert re.search(r"^ +onset +peak +end +width +height +sigmas +area +kind", result.stdout, flags=re.MULTILINE)
    assert re.search(r"^ +3000 +3000 +3100 +100 .* recovered$", result.stdout, flags=re.MULTILINE)
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert s3bench("spikes", "curve.jsonl", "--plot", f"curve.{suffix}").returncode == 0
        assert (tmp_path / f"curve.{suffix}").read_bytes().startswith(start)
    printed = s3bench("spikes", "curve.jsonl", "--step", "none", "--json").stdout

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    events = json.loads(printed, parse_constant=refuse)["spikes"]
    assert [(event["onset"], event["end"]) for event in events] == [(300, 310), (499, 500)]
    assert events[1]["height"] is None


def test_rows_without_a_loss_are_counted_beside_the_result(s3bench, tmp_path):
    (tmp_path / "curve.csv").write_text("step,loss,val_loss\n0,3,\n1,2,\n1,,9\n2,2,\n")
    result = s3bench("spikes", "curve.csv", "--json")
    found = json.loads(result.stdout)
    assert found.pop("answer").startswith("No spike, but 3 steps are too few")
    assert found == {
        "file": "curve.csv",
        "kind": "CSV",
        "column": "loss",
        "step_column": "step",
        "notes": ["rows without a loss, left out: 1 of 4"],
        "values": 3,
        "spikes": [],
    }
    said = "s3bench: CSV: loss from column 'loss', steps: column 'step'; rows without a loss, left out: 1 of 4\n"
    assert result.stderr == said


def test_several_files_are_a_row_each_and_those_refused_are_named(s3bench, tmp_path):
    for name, at in (("a.csv", 50), ("b.csv", 70)):
        losses = [9.0 if step == at else 2.0 for step in range(100)]
        pd.DataFrame({"iter": np.arange(100) * 10, "loss": losses}).to_csv(tmp_path / name, index=False)
    result = s3bench("spikes", "a.csv", "b.csv", "none.csv")
    assert result.returncode == 2
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["file", "loss", "steps", "values", "spikes", "per", "10,000", "highest", "at"]
    assert rows[1:] == [
        [n, "loss", "iter", "100", "1", "100.00", "7", at] for n, at in (("a.csv", "500"), ("b.csv", "700"))
    ]
    assert "there is no file none.csv" in result.stderr
    found = json.loads(s3bench("spikes", "a.csv", "b.csv", "--json").stdout)
    assert [one["spikes"][0]["onset"] for one in found] == [500, 700]
    assert "name one file" in mistake(s3bench("spikes", "a.csv", "b.csv", "--plot", "x.png"))


@pytest.mark.parametrize(
    ("plot", "said"),
    [("curve.gif", "the suffix must be one of .png, .svg, .pdf"), ("none/curve.png", "there is no folder none")],
)
def test_a_plot_that_cannot_be_written_is_reported_on_one_line(s3bench, tmp_path, plot, said):
    (tmp_path / "curve.csv").write_text("loss\n3\n2\n")
    assert said in mistake(s3bench("spikes", "curve.csv", "--plot", plot))


def test_a_file_whose_name_has_control_characters_is_drawn_quietly(s3bench, tmp_path):
    (tmp_path / "a\x1b[31mb.csv").write_text("st\x07ep,lo\x1bss\n0,3\n1,2\n")
    result = s3bench("spikes", "a\x1b[31mb.csv", "--column", "lo\x1bss", "--step", "st\x07ep", "--plot", "curve.png")
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not {"\x1b", "\x07"} & set(result.stdout + result.stderr)


@pytest.mark.parametrize("losses", [[math.nan] * 9, [0.0] * 9, [-1.0, 2.0, math.inf, 1e300], [1e-3] + [5.0] * 99])
def test_any_curve_can_be_drawn(s3bench, tmp_path, losses):
    pd.DataFrame({"loss": losses}).to_csv(tmp_path / "curve.csv", na_rep="nan")
    result = s3bench("spikes", "curve.csv", "--plot", "curve.png")
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == 1  # what was read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("loss\n", "has no rows"),
        ("loss\n1.0\nabc\n", "row 2: 'abc' is not a number"),
        ("\0\1\2", "is binary"),
        ("3.0,1\n2.0,2\n", "no column is named like a training loss; choose one with --column: 1, 2"),
    ],
)
def test_a_file_that_is_not_a_curve_is_reported_on_one_line(s3bench, tmp_path, text, said):
    (tmp_path / "curve.csv").write_text(text)
    assert said in mistake(s3bench("spikes", "curve.csv"))


def test_list_shows_names_and_what_they_are(s3bench):
    listed = s3bench("list", "optimizers", process=True).stdout
    assert re.search(r"^s3 +S3 with the authors' order p = 3", listed, flags=re.MULTILINE)
    assert re.search(r"^quickstart +Where AdamW spikes", s3bench("list", "experiments").stdout, flags=re.MULTILINE)
    assert re.search(r"^zclip +ZClip: ", s3bench("list", "clips").stdout, flags=re.MULTILINE)
    assert "source_gpt" in s3bench("list", "tasks").stdout


def test_help_and_list_answer_without_importing_anything_heavy():
    code = "import sys; from s3bench.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
    heavy = {"torch", "hydra", "pandas", "numpy", "rich", "yaml", "argcomplete"}
    code += f"sys.exit(len({heavy} & set(sys.modules)))"
    for arguments in (["--help"], ["sweep", "--help"], ["list", "tasks"]):
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
        assert result.returncode == 0


@pytest.mark.slow
def test_report_and_status_and_spikes_import_neither_torch_nor_hydra_nor_wandb(s3bench, tmp_path):
    assert s3bench("run", "horizon=5", "results_dir=r").returncode == 0
    code = "import sys; from s3bench.cli import main\nheavy = set(sys.argv[1].split())\nmain(sys.argv[2:])\n"
    code += "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    steps, heavy = str(record.folders(tmp_path / "r")[0] / "steps.parquet"), "torch hydra wandb tensorboard"
    for arguments in (["report", "r"], ["figure", "loss", "r"]):
        assert_quiet(tmp_path, code, heavy, *arguments)
    assert_quiet(tmp_path, code, f"{heavy} matplotlib", "status", "r")
    assert_quiet(tmp_path, code, heavy, "spikes", steps, said=b"s3bench: Parquet: loss from column 'loss'")


def assert_quiet(folder, code, *arguments, said=b""):
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == bool(said)
