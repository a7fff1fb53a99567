"""Tests s3bench decide for real: on a quadratic, whose runs take milliseconds."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from s3bench.decide.decide import asked
from s3bench.decide.dry_run import blocks_to_decide, show_plan
from s3bench.errors import UserError
from s3bench.record import decisions
from s3bench.report.claims.grades import CLAIM_ALPHA
from s3bench.report.claims.registered import load_claims
from scripts import simulate_inference
from tests.conftest import mistake, until

CLAIM = """# Does S3 end lower than SignSGD on a quadratic?
statement: S3 ends lower than SignSGD on a quadratic
effect: the final loss of S3 over that of SignSGD
measure: loss
limits: {claimed: 0.9}
scales:
  laptop: {tasks: [quadratic], horizon: 20}
arms:
  s3: [optimizer=s3]
  signsgd: [optimizer=signsgd]
grids: {s3: [10, 30, 100], signsgd: [1, 3, 10]}
primary:
  signsgd: [s3, signsgd]
"""


@pytest.fixture
def folder(tmp_path):
    """Return a user's folder with a claim of his own."""
    file = tmp_path / "configs" / "claim" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CLAIM, encoding="utf-8")
    return tmp_path


def entries(folder, event=None):
    return [one for one in decisions.read(folder / "results" / "decide_laptop") if event in (None, one["event"])]


@pytest.mark.slow
def test_a_budget_too_small_for_a_block_is_said_and_nothing_is_lost(folder, s3bench):
    done = s3bench("decide", "mine", "--budget", "0.1s")
    assert done.returncode == 0, done.stderr
    assert "mine: the final loss of S3 over that of SignSGD: undecided: no block yet" in done.stdout
    assert "no block was trained: the budget is too small" in done.stdout
    assert entries(folder) == []


@pytest.mark.slow
def test_blocks_are_added_until_the_claim_is_decided(folder, s3bench):
    done = s3bench("decide", "mine", "--budget", "10m")
    assert done.returncode == 0, done.stderr
    assert [one["best"] for one in entries(folder, decisions.RATE)]
    blocks = entries(folder, decisions.BLOCK)
    assert [block["seed"] for block in blocks] == list(range(300, 300 + len(blocks)))
    (stop,) = entries(folder, decisions.STOP)
    assert stop["claim"] == "mine"
    assert stop["why"] in done.stdout
    assert s3bench("decide", "mine", "--budget", "10m").returncode == 0
    assert entries(folder, decisions.BLOCK) == blocks  # it is decided: nothing more is trained
    assert s3bench("report", "results/decide_laptop").returncode == 0
    verdicts = json.loads((folder / "results/decide_laptop/report/claims.json").read_text())
    (mine,) = [one for one in verdicts if one["id"] == "mine"]
    assert mine["n"] == len(blocks)
    assert mine["verdict"] in ("supported", "not supported")


@pytest.mark.slow
def test_time_that_no_claim_needs_goes_to_the_secondary_comparisons(folder, s3bench):
    more = "control:\n  itself: [signsgd, signsgd]\nsecondary:\n  ten times as fast: [s3 at 10 x s3, signsgd]\n"
    (folder / "configs" / "claim" / "mine.yaml").write_text(CLAIM + more, encoding="utf-8")
    assert s3bench("decide", "mine", "--budget", "10m").returncode == 0
    blocks, added = entries(folder, decisions.BLOCK), entries(folder, decisions.MORE)
    assert [one["seed"] for one in added] == [one["seed"] for one in blocks]
    assert set(blocks[0]["runs"]["quadratic"]) == {"s3", "signsgd"}
    assert set(added[0]["runs"]["quadratic"]) == {"s3 at 10 x s3", "signsgd"}
    assert s3bench("report", "results/decide_laptop").returncode == 0
    verdicts = json.loads((folder / "results/decide_laptop/report/claims.json").read_text())
    (mine,) = [one for one in verdicts if one["id"] == "mine"]
    assert {f["what"]: (f["kind"], f["n"]) for f in mine["findings"]} == {
        "signsgd": ("primary", len(blocks)),
        "itself": ("control", len(blocks)),
        "ten times as fast": ("secondary", len(blocks)),
    }


@pytest.mark.slow
def test_ray_trains_several_blocks_at_once(folder, s3bench, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(folder)
    for arm in ("s3", "signsgd"):  # as if chosen before: each sweep that chooses them would start Ray again
        (claim,) = load_claims(["mine"])
        runs = " ".join(claim.overrides(arm, "laptop", "quadratic"))
        (folder / "results" / "decide_laptop").mkdir(parents=True, exist_ok=True)
        rates = {"best": 30.0 if arm == "s3" else 3.0, "second": 10.0, "log_loss": -1.0, "second_log_loss": -0.9}
        decisions.append(folder / "results" / "decide_laptop", decisions.RATE, runs=runs, tried={}, **rates)
    done = s3bench("decide", "mine", "launcher=ray", "--budget", "4m")
    assert done.returncode == 0, done.stderr
    seconds = [one["seconds"] for one in entries(folder, decisions.BLOCK)]
    assert len(seconds) > len(set(seconds)) > 1  # of blocks that were trained at once each has its share


@pytest.mark.slow
def test_a_killed_decide_resumes_without_training_a_block_twice(folder, s3bench):
    command = [sys.executable, "-c", "import sys; from s3bench.cli import main; sys.exit(main())"]
    with subprocess.Popen(
        [*command, "decide", "mine", "--budget", "10m"], cwd=folder, start_new_session=True
    ) as running:
        until(lambda: len(entries(folder, decisions.BLOCK)) >= 2)
        os.killpg(running.pid, signal.SIGKILL)
    before = entries(folder)
    done = s3bench("decide", "mine", "--budget", "10m")
    assert done.returncode == 0, done.stderr
    after = entries(folder)
    assert after[: len(before)] == before
    seeds = [block["seed"] for block in entries(folder, decisions.BLOCK)]
    assert seeds == sorted(set(seeds))


@pytest.mark.slow
def test_a_block_with_a_failed_run_is_a_hole_and_three_end_the_claim(folder, s3bench):
    (folder / "fails.py").write_text(
        "import torch\n"
        "class Fails(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        if torch.initial_seed() >= 200: raise RuntimeError('out of luck')\n"
        "        return super().step(closure)\n"
    )
    (folder / "configs" / "optimizer").mkdir()
    yaml = "_target_: fails.Fails\n_partial_: true\nmomentum: 0.9\n"
    (folder / "configs" / "optimizer" / "fails.yaml").write_text(yaml)
    text = CLAIM.replace("optimizer=signsgd", "optimizer=fails")
    (folder / "configs" / "claim" / "mine.yaml").write_text(text)
    done = s3bench("decide", "mine", "--budget", "10m")
    assert done.returncode == 1, done.stdout
    assert [one["seed"] for one in entries(folder, decisions.HOLE)] == [300, 301, 302]
    assert "out of luck" in done.stdout
    (folder / "fails.py").write_text((folder / "fails.py").read_text().replace(">= 200", ">= 100"))
    done = s3bench("decide", "mine", "--budget", "10m", "--results", "results/tuning_fails")
    assert done.returncode == 1, done.stdout
    assert "mine: no learning rates: results/tuning_fails/tuning/" in done.stdout


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        (["C99"], {}, "unknown claim 'C99'"),
        (["C3"], {}, "every report judges it by all of its records"),
        (["C1"], {"scale": "moon"}, "unknown scale of C1 'moon'"),
        (["C2"], {"scale": "paper"}, "unknown scale of C2 'paper'"),
        ([], {"optimizer": "s4"}, "unknown optimizer 's4'"),
        ([], {"optimizer": "s3", "against": "adamx"}, "unknown optimizer 'adamx'"),
    ],
)
def test_a_mistake_is_said(given, more, message):
    usual = {"budget": 60, "results": None, "scale": "laptop", "optimizer": None, "against": "adamw_95"}
    with pytest.raises(UserError, match=message):
        asked(given, **usual | more)


@pytest.mark.usefixtures("folder")
def test_an_override_that_changes_results_is_refused(s3bench):
    said = mistake(s3bench("decide", "mine", "optimizer.weight_decay=0", "--budget", "1m"))
    assert "only device, launcher, workers, data_dir and tracker can be set" in said


def test_a_budget_has_a_unit(s3bench):
    assert "'10' is not a time such as 90s, 20m or 1.5h" in mistake(s3bench("decide", "C1", "--budget", "10"))


def test_a_plan_on_paper_names_every_run_of_a_block(capsys):
    show_plan(asked(["C6"], budget=60, results=None, scale="laptop", optimizer=None, against="adamw_95"))
    said = capsys.readouterr().out
    assert "C6: 6 runs a block on digits_vit, source_gpt; 6 learning rates to choose" in said
    assert "    adamw_95 second: task=digits_vit task.targets=[] optimizer=adamw_95 horizon=300" in said


def test_a_plan_on_paper_says_how_many_blocks_and_device_hours_a_decision_takes(capsys):
    show_plan(asked([], budget=60, results=None, scale="paper", optimizer=None, against="adamw_95"))
    said = capsys.readouterr().out
    assert "without C2, C7b, C8b, which have no scale paper" in said
    assert re.search(r"in all \d+ device hours for a chance of 80% on each claim that has a plan", said)
    assert "decided after 9 blocks in half of the cases, after 10 in 80%" in said


def test_planned_blocks_are_those_of_the_simulated_intervals():
    decided = blocks_to_decide(2.34, CLAIM_ALPHA)
    power = pd.read_csv(simulate_inference.REFERENCE / "power.csv").set_index("effect").loc[2.34]
    assert np.median(decided) == power["median"]
    assert np.quantile(decided, 0.8) == power["four_fifths"]


def test_the_questions_on_ones_own_optimizer_name_both(capsys):
    show_plan(asked([], budget=60, results=None, scale="laptop", optimizer="lion", against="adamw"))
    said = capsys.readouterr().out
    assert "    other second: task=digits_vit task.targets=[] optimizer=adamw" in said
    assert "    own at 3000: task=digits_vit task.targets=[] optimizer=lion schedule=ramp" in said
