"""The callback of Lightning: with the real Trainer, a small model and real text."""

import csv
import logging
import math
from pathlib import Path

import pytest
import torch

from tasks.models import torchvision_shim  # noqa: F401 (before Lightning, whose metrics import torchvision)
from tests.s3bench.callbacks.source_bytes import windows

from lightning.pytorch import LightningModule, Trainer  # isort: skip
from lightning.pytorch.callbacks import ModelCheckpoint  # isort: skip
from lightning.pytorch.loggers import CSVLogger  # isort: skip
from s3bench.callbacks.lightning import SpikeCallback  # isort: skip

pytestmark = [  # Lightning about the machine, few workers, what saved a checkpoint; torch about it
    pytest.mark.filterwarnings(f"ignore:.*{what}")
    for what in ("srun", "many workers", "GPU available", "ckpt_path", "resuming", "LeafSpec")
]
SPIKED = range(60, 64)  # steps, counted from 0, whose loss is scaled


class Bigram(LightningModule):
    """Predicts a byte from the one before it; the loss of some batches is scaled."""

    def __init__(self, factor=3.0, accumulated=1, manual=False, returned=True):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(256, 256)
        self.rows = windows()
        self.factor, self.accumulated, self.returned = factor, accumulated, returned
        self.automatic_optimization = not manual

    def training_step(self, batch, batch_idx):
        batch = self.rows[2 * batch_idx : 2 * batch_idx + 2]  # a resumed DataLoader would begin anew
        logits = self.table(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        if batch_idx // self.accumulated in SPIKED:
            loss = loss * self.factor
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss if self.returned else None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trained(folder, callback, model=None, steps=90, resume=None, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    options = {"enable_checkpointing": False, "callbacks": [callback, *options.pop("more", [])]} | options
    trainer = Trainer(max_steps=steps, logger=CSVLogger(folder), **quiet, **options)
    trainer.fit(model or Bigram(), torch.utils.data.DataLoader(windows(), batch_size=2), ckpt_path=resume)
    return trainer


def logged(trainer):
    trainer.logger.save()
    with (Path(trainer.logger.log_dir) / "metrics.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    return [{k: float(v) for k, v in row.items() if v and k.startswith("spike/")} for row in rows]


def test_a_spike_reaches_the_loggers(tmp_path):
    began, ended = logged(trained(tmp_path, SpikeCallback()))
    assert began == {"spike/onset": 60}
    assert 10 < ended.pop("spike/height") < 14
    peak = ended.pop("spike/peak")
    assert 60 <= peak <= 63
    assert ended == {"spike/onset": 60, "spike/end": 64, "spike/recovered": 1}


def test_accumulated_batches_are_one_step(tmp_path):
    model = Bigram(accumulated=2)
    began, ended = logged(trained(tmp_path, SpikeCallback(), model, accumulate_grad_batches=2))
    assert began == {"spike/onset": 60}
    assert ended["spike/end"] == 64
    assert 10 < ended["spike/height"] < 14


def test_a_training_stops_after_a_spike_of_a_chosen_kind(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert trained(tmp_path, SpikeCallback(stop_on=["recovered"])).global_step == 69
    assert "step 68: a spike of the kind 'recovered' stops the training (onset 60, end 64" in caplog.text


def test_a_training_stops_when_it_has_diverged(tmp_path):
    trainer = trained(tmp_path, SpikeCallback(stop_on=["diverged"], diverged_after=7), Bigram(factor=math.nan))
    assert trainer.global_step == 67
    assert logged(trainer) == [{"spike/onset": 60}, {"spike/diverged": 1}]


def test_a_resumed_training_finds_the_spike_in_which_it_stopped(tmp_path):
    whole = logged(trained(tmp_path / "whole", SpikeCallback()))
    saving = ModelCheckpoint(tmp_path / "kept", filename="cut", every_n_train_steps=62)
    first = trained(tmp_path / "first", SpikeCallback(), steps=62, more=[saving], enable_checkpointing=True)
    second = trained(tmp_path / "second", SpikeCallback(), resume=tmp_path / "kept" / "cut.ckpt")
    assert logged(first) + logged(second) == whole


def test_a_warning_says_once_what_cannot_be_seen(tmp_path):
    with pytest.warns(UserWarning, match="with manual optimization, it takes the loss that training_step returns"):
        trainer = trained(tmp_path, SpikeCallback(), Bigram(manual=True))
    assert logged(trainer)[0] == {"spike/onset": 60}
    with pytest.warns(UserWarning, match="SpikeCallback does not see every step's loss") as caught:
        trained(tmp_path, SpikeCallback(), Bigram(manual=True, returned=False), steps=5)
    assert len([one for one in caught if "SpikeCallback" in str(one.message)]) == 1
