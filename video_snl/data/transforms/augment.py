"""Augmentation of training clips: drawn with the sample, applied on the device.

The process that decodes only draws numbers (well below a millisecond); the pixels change where the
batch is cropped, after the crop: there they are fewer, on a GPU they cost next to nothing, and the
processes that decode, which a training waits for first, are spared.Every frame of a clip is
treated alike: one draw for a clip, and where an operation looks at the image as a whole (the mean
of a contrast, the extremes of an automatic one, the histogram of an equalisation), it looks at all
frames together: torchvision gets them below each other, as one image, so that a clip does not
flicker.

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

import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from video_snl.config.video import DataConfig
from video_snl.data.transforms.geometry import crop_clips, crop_scaled_clips
from video_snl.errors import OptionsError

__all__ = [
    "OPERATIONS",
    "augment_clips",
    "augmented_crops",
    "check_augmentation",
    "draw_augmentation",
    "jitter_colours",
    "scale_pairs",
]

LARGEST_MAGNITUDE = 30
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_JITTER = ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue")
_UNCHANGED = (1.0, 1.0, 1.0, 0.0)

Operation = Callable[[Tensor, float], Tensor]
"""Changes a clip, uint8 (T, h, w, 3), with a strength in [-1, 1]."""


def check_augmentation(config: DataConfig) -> None:
    """Refuse options out of their range, and those that contradict each other.

    Raises:
        OptionsError: It names the option and its range.
    """
    short = config.short_side if config.frame_size is None else min(config.frame_size)
    for scale in config.crop_scales:
        if not 0 < scale <= 1 or round(scale * short) < 1:
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


def augmented_crops(batch: Mapping[str, Tensor], data: DataConfig) -> Tensor:
    """Crop, flip and augment training clips by the numbers that their samples carry.

    Args:
        batch: Samples of :class:`~video_snl.data.video.dataset.ClipDataset`, collated: ``video``
            uint8 (B, T, H, W, 3), ``size`` and ``offset`` (B, 2), ``flip`` (B,), and what was drawn
            beside them.
        data: Options of the data.

    Returns:
        uint8 (B, T, crop, crop, 3).
    """
    place = batch["video"], batch["size"], batch["offset"], batch["flip"]
    if "scale" in batch:
        cropped = crop_scaled_clips(*place, batch["scale"], data.crop)
    else:
        cropped = crop_clips(*place, data.crop)
    jitter, operations = batch.get("jitter"), batch.get("operations")
    return augment_clips(cropped, jitter, operations, data.rand_augment_magnitude)


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
            clips = [
                jitter_colours(c, [int(change) for change in x[:4]], x[4:])
                for c, x in zip(clips, jitter.tolist(), strict=True)
            ]
    return torch.stack(clips)


def jitter_colours(clip: Tensor, order: Sequence[int], factors: Sequence[float]) -> Tensor:
    """Change brightness (0), contrast (1), saturation (2) and hue (3) of a clip.

    Args:
        clip: uint8 (T, h, w, 3).
        order: The numbers of these four, in the order of the changes.
        factors: Factors of brightness, contrast and saturation, where 1 changes nothing, and the
            turn of the hue in parts of the circle, where 0 changes nothing.
    """
    for change in order:
        value = factors[change]
        if value != _UNCHANGED[change]:
            clip = _adjust(clip, change, value)
    return clip


def _operate(clip: Tensor, chosen: list[list[float]], strength: float) -> Tensor:
    operations = list(OPERATIONS.values())
    for place, sign in chosen:
        clip = operations[int(place)](clip, sign * strength)
    return clip


def _adjust(clip: Tensor, change: int, value: float) -> Tensor:
    adjust = getattr(_functional(), _JITTER[change])
    return _as_one_image(clip, lambda image: adjust(image, value))


def _functional() -> ModuleType:
    """Import torchvision's operations, which takes longer than torch itself.

    Processes that decode draw from :data:`OPERATIONS` and need none of them.
    """
    from torchvision.transforms.v2 import functional

    return functional


def _as_one_image(clip: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    image = clip.flatten(0, 1).permute(2, 0, 1)  # (3, T h, w)
    return change(image).permute(1, 2, 0).reshape(clip.shape)


def _frame_by_frame(clip: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return change(clip.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _affine(
    clip: Tensor, *, right: int = 0, down: int = 0, shear: Sequence[float] = (0.0, 0.0)
) -> Tensor:
    """Shift by whole pixels, or shear by slopes about the top left corner; black comes in."""
    degrees = [math.degrees(math.atan(slope)) for slope in shear]
    return _frame_by_frame(
        clip,
        lambda frames: _functional().affine(
            frames,
            angle=0.0,
            translate=[right, down],
            scale=1.0,
            shear=degrees,
            center=[0.0, 0.0] if any(shear) else None,
        ),
    )


def _identity(clip: Tensor, strength: float) -> Tensor:
    return clip


def _shear_x(clip: Tensor, strength: float) -> Tensor:
    return _affine(clip, shear=(0.3 * strength, 0.0))


def _shear_y(clip: Tensor, strength: float) -> Tensor:
    return _affine(clip, shear=(0.0, 0.3 * strength))


def _translate_x(clip: Tensor, strength: float) -> Tensor:
    return _affine(clip, right=int(150 / 331 * clip.shape[2] * strength))


def _translate_y(clip: Tensor, strength: float) -> Tensor:
    return _affine(clip, down=int(150 / 331 * clip.shape[1] * strength))


def _rotate(clip: Tensor, strength: float) -> Tensor:
    return _frame_by_frame(clip, lambda frames: _functional().rotate(frames, 30 * strength))


def _brightness(clip: Tensor, strength: float) -> Tensor:
    return _adjust(clip, BRIGHTNESS, 1 + 0.9 * strength)


def _color(clip: Tensor, strength: float) -> Tensor:
    return _adjust(clip, SATURATION, 1 + 0.9 * strength)


def _contrast(clip: Tensor, strength: float) -> Tensor:
    return _adjust(clip, CONTRAST, 1 + 0.9 * strength)


def _sharpness(clip: Tensor, strength: float) -> Tensor:
    return _frame_by_frame(clip, lambda x: _functional().adjust_sharpness(x, 1 + 0.9 * strength))


def _posterize(clip: Tensor, strength: float) -> Tensor:
    return _as_one_image(clip, lambda x: _functional().posterize(x, round(8 - 4 * abs(strength))))


def _solarize(clip: Tensor, strength: float) -> Tensor:
    return _as_one_image(clip, lambda x: _functional().solarize(x, 255 * (1 - abs(strength))))


def _autocontrast(clip: Tensor, strength: float) -> Tensor:
    return _as_one_image(clip, _functional().autocontrast)


def _equalize(clip: Tensor, strength: float) -> Tensor:
    return _as_one_image(clip, _functional().equalize)


# Ranges as in arXiv:1909.13719 and torchvision. The order is
# part of what a seed means.
OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
