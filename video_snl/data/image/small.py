"""Small images that are all in memory: scikit-learn's digits, CIFAR-10 and CIFAR-100.

The digits are 1797 real handwritten digits of 8 x 8 pixels, installed with the library: the test
part of Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI Machine Learning
Repository, 1998), with values 0 to 16. CIFAR (Krizhevsky, 2009) is read in its published form, by
torchvision.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from sklearn import datasets as sklearn_datasets
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.datasets import CIFAR10, CIFAR100

from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageDataConfig
from video_snl.data.image.base import ImageSet, dataset_root, image_set
from video_snl.data.image.in_memory import MemoryDataset
from video_snl.errors import UserError

__all__ = ["CIFAR", "cifar", "digits", "digits_that_test", "load_cifar", "load_digits"]

CIFAR: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}

_EVERY = 5  # of each class of the digits every fifth tests
_LARGEST = 16  # value of the digits


def load_digits(config: ImageDataConfig, seed: int) -> ImageSet:
    """Load ``data.dataset=digits``: its entry's loader."""
    parts = [
        MemoryDataset(*digits(training), config, training=training, seed=seed)
        for training in (True, False)
    ]
    return image_set(config, parts[0], parts[1], [str(digit) for digit in range(10)])


def load_cifar(config: ImageDataConfig, seed: int) -> ImageSet:
    """Load ``data.dataset=cifar10`` or ``cifar100``: their entries' loader."""
    root = dataset_root(config)
    parts: list[MemoryDataset] = []
    classes: list[str] = []
    for training in (True, False):
        images, labels, names, classes = cifar(config.dataset, root, training, config.download)
        parts.append(MemoryDataset(images, labels, names, config, training=training, seed=seed))
    return image_set(config, parts[0], parts[1], classes)


def digits(training: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Return one part of the digits, 1442 images for training or 355 for testing.

    Values become round(255 v / 16) after bilinear enlargement; the three channels are equal.

    Returns:
        uint8 (n, 32, 32, 3), labels int64 (n,), names such as ``digits[17]``.
    """
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    chosen = np.flatnonzero(digits_that_test(labels) != training)
    side = IMAGE_DATASETS["digits"].side
    assert side is not None
    small = torch.from_numpy(images[chosen]).float().view(-1, 1, 8, 8)
    large = interpolate(small * (255 / _LARGEST), size=(side, side), mode="bilinear")
    pixels = large.round().clamp(0, 255).to(torch.uint8)
    return (
        pixels.permute(0, 2, 3, 1).repeat(1, 1, 1, 3),
        torch.from_numpy(labels[chosen]).long(),
        [f"digits[{i}]" for i in chosen],
    )


def digits_that_test(labels: np.ndarray) -> np.ndarray:
    """Return a mask of the test part: of every class, in the order of the file, each fifth.

    A stratified split without chance. The 13 writers are in both parts.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[_EVERY - 1 :: _EVERY]] = True
    return mask


def cifar(
    name: str, root: Path, training: bool, download: bool = False
) -> tuple[Tensor, Tensor, list[str], list[str]]:
    """Return one part of CIFAR, checked by its MD5 sums before it is unpickled.

    Args:
        root: The folder that holds ``cifar-10-batches-py/`` or ``cifar-100-python/``, or that
            folder itself.

    Returns:
        uint8 (n, 32, 32, 3), labels int64 (n,) (of CIFAR-100 the fine ones), names such as
        ``cifar10/train[17]``, names of the classes.

    Raises:
        UserError: A file is missing or is not the published one; the download failed.
    """
    kind = CIFAR[name]
    if root.name == kind.base_folder and not (root / kind.base_folder).exists():
        root = root.parent
    try:
        data = kind(root, train=training, download=download)
    except (RuntimeError, OSError) as error:
        raise UserError(_fault(kind, root, download, error)) from error
    part = "train" if training else "test"
    names = [f"{name}/{part}[{i}]" for i in range(len(data.data))]
    images = torch.from_numpy(data.data).contiguous()
    return images, torch.tensor(data.targets), names, list(data.classes)


def _fault(kind: type[CIFAR10], root: Path, download: bool, error: Exception) -> str:
    if download:
        return (
            f"{kind.url} could not be fetched into {root} ({error}): fetch and unpack it there, "
            "and leave --data.download out"
        )
    folder = root / kind.base_folder
    files = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    missing = [name for name in files if not os.path.isfile(folder / name)]
    what = (
        f"{len(missing)} of {len(files)} files are missing from {folder}, the first is {missing[0]}"
        if missing
        else f"a file of {folder} is not the published one (its MD5 sum differs)"
    )
    return f"{what}: give --data.download true, or unpack {kind.url} into {root}"
