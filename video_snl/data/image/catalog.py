"""The image datasets by name: which images, what they show, which are for training.

Their loaders are named in :data:`video_snl.config.datasets.IMAGE_DATASETS`.
"""

from __future__ import annotations

import sys

import numpy as np

from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageDataConfig
from video_snl.data.image.base import ImageDataset, ImageSet
from video_snl.data.image.classification import ClassificationDataset, check_options
from video_snl.data.image.in_memory import MemoryDataset
from video_snl.errors import OptionsError

__all__ = ["ImageSet", "image_class_count", "image_labels", "load_images"]


def load_images(config: ImageDataConfig, *, seed: int = 0) -> ImageSet:
    """Load the training and test images of ``config.dataset``.

    Of images in files only the lists are read here; of ``digits``, CIFAR and folders with
    ``in_memory`` all pixels.

    Args:
        seed: Seed of crops, flips and changes, with the epoch and the index.

    Raises:
        UserError: No root given where one is needed, or one that does not hold such a dataset;
            files missing or malformed; options out of their range or that contradict each other.
    """
    check_options(config)
    _check_dataset_options(config)
    return IMAGE_DATASETS[config.dataset].load()(config, seed)


def image_class_count(config: ImageDataConfig) -> int:
    """Count the classes, opening no image; without a root those of the published dataset.

    Raises:
        UserError: As for :func:`load_images`.
    """
    count = IMAGE_DATASETS[config.dataset].count(config)
    return len(load_images(config).class_names) if count is None else count


def image_labels(dataset: ImageDataset) -> np.ndarray:
    """Return the labels of a dataset of classification, int64 (N,)."""
    if isinstance(dataset, MemoryDataset):
        return dataset.labels.numpy()
    if isinstance(dataset, ClassificationDataset):
        return dataset.labels
    raise TypeError(f"{type(dataset).__name__} has no single label for an image")


def _check_dataset_options(config: ImageDataConfig) -> None:
    """Refuse options that a dataset does not have and would pass over in silence."""
    name = config.dataset
    if name not in IMAGE_DATASETS:
        raise OptionsError(f"data.dataset={name} is none of {', '.join(IMAGE_DATASETS)}")
    entry = IMAGE_DATASETS[name]
    if config.download and not entry.downloads:
        offered = " and ".join(n for n, other in IMAGE_DATASETS.items() if other.downloads)
        where = f": get {entry.root}" if entry.root else ", which needs no download"
        raise OptionsError(f"data.download is offered for {offered}, not {name}{where}")
    if config.in_memory and not entry.in_memory:
        offered = " and ".join(n for n, other in IMAGE_DATASETS.items() if other.in_memory)
        raise OptionsError(f"data.in_memory is for data.dataset={offered}, not {name}")
    side = entry.side
    if side is not None and (config.height, config.width, config.short_side) != (side, side, None):
        raise OptionsError(
            f"the images of {name} have {side} x {side} pixels: leave data.height and data.width "
            f"at {side} and data.short_side out"
        )
    if entry.segments and (config.rand_augment or config.color_jitter or config.hue_jitter):
        raise OptionsError(
            f"data.dataset={name} changes colours by data.photometric: leave data.color_jitter, "
            "data.hue_jitter and data.rand_augment at 0"
        )
    if name == "digits" and config.root is not None:
        print(
            "data.root is not used: the digits come with scikit-learn; your own images need "
            "--data.dataset folder",
            file=sys.stderr,
        )
