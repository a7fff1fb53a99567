"""Tests s3bench tune: it writes what it measures, and changes nothing else."""

import io
import math
import re

import numpy as np
import pytest
import yaml

from s3bench import catalog, record, tune
from s3bench.errors import UserError
from tests.records import make

OWN = """# A quadratic of my own
build:
  _target_: tasks.quadratic.Quadratic
  seed: ${seed}
  dim: 4 # few
lr: 0.02 # a guess
horizon: 3000
eval_every: 300
targets:
  - {metric: loss, at_most: 1.0}
spikes: {k: 6.0, delta: 0.1}
"""


LOSS = tune.Metric("loss", 1)


def evaluations(*values, every=100):
    return np.arange(len(values)) * every, np.array(values)


def test_targets_are_the_median_end_then_the_ladder_around_it():
    runs = [evaluations(9, 5 + x, 3 + x, 2 + x, 1 + x) for x in (0, 0.2, 0.4, 0.6)]
    targets, _ = tune.ladder([*runs, None], LOSS, 400)
    assert [target["at_most"] for target in targets] == [1.4, 3.4, 2.4, 1.2]  # of five runs, one diverged
    with pytest.raises(UserError, match="diverged at its best"):
        tune.ladder([None, None], LOSS, 400)
    targets, comments = tune.ladder([evaluations(0, -0.5, -0.6, -0.7, -0.9)], tune.Metric("accuracy", -1), 400)
    assert targets[:2] == [{"metric": "accuracy", "at_least": 0.9}, {"metric": "accuracy", "at_least": 0.6}]
    assert comments[:2] == ["the main one: the median of where AdamW (.9, .95) ends", "its median at step 200"]


def test_the_grid_is_widened_while_the_best_is_at_its_edge(monkeypatch):
    asked = []

    def train(given, seeds):
        multiplier = float(given[-1].removeprefix("lr_multiplier="))
        asked.append(multiplier)
        return [multiplier] * len(seeds)

    def best_at_40(_, multiplier):
        return evaluations(9, abs(math.log(multiplier / 40)))

    def diverged_above_1(_, multiplier):
        return None if multiplier > 1 else evaluations(9, 1 / multiplier)

    monkeypatch.setattr(tune, "train", train)
    monkeypatch.setattr(tune.Metric, "evaluations", best_at_40)
    assert list(tune.try_learning_rates([], LOSS)) == sorted(asked) == [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
    asked.clear()
    monkeypatch.setattr(tune.Metric, "evaluations", diverged_above_1)
    assert list(tune.try_learning_rates([], LOSS)) == [0.1, 0.3, 1.0, 3.0, 10.0]


@pytest.mark.parametrize("name", catalog.choices("task"))
def test_a_committed_yaml_survives_the_round_trip_byte_for_byte(name):
    text = catalog.choices("task")[name].read_text(encoding="utf-8")
    yaml, written = tune.round_trip(text), io.StringIO()
    yaml.dump(yaml.load(text), written)
    assert written.getvalue() == text


@pytest.mark.parametrize("name", catalog.choices("task"))
def test_only_the_measured_lines_of_a_committed_yaml_change(tmp_path, name):
    before, file = catalog.choices("task")[name].read_text(encoding="utf-8"), tmp_path / "copy.yaml"
    file.write_text(before, encoding="utf-8")
    tune.write_settings(file, measured(0.5))
    first = file.read_text(encoding="utf-8")
    kept = [line for line in first.splitlines() if line not in written_lines(0.5)]
    without_note = tune.NOTE.sub("", before).splitlines()
    assert [line for line in without_note if line in kept] == kept  # nothing else is new or moved
    gone = [line for line in without_note if line not in kept]
    assert all(re.match(r"lr: |targets:|  - {metric|spikes: ", line) for line in gone), gone
    old, new = yaml.safe_load(before), yaml.safe_load(first)
    assert {key: new[key] for key in old if key not in MEASURED} == {
        key: value for key, value in old.items() if key not in MEASURED
    }
    tune.write_settings(file, measured(0.5))
    assert file.read_text(encoding="utf-8") == first


MEASURED = ("lr", "targets", "spikes")
NOTE = """\
# Measured on 2026-11-24, cpu (x86_64), torch 2.13.0+cpu, with seeds from 100 up, by `s3bench tune my_own_task`. AdamW
# (.9, .95) ends at loss 1.33 at lr 0.01, 0.467 at lr 0.03."""


def measured(lr):
    return tune.Measured(
        note=NOTE.removeprefix("# ").replace("\n# ", " "),
        lr=lr,
        targets=[{"metric": "loss", "at_most": lr}, {"metric": "loss", "at_most": 2 * lr}],
        target_comments=["the main one", "its median at step 50"],
        spikes={"k": lr, "delta": 0.1},
        spikes_comment="0 in 33,600 calm steps",
    )


def lines_of(lr):
    """Return the lines of each measured key as they are written."""
    return {
        "lr": f"{NOTE}\nlr: {lr}",
        "targets": f"targets:\n  - {{metric: loss, at_most: {lr}}} # the main one\n"
        f"  - {{metric: loss, at_most: {2 * lr}}} # its median at step 50",
        "spikes": f"spikes: {{k: {lr}, delta: 0.1}} # 0 in 33,600 calm steps",
    }


def written_lines(lr):
    return [line for lines in lines_of(lr).values() for line in lines.splitlines()]


def test_measuring_again_replaces_the_first_note(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    for lr in (0.5, 0.7):
        tune.write_settings(file, measured(lr))
        lines = lines_of(lr)
        text = OWN.replace("lr: 0.02 # a guess", lines["lr"])
        text = text.replace("targets:\n  - {metric: loss, at_most: 1.0}", lines["targets"])
        assert file.read_text() == text.replace("spikes: {k: 6.0, delta: 0.1}", lines["spikes"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (  # lines at column 0 within build, which is the last key
            "lr: 1 # x\ntargets:\n- {metric: x,\n  at_most: 1}\n\n# mine\nspikes: {}\nbuild:\n  a: 1\n\n# c\n  b: 2\n",
            "{lr}\n{targets}\n\n# mine\n{spikes}\nbuild:\n  a: 1\n\n# c\n  b: 2\n",
        ),
        (  # in the midst, before a key and comments of the user's, without spikes
            "targets: []\nbuild:\n  a: 1\n\n  b: 2\nlr: 1\n# of the data\ndownload: true\n\n# the end",
            "{targets}\nbuild:\n  a: 1\n\n  b: 2\n{lr}\n# of the data\ndownload: true\n\n# the end\n{spikes}\n",
        ),
        (  # a hand's note stays
            "build: 1\n# Measured by me\nlr: 1\ntargets:\n  - metric: x\n    at_most: 1\n  # y\nspikes:\n  k: 6\n",
            "build: 1\n# Measured by me\n{lr}\n{targets}\n  # y\n{spikes}\n",
        ),
    ],
)
def test_a_users_yaml_keeps_its_other_lines_whatever_its_order(tmp_path, before, after):
    file = tmp_path / "own.yaml"
    file.write_text(before)
    for key, lines in lines_of(0.5).items():
        after = after.replace(f"{{{key}}}", lines)
    for _ in range(2):
        tune.write_settings(file, measured(0.5))
        assert file.read_text() == after


@pytest.mark.parametrize(
    ("targets", "metric"),
    [("[]", LOSS), ("[{metric: accuracy, at_least: 0.9}]", tune.Metric("accuracy", -1))],
)
def test_a_task_without_targets_is_measured_by_its_loss(tmp_path, monkeypatch, targets, metric):
    file = tmp_path / "configs" / "task" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(OWN.replace("targets:\n  - {metric: loss, at_most: 1.0}", f"targets: {targets}"))
    monkeypatch.chdir(tmp_path)

    def refuse(_, metric):
        raise UserError(str(metric))

    monkeypatch.setattr(tune, "try_learning_rates", refuse)
    with pytest.raises(UserError, match=re.escape(str(metric))):
        tune.tune("mine", [])


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [("no_such", [], "quadratic"), ("quadratic", ["horizon=50"], "tune measures the task as its YAML defines it")],
)
def test_a_mistake_changes_nothing(task, overrides, message):
    with pytest.raises(UserError, match=message):
        tune.tune(task, overrides)


def test_tune_stops_if_another_process_trains_some_of_its_runs(tmp_path, monkeypatch):
    given, seeds = ["task=quadratic", f"results_dir={tmp_path}"], range(100, 101)
    monkeypatch.setattr(tune, "sweep", lambda *_: 0)
    monkeypatch.setattr(record, "state", lambda _: record.RUNNING)
    with pytest.raises(UserError, match="another process is training some of the runs"):
        tune.train(given, seeds)


@pytest.mark.slow
def test_a_task_that_spikes_at_low_rates_too_keeps_its_detector(tmp_path, capsys):
    own = {"k": 8.0, "delta": 0.2}
    spiky = [make(tmp_path, seed=seed, horizon=3000, spikes=range(500, 3000, 200)) for seed in range(12)]
    found, comment = tune._spikes(spiky, 0.005, own)
    assert found == own
    assert comment == "not calibrated: runs at lr / 10 and lr × 0.3 spike too"
    assert "the detector is not calibrated" in capsys.readouterr().out
    calm = [make(tmp_path / "calm", seed=seed, horizon=3000) for seed in range(12)]
    assert tune._spikes(calm, 0.005, own)[1] == "0 in 36,000 calm steps, at lr / 10 and lr × 0.3"


@pytest.mark.slow
def test_a_users_task_is_tuned(tmp_path, s3bench):
    file = tmp_path / "configs" / "task" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(OWN)
    done = s3bench("tune", "mine")
    assert done.returncode == 0, done.stderr
    assert re.search(r"wrote .*configs/task/mine.yaml", done.stdout)
    text = file.read_text()
    assert text.startswith(OWN[: OWN.index("lr:")])
    assert "by `s3bench tune mine`" in " ".join(text.replace("\n# ", " ").split())
    settings = yaml.safe_load(text)
    ends = re.findall(r"([0-9.e-]+) at lr ([0-9.]+[0-9])", text.replace("\n# ", " "))
    assert settings["lr"] == float(min(ends, key=lambda end: float(end[0]))[1])
    assert (settings["horizon"], settings["eval_every"]) == (3000, 300)
    assert len(settings["targets"]) == 4
    assert set(settings["spikes"]) == {"k", "delta", "ceiling"}
    assert s3bench("run", "task=mine", "optimizer=adamw_95", "seed=1").returncode == 0
