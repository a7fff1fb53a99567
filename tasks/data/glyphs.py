"""Draws characters in the fonts that matplotlib ships, and distorts them at random: turned, slanted, moved, noisy."""

import hashlib
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.images import EVAL_BATCH, evaluate_classifier
from tasks.data.loading import Batch, batches_by_step

# The 47 classes of EMNIST Balanced (Cohen et al. 2017), without the small letters that look like their capitals.
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
STYLES = {"DejaVuSans": "Oblique", "DejaVuSansMono": "Oblique", "DejaVuSerif": "Italic"}
FONTS = [f"{font}{style}" for font, slant in STYLES.items() for style in ("", "-Bold", f"-{slant}", f"-Bold{slant}")]
FONTS += ["cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"]
HELD_OUT_FONTS = ["STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"]  # a separate family
HELD_OUT_EACH = 5  # images per character and held-out font

SIZE = 32  # pixels along one side of an image
DRAWN = 48  # pixels along one side as a character is drawn: 1.5 times as fine, so that it stays sharp when turned
FONT_SIZE = 35  # in pixels of the drawn image, like BASELINE
BASELINE = 36

# The largest distortions, in each direction.
TURN = math.radians(10)
SLANT = 0.15  # pixels sideways per pixel upwards
RESIZE = math.log(1.2)
MOVE = 1.0  # pixels
FAINTEST = 0.5  # ink of the palest character; the darkest has 1
NOISE = 0.1  # standard deviation per pixel, in the unit of ink
MEAN, STD = 0.07, 0.22  # of all pixels


class Glyphs:
    """Provides everything but the model: endless 32x32 images of 47 classes, one channel. A task adds `model()`.

    Each image is a random character in a random font with a random distortion. A batch depends on seed and step alone,
    and no two batches are equal. Four fonts of one family are held out, which no training image shows: the outlines are
    new, the distortions of the same kind, drawn once for all seeds.

    Args:
        seed: seeds the characters, fonts and distortions.
        batch: images per step, at least 1.
        workers: processes that make the batches; 0 means the training process.

    Raises:
        ValueError: `batch` is below 1, or a font cannot be read.
    """

    def __init__(self, seed: int, *, batch: int, workers: int = 0) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; it must be at least 1")
        self.seed = seed
        self.batch = batch
        self.workers = workers
        self.train = draw_characters(tuple(FONTS))

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Yield `rows` of each batch of (images, labels), without end.

        Images are float32 of about unit variance, shape (n, 1, 32, 32).
        """
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        """Return `rows` of the batch of a step."""
        random = np.random.default_rng([self.seed, step])
        fonts = random.integers(len(FONTS), size=self.batch)
        labels = random.integers(len(CHARACTERS), size=self.batch)
        images = distort(self.train[fonts, labels], random, rows)
        return images, torch.from_numpy(labels[rows])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return mean cross-entropy in nats and accuracy in [0, 1] on the held-out fonts."""
        images, labels = held_out_images()
        parts = zip(torch.split(images, EVAL_BATCH), torch.split(labels, EVAL_BATCH), strict=True)
        return evaluate_classifier(model, parts)

    def fingerprint(self) -> str:
        """Return a digest of all characters before distortion, and of the held-out images."""
        images, labels = held_out_images()
        digest = hashlib.sha256(self.train.tobytes())
        digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
        return digest.hexdigest()[:16]


@cache
def draw_characters(fonts: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Return every character of each font, white on black, shape (fonts, characters, 48, 48).

    Raises ValueError if a font cannot be read.
    """
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    images = np.empty((len(fonts), len(CHARACTERS), DRAWN, DRAWN), dtype=np.uint8)
    for index, name in enumerate(fonts):
        try:
            font = ImageFont.truetype(folder / f"{name}.ttf", FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
        except OSError as error:
            raise ValueError(f"matplotlib's font {folder / name}.ttf cannot be read: {error}") from error
        for label, character in enumerate(CHARACTERS):
            image = Image.new("L", (DRAWN, DRAWN))
            ImageDraw.Draw(image).text((DRAWN / 2, BASELINE), character, fill=255, font=font, anchor="ms")
            images[index, label] = np.asarray(image)
    return images


@cache
def held_out_images() -> tuple[Tensor, Tensor]:
    """Return images and labels of the held-out fonts: every character in each font, five times."""
    images = np.repeat(draw_characters(tuple(HELD_OUT_FONTS)).reshape(-1, DRAWN, DRAWN), HELD_OUT_EACH, axis=0)
    labels = np.tile(np.repeat(np.arange(len(CHARACTERS)), HELD_OUT_EACH), len(HELD_OUT_FONTS))
    return distort(images, np.random.default_rng(0), slice(None)), torch.from_numpy(labels)


def distort(pixels: npt.NDArray[np.uint8], random: np.random.Generator, rows: slice) -> Tensor:
    """Return `rows` of a batch of characters, each with its own affine map, ink and noise.

    Args:
        pixels: the characters as they are drawn, shape (batch, 48, 48).
        random: generator; what is drawn from it does not depend on `rows`.
        rows: which images of the batch to return.

    Returns:
        float32 of shape (rows, 1, 32, 32), of about unit variance.
    """
    turn, slant, resize, right, down, ink = random.uniform(-1, 1, (6, len(pixels), 1, 1)).astype(np.float32)[:, rows]
    noise = random.standard_normal((len(pixels), SIZE, SIZE), dtype=np.float32)[rows]
    offsets = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    x, y = (offsets[None, :] - MOVE * right), (offsets[:, None] - MOVE * down)  # offsets from the character's centre
    cosine, sine, zoom = np.cos(TURN * turn), np.sin(TURN * turn), np.exp(-RESIZE * resize)
    across, along = zoom * (cosine * x + sine * y), zoom * (cosine * y - sine * x)
    grid = np.stack([across + SLANT * slant * along, along], axis=-1) * np.float32(2 / SIZE)  # -1 and 1 are the edges
    source = torch.from_numpy(pixels[rows]).float().div_(255).unsqueeze(1)
    images = F.grid_sample(source, torch.from_numpy(grid), mode="bilinear", align_corners=False)
    inks = torch.from_numpy((1 + FAINTEST + (1 - FAINTEST) * ink) / 2).unsqueeze(1)
    return images.mul_(inks).add_(torch.from_numpy(NOISE * noise).unsqueeze(1)).sub_(MEAN).div_(STD)
