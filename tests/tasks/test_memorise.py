"""The tasks that go over few data many times, on which optimizers spike by themselves."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from s3bench import record
from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.config.schema import as_dict
from s3bench.run.one_run import run
from s3bench.spikes import find_spikes
from tasks.data.digits import digits


def build(name, *more):
    return build_parts(run_config([f"task={name}", *more])).task


def take(batches, count):
    return list(itertools.islice(batches, count))


@pytest.mark.parametrize(("name", "per_epoch", "count"), [("digits_deep", 4, 256), ("source_ngram", 4, 512)])
def test_an_epoch_has_every_item_once_in_an_order_of_its_own(name, per_epoch, count):
    batches = take(build(name).batches(0), 2 * per_epoch)
    epochs = [torch.cat([batch[0] for batch in batches[start : start + per_epoch]]) for start in (0, per_epoch)]
    rows = [sorted(map(tuple, epoch.flatten(1).tolist())) for epoch in epochs]
    assert len(rows[0]) == count
    assert rows[0] == rows[1]
    assert not torch.equal(*epochs)


def test_another_seed_draws_other_digits_from_the_same_data():
    one, other = build("digits_memorise"), build("digits_memorise", "seed=1")
    assert not torch.equal(next(one.batches(0))[0], next(other.batches(0))[0])
    assert one.fingerprint() == other.fingerprint() == digits().fingerprint()


@pytest.mark.parametrize("name", ["source_ngram", "source_memorise"])
def test_the_windows_that_are_memorised_are_the_ones_evaluated(name):
    task = build(name)
    torch.manual_seed(0)
    model = task.model().eval()
    with torch.no_grad():
        whole = task.loss(model, (task.windows,)).item()
    result = task.evaluate(model)
    assert result["loss"] == pytest.approx(whole)
    assert result["held_out_loss"] != pytest.approx(whole, rel=1e-6)


def test_smoothing_is_for_training_alone():
    task = build("digits_deep")
    torch.manual_seed(0)
    model = task.model()
    images, labels = next(task.batches(0))
    plain = F.cross_entropy(model(images), labels)
    mean = -F.log_softmax(model(images), 1).mean()
    assert task.loss(model, (images, labels)).item() == pytest.approx((0.9 * plain + 0.1 * mean).item(), rel=1e-5)
    evaluated, held_out = task.evaluate(model.eval()), torch.from_numpy(digits().held_out_labels)
    scaled = torch.from_numpy(digits().held_out.astype(np.float32) / 8 - 1)
    assert evaluated["loss"] == pytest.approx(F.cross_entropy(model(scaled), held_out).item(), rel=1e-5)


def test_in_float32_the_gradient_of_a_right_class_becomes_zero_and_in_float64_it_does_not():
    losses = {}
    for flag in ("false", "true"):
        task = build("digits_memorise", f"task.build.float64_loss={flag}")
        images, labels = next(task.batches(0))
        logits = (25.0 * F.one_hot(labels, 10)).requires_grad_()  # a network that is very sure, and right
        losses[flag] = task.loss(lambda _, logits=logits: logits, (images, labels))
        losses[flag].backward()
        losses[f"gradient {flag}"] = logits.grad.gather(1, labels[:, None]).abs().max()
    assert losses["gradient false"] == 0
    assert losses["gradient true"] > 0


@pytest.mark.parametrize(
    ("task", "setting", "message"),
    [
        ("digits_deep", "images=0", "images is 0; it must be from 1 to 1437"),
        ("digits_deep", "batch=300", "batch is 300; it must be from 1 to 256"),
        ("digits_deep", "depth=0", "depth is 0; it must be at least 1"),
        ("digits_deep", "smoothing=1.5", "smoothing is 1.5; it must be from 0 to 1"),
        ("digits_memorise", "images=2000", "images is 2000; it must be from 1 to 1437"),
        ("source_ngram", "windows=0", "windows is 0; it must be at least 1"),
        ("source_ngram", "batch=513", "batch is 513; it must be from 1 to 512"),
        ("source_ngram", "embedding=0", "embedding is 0; it must be at least 1"),
        ("source_memorise", "heads=5", "heads must divide width"),
        ("source_memorise", "smoothing=-0.1", "smoothing is -0.1; it must be from 0 to 1"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(task, setting, message):
    with pytest.raises(UserError, match=message):
        build(task, f"task.build.{setting}")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["digits_deep", "source_ngram"])
def test_adamw_spikes_late_by_itself(task, tmp_path):
    spiky = 0
    for seed in range(4):
        config = run_config([f"task={task}", "optimizer=adamw", f"seed={seed}", f"results_dir={tmp_path}"])
        run(config)
        loss = record.load_steps(record.folder_of(as_dict(config))).loss
        spiky += any(spike.onset >= 300 for spike in find_spikes(loss.to_numpy(), **config.task.spikes))
    assert spiky >= 3
