"""Checkpoints from before spikes: which are kept, and that keeping them changes nothing else."""

import logging

import pytest
import torch

from s3bench import record
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from s3bench.run.ring import EVERY, LENGTH, MARGIN, Ring, copied
from s3bench.spikes import find_spikes
from tests.conftest import small_disk
from tests.s3bench.run.interrupted import same, stopped_at

SPIKE = ["task=quadratic", "optimizer=sgd", "horizon=520", "shock={kind: gradient, step: 350, dose: 300}"]


def trained(results, *overrides):
    """Train a run; return its config and its record."""
    config = run_config([*overrides, f"results_dir={results}"])
    assert run(config) == "finished"
    return config, results / config.run_id


def test_a_state_from_before_the_spike_is_kept_and_nothing_else_changes(tmp_path):
    plain, there = trained(tmp_path / "plain", *SPIKE)
    config, here = trained(tmp_path / "kept", *SPIKE, "keep_before_spikes=1")
    assert config.run_id == plain.run_id
    assert same(there, here)
    assert record.kept(there) == {}
    (spike,) = find_spikes(record.load_steps(here).loss, **config.task.spikes)
    ((onset, file),) = record.kept(here).items()
    assert onset == spike.onset
    state = torch.load(file, weights_only=True)
    assert state["step"] == 200  # the last multiple of a hundred that is 120 steps before
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()} | {file.name}
    assert state.keys() >= {"model", "optimizer", "random"}


def ring_with(folder, spikes, *steps):
    """Return a ring that was given the states before these steps, at the first of which training began."""
    folder.mkdir(exist_ok=True)
    ring = Ring(folder, spikes, first_step=steps[0])
    for step in steps:
        assert ring.is_due(step)
        ring.add(step, {"model": torch.full((2,), float(step))})
    return ring


def test_the_first_spikes_are_kept_up_to_the_number_asked_for(tmp_path):
    ring = ring_with(tmp_path, 2, *range(0, 600, EVERY))
    for onset in (430, 500, 520):
        ring.keep(onset)
    files = record.kept(tmp_path)
    assert {onset: torch.load(file)["step"] for onset, file in files.items()} == {430: 300, 500: 300}
    ring.keep(430)  # again, by a run that was resumed
    assert record.kept(tmp_path) == files


@pytest.mark.parametrize(
    ("onset", "step"), [(100 + MARGIN, 100), (99 + MARGIN, 0), (MARGIN, 0), (1, 0), (599, 400), (520, 400), (519, 300)]
)
def test_the_newest_state_a_margin_before_the_onset_is_kept(tmp_path, onset, step):
    ring = ring_with(tmp_path, 1, *range(0, LENGTH * EVERY, EVERY))
    ring.keep(onset)
    (file,) = record.kept(tmp_path).values()
    assert torch.load(file)["step"] == step


def test_nothing_is_kept_where_the_ring_holds_no_state_from_before_the_spike(tmp_path):
    ring = ring_with(tmp_path, 1, *range(0, 700, EVERY))  # the oldest is that of step 200
    ring.keep(200 + MARGIN - 1)
    assert not list(tmp_path.iterdir())
    ring.keep(200 + MARGIN)
    assert len(record.kept(tmp_path)) == 1
    other = Ring(None, 1)  # of a process that does not write the record
    other.add(0, {})
    other.keep(500)


def test_the_ring_begins_where_training_does(tmp_path):
    ring = ring_with(tmp_path, 1, 137, 200)
    assert [step for step in range(201, 401) if ring.is_due(step)] == [300, 400]
    ring.keep(137 + MARGIN)
    (file,) = record.kept(tmp_path).values()
    assert torch.load(file)["step"] == 137


def test_a_copied_state_is_one_of_its_own():
    weight = torch.ones(3)
    state = {"model": {"w": weight}, "list": [weight, (weight, 2)], "name": "x", "none": None}
    made = copied(state)
    weight.zero_()
    assert made["model"]["w"].tolist() == made["list"][0].tolist() == made["list"][1][0].tolist() == [1, 1, 1]
    assert (made["list"][1][1], made["name"], made["none"]) == (2, "x", None)


def test_a_resumed_run_keeps_the_same_state(tmp_path):
    _, there = trained(tmp_path / "whole", *SPIKE, "keep_before_spikes=1")
    for stop in (5, 19):  # long before the spike, and after it
        config = run_config([*SPIKE, "keep_before_spikes=1", f"results_dir={tmp_path / str(stop)}"])
        assert stopped_at(config, stop) == "stopped"
        assert run(config) == "finished"
        here = tmp_path / str(stop) / config.run_id
        assert same(there, here)
        (one,), (other,) = record.kept(there).values(), record.kept(here).values()
        assert one.name == other.name
        state, own = torch.load(one), torch.load(other)
        assert torch.equal(state["model"]["x"], own["model"]["x"])
        assert torch.equal(state["random"], own["random"])


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(tmp_path, caplog):
    with small_disk(tmp_path / "disk", "16k"):
        ring = Ring(tmp_path / "disk", 1)
        ring.add(0, {"model": torch.randn(100_000)})
        with caplog.at_level(logging.WARNING):
            ring.keep(300)
        assert not list((tmp_path / "disk").glob("before_spike*"))
    assert "cannot keep a checkpoint from before step 300" in caplog.text
    assert "training continues" in caplog.text


def test_a_disk_error_of_torch_is_the_same(tmp_path, caplog, monkeypatch):
    def full(*_):  # torch.save raises this way
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    config = run_config([*SPIKE, "keep_before_spikes=1", f"results_dir={tmp_path}"])
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(torch, "save", full)
        assert run(config) == "finished"
    assert "training continues" in caplog.text
    assert record.kept(tmp_path / config.run_id) == {}

    ring = Ring(tmp_path, 1)
    ring.add(0, {})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        ring.keep(300)


def test_a_number_below_0_is_refused(tmp_path):
    with pytest.raises(Exception, match="keep_before_spikes is -1; it must be at least 0"):
        run_config(["keep_before_spikes=-1", f"results_dir={tmp_path}"])
