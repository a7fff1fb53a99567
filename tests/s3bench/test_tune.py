"""s3bench tune: what it measures is what it writes, and it writes nothing else."""

import math
import re

import numpy as np
import pytest
import yaml

from s3bench import record, tune
from s3bench.errors import UserError

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


def curve(*values, every=100):
    return np.arange(len(values)) * every, np.array(values)


def test_targets_are_the_median_end_then_the_ladder_around_it():
    runs = [curve(9, 5 + x, 3 + x, 2 + x, 1 + x) for x in (0, 0.2, 0.4, 0.6)]
    lines = yaml.safe_load("\n".join(tune._targets([*runs, None], LOSS, 400)))["targets"]
    assert [target["at_most"] for target in lines] == [1.4, 3.4, 2.4, 1.2]  # of five runs, one diverged
    with pytest.raises(UserError, match="diverged at its best"):
        tune._targets([None, None], LOSS, 400)
    lines = tune._targets([curve(0, -0.5, -0.6, -0.7, -0.9)], tune.Metric("accuracy", -1), 400)
    assert lines[1] == "  - {metric: accuracy, at_least: 0.9} # the main one: the median of where AdamW (.9, .95) ends"
    assert lines[2] == "  - {metric: accuracy, at_least: 0.6} # its median at step 200"


def test_the_grid_is_widened_while_the_best_is_at_its_edge(monkeypatch):
    asked = []

    def sweep(given, seeds):
        multiplier = float(given[-1].removeprefix("lr_multiplier="))
        asked.append(multiplier)
        return [multiplier] * len(seeds)

    monkeypatch.setattr(tune, "_sweep", sweep)
    monkeypatch.setattr(tune.Metric, "of", lambda _, multiplier: curve(9, abs(math.log(multiplier / 40))))
    assert list(tune._grid([], LOSS)) == sorted(asked) == [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
    asked.clear()
    monkeypatch.setattr(tune.Metric, "of", lambda _, multiplier: None if multiplier > 1 else curve(9, 1 / multiplier))
    assert list(tune._grid([], LOSS)) == [0.1, 0.3, 1.0, 3.0, 10.0]


NOTE = [
    "# Measured on 2026-11-24, cpu (x86_64), torch 2.13.0+cpu, on seeds from 100 on, by `s3bench",
    "# tune mine`. AdamW (.9, .95) ends at loss 1.33 at lr 0.01, 0.467 at lr",
    "# 0.03.",
]


def measured(lr):
    return {
        "lr": [*NOTE, f"lr: {lr}"],
        "targets": ["targets:", f"  - {{metric: loss, at_most: {lr}}} # the main one"],
        "spikes": [f"spikes: {{k: {lr}}}"],
    }


def test_only_what_was_measured_is_written_anew(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    for lr in (0.5, 0.7):  # the second time the first one's note goes
        tune._write(file, measured(lr))
        text = OWN.replace("lr: 0.02 # a guess", "\n".join([*NOTE, f"lr: {lr}"]))
        text = text.replace("at_most: 1.0}", f"at_most: {lr}}} # the main one").replace("6.0, delta: 0.1", f"{lr}")
        assert file.read_text() == text


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
def test_a_yaml_keeps_its_other_lines_wherever_build_stands(tmp_path, before, after):
    file = tmp_path / "own.yaml"
    file.write_text(before)
    own = measured(0.5)
    for key, lines in own.items():
        after = after.replace(f"{{{key}}}", "\n".join(lines))
    for _ in range(2):
        tune._write(file, own)
        assert file.read_text() == after


@pytest.mark.parametrize(
    ("targets", "metric"),
    [("[]", LOSS), ("[{metric: accuracy, at_least: 0.9}]", tune.Metric("accuracy", -1))],
)
def test_a_task_without_targets_is_measured_by_its_loss(tmp_path, monkeypatch, targets, metric):
    task = f"mine_by_{metric.name}"  # composed configs are kept by name
    file = tmp_path / "configs" / "task" / f"{task}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(OWN.replace("targets:\n  - {metric: loss, at_most: 1.0}", f"targets: {targets}"))
    monkeypatch.chdir(tmp_path)

    def grid(_, given):
        raise UserError(str(given))

    monkeypatch.setattr(tune, "_grid", grid)
    with pytest.raises(UserError, match=re.escape(str(metric))):
        tune.tune(task, [])


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [("no_such", [], "quadratic"), ("quadratic", ["horizon=50"], "tune measures what the task's YAML says")],
)
def test_a_mistake_changes_nothing(task, overrides, message):
    with pytest.raises(UserError, match=message):
        tune.tune(task, overrides)


def test_runs_that_another_process_is_at_are_waited_for(tmp_path, monkeypatch):
    given, seeds = ["task=quadratic", f"results_dir={tmp_path}"], range(100, 101)
    monkeypatch.setattr(tune, "sweep", lambda *_: 0)
    monkeypatch.setattr(record, "state", lambda _: record.RUNNING)
    with pytest.raises(UserError, match="another process is at some of the runs"):
        tune._sweep(given, seeds)


@pytest.mark.slow
def test_a_task_of_ones_own_is_tuned(tmp_path, s3bench):
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
