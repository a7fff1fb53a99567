"""Every way to train a model (in pieces, with less memory, by several processes) gives the same losses to rounding."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from s3bench import catalog, record
from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.distributed import ALONE, Processes
from s3bench.run.learner import Learner, check_clip
from s3bench.run.one_run import run
from tests.conftest import ROOT

GPT = ["task=source_gpt", "horizon=12", "eval_every=6", "measure_every=3", "seed=3", "lr_multiplier=3"]
VIT = ["task=digits_vit", "horizon=12", "eval_every=6", "measure_every=3", "seed=3"]


def results(overrides, folder):
    """Train a run, and return the columns of its record."""
    config = run_config([*overrides, f"results_dir={folder}"])
    assert run(config) == "finished"
    return columns(record.folder_of({"results_dir": folder, "run_id": config.run_id}))


def columns(folder):
    steps, evals = record.load_steps(folder), record.load_evals(folder)
    return {**{f"step {name}": steps[name] for name in steps}, **{f"eval {name}": evals[name] for name in evals}}


def assert_close(one, other):
    """Check that losses agree to rounding; S3's update size depends on signs of gradients near zero and agrees less."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        rtol = 1e-4 if "loss" in name else 0.01
        np.testing.assert_allclose(values, other[name], rtol=rtol, err_msg=name)


@pytest.mark.parametrize("task", [GPT, VIT], ids=["gpt", "vit"])
@pytest.mark.parametrize("option", ["accumulate=4", "checkpointing=true", "channels_last=true"])
def test_an_option_that_saves_memory_changes_no_loss(task, option, tmp_path):
    assert_close(results(task, tmp_path / "plain"), results([*task, option], tmp_path / "option"))


@pytest.mark.slow
def test_a_compiled_loss_is_the_same(tmp_path):
    assert_close(results(GPT, tmp_path / "plain"), results([*GPT, "compile=true"], tmp_path / "option"))


@pytest.mark.slow
def test_models_of_one_shape_are_compiled_once_in_a_process():
    """torch.compile stops compiling a function after eight times, and runs it uncompiled from then on."""
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for _ in range(3):
            task = Net()
            Learner(task, task.model(), compile=True).backward(next(task.batches(0)))


def test_bf16_is_close_and_not_the_same(tmp_path):
    plain, bf16 = results(GPT, tmp_path / "plain"), results([*GPT, "precision=bf16"], tmp_path / "bf16")
    assert np.allclose(plain["step loss"], bf16["step loss"], rtol=0.01)
    assert not np.allclose(plain["step loss"], bf16["step loss"], rtol=1e-5)


class Net:
    """A task with a small convolutional network with batch normalisation, on noise."""

    def model(self):
        def block():
            return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())

        return nn.Sequential(nn.Sequential(block(), block()), nn.Flatten(), nn.Linear(3 * 16, 5))

    def batches(self, start_step, rows=slice(None)):
        generator = torch.Generator().manual_seed(start_step)
        while True:
            yield torch.randn(8, 3, 4, 4, generator=generator)[rows], torch.arange(8)[rows] % 5

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_checkpointing_updates_running_statistics_once_and_keeps_fewer_activations():
    kept, states, saved = [], [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        learner = Learner(Net(), Net().model(), checkpointing=checkpointing)
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: saved.append(tensor.numel()) or tensor, lambda t: t
        ):
            learner.backward(next(learner.batches(0)))
        kept.append(sum(saved))
        states.append({name: value for name, value in learner.model.state_dict().items() if "running" in name})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert kept[1] < kept[0]


def test_the_blocks_of_a_residual_network_are_checkpointed_too():
    task = build_parts(run_config(["task=digits_cnn"])).task
    saved = []
    for checkpointing in (False, True):
        learner, kept = Learner(task, task.model(), checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            learner.backward(next(learner.batches(0)))
        saved.append(sum(kept))
    assert saved[1] < 0.7 * saved[0]


def test_a_batch_that_cannot_be_split_evenly_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="task source_gpt: its batch of 8 cannot be split evenly into 3 pieces"):
        run(run_config([*GPT, "accumulate=3", f"results_dir={tmp_path}"]))
    with pytest.raises(UserError, match="quadratic: its batches cannot be split; use one process and accumulate=1"):
        run(run_config(["task=quadratic", "accumulate=2", f"results_dir={tmp_path}"]))
    assert not list(tmp_path.iterdir())


def test_a_clip_that_needs_whole_tensors_is_refused_where_each_process_has_a_part():
    spread = Processes(rank=0, size=2, local_rank=0)
    for name in catalog.choices("clip"):
        config = run_config([f"clip={name}", "parallel=fsdp2"])
        clip = build_parts(config).clip
        check_clip(clip, config, ALONE)
        check_clip(clip, run_config([f"clip={name}"]), spread)
        if name in ("adagc", "agc", "update_rms"):
            with pytest.raises(UserError, match=f"clip {name} needs whole tensors, .*; use parallel=ddp, or clip="):
                check_clip(clip, config, spread)
        else:
            check_clip(clip, config, spread)


FSDP2 = ["parallel=fsdp2", "accumulate=2"]
OPTIONS = {
    "ddp": [],
    "ddp_agc": ["clip=agc"],
    "fsdp2": [*FSDP2, "clip=global_norm", "clip.max_norm=0.5"],
    "fsdp2_zclip": [*FSDP2, "clip=zclip", "clip.warmup_steps=3", "clip.z_thresh=0.1"],
    "fsdp2_coordinates": [*FSDP2, "clip=update_coordinates", "clip.max=0.5"],
}


def torchrun(overrides, folder, processes=2):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "s3bench.cli", "run", *overrides, "device=cpu", f"results_dir={folder}"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=folder
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_two_processes_have_the_losses_of_one_and_keep_one_record(options, tmp_path):
    one = results([*GPT, *[option for option in options if "parallel" not in option]], tmp_path / "one")
    (tmp_path / "two").mkdir()
    done = torchrun([*GPT, *options], tmp_path / "two")
    assert done.returncode == 0, done.stderr
    (folder,) = record.folders(tmp_path / "two")
    assert_close(one, columns(folder))
    assert record.load_record(folder)["summary"]["processes"] == 2
    assert done.stdout.count("step 12/12") == 1


@pytest.mark.slow
def test_a_mistake_in_one_of_several_processes_ends_all(tmp_path):
    done = torchrun([*GPT, "task.build.batch=9"], tmp_path)
    assert done.returncode != 0
    assert "its batch of 9 cannot be split evenly into 2 pieces (2 processes" in done.stderr
    done = torchrun(
        [*GPT, "task.targets=[{metric: none, at_most: 1}]"], tmp_path
    )  # the first process fails in training
    assert done.returncode != 0
    (folder,) = record.folders(tmp_path)
    assert record.state(folder) == "failed"
