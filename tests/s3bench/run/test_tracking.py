"""Real offline runs are read back, and training continues whatever tracking does."""

import json
import subprocess
import sys
import time
from inspect import isfunction, signature
from pathlib import Path

import numpy as np
import pytest
import wandb

from s3bench import record
from s3bench.curve_files.wandb_file import read_history
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.mirror import Mirror
from s3bench.run.one_run import run
from s3bench.run.tracking import AROUND, NoTracker, Tracker, WandbTracker
from s3bench.spikes import SpikeMonitor


def read_back(results, *options):
    """Return as text what wandb itself reads from the one offline run in a results folder."""
    (folder,) = results.glob("wandb/offline-run-*")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", *options, "--json", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_an_offline_run_holds_config_metrics_evaluations_spikes_and_summary(tmp_path):
    overrides = ["tracker=wandb", "optimizer=sgd", "task.lr=0.01", "horizon=100", f"results_dir={tmp_path}"]
    config = run_config([*overrides, "lr_multiplier=400"])  # blows up while the learning rate is high, then recovers
    assert run(config) == "finished"
    everything = read_back(tmp_path) + read_back(tmp_path, "--summary")
    steps = record.load_steps(tmp_path / config.run_id)
    assert config.run_id in everything
    assert "adhoc" in everything
    for key in ("train/loss", "train/grad_norm", "train/update_max", "eval/loss", "eval/distance", "spike/height"):
        assert key in everything
    for key in ("spikes_per_10k", "fingerprint", "lr_multiplier"):
        assert key in everything
    assert "data_dir" not in everything
    assert json.loads(read_back(tmp_path, "--summary"))["summary"]["spikes"] == 1
    rows = history(tmp_path)
    train = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in train] == list(range(9, 100, 10))
    assert [row["train/loss_max"] for row in train] == steps.loss.groupby(steps.index // 10).max().tolist()
    assert [row["train/loss_min"] for row in train] == steps.loss.groupby(steps.index // 10).min().tolist()
    assert [row["train/loss"] for row in train] == pytest.approx(steps.loss.groupby(steps.index // 10).mean().tolist())
    assert [row["train/grad_norm"] for row in train] == steps.grad_norm.groupby(steps.index // 10).max().tolist()
    assert [row["step"] for row in rows if "eval/loss" in row] == record.load_evals(
        tmp_path / config.run_id
    ).step.tolist()


def history(results):
    """Return the rows of wandb's history of all offline runs in a results folder, oldest first."""
    return [row for file in sorted(results.glob("wandb/offline-run-*/*.wandb")) for row in read_history(file)[0]]


STEPS = 247
SPIKES = [60, 150, 244]  # steps at which the loss leaps; the last spike is not over when the run ends


def rows_of(steps):
    """Yield rows of a loss that falls, and leaps for four steps at each spike."""
    for step in steps:
        leaps = any(onset <= step < onset + 4 for onset in SPIKES)
        yield {"step": step, "lr": 0.1, "loss": 3.0 - step / 500 + 0.01 * (step % 3) + 5.0 * leaps, "grad_norm": 1.0}


@pytest.fixture
def killed(tmp_path):
    """Return the config and the record of a run that was killed after all its steps, before its record was closed."""
    config = as_dict(run_config(["tracker=wandb", f"results_dir={tmp_path}"]))
    folder = record.plan(config)
    with record.Writer(folder, config) as writer:
        writer.add_steps(list(rows_of(range(STEPS))))
    return config, folder


def mirror(config, folder, steps, end, mode="offline"):
    """Tell a tracker what a run tells it of these steps: evaluations every 25 steps, each spike when it is found."""
    while list(folder.parent.glob(f"wandb/*-{time.strftime('%Y%m%d_%H%M%S')}-*")):
        time.sleep(0.05)  # wandb names its folders by the second, so two must not share one
    tracker = WandbTracker(mode=mode, project="p", entity=None, timeout=20)
    monitor = SpikeMonitor(**config["task"]["spikes"])
    monitor.extend(np.array([row["loss"] for row in rows_of(range(steps[0]))]))
    tracker.start(config, folder, first_step=steps[0])
    for row in rows_of(steps):
        if row["step"] % 25 == 0:
            tracker.log_eval({"step": row["step"], "loss": 1.0})
        tracker.log_steps([row])
        if spike := monitor.add(row["loss"]):
            tracker.log_spike(spike)
    if end == "finish":
        if last := monitor.unfinished():
            tracker.log_spike(last)
        tracker.finish({"steps": STEPS})
    else:
        getattr(tracker, end)()
    if mode == "offline":
        wait_for_end(folder.parent)


def wait_for_end(results):
    """Wait until wandb's last file has its end: on a busy machine `finish` returns before it is written."""
    deadline = time.monotonic() + 30
    *_, file = sorted(results.glob("wandb/offline-run-*/*.wandb"))
    while read_history(file)[1]:  # a note that there is no end
        assert time.monotonic() < deadline, "wandb has not ended its file"
        time.sleep(0.1)


def check_whole(rows):
    """Check that a history has each batch, evaluation and spike of the run once, in the order of the steps."""
    steps = [row["step"] for row in rows if "step" in row]
    assert steps == sorted(steps)
    trained = [row["step"] for row in rows if "train/loss" in row]
    assert len(set(trained)) == len(trained)
    assert {*range(9, STEPS, 10), STEPS - 1} <= set(trained)
    assert [row["step"] for row in rows if "eval/loss" in row] == list(range(0, STEPS, 25))
    assert [row["spike/onset"] for row in rows if "spike/onset" in row] == SPIKES
    for number in range(1, len(SPIKES) + 1):
        shown = [row[f"spikes/{number}/step"] for row in rows if f"spikes/{number}/step" in row]
        assert shown == sorted(set(shown))
        assert shown[-1] - shown[0] + 1 - len(shown) <= 1  # wandb 0.31 sometimes omits a row from its own file


def test_a_spike_is_an_event_with_the_loss_around_it(killed):
    config, folder = killed
    mirror(config, folder, range(STEPS), "finish")
    rows = history(folder.parent)
    check_whole(rows)
    losses = [row["loss"] for row in rows_of(range(STEPS))]
    events = [row for row in rows if "spike/onset" in row]
    assert [event["spike/end"] for event in events] == [64, 154, STEPS]
    assert [event["spike/height"] for event in events] == pytest.approx([5.0] * 3, abs=0.1)
    for number, event in enumerate(events, start=1):
        first, last = event["spike/onset"] - AROUND, min(STEPS, event["spike/end"] + AROUND)
        shown = [
            (row[f"spikes/{number}/step"], row[f"spikes/{number}/loss"])
            for row in rows
            if f"spikes/{number}/step" in row
        ]
        assert shown == list(enumerate(losses))[first:last]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [40, 62, 64, 100, 137])
def test_a_paused_run_continues_where_it_was(killed, cut):
    config, folder = killed
    mirror(config, folder, range(cut), "pause")
    mirror(config, folder, range(cut, STEPS), "finish")
    assert len(list(folder.parent.glob("wandb/offline-run-*"))) == 2
    check_whole(history(folder.parent))


@pytest.mark.parametrize("died", [pytest.param(110, marks=pytest.mark.slow), 137])
def test_steps_repeated_after_a_kill_are_logged_once(killed, died):
    config, folder = killed
    mirror(config, folder, range(died), "fail")  # what was on disk at that time
    mirror(config, folder, range(100, STEPS), "finish")
    check_whole(history(folder.parent))


def test_a_run_that_restarts_replaces_its_earlier_mirror(killed):
    config, folder = killed
    mirror(config, folder, range(50), "fail")
    mirror(config, folder, range(STEPS), "finish")
    assert len(list(folder.parent.glob("wandb/offline-run-*"))) == 1
    check_whole(history(folder.parent))


def test_a_run_without_tracking_does_not_import_wandb(tmp_path):
    code = "import sys; from s3bench.run.config.compose import run_config; "
    code += "from s3bench.run.one_run import run; "
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
    warnings = [entry.getMessage() for entry in caplog.records if entry.name == "s3bench.run.tracking"]
    assert warnings == ["wandb: Error: no network; the record is not affected"]
    wandb.teardown()


NOWHERE = "http://127.0.0.1:9"  # no server listens there


@pytest.mark.slow
def test_online_without_a_network_continues_offline_and_does_not_hang(s3bench, tmp_path):
    online = ["tracker=wandb", "tracker.mode=online", "tracker.timeout=3", "horizon=20"]
    result = s3bench("run", *online, WANDB_API_KEY="0" * 40, WANDB_BASE_URL=NOWHERE)
    assert result.returncode == 0, result.stderr
    assert "the record is not affected" in result.stderr
    results = tmp_path / "results" / "adhoc"
    assert "train/loss" in read_back(results)
    (folder,) = record.folders(results)
    assert record.state(folder) == "finished"
    for file in folder.iterdir():
        assert b"0" * 40 not in file.read_bytes()  # the key is not in the record


@pytest.mark.slow
def test_online_without_a_key_continues_offline(s3bench, tmp_path):
    online = ["tracker=wandb", "tracker.mode=online", "tracker.timeout=3", "horizon=5"]
    result = s3bench("run", *online, WANDB_API_KEY="", WANDB_BASE_URL=NOWHERE, HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "train/loss" in read_back(tmp_path / "results" / "adhoc")


@pytest.mark.parametrize("tracker", [NoTracker, WandbTracker, Mirror])
def test_a_tracker_has_the_methods_of_the_protocol(tracker):
    methods = {name: method for name, method in vars(Tracker).items() if isfunction(method) and name[0] != "_"}
    assert len(methods) == 7
    for name, method in methods.items():
        assert signature(getattr(tracker, name)) == signature(method)


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"tracker.mode is 'maybe'; it must be offline or online"):
        WandbTracker(mode="maybe", project="p", entity=None, timeout=1)
