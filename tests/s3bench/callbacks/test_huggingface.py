"""The callback of transformers' Trainer: with the real Trainer, a tiny GPT-2 and real text."""

import json
import logging
import math
import warnings

import pytest
import torch

from s3bench.callbacks.huggingface import SpikeCallback
from tasks.models import torchvision_shim  # noqa: F401 (before transformers' models: they import torchvision)
from tests.s3bench.callbacks.source_bytes import windows

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments  # isort: skip

SPIKED = (60, 61, 62, 63)  # forward passes, counted from 0, whose loss is scaled: step 61 is the first of them


class Scaled(GPT2LMHeadModel):
    """A GPT-2 of 8 units, the loss of some of whose batches is scaled."""

    def __init__(self, factor=3.0, spiked=SPIKED):
        torch.manual_seed(0)
        super().__init__(GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=1))
        self.factor, self.spiked, self.passes = factor, spiked, 0

    def forward(self, input_ids=None, labels=None, **kwargs):
        output = super().forward(input_ids, labels=labels, **kwargs)
        if self.passes in self.spiked:
            output.loss = output.loss * self.factor
        self.passes += 1
        return output


class Reporter(TrainerCallback):
    """A reporter such as wandb's: it comes before the callbacks of the user."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **_):
        self.seen.append(dict(logs))


def trainer(folder, model, *callbacks, **arguments):
    arguments = {
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "max_steps": 90,
        "save_strategy": "no",
    } | arguments
    usual = {
        "per_device_train_batch_size": 4,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "lr_scheduler_type": "constant",
    }
    rows = [{"input_ids": row, "labels": row} for row in windows()]
    args = TrainingArguments(str(folder), **usual, **arguments)
    return Trainer(model, args, train_dataset=rows, callbacks=list(callbacks))


def spikes_in(history):
    return [{k: v for k, v in row.items() if k.startswith("spike/")} for row in history if "spike/onset" in row]


@pytest.fixture(autouse=True)
def _no_warnings_of_others():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        yield


def test_a_spike_stands_in_the_history(tmp_path):
    training = trainer(tmp_path, Scaled(), SpikeCallback())
    training.train()
    began, ended = spikes_in(training.state.log_history)
    assert began == {"spike/onset": 61}
    height = ended.pop("spike/height")
    assert ended == {"spike/onset": 61, "spike/peak": ended["spike/peak"], "spike/end": 65, "spike/recovered": 1}
    assert 61 <= ended["spike/peak"] <= 64
    losses = {row["step"]: row["loss"] for row in training.state.log_history if "loss" in row}
    assert height == pytest.approx(losses[ended["spike/peak"]] * 2 / 3, rel=0.1)


def test_with_the_trainer_a_spike_reaches_the_reporters(tmp_path):
    reporter = Reporter()
    training = trainer(tmp_path, Scaled(), reporter)
    training.add_callback(SpikeCallback(trainer=training))
    training.train()
    assert [row["spike/onset"] for row in spikes_in(reporter.seen)] == [61, 61]
    assert spikes_in(training.state.log_history) == spikes_in(reporter.seen)


def test_a_training_stops_after_a_spike_of_a_chosen_kind(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        training = trainer(tmp_path, Scaled(), SpikeCallback(stop_on=["recovered"]))
        training.train()
    assert training.state.global_step == 69  # back at 65, which five steps prove
    assert "a spike of the kind 'recovered' stops the training (onset 61, end 65" in caplog.text


def test_a_training_stops_when_it_has_diverged_and_not_before(tmp_path):
    model = Scaled(factor=math.nan, spiked=range(60, 1000))
    training = trainer(tmp_path, model, SpikeCallback(stop_on="diverged", diverged_after=7))
    training.train()
    assert training.state.global_step == 67
    assert spikes_in(training.state.log_history) == [{"spike/onset": 61}]
    assert training.state.log_history[-2]["spike/diverged"] == 1


@pytest.mark.parametrize("restore", [False, True])
def test_a_resumed_training_finds_the_spike_in_which_it_stopped(tmp_path, restore):
    whole = trainer(tmp_path / "whole", Scaled(), SpikeCallback())
    whole.train()
    kept = {"save_strategy": "steps", "save_steps": 62, "restore_callback_states_from_checkpoint": restore}
    trainer(tmp_path / "cut", Scaled(), SpikeCallback(), **kept, max_steps=62).train()
    model = Scaled()
    model.passes = 62
    resumed = trainer(tmp_path / "cut", model, SpikeCallback(), **kept)
    resumed.train(resume_from_checkpoint=True)
    assert spikes_in(resumed.state.log_history) == spikes_in(whole.state.log_history)
    text = (tmp_path / "cut" / "checkpoint-62" / "trainer_state.json").read_text()
    assert len(text.splitlines()) < 700
    assert json.loads(text)["stateful_callbacks"]["SpikeCallback"]["args"] == {"stop_on": [], "diverged_after": 20}


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path):
    kept = {"save_strategy": "steps", "save_steps": 5}
    trainer(tmp_path, Scaled(), SpikeCallback(), **kept, max_steps=5).train()
    with pytest.raises(ValueError, match=r"other parameters: k 6\.0, here 9\.0$"):
        trainer(tmp_path, Scaled(), SpikeCallback(k=9), **kept, max_steps=6).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"logging_steps": 500}, ["logging_steps=500 shows it the mean loss of 500 steps", "logging_steps=1"]),
        ({"logging_nan_inf_filter": True}, ["logging_nan_inf_filter=True hides losses that are not finite"]),
        ({"logging_strategy": "no"}, ["logging_strategy='no' shows it no loss"]),
        ({"logging_strategy": "epoch"}, ["the mean loss of an epoch"]),
    ],
)
def test_a_warning_says_once_what_cannot_be_seen(tmp_path, arguments, told):
    training = trainer(tmp_path, Scaled(), SpikeCallback(), **arguments, max_steps=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.train()
        training.train()
    (said,) = [str(one.message) for one in caught if "SpikeCallback" in str(one.message)]
    assert all(part in said for part in told)


def test_the_filter_really_hides_a_nan(tmp_path):
    model = Scaled(factor=math.nan)
    training = trainer(tmp_path, model, SpikeCallback(), logging_nan_inf_filter=True)
    with pytest.warns(UserWarning, match="a mean or 0 takes their place"):
        training.train()
    losses = {row["step"]: row["loss"] for row in training.state.log_history if "loss" in row}
    assert losses[61] == 0


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="stop_on 'bump' must be one of: blip, recovered, level_shift, diverged"):
        SpikeCallback(stop_on=["bump"])
