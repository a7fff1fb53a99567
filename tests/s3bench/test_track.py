"""Tracking: a real offline run is read back, and whatever tracking does, training goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from s3bench import record
from s3bench.config import run_config
from s3bench.run import run
from s3bench.track import WandbTracker


def read_back(results, *options):
    """What wandb itself reads out of the one offline run in a results folder, as text."""
    (folder,) = results.glob("wandb/offline-run-*")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", *options, "--json", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_an_offline_run_holds_config_metrics_evaluations_spikes_and_summary(tmp_path):
    overrides = ["tracker=wandb", "optimizer=sgd", "task.lr=0.01", "horizon=100", f"results_dir={tmp_path}"]
    config = run_config([*overrides, "lr_multiplier=400"])  # blows up while the learning rate is high, and comes back
    assert run(config) == "finished"
    whole = read_back(tmp_path) + read_back(tmp_path, "--summary")
    steps = record.load_steps(tmp_path / config.run_id)
    assert config.run_id in whole
    assert "adhoc" in whole
    for key in ("train/loss", "train/grad_norm", "train/update_max", "eval/loss", "eval/distance", "spike/height"):
        assert key in whole
    for key in ("spikes_per_10k", "fingerprint", "lr_multiplier"):
        assert key in whole
    assert json.loads(read_back(tmp_path, "--summary"))["summary"]["spikes"] == 1
    assert repr(float(steps.loss.iloc[-1]))[:8] in whole


def test_a_run_without_tracking_imports_no_wandb(tmp_path):
    code = "import sys; from s3bench.config import run_config; from s3bench.run import run; "
    code += f"run(run_config(['horizon=3', 'results_dir={tmp_path}'])); sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_training_survives_whatever_tracking_raises(tmp_path, monkeypatch, caplog, broken):
    def fail(*_, **__):
        raise wandb.Error("no\nnetwork")

    if broken == "init":
        monkeypatch.setattr(wandb, "init", fail)
    else:
        monkeypatch.setattr(wandb.sdk.wandb_run.Run, broken, fail)
    config = run_config(["tracker=wandb", "horizon=20", f"results_dir={tmp_path}"])
    assert run(config) == "finished"
    assert len(record.load_steps(tmp_path / config.run_id)) == 20
    warnings = [entry.getMessage() for entry in caplog.records if entry.name == "s3bench.track"]
    assert warnings == ["wandb: Error: no network; the record is not affected"]
    wandb.teardown()


NOWHERE = "http://127.0.0.1:9"  # nobody listens there


def test_online_without_a_network_goes_on_offline_and_does_not_hang(s3bench, tmp_path):
    online = ["tracker=wandb", "tracker.mode=online", "tracker.timeout=3", "horizon=20"]
    result = s3bench("run", *online, WANDB_API_KEY="0" * 40, WANDB_BASE_URL=NOWHERE)
    assert result.returncode == 0, result.stderr
    assert "the record is not affected" in result.stderr
    results = tmp_path / "results" / "adhoc"
    assert "train/loss" in read_back(results)
    (folder,) = record.folders(results)
    assert record.state(folder) == "finished"
    for file in folder.iterdir():
        assert b"0" * 40 not in file.read_bytes()  # no key in a record


def test_online_without_a_key_goes_on_offline(s3bench, tmp_path):
    online = ["tracker=wandb", "tracker.mode=online", "tracker.timeout=3", "horizon=5"]
    result = s3bench("run", *online, WANDB_API_KEY="", WANDB_BASE_URL=NOWHERE, HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "train/loss" in read_back(tmp_path / "results" / "adhoc")


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"tracker.mode is 'maybe'; it must be offline or online"):
        WandbTracker(mode="maybe", project="p", entity=None, timeout=1)
