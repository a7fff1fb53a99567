"""Handwritten digits (scikit-learn's 1,797 real 8x8 scans) with a small vision transformer."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from tasks import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision.models import VisionTransformer  # isort: skip

SIZE = 8  # pixels along one side


class DigitsViT:
    """Ten classes; training images are shifted by up to `shift` pixels, so that the model cannot merely memorise them.

    Held out: every fifth scan. Pixels are scaled to [-1, 1]. The model is torchvision's VisionTransformer.

    Args:
        seed: of the order of the images and of their shifts.
        batch: images a step.
        shift, patch: largest shift in each direction and side of a patch, in pixels.
        width, depth, heads: of the transformer; its hidden layers are 4 widths wide.
    """

    def __init__(
        self,
        seed: int,
        *,
        batch: int = 32,
        shift: int = 1,
        patch: int = 4,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        if SIZE % patch:
            raise ValueError(f"patch is {patch}; it must divide {SIZE}")
        if width % heads:
            raise ValueError(f"width is {width} and heads {heads}; heads must divide width")
        if not 0 <= shift < SIZE:
            raise ValueError(f"shift is {shift}; it must be from 0 to {SIZE - 1}")
        pixels, labels = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels.reshape(-1, 1, SIZE, SIZE) / 8 - 1).float()
        targets = torch.from_numpy(labels).long()
        held_out = torch.arange(len(images)) % 5 == 0
        self.train_images, self.train_labels = images[~held_out], targets[~held_out]
        self.test_images, self.test_labels = images[held_out], targets[held_out]
        if not 1 <= batch <= len(self.train_images):
            raise ValueError(f"batch is {batch}; it must be from 1 to {len(self.train_images)}, the training images")
        self.seed = seed
        self.batch = batch
        self.shift = shift
        self.shape = {"patch_size": patch, "num_layers": depth, "num_heads": heads, "hidden_dim": width}

    def model(self) -> nn.Module:
        """The transformer, for images of shape (n, 1, 8, 8)."""
        width, patch = self.shape["hidden_dim"], self.shape["patch_size"]
        model: nn.Module = VisionTransformer(image_size=SIZE, mlp_dim=4 * width, num_classes=10, **self.shape)
        model.conv_proj = nn.Conv2d(1, width, patch, stride=patch)  # torchvision's takes three colours
        return model

    def batches(self, start_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (images, labels): each epoch a new order, each image a new shift."""
        per_epoch = len(self.train_images) // self.batch
        side = 2 * self.shift + 1
        windows = F.pad(self.train_images, [self.shift] * 4, value=-1.0).unfold(2, SIZE, 1).unfold(3, SIZE, 1)
        shifted = windows.reshape(len(self.train_images), side * side, SIZE, SIZE)  # every shift of every image
        epoch, order = -1, np.empty(0, dtype=np.int64)
        step = start_step
        while True:
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.train_images))
            start = step % per_epoch * self.batch
            chosen = torch.from_numpy(order[start : start + self.batch])
            shifts = torch.from_numpy(
                np.random.default_rng([self.seed, 1, step]).integers(side * side, size=self.batch)
            )
            yield shifted[chosen, shifts].unsqueeze(1), self.train_labels[chosen]
            step += 1

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy in nats and accuracy in [0, 1] on the held-out scans, unshifted."""
        device = next(model.parameters()).device
        logits = model(self.test_images.to(device))
        labels = self.test_labels.to(device)
        return {
            "loss": F.cross_entropy(logits, labels).item(),
            "accuracy": (logits.argmax(1) == labels).float().mean().item(),
        }

    def fingerprint(self) -> str:
        """Of all pixels and labels, training and held-out."""
        parts = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]
