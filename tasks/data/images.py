"""Image classification with all images in memory: batches with shifts and flips, loss and accuracy."""

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
    """Training and held-out images as bytes, shape (n, channels, height, width), with labels, shape (n,)."""

    train: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.uint8]
    held_out_labels: npt.NDArray[np.int64]
    mean: tuple[float, ...]  # of each channel, in the unit of a byte
    std: tuple[float, ...]

    def fingerprint(self) -> str:
        """Return a digest of all pixels and labels."""
        digest = hashlib.sha256()
        for part in (self.train, self.train_labels, self.held_out, self.held_out_labels):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()[:16]


@torch.no_grad()
def evaluate_classifier(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Return mean cross-entropy in nats and accuracy in [0, 1] over batches of (images, labels)."""
    device = next(model.parameters()).device
    loss, right, count = 0.0, 0, 0
    for images, labels_of_images in batches:
        labels, logits = labels_of_images.to(device), model(images.to(device)).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    return {"loss": loss / count, "accuracy": right / count}


class ImageTask:
    """Provides everything but the model: a task on images in memory adds `model()`.

    Each epoch has a new order. Each time an image is used, it is shifted at random by up to `shift` pixels, with zeros
    moving in. With `flip` it is also mirrored, left to right, with probability 1/2. A batch depends on seed and step
    alone.

    Args:
        images: training and held-out images.
        seed: seeds the order, the shifts and the flips.
        batch: images per step, from 1 to all; None takes all at every step, in their own order.
        shift: largest shift in each direction, in pixels; from 0 to the image's side less 1.
        flip: whether images may be mirrored.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: `batch` or `shift` is outside its range.
    """

    def __init__(
        self, images: Images, seed: int, *, batch: int | None, shift: int = 0, flip: bool = False, workers: int = 0
    ) -> None:
        count, side = len(images.train), images.train.shape[2]
        if batch is not None and not 1 <= batch <= count:
            raise ValueError(f"batch is {batch}; it must be from 1 to {count}, the number of training images")
        if not 0 <= shift < side:
            raise ValueError(f"shift is {shift}; it must be from 0 to {side - 1}")
        self.images = images
        self.seed = seed
        self.batch = count if batch is None else batch
        self.shift = shift
        self.flip = flip
        self.workers = workers
        self._epoch = -1  # the epoch of _permutation
        self._permutation = np.empty(0, dtype=np.int64)

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of each batch of (images, labels), without end; images are float32 of about unit variance."""
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        """Return `rows` of the batch of a step."""
        epoch, index = divmod(step, len(self.images.train) // self.batch)
        chosen = self._order(epoch)[index * self.batch : (index + 1) * self.batch]
        random = np.random.default_rng([self.seed, 1, step])
        down, right = np.divmod(random.integers((2 * self.shift + 1) ** 2, size=self.batch), 2 * self.shift + 1)
        mirrored = random.random(self.batch) < 0.5 if self.flip else np.zeros(self.batch, dtype=bool)
        pixels = _shift(self.images.train[chosen[rows]], down[rows], right[rows], self.shift)
        pixels[mirrored[rows]] = pixels[mirrored[rows], ..., ::-1]
        return self._normalize(pixels), torch.from_numpy(self.images.train_labels[chosen[rows]])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of the training images in an epoch."""
        count = len(self.images.train)
        if self.batch == count:
            return np.arange(count)
        if self._epoch != epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(count)
        return self._permutation

    def _normalize(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Return the pixels as float32 of about unit variance."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.images.mean, self.images.std))
        return torch.from_numpy(pixels.astype(np.float32)).sub_(mean).div_(std)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return mean cross-entropy in nats and accuracy in [0, 1] on the held-out images, not shifted or mirrored."""
        parts = [slice(start, start + EVAL_BATCH) for start in range(0, len(self.images.held_out), EVAL_BATCH)]
        held_out, labels = self.images.held_out, torch.from_numpy(self.images.held_out_labels)
        return evaluate_classifier(model, ((self._normalize(held_out[part]), labels[part]) for part in parts))

    def fingerprint(self) -> str:
        """Return a digest of all pixels and labels, training and held-out."""
        return self.images.fingerprint()


def _shift(
    pixels: npt.NDArray[np.uint8], down: npt.NDArray[np.int64], right: npt.NDArray[np.int64], largest: int
) -> npt.NDArray[np.uint8]:
    """Pad each image with zeros by `largest` on each side, and return its window at (down, right)."""
    if largest == 0:
        return pixels
    height, width = pixels.shape[2:]
    padded = np.pad(pixels, [(0, 0), (0, 0), (largest, largest), (largest, largest)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(len(pixels)), :, down, right])
