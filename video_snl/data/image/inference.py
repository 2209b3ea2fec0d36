"""An image as a trained network is given it outside of its dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from video_snl.config.image import ImageDataConfig
from video_snl.data.image.catalog import ONE_SIZE
from video_snl.data.image.classification import evaluation_picture, read_picture
from video_snl.errors import OptionsError, UserError

__all__ = ["prepared"]


def prepared(path: Path, data: ImageDataConfig) -> Tensor:
    """A picture as the network was tested on them: uint8 (H, W, 3).

    Digits and CIFAR have pictures of one size alone; others are resized to it.

    Args:
        data: Of the run that the network is from.

    Raises:
        Unreadable: The file is damaged, or no picture.
        UserError: It is smaller than what the network takes, and the run resized no picture.
    """
    picture = read_picture(str(path), data.max_pixels)
    if data.dataset == "cityscapes":
        return _pixels(picture)
    if data.dataset in ONE_SIZE:
        data = replace(data, short_side=max(data.height, data.width))
    try:
        return _pixels(evaluation_picture(picture, str(path), data))
    except OptionsError as error:  # whose advice is for a training
        raise UserError(
            f"{path} has {picture.height} x {picture.width} pixels; the network was trained on "
            f"{data.height} x {data.width} of pictures that were not resized: enlarge the picture"
        ) from error


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture))
