"""Handwritten digits: the 1,797 real scans of 8x8 pixels in scikit-learn."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from tasks.data.images import Images

SIZE = 8  # pixels along one side
CLASSES = 10


@cache
def digits() -> Images:
    """Return the scans, one channel with values from 0 to 16; every fifth is held out."""
    pixels, labels = load_digits(return_X_y=True)
    images, labels = pixels.reshape(-1, 1, SIZE, SIZE).astype(np.uint8), labels.astype(np.int64)
    held_out = np.arange(len(images)) % 5 == 0
    return Images(images[~held_out], labels[~held_out], images[held_out], labels[held_out], mean=(8.0,), std=(8.0,))
