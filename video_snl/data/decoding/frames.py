"""Folders of numbered images, each read as one video."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.media import IMAGE_SUFFIXES, MAX_PIXELS, is_image_name
from video_snl.utils.timing import stage

__all__ = ["FramesReader"]

_NUMBER = re.compile(r"(\d+)\.\w+$")


class FramesReader:
    """Video made of the images of a folder, in the order of the number at the end of their names.

    ``1.jpg``, ``img_00001.jpg`` and ``frame000001.png`` are all number 1. The first number does not
    matter; from there on none may be missing. Other files are left out.

    Args:
        path: Folder of images.
        max_pixels: Largest number of pixels of a frame; a larger one cannot be read.

    Raises:
        UserError: No such folder, no images, a number missing or there twice; an image that
            cannot be read or has another size than the first one asked for.
    """

    def __init__(self, path: str, max_pixels: int = MAX_PIXELS) -> None:
        self.path, self.max_pixels = path, max_pixels
        with stage("open"):
            self._files = _numbered_files(path)
        self._size: tuple[int, ...] | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame; before the first one is read, of the largest that is allowed."""
        return 3 * (math.prod(self._size) if self._size else self.max_pixels)

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> Tensor:
        """Return the frames of these indices, RGB, uint8 (T, H, W, 3)."""
        with stage("decode"):
            images = {index: self._image(self._files[index]) for index in set(indices)}
            return torch.stack([images[index] for index in indices])

    def close(self) -> None:
        """Do nothing: no file is open between calls."""

    def _image(self, file: str) -> Tensor:
        try:
            # Not torchvision.io: its libpng fails where decord has loaded an old zlib before.
            found = read_image(file, max_pixels=self.max_pixels)
        except UnreadableImage as error:
            raise UserError(f"{error}, a frame of a video: extract its frames again") from error
        image = torch.from_numpy(np.array(found))
        self._size = self._size or tuple(image.shape[:2])
        if tuple(image.shape[:2]) != self._size:
            height, width = image.shape[:2]
            raise UserError(
                f"{file} is {width} x {height}, other frames of its folder are {self._size[1]} x "
                f"{self._size[0]}: make the frames of this video again"
            )
        return image


def _numbered_files(path: str) -> list[str]:
    if not os.path.isdir(path):
        found = "is not a folder" if os.path.exists(path) else "does not exist"
        raise UserError(
            f"{path} {found}: data.reader=frames reads folders of numbered images (1.jpg, 2.jpg, "
            "...), one folder for each video"
        )
    files: dict[int, str] = {}
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if is_image_name(entry.name))
    for name in names:
        number = _NUMBER.search(name)
        if number is None:
            continue
        if int(number[1]) in files:
            raise UserError(
                f"{path} holds frame {int(number[1])} twice ({Path(files[int(number[1])]).name}, "
                f"{name}): extract the frames of a video once, into a folder of their own"
            )
        files[int(number[1])] = os.path.join(path, name)
    if not files:
        raise UserError(
            f"{path} holds no numbered images ({', '.join(sorted(IMAGE_SUFFIXES))}): extract the "
            "frames again, or name the folder that holds them"
        )
    gaps = sorted(set(range(min(files), max(files))) - files.keys())
    if gaps:
        raise UserError(
            f"{path} lacks {counts(len(gaps), 'frame')}, the first is number {gaps[0]}: extract "
            "them again"
        )
    return [files[number] for number in sorted(files)]
