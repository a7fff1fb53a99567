"""Tests the sweep of Weights & Biases: its agent's own code makes the command, which trains a run on a small server."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps import utils

from s3bench import record
from s3bench.run.config.compose import run_config
from tests.conftest import ROOT
from tests.s3bench.run.fake_wandb import FakeWandb

FILE = ROOT / "scripts" / "wandb_sweep.yaml"


def agents_command(chosen):
    """Return what wandb's agent runs for these parameters, as its `_command_run` puts it together."""
    variables = utils.create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})
    command = []
    for part in utils.create_sweep_command(yaml.safe_load(FILE.read_text(encoding="utf-8"))["command"]):
        command += variables[part[2:-1]] if part.startswith("${") else [part]
    return command


def parameters(at):
    """Return one point of the sweep."""
    given = yaml.safe_load(FILE.read_text(encoding="utf-8"))["parameters"]
    return {key: one["value"] if "value" in one else one["values"][at] for key, one in given.items()}


@pytest.mark.parametrize("at", [0, -1])
def test_every_point_is_a_run(at):
    command = agents_command(parameters(at))
    assert command[:2] == ["s3bench", "run"]
    chosen = run_config(command[2:])
    assert (chosen.names.tracker, chosen.names.optimizer) == ("wandb", parameters(at)["optimizer"])
    assert (chosen.lr_multiplier, chosen.seed) == (parameters(at)["lr_multiplier"], parameters(at)["seed"])


@pytest.mark.slow
def test_a_run_of_the_agent_arrives_as_one_of_the_sweep(tmp_path):
    chosen = {**parameters(0), "task": "quadratic", "horizon": 30}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"wandb_version": 1, **{key: {"value": one} for key, one in chosen.items()}}))
    of_agent = {"WANDB_SWEEP_ID": "sweep7", "WANDB_RUN_ID": "run7", "WANDB_SWEEP_PARAM_PATH": str(config)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with FakeWandb() as server:
        env = {**os.environ, **server.environment, **of_agent, "PATH": path}
        command = shlex.join(agents_command(chosen))
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((name, sent),) = server.runs.items()
    assert name == "run7"  # the agent's, so that the sweep finds its result
    assert sent["summary"]["eval/loss"] > 0
    assert [row["step"] for row in sent["rows"] if "train/loss" in row] == [9, 19, 29]
    assert sent["config"]["names"]["value"]["optimizer"] == parameters(0)["optimizer"]
    assert "the record is not affected" not in done.stderr
    (folder,) = record.folders(tmp_path / "results" / "adhoc")
    assert record.state(folder) == "finished"
