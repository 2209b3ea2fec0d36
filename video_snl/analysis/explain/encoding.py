"""Numbers and pictures as text that a page holds: levels of 8 bits, base64, JPEG."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

__all__ = ["base64_of", "decoded_rows", "encoded_rows", "palette", "picture_uri", "row_step"]

LEVELS = 255
"""The highest level; the lowest is 0."""

_LONGER_SIDE = 400
_QUALITY = 85


def base64_of(array: NDArray[Any]) -> str:
    """The array's bytes, little-endian and in C order, as base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def encoded_rows(rows: ArrayLike) -> dict[str, str]:
    """Rows of numbers in 256 levels each, between the row's smallest and largest.

        level = round(255 (value - low) / (high - low)),   value' = low + (high - low) level / 255

    ``low`` and ``high`` are float32, so the ends of a row come back as they are and any other value
    to within (high - low) / 510, plus the rounding of float32.

    Shapes:
        rows: (R, C), finite.

    Raises:
        ValueError: for anything else.
    """
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"rows must be of shape (R, C) with C > 0, not {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {values.size} values are not finite.")
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    levels = np.rint(LEVELS * (values - low) / span).astype(np.uint8)
    return {
        "low": base64_of(low[:, 0].astype(np.float32)),
        "high": base64_of(high[:, 0].astype(np.float32)),
        "levels": base64_of(levels),
    }


def decoded_rows(encoded: dict[str, str]) -> NDArray[np.float64]:
    """What the page reads from :func:`encoded_rows`: (R, C)."""
    low, high = (_array(encoded[name], "<f4").astype(np.float64) for name in ("low", "high"))
    levels = _array(encoded["levels"], "u1").reshape(len(low), -1)
    return low[:, None] + (high - low)[:, None] * levels / LEVELS


def row_step(rows: ArrayLike) -> NDArray[np.float64]:
    """How far a value of each row may be from what the page shows: (R, 1)."""
    values = np.asarray(rows, dtype=np.float64)
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    rounding = 2 * np.finfo(np.float32).eps * np.maximum(abs(low), abs(high))
    return (high - low) / (2 * LEVELS) + rounding + np.finfo(np.float32).tiny


def picture_uri(frame: NDArray[np.uint8]) -> str:
    """A frame (H, W, 3) as the address of a JPEG, its longer side at most 400 pixels."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def palette(name: str) -> str:
    """256 colours (red, green, blue) of one of matplotlib's colour maps."""
    from matplotlib import colormaps

    colours = colormaps[name](np.linspace(0, 1, LEVELS + 1))[:, :3]
    return base64_of(np.rint(255 * colours).astype(np.uint8))


def _array(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
