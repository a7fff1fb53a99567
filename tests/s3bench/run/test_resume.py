"""An interrupted run resumes from its last checkpoint, bit for bit as if it had not been interrupted."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from s3bench import catalog, record
from s3bench.run.checkpoint import History
from s3bench.run.config.compose import run_config
from s3bench.run.one_run import run
from s3bench.run.signals import Stop, Stopped
from s3bench.spikes import find_spikes
from tests.conftest import ROOT, flip
from tests.s3bench.run.interrupted import configs, same, stopped_at

CLI = Path(sys.executable).with_name("s3bench")


OTHER_NUMBERS = ("adamw_95", "adamw_eps15", "adamw_eps5", "adamw_same", "s3_p2", "s3_p4")  # than adamw and s3, no more


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in OTHER_NUMBERS else name
        for name in catalog.choices("optimizer")
    ],
)
def test_a_run_resumes_bit_for_bit_with_every_optimizer(tmp_path, optimizer):
    task = ["task=digits_mlp", f"optimizer={optimizer}", "lr_multiplier=10", "horizon=24", "eval_every=5"]
    whole, cut, there, here = configs(tmp_path, *task, "schedule=linear")
    assert run(whole) in ("finished", "diverged")
    if record.load_records(tmp_path / "whole").steps[0] == 24:
        assert stopped_at(cut, 2) == "stopped"
        assert record.state(here) == "missing"
        assert record.steps_so_far(here) == 6
        assert len(record.load_steps(here)) == 6
        assert stopped_at(cut, 2) == "stopped"
        assert record.resumed(here) == [6]
    run(cut)
    assert same(there, here)


TIGHT = {  # so that each clips within a few steps
    "global_norm": ["clip.max_norm=0.1"],
    "value": ["clip.max_value=0.001"],
    "adagc": ["clip.warmup_steps=4"],
    "zclip": ["clip.warmup_steps=4"],
    "update_coordinates": ["clip.max=0.5"],
    "update_rms": ["clip.max=0.5"],
}


@pytest.mark.parametrize("clip", catalog.choices("clip"))
def test_a_run_resumes_bit_for_bit_with_every_clip(tmp_path, clip):
    task = ["task=digits_mlp", "optimizer=adamw", f"clip={clip}", "lr_multiplier=3", "horizon=24", "eval_every=5"]
    task += ["shock={kind: gradient, step: 9, length: 5, dose: 3000}"]
    task += TIGHT.get(clip, [])
    whole, cut, there, here = configs(tmp_path, *task, "schedule=linear")
    assert run(whole) == "finished"
    assert stopped_at(cut, 3) == "stopped"
    assert run(cut) == "finished"
    assert same(there, here)
    assert record.load_record(here)["summary"]["resumed"][0]["step"] > 5
    unclipped = run_config([*task[:2], *task[3:7], "schedule=linear", f"results_dir={tmp_path / 'plain'}"])
    run(unclipped)
    assert same(there, tmp_path / "plain" / unclipped.run_id) == (clip == "none")


@pytest.mark.parametrize(
    "task",
    [
        ["task=digits_vit", "clip=global_norm", "accumulate=2"],
        ["task=digits_cnn", "channels_last=true"],  # running statistics
        pytest.param(["task=glyphs_vit", "task.build.batch=8"], marks=pytest.mark.slow),
        pytest.param(["task=source_gpt", "precision=bf16", "checkpointing=true"], marks=pytest.mark.slow),
        ["task=nonconvex"],
        ["task=regression", "task.build._target_=tests.s3bench.run.interrupted.Dropping", "~task.build.width"],
    ],
)
def test_a_run_resumes_bit_for_bit_on_every_kind_of_task(tmp_path, task):
    if "regression" in task[0]:  # a user's own task, whose model draws random numbers
        build = run_config(["task=regression"]).task.build
        task = [*task[:2], *(f"~task.build.{key}" for key in build if key not in ("_target_", "seed"))]
    whole, cut, there, here = configs(tmp_path, *task, "optimizer=s3", "horizon=24", "eval_every=8")
    assert run(whole) == "finished"
    assert stopped_at(cut, 2) == "stopped"
    assert run(cut) == "finished"
    assert same(there, here)
    summary = json.loads((here / "summary.json").read_text())
    assert summary["resumed"] == [{"step": 9, "exact": True}]
    assert summary["train_seconds"] <= summary["seconds"]
    assert sorted(file.name for file in here.iterdir()) == sorted(file.name for file in there.iterdir())


@pytest.mark.slow
def test_a_run_resumes_in_the_middle_of_an_epoch_with_batch_workers(tmp_path):
    task = ["task=digits_vit", "optimizer=adamw", "horizon=220", "eval_every=50"]
    whole, cut, there, here = configs(tmp_path, *task)
    assert run(whole) == "finished"
    for workers in (2, 4):
        cut.workers = cut.task.build["workers"] = workers
        assert stopped_at(cut, 2) == "stopped"
    cut.workers = cut.task.build["workers"] = 0
    assert run(cut) == "finished"
    assert same(there, here)


def test_a_resumed_run_has_the_spikes_of_an_uninterrupted_one_even_if_it_stopped_within_one(tmp_path):
    losses = ["task=quadratic", "optimizer=sgd", "task.lr=0.01", "lr_multiplier=400", "horizon=100", "eval_every=1"]
    whole, cut, there, here = configs(tmp_path, *losses)
    assert run(whole) == "finished"
    (spike,) = find_spikes(record.load_steps(there).loss, **whole.task.spikes)
    middle = (spike.onset + spike.end) // 2
    assert stopped_at(cut, middle + 1) == "stopped"
    assert run(cut) == "finished"
    assert same(there, here)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (there, here)]
    assert [summary["spikes"] for summary in summaries] == [1, 1]
    assert summaries[1]["resumed"][0]["step"] in range(spike.onset + 1, spike.end)


def test_checkpoints_are_written_by_time_and_the_last_two_are_kept(tmp_path):
    config = run_config(["task=quadratic", "horizon=400", "checkpoint_every=0.05", f"results_dir={tmp_path}"])
    folder, seen = tmp_path / config.run_id, []
    run(config, lambda _: seen.append(len(record.checkpoints(folder))))
    assert max(seen) == 2
    assert not record.checkpoints(folder)  # the record is complete


def cut_off(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


@pytest.mark.parametrize("damage", [cut_off, flip, lambda file: file.write_bytes(b""), lambda file: file.unlink()])
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_is_skipped(tmp_path, damage, both):
    whole, cut, there, here = configs(tmp_path, "task=digits_mlp", "optimizer=s3", "horizon=30", "eval_every=5")
    assert run(whole) == "finished"
    assert stopped_at(cut, 2) == stopped_at(cut, 2) == "stopped"  # at 6 and at 16
    newest, older = record.checkpoints(here)
    for file in (newest, older) if both else (newest,):
        damage(file)
    assert run(cut) == "finished"
    assert same(there, here)
    resumed = json.loads((here / "summary.json").read_text())["resumed"]
    assert [entry["step"] for entry in resumed] == ([] if both else [6])


@pytest.mark.slow
def test_no_flipped_bit_of_a_checkpoint_changes_a_result(tmp_path):
    whole, cut, there, here = configs(tmp_path, "task=quadratic", "optimizer=s3", "horizon=12", "eval_every=4")
    assert run(whole) == "finished"
    assert stopped_at(cut, 2) == "stopped"
    (checkpoint,) = record.checkpoints(here)
    kept = {file: file.read_bytes() for file in here.iterdir()}
    places = random.Random(0).sample(range(8 * len(kept[checkpoint])), 60)
    for place in places:
        for file in here.iterdir():
            file.unlink()
        for file, content in kept.items():
            file.write_bytes(content)
        content = bytearray(kept[checkpoint])
        content[place // 8] ^= 1 << place % 8
        checkpoint.write_bytes(content)
        run(cut)
        assert same(there, here), place


@pytest.mark.parametrize("name", ["steps.0.jsonl", "evals.0.jsonl"])
def test_a_checkpoint_whose_rows_are_damaged_is_skipped(tmp_path, name):
    whole, cut, there, here = configs(tmp_path, "task=digits_mlp", "optimizer=s3", "horizon=30", "eval_every=5")
    assert run(whole) == "finished"
    assert stopped_at(cut, 2) == "stopped"
    lines = (here / name).read_text().splitlines(keepends=True)
    (here / name).write_text("".join([*lines[:-1], lines[-1][: len(lines[-1]) // 2]]))
    assert run(cut) == "finished"
    assert same(there, here)


def test_an_attempt_that_begins_anew_keeps_its_checkpoints_although_older_ones_are_from_later_steps(tmp_path):
    whole, cut, there, here = configs(tmp_path, "task=digits_mlp", "optimizer=s3", "horizon=30", "eval_every=5")
    assert run(whole) == "finished"
    assert stopped_at(cut, 3) == stopped_at(cut, 2) == "stopped"  # at 11 and at 21
    first = sorted(here.glob("steps.*.jsonl"))[0]
    lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join(lines[:3] + lines[4:]))  # a lost row: no checkpoint has all rows before it
    assert stopped_at(cut, 2) == "stopped"
    assert [int(file.name.split(".")[1]) for file in record.checkpoints(here)] == [6]
    assert len(list(here.glob("checkpoint.*.unfit"))) == 2
    assert run(cut) == "finished"
    assert same(there, here)
    assert [entry["step"] for entry in json.loads((here / "summary.json").read_text())["resumed"]] == [6]
    assert not list(here.glob("checkpoint.*"))


def test_a_checkpoint_that_does_not_fit_fails_the_run_once(tmp_path):
    _, cut, _, here = configs(tmp_path, "task=digits_mlp", "optimizer=s3", "horizon=30", "eval_every=5")
    assert stopped_at(cut, 2) == "stopped"
    (checkpoint,) = record.checkpoints(here)
    state = torch.load(checkpoint, weights_only=True)
    del state["model"]["0.weight" if "0.weight" in state["model"] else next(iter(state["model"]))]
    torch.save(state, checkpoint)
    assert run(cut) == "failed"
    assert "Missing key" in record.outcome(here)
    assert list(here.glob("checkpoint.*")) == [checkpoint.with_suffix(".unfit")]
    assert run(cut) == "finished"
    assert not list(here.glob("checkpoint.*"))


def test_a_failure_with_another_cause_keeps_the_checkpoint(tmp_path, monkeypatch):
    _, cut, _, here = configs(tmp_path, "task=digits_mlp", "optimizer=s3", "horizon=30", "eval_every=5")
    assert stopped_at(cut, 2) == "stopped"
    kept = record.checkpoints(here)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.Module, "load_state_dict", full)
        assert run(cut) == "failed"
    assert record.checkpoints(here) == kept
    assert run(cut) == "finished"
    assert record.load_record(here)["summary"]["resumed"]


def start(tmp_path, *overrides):
    command = [str(CLI), "run", "task=quadratic", "horizon=200000", "results_dir=r", *overrides]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()  # the first evaluation
    return process


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGUSR2))]
)
def test_on_a_signal_a_run_writes_a_checkpoint_and_stops(tmp_path, number):
    process = start(tmp_path)
    process.send_signal(number)
    said, mistakes = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    (folder,) = record.folders(tmp_path / "r")
    steps = record.steps_so_far(folder)
    last = f"stopped by {signal.Signals(number).name} at step {steps}; run the same command again to resume"
    assert said.splitlines()[-1] == last
    assert not mistakes
    assert record.state(folder) == "missing"
    assert len(record.checkpoints(folder)) == 1


def test_a_second_ctrl_c_ends_a_run_at_once():
    stop = Stop()
    code = "from s3bench.run.signals import Stop; import time, sys\ns = Stop(); s.listen()\n"
    code += "with s.deferred():\n    print('ready', flush=True)\n    time.sleep(60)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()
    with pytest.raises(Stopped, match="SIGTERM"):
        stop._take(signal.SIGTERM, None)  # nothing can be lost yet


def test_a_diverged_run_stops_early_by_the_rule_of_its_config_whatever_the_buffer_holds(tmp_path):
    rule = ["task=quadratic", "optimizer=sgd", "task.lr=0.3", "lr_multiplier=30", "schedule=constant", "horizon=500"]
    never = run_config([*rule, f"results_dir={tmp_path / 'never'}"])
    run(never)
    losses = record.load_steps(tmp_path / "never" / never.run_id).loss.tolist()
    above = [loss > losses[0] for loss in losses]
    last = next(t for t in range(20, len(losses)) if all(above[t - 19 : t + 1]))
    for every in (0.001, 60):
        ended = run_config(
            [*rule, "stop_diverged=20", f"checkpoint_every={every}", f"results_dir={tmp_path / str(every)}"]
        )
        assert run(ended) == "diverged"
        folder = tmp_path / str(every) / ended.run_id
        assert record.load_steps(folder).loss.tolist() == losses[: last + 1]
        assert record.load_evals(folder).step.max() <= last
    assert ended.run_id != never.run_id


def test_early_stopping_continues_its_count_in_a_resumed_run(tmp_path):
    rule = ["task=quadratic", "optimizer=sgd", "task.lr=0.3", "lr_multiplier=30", "schedule=constant", "horizon=500"]
    whole, cut, there, here = configs(tmp_path, *rule, "stop_diverged=20", "eval_every=5")
    assert run(whole) == "diverged"
    assert stopped_at(cut, 3) == "stopped"
    assert run(cut) == "diverged"
    assert same(there, here)


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "optimizer"), [("ddp", "s3"), ("fsdp2", "s3"), ("ddp", "signsgd")])
def test_two_processes_resume_as_if_uninterrupted(tmp_path, parallel, optimizer):
    task = [
        "task=digits_vit",
        f"optimizer={optimizer}",
        "horizon=80",
        "eval_every=20",
        f"parallel={parallel}",
        "checkpoint_every=1",
    ]
    base = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "--no-python", str(CLI), "run"]
    whole = subprocess.run(
        [*base, *task, "results_dir=whole"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert whole.returncode == 0, whole.stderr[-3000:]
    process = subprocess.Popen([*base, *task, "results_dir=cut"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step 40/"):
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=120)
    (there,), (here,) = record.folders(tmp_path / "whole"), record.folders(tmp_path / "cut")
    assert record.state(here) == "missing"
    assert record.checkpoints(here)
    again = subprocess.run([*base, *task, "results_dir=cut"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads((here / "summary.json").read_text())["resumed"][0]["step"] >= 40
    assert same(there, here)


@pytest.mark.parametrize(("device", "exact"), [("cpu", True), ("cuda", False)])
def test_a_resume_on_a_gpu_is_inexact(device, exact):
    before = History(torch.device(device), began=0.0, first_step=0, saved=None)
    after = History(torch.device(device), began=0.0, first_step=7, saved=before.state())
    assert after.summary()["resumed"] == [{"step": 7, "exact": exact}]
