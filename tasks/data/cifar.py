"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): torchvision reads the original files, and they are kept as arrays."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.images import Images
from tasks.data.prepare import prepare
from tasks.models import torchvision_shim  # noqa: F401 (before torchvision)

from torchvision import datasets  # isort: skip

SIZE = 32  # pixels along one side
CROP = 4  # pixels of zeros on each side, from which a crop is taken (He et al. 2016, section 4.2)
NEEDED_BYTES = 600 << 20  # for the archive, its files and the arrays

# Mean and standard deviation of each colour over the training images, in the unit of a byte.
MEAN = {10: (125.3, 123.0, 113.9), 100: (129.3, 124.1, 112.4)}
STD = {10: (63.0, 62.1, 66.7), 100: (68.2, 65.4, 70.4)}


@cache
def cifar(classes: int, data_dir: str, download: bool) -> Images:
    """Return the 50,000 training and 10,000 test images of CIFAR-10 or CIFAR-100, memory-mapped.

    The original files are Python pickles: they are read once, after torchvision has checked their MD5 sums.

    Args:
        classes: 10 or 100.
        data_dir: folder with cifar-10-batches-py or cifar-100-python, as in the archive; the arrays are written there.
        download: whether torchvision may download missing files.

    Raises:
        ValueError: the files are missing, are not the original ones, or cannot be downloaded.
    """
    kind: Any = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[classes]
    description, folder, raw = f"CIFAR-{classes}", Path(data_dir, f"cifar{classes}"), Path(data_dir, kind.base_folder)
    if not (download or folder.exists() or raw.exists()):
        raise ValueError(
            f"{description} is not in {data_dir}: set task.download=true, or unpack {kind.filename} from {kind.url} "
            f"there, so that {data_dir} holds {kind.base_folder}/"
        )

    def convert(draft: Path) -> None:
        """Read the original files and write the arrays."""
        for part in ("train", "test"):
            try:
                data = kind(data_dir, train=part == "train", download=download)
            except RuntimeError as error:  # raised by torchvision if a sum differs
                raise ValueError(
                    f"{raw} does not hold the original files of {description} "
                    "(a file is missing or its MD5 sum differs); unpack the archive again, or set task.download=true"
                ) from error
            np.save(draft / f"{part}.npy", np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
            np.save(draft / f"{part}_labels.npy", np.array(data.targets, dtype=np.int64))

    prepare(folder, convert, description=description, needed_bytes=NEEDED_BYTES)
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in ("train", "train_labels", "test", "test_labels")
    }
    return Images(
        arrays["train"],
        np.array(arrays["train_labels"]),
        arrays["test"],
        np.array(arrays["test_labels"]),
        mean=MEAN[classes],
        std=STD[classes],
    )
