"""Transforms of the pixels of tracklets, on the device they are on.

The processes that read draw the random numbers; here they are applied to whole batches. All frames
of a tracklet are transformed alike.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from video_snl.config.statistics import STATISTICS
from video_snl.data.transforms.geometry import crop_clips, normalise

__all__ = ["draw_erasing", "erase", "evaluation_clips", "training_clips"]

_MEAN, _STD = STATISTICS["imagenet"]
# Ranges of Zhong et al., Random Erasing Data Augmentation, AAAI 2020 (arXiv:1708.04896).
_AREA = 0.02, 0.4
_ASPECT = 0.3, 1 / 0.3
_ATTEMPTS = 100


def draw_erasing(
    random: np.random.Generator, probability: float, height: int, width: int
) -> tuple[int, int, int, int]:
    """Draw a rectangle to erase: top, left, height, width in pixels; height 0 for none.

    Its area is a share of the frame's drawn from [0.02, 0.4], its height is r times its width with
    r drawn from [0.3, 1 / 0.3], both uniformly; drawn again until it is smaller than the frame, up
    to a hundred times.
    """
    if random.random() >= probability:
        return 0, 0, 0, 0
    for _ in range(_ATTEMPTS):
        area = random.uniform(*_AREA) * height * width
        aspect = random.uniform(*_ASPECT)
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = random.integers(height - h + 1), random.integers(width - w + 1)
            return int(top), int(left), h, w
    return 0, 0, 0, 0


def training_clips(batch: dict[str, Tensor], pad: int) -> Tensor:
    """Pad with black, crop, flip, normalise by ImageNet's statistics, and erase.

    Shapes: ``video`` uint8 (B, T, H, W, 3), ``offset`` (B, 2), ``flip`` (B,), ``erase`` (B, 4) ->
    (B, 3, T, H, W), channels last in memory.
    """
    video = batch["video"]
    size = video.shape[2:4]
    if pad > 0:
        video = functional.pad(video, (0, 0, pad, pad, pad, pad))
    # A blocking copy would wait for the work queued on a GPU.
    padded = torch.tensor(video.shape[2:4]).expand(len(video), 2)
    padded = padded.to(video.device, non_blocking=True)
    cropped = crop_clips(video, padded, batch["offset"], batch["flip"], (size[0], size[1]))
    return erase(normalise(cropped, _MEAN, _STD), batch["erase"])


def evaluation_clips(video: Tensor) -> Tensor:
    """Normalise by ImageNet's statistics: uint8 (B, T, H, W, 3) -> (B, 3, T, H, W)."""
    return normalise(video, _MEAN, _STD)


def erase(clips: Tensor, rectangles: Tensor) -> Tensor:
    """Set a rectangle of every clip to zero, the mean colour, the same in all its frames.

    Shapes: clips (B, 3, T, H, W), rectangles (B, 4): top, left, height, width.
    """
    top, left, height, width = rectangles.T[:, :, None]
    rows = torch.arange(clips.shape[3], device=clips.device)
    columns = torch.arange(clips.shape[4], device=clips.device)
    in_rows = (rows >= top) & (rows < top + height)
    in_columns = (columns >= left) & (columns < left + width)
    inside = in_rows[:, None, None, :, None] & in_columns[:, None, None, None, :]
    return clips.masked_fill(inside, 0)
