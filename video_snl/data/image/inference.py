"""An image as a trained network is given it outside of its dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageDataConfig
from video_snl.data.image.classification import evaluation_image
from video_snl.data.image.reading import read_image
from video_snl.errors import OptionsError, UserError

__all__ = ["image_input", "read_input"]


def read_input(path: Path, data: ImageDataConfig) -> Tensor:
    """Read an image as the network was tested on them: uint8 (H, W, 3).

    Datasets of one size alone (digits and CIFAR) have others resized to it; networks that label
    pixels take whole images.

    Args:
        data: Data options of the run that the network is from.

    Raises:
        UnreadableImage: The file is damaged, or not an image.
        UserError: It is smaller than what the network takes, and the run resized no image.
    """
    return image_input(read_image(path, max_pixels=data.max_pixels), str(path), data)


def image_input(image: Image.Image, name: str, data: ImageDataConfig) -> Tensor:
    """Prepare an image in memory as :func:`read_input` does: uint8 (H, W, 3).

    Args:
        name: Name of the image in messages.

    Raises:
        UserError: As for :func:`read_input`.
    """
    entry = IMAGE_DATASETS[data.dataset]
    if not entry.segments:
        resized = replace(data, short_side=entry.side) if entry.side is not None else data
        try:
            image = evaluation_image(image, name, resized)
        except OptionsError as error:  # whose advice is for a training
            raise UserError(
                f"{name} has {image.height} x {image.width} pixels; the network was trained on "
                f"{data.height} x {data.width} of images that were not resized: enlarge the image"
            ) from error
    return torch.from_numpy(np.array(image))
