"""Writes small CIFAR and ImageNet data in their real formats, for tests."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

WNIDS = {"n02000002": (1, 140, 2), "n01000001": (3, 160, 1)}  # ILSVRC2012_ID, training and validation images
CIFAR = {
    "cifar-10-batches-py": [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"],
    "cifar-100-python": ["train", "test"],
}


def write_cifar(data_dir, each=40):
    """Write both unpacked archives: `each` images per file, but 5 times as many in CIFAR-100's one training file."""
    random = np.random.default_rng(0)
    for folder, names in CIFAR.items():
        place = Path(data_dir, folder)
        place.mkdir(parents=True)
        fine = folder.endswith("100-python")
        meta = {"fine_label_names": ["class"] * 100} if fine else {"label_names": ["class"] * 10}
        (place / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps(meta))
        for name in names:
            count = 5 * each if name == "train" else each
            labels = random.integers(100 if fine else 10, size=count).tolist()
            content = {"data": random.integers(256, size=(count, 3072), dtype=np.uint8)}
            content |= {"fine_labels": labels} if fine else {"labels": labels}
            (place / name).write_bytes(pickle.dumps(content, protocol=2))


def ignore_sums(monkeypatch):
    """Turn off the check of MD5 sums, so that the small files pass as the original ones."""
    from tasks.models import torchvision_shim  # noqa: F401
    from torchvision import datasets  # isort: skip

    for kind in (datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(kind, "train_list", [[name, None] for name, _ in kind.train_list])
        monkeypatch.setattr(kind, "test_list", [[name, None] for name, _ in kind.test_list])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})
    known = datasets.imagenet.ARCHIVE_META
    monkeypatch.setitem(known, "devkit", (known["devkit"][0], None))


def write_imagenet(data_dir):
    """Write the devkit and both folders of JPEG files; as in the original, there are PNG files and grey ones too."""
    root = Path(data_dir, "imagenet")
    random = np.random.default_rng(0)
    for part, which in (("train", 1), ("val", 2)):
        for wnid, numbers in WNIDS.items():
            (root / part / wnid).mkdir(parents=True)
            for number in range(numbers[which]):
                size = random.integers(12, 40, size=2)
                image = Image.fromarray(random.integers(256, size=(*size, 3), dtype=np.uint8))
                if number == 0:
                    image = image.convert("L")
                image.save(root / part / wnid / f"{wnid}_{number}.JPEG", "PNG" if number == 1 else "JPEG")
    write_devkit(root / "ILSVRC2012_devkit_t12.tar.gz")


def write_devkit(file):
    """Write meta.mat and the validation images' classes; the last entry groups the others and is not a class."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    kinds += [("children", "O"), ("wordnet_height", "O"), ("num_train_images", "O")]
    rows = [(number, wnid, "a, b", "c", 0, [], 0, train) for wnid, (number, train, _) in WNIDS.items()]
    rows.append((1001, "n00000000", "all", "d", 2, [1, 3], 1, 0))
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    truth = "".join(f"{number}\n" * held_out for number, _, held_out in WNIDS.values()).encode()
    with tarfile.open(file, "w:gz") as archive:
        for name, content in (("meta.mat", mat.getvalue()), ("ILSVRC2012_validation_ground_truth.txt", truth)):
            entry = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
