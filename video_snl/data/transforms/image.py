"""Changes of images: one by one where they are read, as a batch where the network is.

Images of files come from the process that read them cut and changed already: it had to look at each
of them alone. The changes of colour for segmentation are made there, those of mmsegmentation's
PhotoMetricDistortion: four changes, each with probability one half, of brightness plus [-32, 32],
contrast and saturation times [0.5, 1.5], and hue plus [-18, 18) of 180. Contrast comes second or
last with equal probability. After every change values are cut to [0, 255] and lose their fraction.

For images in memory the batch carries the random numbers, and everything happens on the device of
the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from video_snl.config.image import ImageDataConfig
from video_snl.data.loading.collate import Batch
from video_snl.data.transforms.augment import augment_clips
from video_snl.data.transforms.geometry import crop_clips, normalise

__all__ = ["Distortion", "distort", "draw_distortion", "evaluation_images", "training_images"]

_BRIGHTNESS = 32
_FACTORS = 0.5, 1.5
_HUE = 18  # of OpenCV's 180


def training_images(
    batch: Batch,
    config: ImageDataConfig,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Pad with black, crop, flip and change images as the batch says, then normalise them.

    Shapes: ``image`` uint8 (B, h, w, 3), ``offset`` (B, 2), ``flip`` (B,), and what
    :mod:`~video_snl.data.transforms.augment` adds -> (B, 3, h, w), laid out as
    ``torch.channels_last``. Without ``offset`` the images are cut and changed already.
    """
    video = batch["image"][:, None]
    if "offset" in batch:
        size, pad = (video.shape[2], video.shape[3]), config.pad
        if pad:
            video = functional.pad(video, (0, 0, pad, pad, pad, pad))
        # A blocking copy would wait for the work queued on a GPU.
        padded = torch.tensor(video.shape[2:4]).expand(len(video), 2)
        padded = padded.to(video.device, non_blocking=True)
        video = crop_clips(video, padded, batch["offset"], batch["flip"], size)
        video = augment_clips(
            video, batch.get("jitter"), batch.get("operations"), config.rand_augment_magnitude
        )
    return normalise(video, mean, std, dtype).squeeze(2)


def evaluation_images(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Normalise images: uint8 (B, h, w, 3) -> (B, 3, h, w), laid out as ``torch.channels_last``."""
    return normalise(images[:, None], mean, std, dtype).squeeze(2)


@dataclass(frozen=True)
class Distortion:
    """Change of an image; a value that changes nothing stands for no change.

    Args:
        brightness: Added to the values, of 0 to 255.
        contrast: Factor of the values.
        contrast_first: Contrast comes before saturation and hue, not after them.
        saturation: Factor of the saturation.
        hue: Added to the hue, in 180ths of the circle.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_first: bool = True
    saturation: float = 1.0
    hue: int = 0


def draw_distortion(random: np.random.Generator) -> Distortion:
    """Draw every number, also unused ones: no choice moves the others."""
    chosen = random.random(4) < 0.5
    brightness = random.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    contrast, saturation = random.uniform(*_FACTORS, size=2)
    hue = int(random.integers(-_HUE, _HUE))
    return Distortion(
        brightness=brightness if chosen[0] else 0.0,
        contrast=contrast if chosen[1] else 1.0,
        contrast_first=bool(random.random() < 0.5),
        saturation=saturation if chosen[2] else 1.0,
        hue=hue if chosen[3] else 0,
    )


def distort(image: np.ndarray, drawn: Distortion) -> np.ndarray:
    """Change an image, uint8 RGB (h, w, 3) -> the same."""
    image = _linear(image, 1.0, drawn.brightness)
    if drawn.contrast_first:
        image = _linear(image, drawn.contrast)
    image = _saturate_and_turn(image, drawn.saturation, drawn.hue)
    return image if drawn.contrast_first else _linear(image, drawn.contrast)


def _linear(values: np.ndarray, factor: float, shift: float = 0.0) -> np.ndarray:
    if factor == 1.0 and shift == 0.0:
        return values
    # Of 256 values only: a table does in a fraction of the time what arithmetic would.
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return cv2.LUT(np.ascontiguousarray(values), table.clip(0, 255).astype(np.uint8))


def _saturate_and_turn(image: np.ndarray, factor: float, turn: int) -> np.ndarray:
    if factor == 1.0 and turn == 0:
        return image
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    turned = ((hue.astype(np.int16) + turn) % 180).astype(np.uint8)
    changed = cv2.merge([turned, _linear(saturation, factor), value])
    return cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)
