"""Image classification with all images in memory: order, shifts and flips by step, loss, accuracy."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.loading import Batch, batches_by_step

EVAL_BATCH = 500  # images


@dataclass(frozen=True)
class Images:
    """Images as bytes, (n, channels, height, width), with labels (n,): for training, and held out."""

    train: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.uint8]
    held_out_labels: npt.NDArray[np.int64]
    mean: tuple[float, ...]  # of a channel, in bytes
    std: tuple[float, ...]

    def fingerprint(self) -> str:
        """Of all pixels and labels."""
        digest = hashlib.sha256()
        for part in (self.train, self.train_labels, self.held_out, self.held_out_labels):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()[:16]


@torch.no_grad()
def evaluate_classifier(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean cross-entropy in nats and accuracy in [0, 1] over batches of (images, labels)."""
    device = next(model.parameters()).device
    loss, right, count = 0.0, 0, 0
    for images, labels_of_images in batches:
        labels, logits = labels_of_images.to(device), model(images.to(device)).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return {"loss": loss / count, "accuracy": right / count}


class ImageTask:
    """All but the model: a task on images in memory adds `model()`.

    Each epoch has a new order, and each image, each time, a new shift by up to `shift` pixels, filled with zeros, and
    with `flip` is mirrored, left to right, in one case of two. A batch is a function of seed and step.

    Args:
        images: for training, and held out.
        seed: of the order, the shifts and the flips.
        batch: images a step; None takes all at every step, in their own order.
        shift: largest shift in each direction, in pixels.
        flip: whether images may be mirrored.
        workers: processes that make the batches; 0: the process that trains.
    """

    def __init__(
        self, images: Images, seed: int, *, batch: int | None, shift: int = 0, flip: bool = False, workers: int = 0
    ) -> None:
        count, side = len(images.train), images.train.shape[2]
        if batch is not None and not 1 <= batch <= count:
            raise ValueError(f"batch is {batch}; it must be from 1 to {count}, the training images")
        if not 0 <= shift < side:
            raise ValueError(f"shift is {shift}; it must be from 0 to {side - 1}")
        self.images = images
        self.seed = seed
        self.batch = count if batch is None else batch
        self.shift = shift
        self.flip = flip
        self.workers = workers
        self._epoch = -1  # whose order is kept
        self._permutation = np.empty(0, dtype=np.int64)

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Endless (images, labels), of which `rows` are given: float32 images of about unit variance."""
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        epoch, place = divmod(step, len(self.images.train) // self.batch)
        chosen = self._order(epoch)[place * self.batch : (place + 1) * self.batch]
        random = np.random.default_rng([self.seed, 1, step])
        down, right = np.divmod(random.integers((2 * self.shift + 1) ** 2, size=self.batch), 2 * self.shift + 1)
        mirrored = random.random(self.batch) < 0.5 if self.flip else np.zeros(self.batch, dtype=bool)
        pixels = _shift(self.images.train[chosen[rows]], down[rows], right[rows], self.shift)
        pixels[mirrored[rows]] = pixels[mirrored[rows], ..., ::-1]
        return self._normalize(pixels), torch.from_numpy(self.images.train_labels[chosen[rows]])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        count = len(self.images.train)
        if self.batch == count:
            return np.arange(count)
        if self._epoch != epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(count)
        return self._permutation

    def _normalize(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.images.mean, self.images.std))
        return torch.from_numpy(pixels.astype(np.float32)).sub_(mean).div_(std)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy in nats and accuracy in [0, 1] on the held-out images, neither shifted nor mirrored."""
        parts = [slice(start, start + EVAL_BATCH) for start in range(0, len(self.images.held_out), EVAL_BATCH)]
        held_out, labels = self.images.held_out, torch.from_numpy(self.images.held_out_labels)
        return evaluate_classifier(model, ((self._normalize(held_out[part]), labels[part]) for part in parts))

    def fingerprint(self) -> str:
        """Of all pixels and labels, training and held-out."""
        return self.images.fingerprint()


def _shift(
    pixels: npt.NDArray[np.uint8], down: npt.NDArray[np.int64], right: npt.NDArray[np.int64], largest: int
) -> npt.NDArray[np.uint8]:
    """Each image's window at its place in the image padded with zeros by `largest` on each side."""
    if largest == 0:
        return pixels
    height, width = pixels.shape[2:]
    padded = np.pad(pixels, [(0, 0), (0, 0), (largest, largest), (largest, largest)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(len(pixels)), :, down, right])
