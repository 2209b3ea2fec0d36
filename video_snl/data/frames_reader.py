"""A folder of numbered pictures read as one video."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from video_snl.data.timing import stage
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = ["FRAME_SUFFIXES", "FramesReader"]

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_NUMBER = re.compile(r"(\d+)\.\w+$")


class FramesReader:
    """The pictures of a folder in the order of the number at the end of their names.

    ``1.jpg``, ``img_00001.jpg`` and ``frame000001.png`` are all number 1. The first number does not
    matter; from there on none may be missing. Other files are left out.

    Raises:
        UserError: No such folder, no pictures, a number missing or there twice; a picture that
            cannot be read or has another size than the first one asked for.
    """

    def __init__(self, path: str, max_pixels: int = MAX_PIXELS) -> None:
        self.path, self.max_pixels = path, max_pixels
        with stage("open"):
            self._files = _numbered_files(path)
        self._size: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Sequence[int]) -> Tensor:
        """The frames of these indices, RGB, uint8 (T, H, W, 3)."""
        with stage("decode"):
            pictures = {index: self._picture(self._files[index]) for index in set(indices)}
            return torch.stack([pictures[index] for index in indices])

    def close(self) -> None:
        """Nothing is open between calls."""

    def _picture(self, file: str) -> Tensor:
        try:
            # Not torchvision.io: its libpng fails where decord has loaded an old zlib before.
            with Image.open(file) as opened:
                picture = torch.from_numpy(np.array(opened.convert("RGB")))
        except OSError as error:
            raise UserError(
                f"{file} is no readable picture: make the frames of this video again"
            ) from error
        self._size = self._size or tuple(picture.shape[:2])
        if tuple(picture.shape[:2]) != self._size:
            height, width = picture.shape[:2]
            raise UserError(
                f"{file} is {width} x {height}, other frames of its folder are {self._size[1]} x "
                f"{self._size[0]}: make the frames of this video again"
            )
        return picture


def _numbered_files(path: str) -> list[str]:
    if not os.path.isdir(path):
        found = "is no folder" if os.path.exists(path) else "does not exist"
        raise UserError(
            f"{path} {found}: data.reader=frames reads folders of numbered .jpg or .png files, one "
            "folder for each video"
        )
    files: dict[int, str] = {}
    for name in sorted(os.listdir(path)):
        number = _NUMBER.search(name)
        if number is None or Path(name).suffix.lower() not in FRAME_SUFFIXES:
            continue
        if int(number[1]) in files:
            raise UserError(
                f"{path} holds frame {int(number[1])} twice ({Path(files[int(number[1])]).name}, "
                f"{name}): remove one"
            )
        files[int(number[1])] = os.path.join(path, name)
    if not files:
        raise UserError(f"{path} holds no numbered .jpg or .png files: extract the frames again")
    gaps = sorted(set(range(min(files), max(files))) - files.keys())
    if gaps:
        raise UserError(
            f"{path} lacks {len(gaps)} frames, the first is number {gaps[0]}: extract them again"
        )
    return [files[number] for number in sorted(files)]
