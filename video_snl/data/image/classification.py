"""Single pictures for classification: read, cut and changed by the process that reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from video_snl.config.image_data import ImageDataConfig
from video_snl.config.video import DataConfig
from video_snl.data.image.base import FileDataset
from video_snl.data.image.reading import read_image
from video_snl.data.loading.collate import Sample
from video_snl.data.transforms.augment import augment_clips, check_augmentation, draw_augmentation
from video_snl.errors import OptionsError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "PictureDataset",
    "check_options",
    "colour_options",
    "draw_resized_crop",
    "evaluation_picture",
    "read_picture",
]

_ASPECT = 3 / 4, 4 / 3
_ATTEMPTS = 10


def read_picture(path: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as 8-bit RGB, see :func:`~video_snl.data.image.reading.read_image`.

    Raises:
        Unreadable: The file is at fault.
    """
    return read_image(path, max_pixels=max_pixels)


class PictureDataset(FileDataset):
    """Files with the index of the class they show, for pictures that memory cannot hold.

    Args:
        labels: Of every path.
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

    def sample(self, shown: int, random: np.random.Generator) -> Sample:
        path = self.paths[shown]
        picture = read_picture(path, self.config.max_pixels)
        if self.training:
            image = self._changed(_tensor(_cut(picture, path, self.config, random)), random)
        else:
            image = _tensor(evaluation_picture(picture, path, self.config))
        return {"image": image, "label": torch.tensor(int(self.labels[shown]))}

    def _changed(self, image: Tensor, random: np.random.Generator) -> Tensor:
        drawn = draw_augmentation(self._colours, random)
        jitter, operations = (drawn[x][None] if x in drawn else None for x in _CHANGES)
        magnitude = self.config.rand_augment_magnitude
        return augment_clips(image[None, None], jitter, operations, magnitude)[0, 0]


_CHANGES = "jitter", "operations"


def colour_options(config: ImageDataConfig) -> DataConfig:
    """The options that pictures share with videos, as the video's augmentation takes them."""
    return DataConfig(
        color_jitter=config.color_jitter,
        hue_jitter=config.hue_jitter,
        rand_augment=config.rand_augment,
        rand_augment_magnitude=config.rand_augment_magnitude,
    )


def evaluation_picture(picture: Image.Image, path: str, config: ImageDataConfig) -> Image.Image:
    """Resized to ``short_side`` and cut to ``height`` x ``width`` from its centre.

    Raises:
        OptionsError: It is smaller than the crop.
    """
    resized = _resized(picture, config)
    _check_size(resized, path, config)
    return functional.center_crop(resized, [config.height, config.width])


def draw_resized_crop(
    random: np.random.Generator, height: int, width: int, area: Sequence[float]
) -> tuple[int, int, int, int]:
    """top, left, height and width of a rectangle of random area and aspect (arXiv:1409.4842).

    Its area is a share of the picture's drawn uniformly, the logarithm of its aspect (width over
    height) is uniform between those of 3/4 and 4/3. Ten times drawn and larger than the picture,
    it is the largest one from the centre with an aspect in that range. The distribution is that
    of torchvision's RandomResizedCrop.
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
    picture: Image.Image, path: str, config: ImageDataConfig, random: np.random.Generator
) -> Image.Image:
    """A training crop, flipped by chance."""
    place, flip = random.spawn(2)
    size = [config.height, config.width]
    if config.training_crop == "resized":
        crop = draw_resized_crop(place, picture.height, picture.width, config.crop_area)
        picture = functional.resized_crop(picture, *crop, size)
    else:
        picture = functional.pad(_resized(picture, config), [config.pad])
        _check_size(picture, path, config)
        top = int(place.integers(picture.height - config.height + 1))
        left = int(place.integers(picture.width - config.width + 1))
        picture = functional.crop(picture, top, left, *size)
    return functional.hflip(picture) if config.flip and flip.random() < 0.5 else picture


def _resized(picture: Image.Image, config: ImageDataConfig) -> Image.Image:
    if config.short_side is None:
        return picture
    return functional.resize(picture, config.short_side)


def _check_size(picture: Image.Image, path: str, config: ImageDataConfig) -> None:
    if picture.height < config.height or picture.width < config.width:
        raise OptionsError(
            f"a crop of {config.height} x {config.width} does not fit {path} of {picture.height} x "
            f"{picture.width}: set data.short_side, or lower data.height and data.width"
        )


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture))
