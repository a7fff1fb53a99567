"""The vision tasks: their data and models are what they say, and bad data are named."""

import functools
import http.server
import itertools
import pickle
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.cifar10_resnet18 import Cifar10ResNet18
from tasks.data import glyphs, imagenet
from tasks.data.cifar import cifar
from tasks.digits_mlp import DigitsMLP
from tasks.glyphs_vit import GlyphsViT
from tasks.imagenet_resnet50 import ImageNetResNet50
from tasks.models.resnet import RESNET18, resnet
from tests.tasks import image_data

from torchvision import datasets, models, transforms  # isort: skip


@pytest.fixture
def cifar_dir(tmp_path, monkeypatch):
    image_data.write_cifar(tmp_path)
    image_data.ignore_sums(monkeypatch)
    return tmp_path


@pytest.fixture
def imagenet_dir(tmp_path, monkeypatch):
    image_data.write_imagenet(tmp_path)
    image_data.ignore_sums(monkeypatch)
    return tmp_path


def test_digits_mlp_sees_every_training_image_at_every_step():
    task = DigitsMLP(0)
    images, labels = next(task.batches(7))
    assert images.shape == (1437, 1, 8, 8)
    assert torch.equal(images, torch.from_numpy(task.images.train) / 8.0 - 1)
    assert torch.equal(labels, torch.from_numpy(task.images.train_labels))


def test_the_held_out_fonts_are_of_a_family_that_no_training_image_shows():
    assert not any(font.startswith("STIX") for font in glyphs.FONTS)
    assert all(font.startswith("STIX") for font in glyphs.HELD_OUT_FONTS)
    train, held_out = (glyphs.draw_characters(tuple(fonts)) for fonts in (glyphs.FONTS, glyphs.HELD_OUT_FONTS))
    assert not {image.tobytes() for image in train.reshape(-1, 48 * 48)} & {
        image.tobytes() for image in held_out.reshape(-1, 48 * 48)
    }
    for images in (train, held_out):  # every font has every character, and no character is cut off
        assert len({image.tobytes() for image in images.reshape(-1, 48 * 48)}) == len(images) * 47
        assert not np.concatenate([images[:, :, edge].ravel() for edge in (0, -1)]).any()
        assert not np.concatenate([images[..., edge].ravel() for edge in (0, -1)]).any()


def test_glyphs_are_distorted_anew_and_balanced():
    task = GlyphsViT(0, batch=500)
    batches = list(itertools.islice(task.batches(0), 8))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert images.shape == (4000, 1, 32, 32)
    assert len({image.numpy().tobytes() for image in images}) == 4000
    counts = torch.bincount(labels, minlength=47)
    assert len(counts) == 47
    assert 50 < counts.min() < counts.max() < 125  # 85 are expected
    assert abs(images.mean().item()) < 0.1
    assert images.std().item() == pytest.approx(1, abs=0.1)
    held_out, held_out_labels = glyphs.held_out_images()
    assert torch.bincount(held_out_labels).tolist() == [20] * 47
    assert len({image.numpy().tobytes() for image in held_out}) == 940


def test_an_undistorted_glyph_is_the_drawn_one_at_two_thirds_of_its_size():
    class Middle:  # draws the middle of every range, and no noise
        def uniform(self, low, high, size):
            return np.zeros(size)

        def standard_normal(self, size, dtype):
            return np.zeros(size, dtype=dtype)

    drawn = glyphs.draw_characters(("DejaVuSans-Bold",))[0]
    (image,) = glyphs.distort(drawn, Middle(), slice(10, 11))
    ink = (image[0] * glyphs.STD + glyphs.MEAN) / ((1 + glyphs.FAINTEST) / 2)
    small = Image.fromarray(drawn[10]).resize((32, 32), Image.Resampling.BILINEAR)
    assert (ink - torch.from_numpy(np.asarray(small) / 255)).abs().mean() < 0.03


def test_width_64_is_torchvisions_resnet18_but_for_its_beginning():
    torch.manual_seed(0)
    ours = resnet(3, 10, width=64, blocks=RESNET18).eval()
    theirs = models.resnet18(num_classes=10).eval()
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    state = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(state))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(images), theirs(images))
    spread = {name: parameter.std().item() for name, parameter in models.resnet18().named_parameters()}
    assert ours[5].conv1.weight.std().item() == pytest.approx(spread["layer2.0.conv1.weight"], rel=0.02)


@pytest.mark.parametrize(("classes", "folder"), [(10, "cifar-10-batches-py"), (100, "cifar-100-python")])
def test_cifar_is_what_its_files_hold(cifar_dir, classes, folder):
    images = cifar(classes, str(cifar_dir), False)
    files = [cifar_dir / folder / name for name in image_data.CIFAR[folder]]
    contents = [pickle.loads(file.read_bytes()) for file in files]
    pixels = np.concatenate([content["data"] for content in contents[:-1]]).reshape(200, 3, 32, 32)
    assert (images.train == pixels).all()
    assert (images.held_out == contents[-1]["data"].reshape(40, 3, 32, 32)).all()
    labels = [label for content in contents for label in content.get("labels", content.get("fine_labels"))]
    assert [*images.train_labels, *images.held_out_labels] == labels


def test_cifar_is_cropped_and_mirrored(cifar_dir):
    task = Cifar10ResNet18(0, data_dir=str(cifar_dir), batch=200)
    images, _ = next(task.batches(0))
    task.shift, task.flip = 0, False
    originals, _ = next(task.batches(0))
    dark = -torch.tensor(task.images.mean) / torch.tensor(task.images.std)
    padded = dark.view(3, 1, 1).expand(200, 3, 40, 40).clone()
    padded[:, :, 4:36, 4:36] = originals
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1).movedim(1, 3)  # (image, down, right, colour, ...)
    plain = (windows == images[:, None, None]).flatten(3).all(3).flatten(1).any(1)
    mirrored = (windows == images.flip(3)[:, None, None]).flatten(3).all(3).flatten(1).any(1)
    assert (plain ^ mirrored).all()
    assert 60 < mirrored.sum() < 140


def test_cifar_that_is_missing_says_what_to_put_where(tmp_path):
    with pytest.raises(ValueError, match=r"CIFAR-10 is not in .*task.download=true.*cifar-10-python.tar.gz") as error:
        cifar(10, str(tmp_path), False)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_cifar_files_that_are_not_the_original_ones_are_never_unpickled(cifar_dir, monkeypatch):
    wrong = [[name, "0" * 32] for name, _ in datasets.CIFAR10.train_list]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", wrong)
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("it was unpickled"))
    with pytest.raises(ValueError, match="does not hold the original files of CIFAR-10"):
        cifar(10, str(cifar_dir), False)
    assert not (cifar_dir / "cifar10").exists()


def test_cifar_arrays_that_were_cut_short_are_noticed(cifar_dir):
    cifar(10, str(cifar_dir), False)
    cifar.cache_clear()
    with (cifar_dir / "cifar10" / "train.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="the prepared CIFAR-10 is damaged"):
        cifar(10, str(cifar_dir), False)


def test_cifar_is_downloaded_where_that_is_asked_for(cifar_dir, tmp_path_factory, monkeypatch):
    server, empty = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("empty")
    with tarfile.open(server / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(cifar_dir / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", None)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=server)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever).start()
        monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:{served.server_port}/cifar-10-python.tar.gz")
        images = cifar(10, str(empty), True)
        served.shutdown()
    assert images.fingerprint() == cifar(10, str(cifar_dir), False).fingerprint()
    with pytest.raises(ValueError, match=r"CIFAR-10 cannot be prepared in .*refused") as error:
        cifar(10, str(tmp_path_factory.mktemp("other")), True)
    assert "\n" not in str(error.value)


def test_imagenet_is_what_its_folders_hold(imagenet_dir):
    task = ImageNetResNet50(0, data_dir=str(imagenet_dir), batch=150)
    assert task.classes == 2
    assert [len(part[0]) for part in (task.train, task.held_out)] == [300, 3]
    for names, labels in (task.train, task.held_out):
        assert all(
            name.startswith((b"n01000001", b"n02000002")[label]) for name, label in zip(names, labels, strict=True)
        )
    images, labels = next(task.batches(0))
    assert images.shape == (150, 3, 224, 224)
    assert images.dtype == torch.uint8
    epoch = torch.cat([batch[1] for batch in itertools.islice(task.batches(0), 2)])
    assert torch.bincount(epoch).tolist() == [160, 140]


def test_imagenet_is_evaluated_on_all_its_validation_images(imagenet_dir, monkeypatch):
    monkeypatch.setattr(imagenet, "EVAL_BATCH", 2)

    class FirstClass(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.tensor([1.0, 0.0]))

        def forward(self, images):
            return self.bias.expand(len(images), 2)

    for workers in (0, 2):
        task = ImageNetResNet50(0, data_dir=str(imagenet_dir), batch=2, workers=workers)
        result = task.evaluate(FirstClass())
        assert result["accuracy"] == pytest.approx(1 / 3)
        assert result["loss"] == pytest.approx(np.log(1 + np.e) - 1 / 3, rel=1e-5)


def test_held_out_images_are_scaled_as_in_torchvisions_reference_scripts():
    random = np.random.default_rng(0)
    for size in ((500, 375), (300, 400), (200, 180)):
        image = Image.fromarray(random.integers(256, size=(12, 16, 3), dtype=np.uint8)).resize(size)
        theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
        difference = imagenet.center_crop(image).transpose(1, 2, 0).astype(int) - np.asarray(theirs)
        assert np.abs(difference).mean() < 2


def test_training_crops_lie_within_the_image_and_are_mirrored_half_the_time():
    across = np.broadcast_to(np.arange(200, dtype=np.uint8), (100, 200))
    down = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None], (100, 200))
    image = Image.fromarray(np.stack([across, down, across * 0], axis=2))
    crops = [imagenet.random_crop(image, np.random.default_rng(number)) for number in range(300)]
    width = np.array([float(crop[0].max()) - crop[0].min() + 1 for crop in crops])
    height = np.array([float(crop[1].max()) - crop[1].min() + 1 for crop in crops])
    areas, ratios = width * height / 20000, width / height
    assert areas.min() == pytest.approx(0.08, abs=0.03)
    assert 0.3 < np.median(areas) < 0.6
    assert 0.7 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.4
    assert 120 < sum(crop[0, 0, 0] > crop[0, 0, -1] for crop in crops) < 180


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["cut short", "no image", "empty"])
def test_a_file_that_is_no_whole_image_is_named_on_one_line(imagenet_dir, damage, workers):
    file = imagenet_dir / "imagenet" / "train" / "n01000001" / "n01000001_5.JPEG"
    content = {"cut short": file.read_bytes()[:-100], "no image": b"<html>not found</html>" * 20, "empty": b""}[damage]
    file.write_bytes(content)
    task = ImageNetResNet50(0, data_dir=str(imagenet_dir), batch=300, workers=workers)
    with pytest.raises(ValueError, match=r"n01000001_5\.JPEG cannot be read as an image") as error:
        next(task.batches(0))
    assert "\n" not in str(error.value)


def _remove(path):
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: _remove(root / "ILSVRC2012_devkit_t12.tar.gz"),
            "ILSVRC2012_devkit_t12.tar.gz missing; put ILSVRC2012",
        ),
        (lambda root: _remove(root / "val"), "ImageNet is incomplete in .*: val missing; put ILSVRC2012"),
        (
            lambda root: (root / "train" / "n01000001").rename(root / "gone"),
            "2 classes of ImageNet: n01000001 is missing",
        ),
        (lambda root: (root / "train" / "cats").mkdir(), "2 classes of ImageNet: cats is not a class"),
        (lambda root: (root / "val" / "n02000002" / "n02000002_0.JPEG").unlink(), "holds 1 JPEG files; ImageNet has 2"),
    ],
)
def test_an_imagenet_that_is_not_whole_is_refused(imagenet_dir, change, message):
    change(imagenet_dir / "imagenet")
    with pytest.raises(ValueError, match=message) as error:
        ImageNetResNet50(0, data_dir=str(imagenet_dir), batch=2)
    assert "\n" not in str(error.value)


def test_a_devkit_that_is_not_the_original_one_is_refused(imagenet_dir, monkeypatch):
    known = datasets.imagenet.ARCHIVE_META
    monkeypatch.setitem(known, "devkit", (known["devkit"][0], "fa75699e90414af021442c21a62c3abf"))
    with pytest.raises(ValueError, match="is not the original devkit: its MD5 sum differs"):
        ImageNetResNet50(0, data_dir=str(imagenet_dir), batch=2)
    assert not Path(imagenet_dir, "imagenet-counts").exists()
