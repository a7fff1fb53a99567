"""Every task keeps its contract, and its data are what it says."""

import itertools

import numpy as np
import pytest
import torch

from s3bench import catalog
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from tasks.digits_vit import DigitsViT
from tasks.models.gpt import GPT
from tasks.source_gpt import SourceGPT, encoded_source
from tests.tasks.language import overrides

TASKS = sorted(catalog.choices("task"))
FULL_BATCH = {"digits_mlp", "regression", "digits_memorise"}  # every batch holds all of the data
DRAWN = {"digits_memorise"}  # of them those whose data the seed draws
SMALLER = {  # tasks whose default size takes long on one core
    "cifar10_resnet18": ["task.build.width=8"],
    "imagenet_resnet50": ["task.build.batch=2"],
    "imagenet_vit_b16": ["task.build.batch=2"],
}

pytestmark = pytest.mark.usefixtures("image_data")


def configured(name, *more):
    return run_config([f"task={name}", *SMALLER.get(name, []), *overrides(name), *more])


def build(name, *more):
    return build_parts(configured(name, *more)).task


def take(batches, count):
    return list(itertools.islice(batches, count))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_batch_t_is_a_function_of_the_seed_and_t_alone(name):
    task = build(name)
    whole = take(task.batches(0), 60)  # more than an epoch of the digits
    other = build(name)
    for start in (59, 7, 44, 45, 1):
        assert same(take(other.batches(start), 1)[0], whole[start])
    assert same(whole[1], whole[0]) == (name in FULL_BATCH)
    assert same(take(build(name, "seed=1").batches(0), 1)[0], whole[0]) == (name in FULL_BATCH - DRAWN)


@pytest.mark.parametrize("name", TASKS)
def test_workers_and_rows_give_the_same_batches(name):
    if "workers" not in configured(name).task.build:
        pytest.skip("made on the fly")
    task = build(name)
    whole = take(task.batches(3), 6)
    state = torch.get_rng_state()
    by_workers = take(build(name, "workers=3").batches(3), 6)
    assert all(same(one, other) for one, other in zip(by_workers, whole, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    odd = take(task.batches(3, rows=slice(1, None, 2)), 6)
    assert all(same(one, [part[1::2] for part in other]) for one, other in zip(odd, whole, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_model_loss_and_evaluation_keep_the_contract(name):
    task = build(name)
    torch.manual_seed(0)
    model = task.model()
    loss = task.loss(model, next(task.batches(0)))
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    model.eval()
    before = [parameter.clone() for parameter in model.parameters()]
    result = task.evaluate(model)
    assert result == task.evaluate(model)
    assert "loss" in result
    assert len(result) > 1
    assert all(isinstance(value, float) for value in result.values())
    assert same(before, list(model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert task.fingerprint() == build(name, "seed=3").fingerprint()
    metrics = {target["metric"] for target in configured(name).task.targets}
    assert metrics <= set(result)


def test_digits_are_held_out_and_shifted():
    task = DigitsViT(0, shift=1)
    assert len(task.images.train) == 1437
    assert len(task.images.held_out) == 360
    images, _ = next(task.batches(0))
    assert images.shape == (32, 1, 8, 8)
    train = torch.from_numpy(task.images.train) / 8.0 - 1
    padded = torch.nn.functional.pad(train, [1] * 4, value=-1.0)
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).reshape(-1, 64)
    assert all((windows == image.reshape(64)).all(1).any() for image in images)  # each is a shifted training image
    unshifted = train.reshape(-1, 64)
    assert not all((unshifted == image.reshape(64)).all(1).any() for image in images)
    epoch = torch.cat([batch[1] for batch in take(task.batches(0), 44)])
    assert (
        torch.bincount(epoch) - torch.bincount(torch.from_numpy(task.images.train_labels))
    ).abs().max() <= 29  # 44 batches of 32 leave out 29 of 1,437 images


@pytest.mark.slow
def test_source_gpt_holds_out_whole_files(tmp_path):
    folder = encoded_source(tmp_path, 512)
    assert folder == encoded_source(tmp_path, 512)
    task = SourceGPT(0, data_dir=str(tmp_path))
    assert task.facts["documents"]["held_out"] >= 20
    assert len(task.train) > 5 * len(task.held_out) > 0
    (windows,) = next(task.batches(0))
    assert windows.shape == (8, 65)
    assert int(windows.max()) < 512
    text = task.train[:].astype(np.int64)
    first = windows[0].numpy()
    places = np.flatnonzero(text[: -len(first)] == first[0])
    assert any((text[place : place + len(first)] == first).all() for place in places)  # a window is part of the text


def test_the_gpt_is_causal_and_starts_at_the_uniform_loss():
    torch.manual_seed(0)
    model = GPT(vocab_size=50, context=12, width=16, depth=2, heads=4)
    ids = torch.randint(50, (3, 12))
    changed = ids.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % 50
    one, other = model(ids), model(changed)
    assert one.shape == (3, 12, 50)
    assert torch.allclose(one[:, :8], other[:, :8], atol=1e-6)
    assert not torch.allclose(one[:, 8:], other[:, 8:], atol=1e-3)
    loss = torch.nn.functional.cross_entropy(one.flatten(0, 1), torch.randint(50, (36,)))
    assert loss.item() == pytest.approx(np.log(50), abs=0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=digits_vit", "task.build.patch=3"], "patch is 3; it must divide 8"),
        (["task=digits_vit", "task.build.batch=5000"], "batch is 5000; it must be from 1 to 1437"),
        (["task=digits_vit", "task.build.heads=5"], "heads must divide width"),
        (["task=digits_vit", "task.build.depth=0"], "depth is 0; it must be at least 1"),
        (["task=digits_mlp", "task.build.width=0"], "width is 0; it must be at least 1"),
        (["task=digits_cnn", "task.build.width=-1"], "width is -1; it must be at least 1"),
        (["task=digits_cnn", "task.build.shift=8"], "shift is 8; it must be from 0 to 7"),
        (["task=glyphs_resnet", "task.build.batch=0"], "batch is 0; it must be at least 1"),
        (["task=glyphs_vit", "task.build.patch=5"], "patch is 5; it must divide 32"),
        (["task=cifar10_resnet18", "task.build.batch=201"], "batch is 201; it must be from 1 to 200"),
        (["task=imagenet_resnet50", "task.build.batch=301"], "batch is 301; it must be from 1 to 300"),
        (["task=source_gpt", "task.build.vocab_size=100"], "vocab_size is 100; it must be from 256"),
        (["task=source_gpt", "task.build.context=10000000"], "it must be less than"),
        (["task=source_gpt", "task.build.data_dir=/proc/none"], "cannot be prepared in /proc/none"),
        (["task=quadratic", "task.build.dim=0"], "must be at least"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(overrides, message):
    with pytest.raises(Exception, match=message):
        build_parts(run_config(overrides))
