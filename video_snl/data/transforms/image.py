"""From a batch of uint8 images to what a network takes, on the device of the batch.

Images that a process has read come cut and changed already (it had to look at each of them alone).
For images in memory the batch carries the random numbers, and everything happens here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from video_snl.config.image import ImageDataConfig
from video_snl.data.loading.batches import Batch
from video_snl.data.transforms.augment import augment_clips
from video_snl.data.transforms.geometry import crop_clips, normalise

__all__ = ["evaluation_images", "training_images"]


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
