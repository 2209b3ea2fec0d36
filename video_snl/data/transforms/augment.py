"""Augmentation of training clips: drawn with the sample, applied on the device.

The process that decodes only draws numbers (well below a millisecond); the pixels change where the
batch is cropped, after the crop: there they are fewer, on a GPU they cost next to nothing, and the
processes that decode, which a training waits for first, are spared. Every frame of a clip is
treated alike: one draw for a clip, and where an operation looks at the image (the mean of a
contrast, the histogram of an equalisation), it looks at all frames together, so that a clip does
not flicker.

A sample carries, where the option is set,

============== ================ ==============================================================
``scale``      float32 (2,)     height and width of the crop, as shares of the shorter side
``jitter``     float32 (8,)     order of the four changes, then factors of brightness, contrast,
                                saturation, and the turn of the hue
``operations`` float32 (n, 2)   place in ``OPERATIONS`` and sign, of every operation
============== ================ ==============================================================

The last two decide what is launched, and so stay on the host
(:data:`~video_snl.data.loading.prefetch.HOST_FIELDS`): to look at them on a GPU would wait for all
work queued on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from video_snl.config.video import DataConfig
from video_snl.data.transforms.randaugment import OPERATIONS, jitter_colours
from video_snl.errors import OptionsError

__all__ = [
    "augment_clips",
    "check_augmentation",
    "draw_augmentation",
    "scale_pairs",
]

LARGEST_MAGNITUDE = 30


def check_augmentation(config: DataConfig) -> None:
    """Refuse options out of their range, and those that contradict each other.

    Raises:
        OptionsError: It names the option and its range.
    """
    if config.sampling == "uniform" and config.frame_stride != 1:
        raise OptionsError(
            f"data.frame_stride={config.frame_stride} means nothing with data.sampling=uniform, "
            "whose clips span the whole video: leave it at 1"
        )
    for scale in config.crop_scales:
        if not 0 < scale <= 1 or round(scale * config.short_side) < 1:
            raise OptionsError(
                f"data.crop_scales={config.crop_scales} holds {scale}: shares of the shorter side "
                "lie above 0 and are at most 1"
            )
    ranges = {
        "color_jitter": 1.0,
        "hue_jitter": 0.5,
        "rand_augment": 10,
        "rand_augment_magnitude": LARGEST_MAGNITUDE,
    }
    for name, most in ranges.items():
        if not 0 <= getattr(config, name) <= most:
            raise OptionsError(f"data.{name}={getattr(config, name)}: give 0 to {most}")


def draw_augmentation(config: DataConfig, random: np.random.Generator) -> dict[str, Tensor]:
    """Draw the numbers of one sample, for the options that are set.

    Each option has a stream of its own, spawned from the sample's: what one draws does not depend
    on whether another is set.
    """
    jitters = config.color_jitter or config.hue_jitter
    if not (config.crop_scales or jitters or config.rand_augment):
        return {}
    scale, jitter, operations = random.spawn(3)
    drawn: dict[str, object] = {}
    if config.crop_scales:
        pairs = scale_pairs(config.crop_scales)
        drawn["scale"] = pairs[scale.integers(len(pairs))]
    if jitters:
        most = [config.color_jitter] * 3 + [config.hue_jitter]
        change = jitter.uniform(-1, 1, 4) * most + [1, 1, 1, 0]
        drawn["jitter"] = [*jitter.permutation(4), *change]
    if config.rand_augment:
        chosen = operations.integers(len(OPERATIONS), size=config.rand_augment)
        signs = operations.choice([-1.0, 1.0], size=config.rand_augment)
        drawn["operations"] = np.stack([chosen, signs], axis=1)
    return {name: torch.tensor(np.asarray(x), dtype=torch.float32) for name, x in drawn.items()}


def scale_pairs(scales: Sequence[float]) -> list[tuple[float, float]]:
    """Return (height, width) of multi-scale crops: a scale with itself or a neighbour."""
    return [
        (height, width)
        for i, height in enumerate(scales)
        for j, width in enumerate(scales)
        if abs(i - j) <= 1
    ]


def augment_clips(
    video: Tensor, jitter: Tensor | None, operations: Tensor | None, magnitude: int
) -> Tensor:
    """Apply RandAugment, then jitter the colours, of every clip of a batch.

    Args:
        video: uint8 (B, T, h, w, 3).
        jitter: (B, 8), as drawn; None for none.
        operations: (B, n, 2), as drawn; None for none.
        magnitude: Magnitude of the operations, 0 to 30.

    Returns:
        uint8 (B, T, h, w, 3).
    """
    if jitter is None and operations is None:
        return video
    clips = list(video)
    # Half-precision products would move pixels (the grids of rotations and shears).
    with torch.autocast(video.device.type, enabled=False):
        if operations is not None:
            strength = magnitude / LARGEST_MAGNITUDE
            clips = [
                _operate(c, x, strength) for c, x in zip(clips, operations.tolist(), strict=True)
            ]
        if jitter is not None:
            clips = [_jitter(c, x) for c, x in zip(clips, jitter.tolist(), strict=True)]
    return torch.stack(clips)


def _operate(clip: Tensor, chosen: list[list[float]], strength: float) -> Tensor:
    for place, sign in chosen:
        clip = _OPERATIONS[int(place)](clip, sign * strength)
    return clip


def _jitter(clip: Tensor, drawn: list[float]) -> Tensor:
    return jitter_colours(clip, [int(change) for change in drawn[:4]], drawn[4:])


_OPERATIONS = tuple(OPERATIONS.values())
