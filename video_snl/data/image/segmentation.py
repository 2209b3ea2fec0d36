"""Images with a label for every pixel: crops for training, whole images for testing.

The training is that of mmsegmentation's Cityscapes networks: a random scale, a crop, a flip,
changed colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from video_snl.config.image import ImageDataConfig
from video_snl.data.image.base import FileDataset, ImageSet, image_set, image_statistics
from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.data.loading.collate import Sample
from video_snl.data.transforms.image import distort, draw_distortion
from video_snl.errors import UserError

__all__ = [
    "IGNORED",
    "ReadLabels",
    "SegmentationDataset",
    "SegmentationFiles",
    "draw_crop",
    "segmentation_set",
]

IGNORED = 255
"""Label of pixels that are not scored."""

ReadLabels = Callable[[str, int], np.ndarray]
"""Reads a label map, uint8 (H, W), from a path and the most pixels allowed.

It raises UnreadableImage for a file that is at fault.
"""

_ATTEMPTS = 10


class SegmentationFiles(NamedTuple):
    """Images and their label maps."""

    images: list[str]
    labels: list[str]


class Pair(NamedTuple):
    """An image, uint8 (H, W, 3), and its labels, uint8 (H, W)."""

    image: np.ndarray
    labels: np.ndarray


class SegmentationDataset(FileDataset):
    """Images with label maps.

    ``dataset[epoch, index]`` holds ``image`` uint8 (h, w, 3), ``label`` uint8 (h, w) with 255 where
    nothing is scored, and ``index``. Training images are resized by a factor drawn from ``scales``,
    cut to ``height`` x ``width`` at a random place (see :func:`draw_crop`), flipped and distorted
    at random. Test images are whole. Any other image may stand for an unreadable one in training.
    Where a test image is unreadable, ``missed`` of the batch holds its labels, so that all of its
    pixels can count as wrong.

    Args:
        read_labels: Reads one label map.
        fill: Colour around images smaller than the crop: the mean, which becomes zero.
    """

    def __init__(
        self,
        files: SegmentationFiles,
        config: ImageDataConfig,
        read_labels: ReadLabels,
        *,
        training: bool,
        seed: int,
        fill: Sequence[int] = (124, 116, 104),
    ) -> None:
        super().__init__(files.images, training=training, seed=seed)
        self.label_paths, self.read_labels = list(files.labels), read_labels
        self.config, self.fill = config, tuple(fill)

    def members(self, index: int) -> np.ndarray:
        return np.arange(len(self))

    def sample(self, index_read: int, random: np.random.Generator) -> Sample:
        pair = self._read(index_read)
        if self.training:
            pair = self._changed(pair, random)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pair.image)),
            "label": torch.from_numpy(np.ascontiguousarray(pair.labels)),
        }

    def missed(self, index: int) -> Sample:
        return {"missed": torch.from_numpy(self._labels(index))}

    def _read(self, index: int) -> Pair:
        labels = self._labels(index)
        image = np.array(read_image(self.paths[index], max_pixels=self.config.max_pixels))
        if image.shape[:2] != labels.shape:
            of_image, of_labels = (" x ".join(map(str, x.shape[:2])) for x in (image, labels))
            raise UnreadableImage(
                f"{self.paths[index]} is {of_image} pixels high and wide, its EXIF orientation "
                f"applied, and its label map {self.label_paths[index]} is {of_labels}: give both "
                "in one size"
            )
        return Pair(image, labels)

    def _labels(self, index: int) -> np.ndarray:
        try:
            return self.read_labels(self.label_paths[index], self.config.max_pixels)
        except UnreadableImage as error:
            if self.training:  # another image may train instead
                raise
            # A test has nothing to compare with.
            raise UserError(str(error)) from error

    def _changed(self, pair: Pair, random: np.random.Generator) -> Pair:
        scale, place, flip, colours = random.spawn(4)
        config = self.config
        pair = self._padded(_scaled(pair, scale.uniform(config.scales[0], config.scales[1])))
        size = config.height, config.width
        top, left = draw_crop(place, pair.labels, size, config.largest_class)
        image, labels = (x[top : top + size[0], left : left + size[1]] for x in pair)
        if config.flip and flip.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        if config.photometric:
            image = distort(np.ascontiguousarray(image), draw_distortion(colours))
        return Pair(image, labels)

    def _padded(self, pair: Pair) -> Pair:
        height, width = pair.labels.shape
        edges = 0, max(0, self.config.height - height), 0, max(0, self.config.width - width)
        if not any(edges):
            return pair
        border = cv2.BORDER_CONSTANT
        return Pair(
            cv2.copyMakeBorder(pair.image, *edges, border, value=self.fill),
            cv2.copyMakeBorder(pair.labels, *edges, border, value=(IGNORED,)),
        )


def segmentation_set(
    config: ImageDataConfig,
    seed: int,
    train: SegmentationFiles,
    test: SegmentationFiles,
    class_names: list[str],
    read_labels: ReadLabels,
) -> ImageSet:
    """Return a dataset of files with label maps, as loaders of datasets do."""
    fill = [round(255 * value) for value in image_statistics(config)[0]]
    parts = [
        SegmentationDataset(files, config, read_labels, training=training, seed=seed, fill=fill)
        for files, training in ((train, True), (test, False))
    ]
    return image_set(config, parts[0], parts[1], class_names, IGNORED)


def draw_crop(
    random: np.random.Generator, labels: np.ndarray, size: tuple[int, int], largest_class: float
) -> tuple[int, int]:
    """Draw top and left of a crop, again while it is nearly all one class.

    It is drawn again, up to ten times, while it has fewer than two classes, or one class has at
    least ``largest_class`` of its labelled pixels. The last draw stays as it is. With a
    ``largest_class`` of 1 or more nothing is drawn again.
    """
    height, width = size
    for attempt in range(_ATTEMPTS + 1):
        top = int(random.integers(labels.shape[0] - height + 1))
        left = int(random.integers(labels.shape[1] - width + 1))
        if largest_class >= 1 or attempt == _ATTEMPTS:
            break
        crop = labels[top : top + height, left : left + width]
        counts = np.bincount(crop.ravel(), minlength=256)[:IGNORED]
        if (counts > 0).sum() > 1 and counts.max() < largest_class * counts.sum():
            break
    return top, left


def _scaled(pair: Pair, factor: float) -> Pair:
    height, width = (int(side * factor + 0.5) for side in pair.labels.shape)
    return Pair(
        cv2.resize(pair.image, (width, height), interpolation=cv2.INTER_LINEAR),
        cv2.resize(pair.labels, (width, height), interpolation=cv2.INTER_NEAREST),
    )
