"""Handwritten digits: the 1,797 real scans of 8x8 pixels in scikit-learn."""

from dataclasses import replace
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


def some_digits(count: int, seed: int) -> Images:
    """Return `count` of the training scans, drawn at random, and all held-out ones.

    Raises ValueError if there are not as many.
    """
    all_of_them = digits()
    if not 1 <= count <= len(all_of_them.train):
        raise ValueError(f"images is {count}; it must be from 1 to {len(all_of_them.train)}")
    chosen = np.random.default_rng([seed, 7]).permutation(len(all_of_them.train))[:count]
    return replace(all_of_them, train=all_of_them.train[chosen], train_labels=all_of_them.train_labels[chosen])
