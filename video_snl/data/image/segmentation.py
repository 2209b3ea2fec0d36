"""Scenes with a label for every pixel: the crops of training, whole pictures for testing.

The training recipe is that of mmsegmentation's Cityscapes networks: a random scale, a crop, a flip,
changed colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from video_snl.config.image_data import ImageDataConfig
from video_snl.data.image.base import FileDataset, Unreadable
from video_snl.data.image.cityscapes import IGNORED, Scenes, train_ids
from video_snl.data.image.classification import read_picture
from video_snl.data.image.reading import read_label_map
from video_snl.data.loading.collate import Sample
from video_snl.data.transforms.photometric import distort, draw_distortion
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = ["SceneDataset", "draw_crop", "read_labels"]

_ATTEMPTS = 10


class Pair(NamedTuple):
    """A picture, uint8 (H, W, 3), and its train ids, uint8 (H, W)."""

    image: np.ndarray
    labels: np.ndarray


class SceneDataset(FileDataset):
    """Scenes; ``dataset[epoch, index]`` holds ``image`` uint8 (h, w, 3), ``label`` uint8 (h, w)
    with 255 where nothing is scored, and ``index``.

    Training scenes are resized by a factor drawn from ``scales``, cut to ``height`` x ``width`` at
    a random place (see :func:`draw_crop`), flipped and distorted by chance. Test scenes are whole.
    For an unreadable training scene any other may stand. Of an unreadable picture of a test scene
    ``missed`` of the batch holds the labels, so that all of its pixels can count as wrong.

    Args:
        fill: Colour around scenes smaller than the crop: the mean, which becomes zero.
    """

    def __init__(
        self,
        scenes: Scenes,
        config: ImageDataConfig,
        *,
        training: bool,
        seed: int,
        fill: Sequence[int] = (124, 116, 104),
    ) -> None:
        super().__init__(scenes.images, training=training, seed=seed)
        self.label_paths, self.config, self.fill = list(scenes.labels), config, tuple(fill)

    def members(self, index: int) -> np.ndarray:
        return np.arange(len(self))

    def sample(self, shown: int, random: np.random.Generator) -> Sample:
        pair = self._read(shown)
        if self.training:
            pair = self._changed(pair, random)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pair.image)),
            "label": torch.from_numpy(np.ascontiguousarray(pair.labels)),
        }

    def missed(self, index: int) -> Sample:
        return {"missed": torch.from_numpy(self._labels(index))}

    def _read(self, shown: int) -> Pair:
        labels = self._labels(shown)
        image = np.array(read_picture(self.paths[shown], self.config.max_pixels))
        if image.shape[:2] != labels.shape:
            of_image, of_labels = (" x ".join(map(str, x.shape[:2])) for x in (image, labels))
            raise Unreadable(
                f"{self.paths[shown]} is {of_image} pixels high and wide, its EXIF orientation "
                f"applied, and its label map {self.label_paths[shown]} is {of_labels}: give both "
                "in one size"
            )
        return Pair(image, labels)

    def _labels(self, shown: int) -> np.ndarray:
        try:
            return read_labels(self.label_paths[shown], self.config.max_pixels)
        except Unreadable as error:
            raise self._fault(str(error)) from error

    def _fault(self, message: str) -> UserError:
        """Another scene may train instead; a test has nothing to compare with."""
        return Unreadable(message) if self.training else UserError(message)

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


def draw_crop(
    random: np.random.Generator, labels: np.ndarray, size: tuple[int, int], largest_class: float
) -> tuple[int, int]:
    """top and left of a crop, drawn again while it is nearly all one class.

    That is, up to ten times: while it has fewer than two classes, or one class has at least
    ``largest_class`` of its labelled pixels. The last draw stays as it is. From 1 on nothing is
    drawn again.
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


def read_labels(path: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map of Cityscapes as train ids, uint8 (H, W).

    Raises:
        Unreadable: It is damaged, not there, or has ids that Cityscapes has not.
    """
    try:
        return train_ids(read_label_map(path, max_pixels=max_pixels), path)
    except Unreadable:
        raise
    except UserError as error:
        raise Unreadable(str(error)) from error


def _scaled(pair: Pair, factor: float) -> Pair:
    height, width = (int(side * factor + 0.5) for side in pair.labels.shape)
    return Pair(
        cv2.resize(pair.image, (width, height), interpolation=cv2.INTER_LINEAR),
        cv2.resize(pair.labels, (width, height), interpolation=cv2.INTER_NEAREST),
    )
