"""Characters of the fonts that matplotlib brings, distorted anew at every step: turned, slanted, moved and noisy."""

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

# The 47 balanced classes of EMNIST (Cohen et al. 2017): without the small letters that look like their capitals.
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
STYLES = {"DejaVuSans": "Oblique", "DejaVuSansMono": "Oblique", "DejaVuSerif": "Italic"}
FONTS = [f"{font}{style}" for font, slant in STYLES.items() for style in ("", "-Bold", f"-{slant}", f"-Bold{slant}")]
FONTS += ["cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"]
HELD_OUT_FONTS = ["STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"]  # a family of its own
HELD_OUT_EACH = 5  # images of each character in each held-out font

SIZE = 32  # pixels along one side of an image
DRAWN = 48  # of a character as it is drawn once, half as fine again, so that a turned one stays sharp
FONT_SIZE = 35  # pixels of those
BASELINE = 36

# The largest, in each direction.
TURN = math.radians(10)
SLANT = 0.15  # pixels to the side per pixel up
RESIZE = math.log(1.2)
MOVE = 1.0  # pixels
FAINTEST = 0.5  # ink of the palest character; of the darkest it is 1
NOISE = 0.1  # standard deviation in each pixel, in the same unit
MEAN, STD = 0.07, 0.22  # of all pixels


class Glyphs:
    """All but the model: 47 classes of 32x32 images in one colour, without end. A task adds `model()`.

    Each image is a character and a font drawn by chance, then distorted by chance; a batch is a function of seed and
    step, and no two are alike. Held out are the four fonts of a family that no training image shows: the outlines are
    new, while the distortions are of the same kind, drawn once for all seeds.

    Args:
        seed: of the characters, fonts and distortions.
        batch: images a step.
        workers: processes that make the batches.
    """

    def __init__(self, seed: int, *, batch: int, workers: int = 0) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; it must be at least 1")
        self.seed = seed
        self.batch = batch
        self.workers = workers
        self.train = draw_characters(tuple(FONTS))

    def batches(self, start_step: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Endless (images, labels), of which `rows` are given: float32 of about unit variance, (n, 1, 32, 32)."""
        return batches_by_step(lambda step: self._batch(step, rows), start_step, self.workers)

    def _batch(self, step: int, rows: slice) -> Batch:
        random = np.random.default_rng([self.seed, step])
        fonts = random.integers(len(FONTS), size=self.batch)
        labels = random.integers(len(CHARACTERS), size=self.batch)
        images = distort(self.train[fonts, labels], random, rows)
        return images, torch.from_numpy(labels[rows])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats, 0-d."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy in nats and accuracy in [0, 1] on the held-out fonts."""
        images, labels = held_out_images()
        parts = zip(torch.split(images, EVAL_BATCH), torch.split(labels, EVAL_BATCH), strict=True)
        return evaluate_classifier(model, parts)

    def fingerprint(self) -> str:
        """Of all characters as they are drawn before any distortion, and of the held-out images."""
        images, labels = held_out_images()
        digest = hashlib.sha256(self.train.tobytes())
        digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
        return digest.hexdigest()[:16]


@cache
def draw_characters(fonts: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Every character of each font, white on black: (fonts, characters, 48, 48). Raises ValueError without a font."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    images = np.empty((len(fonts), len(CHARACTERS), DRAWN, DRAWN), dtype=np.uint8)
    for place, name in enumerate(fonts):
        try:
            font = ImageFont.truetype(folder / f"{name}.ttf", FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
        except OSError as error:
            raise ValueError(f"matplotlib's font {folder / name}.ttf cannot be read: {error}") from error
        for label, character in enumerate(CHARACTERS):
            image = Image.new("L", (DRAWN, DRAWN))
            ImageDraw.Draw(image).text((DRAWN / 2, BASELINE), character, fill=255, font=font, anchor="ms")
            images[place, label] = np.asarray(image)
    return images


@cache
def held_out_images() -> tuple[Tensor, Tensor]:
    """Images and labels of the held-out fonts: every character in each font, five times."""
    images = np.repeat(draw_characters(tuple(HELD_OUT_FONTS)).reshape(-1, DRAWN, DRAWN), HELD_OUT_EACH, axis=0)
    labels = np.tile(np.repeat(np.arange(len(CHARACTERS)), HELD_OUT_EACH), len(HELD_OUT_FONTS))
    return distort(images, np.random.default_rng(0), slice(None)), torch.from_numpy(labels)


def distort(pixels: npt.NDArray[np.uint8], random: np.random.Generator, rows: slice) -> Tensor:
    """Images of drawn characters, `rows` of the batch: each with its own affine map, ink and noise.

    Args:
        pixels: (batch, 48, 48).
        random: from which the same is drawn whatever the rows.

    Returns:
        float32 (rows, 1, 32, 32).
    """
    turn, slant, resize, right, down, ink = random.uniform(-1, 1, (6, len(pixels), 1, 1)).astype(np.float32)[:, rows]
    noise = random.standard_normal((len(pixels), SIZE, SIZE), dtype=np.float32)[rows]
    offsets = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    x, y = (offsets[None, :] - MOVE * right), (offsets[:, None] - MOVE * down)  # from the character's centre
    cosine, sine, zoom = np.cos(TURN * turn), np.sin(TURN * turn), np.exp(-RESIZE * resize)
    across, along = zoom * (cosine * x + sine * y), zoom * (cosine * y - sine * x)
    grid = np.stack([across + SLANT * slant * along, along], axis=-1) * np.float32(2 / SIZE)  # -1 to 1: edge to edge
    source = torch.from_numpy(pixels[rows]).float().div_(255).unsqueeze(1)
    images = F.grid_sample(source, torch.from_numpy(grid), mode="bilinear", align_corners=False)
    inks = torch.from_numpy((1 + FAINTEST + (1 - FAINTEST) * ink) / 2).unsqueeze(1)
    return images.mul_(inks).add_(torch.from_numpy(NOISE * noise).unsqueeze(1)).sub_(MEAN).div_(STD)
