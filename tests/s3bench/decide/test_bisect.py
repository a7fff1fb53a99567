"""The search of the largest stable fixed rate, on a quadratic, where theory says what it is."""

import re
from pathlib import Path

import pytest

from s3bench import record
from s3bench.cli import main
from s3bench.report.analysis.results import read_results
from s3bench.report.analysis.thresholds import threshold_table
from tests.conftest import mistake
from tests.records import make_fixed, make_ramp

RUNS = ["task=quadratic", "task.targets=[]", "optimizer=sgd", "optimizer.momentum=0", "horizon=600", "eval_every=600"]
RUNS += ["seed=200,201", "results_dir=ramps"]
FIXED = ["schedule=constant", "schedule.warmup=0.0833"]


@pytest.fixture
def ramps(s3bench, tmp_path):
    assert s3bench("sweep", *RUNS, "schedule=ramp", "lr_multiplier=3000").returncode == 0
    return tmp_path / "ramps"


def test_gradient_descent_is_stable_up_to_two_over_the_largest_curvature(s3bench, ramps):
    assert s3bench("sweep", *RUNS, *FIXED, "lr_multiplier=32").returncode == 0
    done = s3bench("bisect", "ramps", "task=quadratic")
    assert done.returncode == 0, done.stderr
    assert "largest stable fixed rate is between ×64 and ×90.5 (n = 2); the ramps left at ×" in done.stdout
    (row,) = threshold_table(read_results(ramps)).to_dict("records")
    assert row["fixed_least"] < 2 / 0.03 < row["fixed_most"]  # the task's lr is 0.03, the largest curvature is 1
    trained = set(record.folders(ramps))
    assert len(trained) == 2 + 2 * 4  # the ramps, and of each seed ×32, which was there, ×128, ×64 and ×90.5
    assert s3bench("sweep", *RUNS, *FIXED, "lr_multiplier=64").returncode == 0  # the same runs: see below
    again = s3bench("bisect", "ramps", "optimizer=sgd")
    assert again.stdout == "\n".join(done.stdout.splitlines()[-1:]) + "\n"
    assert set(record.folders(ramps)) == trained


def test_without_names_it_searches_where_fixed_rates_contradict_the_ramps(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_ramp(tmp_path / "ramps", "s3", 0, 300)  # ×19.4
    assert main(["bisect", "ramps"]) == 2
    assert "no ramp was checked at fixed rates" in capsys.readouterr().err
    make_fixed(tmp_path / "ramps", "s3", 9)
    assert main(["bisect", "ramps"]) == 2
    assert "no run at a fixed rate contradicts a ramp" in capsys.readouterr().err
    make_ramp(tmp_path / "ramps", "adamw", 0, 300)
    make_fixed(tmp_path / "ramps", "adamw", 100)  # stable at five times the ramp's threshold
    assert main(["bisect", "ramps"]) == 0
    said = capsys.readouterr().out
    assert "quadratic, adamw: the largest stable fixed rate is between ×" in said
    assert "quadratic, s3" not in said
    rates = [
        float(rate)
        for rate in re.findall(r"adamw-x([0-9.]+)-", " ".join(path.name for path in Path("ramps").iterdir()))
    ]
    assert max(rates) == 3000
    assert min(rate for rate in rates if rate not in (100, 3000)) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=1"], "unknown key 'seed'. Choose from: optimizer, task"),
        (["task=quadratik"], "unknown task 'quadratik'. Did you mean quadratic?"),
        (["optimizer=adam"], "unknown optimizer 'adam'"),
    ],
)
def test_a_name_that_is_not_there_is_one_line(s3bench, tmp_path, arguments, message):
    make_ramp(tmp_path / "ramps", "s3")
    assert message in mistake(s3bench("bisect", "ramps", *arguments))


def test_a_folder_without_ramps_is_one_line(s3bench, tmp_path):
    assert s3bench("run", "task=quadratic", "results_dir=plain", "horizon=5").returncode == 0
    said = mistake(s3bench("bisect", "plain"))
    assert re.search("there is no ramp with a result; s3bench sweep experiment=ramp trains some", said)
    assert Path(tmp_path / "plain").exists()
