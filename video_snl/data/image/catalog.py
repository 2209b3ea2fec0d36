"""The picture data sets: which pictures, what they show, which are for training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from video_snl.config.image_data import ImageDataConfig
from video_snl.config.statistics import STATISTICS, Statistics
from video_snl.data.image.base import ImageDataset
from video_snl.data.image.cityscapes import CLASSES, IGNORED, load_cityscapes
from video_snl.data.image.classification import PictureDataset, check_options
from video_snl.data.image.cub import cub_classes, load_cub
from video_snl.data.image.digits import SIDE, digits
from video_snl.data.image.folders import (
    IMAGENET_COUNTS,
    Labelled,
    folder_classes,
    load_class_folders,
    warn_of_counts,
)
from video_snl.data.image.in_memory import MemoryDataset, decode_pictures
from video_snl.data.image.segmentation import SceneDataset
from video_snl.data.image.small import CIFAR, cifar
from video_snl.errors import OptionsError, UserError

__all__ = [
    "IMAGE_STATISTICS",
    "ONE_SIZE",
    "ImageSet",
    "image_class_count",
    "image_statistics",
    "load_images",
    "picture_labels",
]

IMAGE_STATISTICS: dict[str, Statistics] = {
    # Of the training pictures, over all of their pixels.
    "digits": ((0.3051, 0.3051, 0.3051), (0.3238, 0.3238, 0.3238)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    # What the paper's released code used for both: its deviations are means of the single
    # pictures' ones.
    "cifar_released": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": STATISTICS["imagenet"],
}
"""Mean and standard deviation of red, green and blue in [0, 1]."""

ONE_SIZE = "digits", *CIFAR
"""Data sets whose pictures all have the size of what the network sees."""

_NEEDED = {
    "cifar10": "the folder that holds cifar-10-batches-py/ (or is to: --data.download true)",
    "cifar100": "the folder that holds cifar-100-python/ (or is to: --data.download true)",
    "imagenet": "the folder that holds train/ and val/ with a folder per class (ILSVRC 2012, "
    "image-net.org, after registration)",
    "cub200": "the folder that holds CUB_200_2011/ (CUB_200_2011.tgz, "
    "data.caltech.edu/records/65de6-vp158)",
    "cityscapes": "the folder that holds leftImg8bit/ and gtFine/ (cityscapes-dataset.com, after "
    "registration)",
    "folder": "the folder that holds train/<class>/ and test/<class>/ (or val/<class>/)",
}
_TESTS = {"imagenet": ("val",), "folder": ("test", "val")}


@dataclass(frozen=True)
class ImageSet:
    """A data set, ready to be loaded; ``class_names[label]`` is the name of a class.

    Args:
        mean, std: Of the input, for values in [0, 1].
        ignored: The label of pixels that are not scored, where the labels are maps; else None.
    """

    train: ImageDataset
    test: ImageDataset
    class_names: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    ignored: int | None = None


def load_images(config: ImageDataConfig, *, seed: int = 0) -> ImageSet:
    """The training and test pictures of ``config.dataset``.

    Of pictures in files only the lists are read here; of ``digits``, CIFAR and folders with
    ``in_memory`` all pixels.

    Args:
        seed: What crops, flips and changes are drawn from, with the epoch and the index.

    Raises:
        UserError: No root given where one is needed, or one that does not hold such a data set;
            files missing or malformed; options out of their range or that contradict each other.
    """
    check_options(config)
    _check_dataset_options(config)
    return LOADERS[config.dataset](config, seed)


def image_class_count(config: ImageDataConfig) -> int:
    """Number of classes, opening no picture; without a root that of the published set.

    Raises:
        UserError: As for :func:`load_images`.
    """
    counts = {"digits": 10, "cifar10": 10, "cifar100": 100, "cityscapes": len(CLASSES)}
    published = {"cub200": 200, "imagenet": IMAGENET_COUNTS[0]}
    if config.dataset in counts:
        return counts[config.dataset]
    if config.root is None and config.dataset in published:
        return published[config.dataset]
    root = _root(config)
    if config.dataset == "cub200":
        return len(cub_classes(root))
    return len(folder_classes(root, _TESTS[config.dataset]))


def image_statistics(config: ImageDataConfig) -> Statistics:
    """What ``config.statistics`` means."""
    own = config.dataset if config.dataset in IMAGE_STATISTICS else "imagenet"
    return IMAGE_STATISTICS[own if config.statistics == "auto" else config.statistics]


def picture_labels(dataset: ImageDataset) -> np.ndarray:
    """The labels of a data set of classification, int64 (N,)."""
    if isinstance(dataset, MemoryDataset):
        return dataset.labels.numpy()
    if isinstance(dataset, PictureDataset):
        return dataset.labels
    raise TypeError(f"{type(dataset).__name__} has no single label for a picture")


def _digits(config: ImageDataConfig, seed: int) -> ImageSet:
    def part(training: bool) -> MemoryDataset:
        images, labels, names = digits(training)
        return MemoryDataset(images, labels, names, config, training=training, seed=seed)

    return _image_set(config, part(True), part(False), [str(digit) for digit in range(10)])


def _cifar(config: ImageDataConfig, seed: int) -> ImageSet:
    root = _root(config, made=config.download)
    parts: list[MemoryDataset] = []
    classes: list[str] = []
    for training in (True, False):
        images, labels, names, classes = cifar(config.dataset, root, training, config.download)
        parts.append(MemoryDataset(images, labels, names, config, training=training, seed=seed))
    return _image_set(config, parts[0], parts[1], classes)


def _imagenet(config: ImageDataConfig, seed: int) -> ImageSet:
    train, test, names = load_class_folders(_root(config), _TESTS["imagenet"])
    found = len(names), len(train.paths), len(test.paths)
    what = "classes", "training pictures", "validation pictures"
    for name, count, official in zip(what, found, IMAGENET_COUNTS, strict=True):
        warn_of_counts("ImageNet", name, count, official)
    return _from_files(config, seed, train, test, names)


def _cub200(config: ImageDataConfig, seed: int) -> ImageSet:
    return _from_files(config, seed, *load_cub(_root(config)))


def _folder(config: ImageDataConfig, seed: int) -> ImageSet:
    root = _root(config)
    train, test, names = load_class_folders(root, _TESTS["folder"])
    if not config.in_memory:
        return _from_files(config, seed, train, test, names)

    def part(found: Labelled, training: bool) -> MemoryDataset:
        images, failures = decode_pictures(root, found.paths, config)
        labels = torch.tensor(found.labels)
        return MemoryDataset(
            images, labels, found.paths, config, training=training, seed=seed, failures=failures
        )

    return _image_set(config, part(train, True), part(test, False), names)


def _cityscapes(config: ImageDataConfig, seed: int) -> ImageSet:
    train, test = load_cityscapes(_root(config))
    mean, std = image_statistics(config)
    fill = [round(255 * value) for value in mean]
    parts = [
        SceneDataset(scenes, config, training=training, seed=seed, fill=fill)
        for scenes, training in ((train, True), (test, False))
    ]
    return ImageSet(parts[0], parts[1], list(CLASSES), mean, std, IGNORED)


Loader = Callable[[ImageDataConfig, int], ImageSet]
LOADERS: dict[str, Loader] = {
    "digits": _digits,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "imagenet": _imagenet,
    "cub200": _cub200,
    "cityscapes": _cityscapes,
    "folder": _folder,
}


def _from_files(
    config: ImageDataConfig, seed: int, train: Labelled, test: Labelled, names: list[str]
) -> ImageSet:
    parts = [
        PictureDataset(*found, config, training=training, seed=seed)
        for found, training in ((train, True), (test, False))
    ]
    return _image_set(config, parts[0], parts[1], names)


def _image_set(
    config: ImageDataConfig, train: ImageDataset, test: ImageDataset, names: list[str]
) -> ImageSet:
    return ImageSet(train, test, names, *image_statistics(config))


def _root(config: ImageDataConfig, *, made: bool = False) -> Path:
    needed = _NEEDED[config.dataset]
    if config.root is None:
        raise UserError(f"data.dataset={config.dataset} needs --data.root: {needed}")
    root = Path(config.root).expanduser()
    if not root.is_dir() and not (made and not root.exists()):
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"data.root={config.root} {found}: give {needed}")
    return root


def _check_dataset_options(config: ImageDataConfig) -> None:
    """Options that a data set does not have would be passed over in silence."""
    name = config.dataset
    if name not in LOADERS:
        raise OptionsError(f"data.dataset={name} is none of {', '.join(LOADERS)}")
    if config.download and name not in CIFAR:
        where = f": get {_NEEDED[name]}" if name in _NEEDED else ", which needs no download"
        raise OptionsError(f"data.download is offered for {' and '.join(CIFAR)}, not {name}{where}")
    if config.in_memory and name != "folder":
        raise OptionsError(f"data.in_memory is for data.dataset=folder, not {name}")
    if name in ONE_SIZE:
        sizes = config.height, config.width, config.short_side
        if sizes != (SIDE, SIDE, None):
            raise OptionsError(
                f"the pictures of {name} have {SIDE} x {SIDE} pixels: leave data.height and "
                f"data.width at {SIDE} and data.short_side out"
            )
    if name == "cityscapes" and (config.rand_augment or config.color_jitter or config.hue_jitter):
        raise OptionsError(
            "data.dataset=cityscapes changes colours by data.photometric: leave data.color_jitter, "
            "data.hue_jitter and data.rand_augment at 0"
        )
    if name == "digits" and config.root is not None:
        print(
            "data.root is not used: the digits come with scikit-learn; your own images need "
            "--data.dataset folder",
            file=sys.stderr,
        )
