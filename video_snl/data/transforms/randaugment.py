"""Changes of colour and shape of one clip, the same for all of its frames.

A clip is uint8 (T, h, w, 3). What looks at the image as a whole (the mean of a contrast, the
extremes of an automatic one, the histogram of an equalisation) looks at all frames together: they
are handed to torchvision below each other, as one image, so that the clip does not flicker.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType

from torch import Tensor

__all__ = ["OPERATIONS", "jitter_colours"]

Operation = Callable[[Tensor, float], Tensor]


def jitter_colours(clip: Tensor, order: Sequence[int], factors: Sequence[float]) -> Tensor:
    """Change :data:`BRIGHTNESS`, :data:`CONTRAST`, :data:`SATURATION` and :data:`HUE`.

    Args:
        order: The numbers of these four, in the order of the changes.
        factors: Factors of brightness, contrast and saturation, where 1 changes nothing, and the
            turn of the hue in parts of the circle, where 0 changes nothing.
    """
    for change in order:
        value = factors[change]
        if value != _UNCHANGED[change]:
            clip = _adjust(clip, change, value)
    return clip


BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_JITTER = ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue")
_UNCHANGED = (1.0, 1.0, 1.0, 0.0)


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


# From a clip and a strength in [-1, 1]; ranges as in arXiv:1909.13719 and torchvision. The order is
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
