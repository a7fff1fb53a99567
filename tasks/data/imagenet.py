"""ImageNet (ILSVRC 2012) as a folder of JPEG files, which the worker processes read, crop and resize."""

import hashlib
import json
import math
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.images import evaluate_classifier
from tasks.data.loading import Batch, batches_by_step
from tasks.data.prepare import prepare, write_whole
from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision import datasets  # isort: skip
from torchvision.datasets.utils import check_integrity  # isort: skip

CROP = 224  # pixels: side of the images that the model sees
RESIZE = 256  # held-out images: the shorter side before the central crop
SCALE = (0.08, 1.0)  # a crop's share of the area of a training image
RATIO = (3 / 4, 4 / 3)  # width over height of that crop
TRIES = 10  # attempts to find a crop that fits
EVAL_BATCH = 125  # images
MEAN = (123.675, 116.28, 103.53)  # of each colour, in the unit of a byte, as in torchvision's reference scripts
STD = (58.395, 57.12, 57.375)


class ImageNet:
    """Provides everything but the model: a task adds `model()`.

    Training images are cropped at random, resized to 224x224 and mirrored with probability 1/2 (Szegedy et al. 2015).
    Held out is the validation set: its images are resized to 256 pixels on the shorter side and cropped in the centre,
    as in torchvision's reference scripts. Each epoch has a new order. A batch depends on seed and step alone.

    Args:
        seed: seeds the order of the images, the crops and the mirroring.
        data_dir: folder that holds the folder imagenet, see `count_images`.
        batch: images per step, from 1 to the number of training images.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: `batch` is outside its range, or the data are missing or incomplete.
    """

    def __init__(self, seed: int, *, data_dir: str, batch: int, workers: int = 0) -> None:
        self.root = Path(data_dir, "imagenet")
        counts = count_images(self.root, Path(data_dir, "imagenet-counts"))
        self.classes = len(counts["train"])
        self.train = list_images(self.root / "train", counts["train"])
        self.held_out = list_images(self.root / "val", counts["val"])
        if not 1 <= batch <= len(self.train[0]):
            raise ValueError(f"batch is {batch}; it must be from 1 to {len(self.train[0])}, the training images")
        self.seed = seed
        self.batch = batch
        self.workers = workers
        self._epoch = -1  # the epoch of _order
        self._order = np.empty(0, dtype=np.int64)

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of each batch of (images, labels), without end.

        Images are bytes of shape (n, 3, 224, 224); `loss` normalizes them.
        """
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers, large=True)

    def _batch(self, step: int, rows: slice) -> Batch:
        """Return `rows` of the batch of a step."""
        names, labels = self.train
        epoch, index = divmod(step, len(names) // self.batch)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(len(names))
        chosen = self._order[index * self.batch : (index + 1) * self.batch]
        images = []
        for row in range(self.batch)[rows]:
            image = read_image(self.root / "train" / os.fsdecode(names[chosen[row]]))
            images.append(random_crop(image, np.random.default_rng([self.seed, 1, step, row])))
        return torch.from_numpy(np.stack(images)), torch.from_numpy(labels[chosen[rows]])

    def _held_out_batch(self, step: int) -> Batch:
        """Return the held-out images number EVAL_BATCH * step and following."""
        names, labels = (part[step * EVAL_BATCH : (step + 1) * EVAL_BATCH] for part in self.held_out)
        images = [center_crop(read_image(self.root / "val" / os.fsdecode(name))) for name in names]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(labels)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(_normalize(images)), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return mean cross-entropy in nats and accuracy in [0, 1] on the validation images."""
        device = next(model.parameters()).device
        end = math.ceil(len(self.held_out[0]) / EVAL_BATCH)
        read = batches_by_step(self._held_out_batch, 0, self.workers, end, large=True)
        return evaluate_classifier(model, ((_normalize(images.to(device)), labels) for images, labels in read))

    def fingerprint(self) -> str:
        """Return a digest of the names and labels of all files; reading their pixels would take an hour."""
        digest = hashlib.sha256()
        for part in (*self.train, *self.held_out):
            digest.update(part.tobytes())
        return digest.hexdigest()[:16]


def count_images(root: Path, folder: Path) -> dict[str, dict[str, int]]:
    """Return how many images each class has in "train" and in "val", as the devkit says, by the class's folder name.

    Args:
        root: folder with the devkit, ILSVRC2012_devkit_t12.tar.gz, and the folders train and val.
        folder: folder that keeps what was read from the devkit.

    Raises:
        ValueError: something is missing, or the devkit is not the original one.
    """
    name, md5 = datasets.imagenet.ARCHIVE_META["devkit"]
    missing = [part for part in (name, "train", "val") if not (root / part).exists()]
    if missing:
        raise ValueError(
            f"ImageNet is incomplete in {root}: {', '.join(missing)} missing; put {name} there and, unpacked, "
            "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, from image-net.org (which requires registration)"
        )

    def read(draft: Path) -> None:
        """Read the devkit and write counts.json."""
        if not check_integrity(str(root / name), md5):
            raise ValueError(f"{root / name} is not the original devkit: its MD5 sum differs")
        with tarfile.open(root / name) as archive:
            inside = {Path(member.name).name: member for member in archive if member.isfile()}
            synsets = scipy.io.loadmat(archive.extractfile(inside["meta.mat"]))["synsets"].ravel()
            truth: Any = archive.extractfile(inside["ILSVRC2012_validation_ground_truth.txt"])
            held_out = Counter(int(line) for line in truth.read().split())
        counts: dict[str, dict[str, int]] = {"train": {}, "val": {}}
        for synset in synsets:
            if synset["num_children"].item() == 0:  # the others are groups of classes
                wnid = str(synset["WNID"].item())
                counts["train"][wnid] = int(synset["num_train_images"].item())
                counts["val"][wnid] = held_out[int(synset["ILSVRC2012_ID"].item())]
        write_whole(draft / "counts.json", json.dumps(counts).encode())

    prepare(folder, read, description="ImageNet's list of classes", needed_bytes=1 << 20)
    counts: dict[str, dict[str, int]] = json.loads((folder / "counts.json").read_text())
    return counts


def list_images(folder: Path, counts: dict[str, int]) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int64]]:
    """Return the sorted names of all images, relative to the folder, and their labels: indices into the sorted classes.

    Raises ValueError unless the folder holds one folder for each class, with as many images as `counts` says.
    """
    present = {entry.name for entry in os.scandir(folder) if entry.is_dir()}
    if present != set(counts):
        strange, missing = sorted(present - set(counts)), sorted(set(counts) - present)
        which = f"{strange[0]} is not a class" if strange else f"{missing[0]} is missing"
        raise ValueError(f"{folder} must hold one folder for each of the {len(counts)} classes of ImageNet: {which}")
    names, labels = [], []
    for label, wnid in enumerate(sorted(counts)):
        files = sorted(entry.name for entry in os.scandir(folder / wnid) if entry.name.lower().endswith(".jpeg"))
        if len(files) != counts[wnid]:
            raise ValueError(
                f"{folder / wnid} holds {len(files)} JPEG files; ImageNet has {counts[wnid]} of that class"
            )
        names += [f"{wnid}/{file}".encode() for file in files]
        labels += [label] * len(files)
    return np.array(names), np.array(labels, dtype=np.int64)


def read_image(file: Path) -> Image.Image:
    """Return an image in red, green and blue; raise ValueError, naming the file, if it is not a complete image."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # raised by Pillow for bytes that are not an image
        raise ValueError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from error


def random_crop(image: Image.Image, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a random crop of an image, resized to 224x224 and mirrored with probability 1/2, shape (3, 224, 224).

    The crop has 8 to 100% of the area and an aspect ratio from 3:4 to 4:3. If ten attempts give none that fits, it is
    the middle of the image.
    """
    width, height = image.size
    for _ in range(TRIES):
        area, ratio = random.uniform(*SCALE) * width * height, math.exp(random.uniform(*np.log(RATIO)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(random.integers(width - wide + 1)), int(random.integers(height - high + 1))
            break
    else:
        wide, high = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
        left, top = (width - wide) // 2, (height - high) // 2
    pixels = _crop_and_resize(image, (left, top, left + wide, top + high))
    return pixels[..., ::-1] if random.random() < 0.5 else pixels


def center_crop(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the central square, 224/256 of the shorter side, resized to 224x224, shape (3, 224, 224)."""
    width, height = image.size
    side = min(width, height) * CROP / RESIZE
    left, top = (width - side) / 2, (height - side) / 2
    return _crop_and_resize(image, (left, top, left + side, top + side))


def _crop_and_resize(image: Image.Image, box: tuple[float, float, float, float]) -> npt.NDArray[np.uint8]:
    """Return a box of the image, resized to 224x224, shape (3, 224, 224)."""
    scaled = image.resize((CROP, CROP), Image.Resampling.BILINEAR, box)
    return np.asarray(scaled).transpose(2, 0, 1)


def _normalize(images: Tensor) -> Tensor:
    """Return bytes as float32 of about unit variance, on their device."""
    mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (MEAN, STD))
    return images.float().sub_(mean).div_(std)
