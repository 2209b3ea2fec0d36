"""Images with one label each: read, cut and changed by the process that reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from video_snl.config.image import ImageDataConfig
from video_snl.config.video import DataConfig
from video_snl.data.image.base import FileDataset, ImageSet, image_set
from video_snl.data.image.reading import read_image
from video_snl.data.loading.batches import Sample
from video_snl.data.transforms.augment import augment_clips, check_augmentation, draw_augmentation
from video_snl.errors import OptionsError

__all__ = [
    "ClassificationDataset",
    "Labelled",
    "check_options",
    "colour_options",
    "draw_resized_crop",
    "evaluation_image",
    "labelled_set",
]

_ASPECT = 3 / 4, 4 / 3
_ATTEMPTS = 10


_CHANGES = "jitter", "operations"


class Labelled(NamedTuple):
    """Files and the index of the class that each shows."""

    paths: list[str]
    labels: list[int]


class ClassificationDataset(FileDataset):
    """Files with the index of the class they show, for images that memory cannot hold.

    Args:
        labels: Class index of every path.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        config: ImageDataConfig,
        *,
        training: bool,
        seed: int,
    ) -> None:
        super().__init__(paths, training=training, seed=seed)
        self.labels, self.config = np.asarray(labels, dtype=np.int64), config
        self._colours = colour_options(config)

    def members(self, index: int) -> np.ndarray:
        return np.flatnonzero(self.labels == self.labels[index])

    def sample(self, index_read: int, random: np.random.Generator) -> Sample:
        path = self.paths[index_read]
        image = read_image(path, max_pixels=self.config.max_pixels)
        if self.training:
            pixels = self._changed(_tensor(_cut(image, path, self.config, random)), random)
        else:
            pixels = _tensor(evaluation_image(image, path, self.config))
        return {"image": pixels, "label": torch.tensor(int(self.labels[index_read]))}

    def _changed(self, image: Tensor, random: np.random.Generator) -> Tensor:
        drawn = draw_augmentation(self._colours, random)
        jitter, operations = (drawn[x][None] if x in drawn else None for x in _CHANGES)
        magnitude = self.config.rand_augment_magnitude
        return augment_clips(image[None, None], jitter, operations, magnitude)[0, 0]


def labelled_set(
    config: ImageDataConfig, seed: int, train: Labelled, test: Labelled, class_names: list[str]
) -> ImageSet:
    """Return a dataset of files, as loaders of datasets do."""
    parts = [
        ClassificationDataset(*found, config, training=training, seed=seed)
        for found, training in ((train, True), (test, False))
    ]
    return image_set(config, parts[0], parts[1], class_names)


def colour_options(config: ImageDataConfig) -> DataConfig:
    """Return the options that images share with videos, as the video's augmentation takes them."""
    return DataConfig(
        color_jitter=config.color_jitter,
        hue_jitter=config.hue_jitter,
        rand_augment=config.rand_augment,
        rand_augment_magnitude=config.rand_augment_magnitude,
    )


def evaluation_image(image: Image.Image, path: str, config: ImageDataConfig) -> Image.Image:
    """Resize an image to ``short_side`` and cut ``height`` x ``width`` from its centre.

    Raises:
        OptionsError: It is smaller than the crop.
    """
    resized = _resized(image, config)
    _check_size(resized, path, config)
    return functional.center_crop(resized, [config.height, config.width])


def draw_resized_crop(
    random: np.random.Generator, height: int, width: int, area: Sequence[float]
) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a rectangle of random area (arXiv:1409.4842).

    Its area is a uniformly drawn share of the image's; the logarithm of its aspect (width over
    height) is uniform between those of 3/4 and 4/3. After ten draws larger than the image, it is
    the largest rectangle in the centre with an aspect in that range. The distribution is that of
    torchvision's RandomResizedCrop, whose own draws come from the global generator.
    """
    for _ in range(_ATTEMPTS):
        target = random.uniform(area[0], area[1]) * height * width
        aspect = math.exp(random.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = random.integers(height - h + 1), random.integers(width - w + 1)
            return int(top), int(left), h, w
    aspect = min(max(width / height, _ASPECT[0]), _ASPECT[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (height - h) // 2, (width - w) // 2, h, w


def check_options(config: ImageDataConfig) -> None:
    """Refuse options out of their range, and those that contradict each other.

    Raises:
        OptionsError: It names the option and what it may be.
    """
    check_augmentation(colour_options(config))
    least_values = {"height": 1, "width": 1, "pad": 0, "num_workers": 0, "max_pixels": 1}
    for name, least in least_values.items():
        if getattr(config, name) < least:
            raise OptionsError(f"data.{name}={getattr(config, name)}: give {least} or more")
    if not 0 <= config.max_failures <= 1:
        raise OptionsError(f"data.max_failures={config.max_failures:g}: give 0 to 1")
    for name in ("crop_area", "scales"):
        values = getattr(config, name)
        if len(values) != 2 or not 0 < values[0] <= values[1]:
            raise OptionsError(
                f"data.{name}={values}: give two numbers above 0, the lower one first"
            )
    short, crop = config.short_side, max(config.height, config.width)
    if short is not None and short < crop:
        raise OptionsError(
            f"a crop of {config.height} x {config.width} does not fit data.short_side={short}: "
            "lower data.height and data.width, or raise data.short_side"
        )


def _cut(
    image: Image.Image, path: str, config: ImageDataConfig, random: np.random.Generator
) -> Image.Image:
    """Cut a training crop, flipped with probability one half where ``flip`` is set."""
    place, flip = random.spawn(2)
    size = [config.height, config.width]
    if config.training_crop == "resized":
        crop = draw_resized_crop(place, image.height, image.width, config.crop_area)
        image = functional.resized_crop(image, *crop, size)
    else:
        image = functional.pad(_resized(image, config), [config.pad])
        _check_size(image, path, config)
        top = int(place.integers(image.height - config.height + 1))
        left = int(place.integers(image.width - config.width + 1))
        image = functional.crop(image, top, left, *size)
    return functional.hflip(image) if config.flip and flip.random() < 0.5 else image


def _resized(image: Image.Image, config: ImageDataConfig) -> Image.Image:
    if config.short_side is None:
        return image
    return functional.resize(image, [config.short_side])


def _check_size(image: Image.Image, path: str, config: ImageDataConfig) -> None:
    if image.height < config.height or image.width < config.width:
        raise OptionsError(
            f"a crop of {config.height} x {config.width} does not fit {path} of {image.height} x "
            f"{image.width}: set data.short_side, or lower data.height and data.width"
        )


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))
