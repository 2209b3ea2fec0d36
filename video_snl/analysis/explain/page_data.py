"""What the explorer's script reads: images once each, maps in levels, where positions lie.

Numbers are levels of 8 bits in base64, images are JPEG.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from video_snl.analysis.explain.structure import (
    BlockMaps,
    Explanation,
    cells,
    check_explanations,
    is_signed,
)

__all__ = [
    "base64_of",
    "decoded_rows",
    "encoded_map",
    "encoded_rows",
    "page_data",
    "palette",
    "image_uri",
    "row_step",
]

LEVELS = 255
"""The highest level; the lowest is 0."""

_SEQUENTIAL, _DIVERGING = "inferno", "coolwarm"
_LONGER_SIDE = 400  # pixels
_QUALITY = 85


def page_data(explanations: Sequence[Explanation], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return all explanations as JSON; ``kinds`` are the labels of the maps' kinds.

    Raises:
        UserError: for maps with values that are not finite.
    """
    check_explanations(explanations)
    images: dict[str, int] = {}  # Networks that see the same clip share its images.
    return {
        "kinds": dict(kinds),
        "palettes": {"sequential": palette(_SEQUENTIAL), "diverging": palette(_DIVERGING)},
        "explanations": [_explanation(each, images) for each in explanations],
        "pictures": list(images),
    }


def encoded_map(matrix: ArrayLike, by_time: ArrayLike, positions: int) -> dict[str, Any]:
    """Encode a map, and of each row the strongest position, the total and its parts by time.

    Args:
        matrix: (N, N) weights.
        by_time: (N, T), sums of the sizes of the whole rows, also where the map is subsampled.
        positions: Number of positions in a whole row. The total that is stored is N times the mean
            of a whole row.

    Raises:
        ValueError: for values that are not finite.
    """
    weights = np.asarray(matrix, dtype=np.float64)
    encoded = encoded_rows(weights)
    parts = np.asarray(by_time, dtype=np.float64)
    total = parts.sum(1)
    shares = parts / np.where(total > 0, total, 1.0)[:, None]
    return {
        "rows": encoded,
        "signed": is_signed(weights),
        "strongest": base64_of(np.abs(weights).argmax(1).astype(np.int32)),
        "total": base64_of((total * (weights.shape[1] / positions)).astype(np.float32)),
        "shares": base64_of(shares.astype(np.float32)),
    }


def base64_of(array: NDArray[Any]) -> str:
    """Encode the array's bytes, little-endian and in C order, as base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def encoded_rows(rows: ArrayLike) -> dict[str, str]:
    """Encode rows of numbers in 256 levels each, between the row's smallest and largest.

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
    """Decode :func:`encoded_rows` as the page does: (R, C)."""
    low, high = (_array(encoded[name], "<f4").astype(np.float64) for name in ("low", "high"))
    levels = _array(encoded["levels"], "u1").reshape(len(low), -1)
    return low[:, None] + (high - low)[:, None] * levels / LEVELS


def row_step(rows: ArrayLike) -> NDArray[np.float64]:
    """Return the largest error of a value of each row on the page: (R, 1)."""
    values = np.asarray(rows, dtype=np.float64)
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    rounding = 2 * np.finfo(np.float32).eps * np.maximum(abs(low), abs(high))
    return (high - low) / (2 * LEVELS) + rounding + np.finfo(np.float32).tiny


def image_uri(frame: NDArray[np.uint8]) -> str:
    """Return a frame (H, W, 3) as the data URI of a JPEG, its longer side at most 400 pixels."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def palette(name: str) -> str:
    """Return 256 colours (red, green, blue) of one of matplotlib's colour maps."""
    from matplotlib import colormaps

    colours = colormaps[name](np.linspace(0, 1, LEVELS + 1))[:, :3]
    return base64_of(np.rint(255 * colours).astype(np.uint8))


def _explanation(explanation: Explanation, images: dict[str, int]) -> dict[str, Any]:
    t, h, w = explanation.frames.shape[:3]
    uris = [image_uri(frame) for frame in explanation.frames]
    gradcam = explanation.gradcam
    return {
        "frames": [images.setdefault(uri, len(images)) for uri in uris],
        "height": h,
        "width": w,
        "gradcam": None if gradcam is None else _grid(gradcam, (t, h, w)),
        "blocks": [_block(block, (t, h, w)) for block in explanation.blocks],
    }


def _block(block: BlockMaps, frames: tuple[int, int, int]) -> dict[str, Any]:
    positions = math.prod(block.full_grid)
    return {
        "position": block.position,
        "unit": block.unit,
        "cells": _cells(block.grid, frames),
        "maps": {
            kind: encoded_map(matrix, block.by_time(kind), positions)
            for kind, matrix in block.maps.items()
        },
        "before": _grid(block.before, frames),
        "after": _grid(block.after, frames),
    }


def _grid(values: NDArray[Any], frames: tuple[int, int, int]) -> dict[str, Any]:
    t, h, w = values.shape
    return {"cells": _cells((t, h, w), frames), "rows": encoded_rows(values.reshape(1, -1))}


def _cells(grid: tuple[int, int, int], frames: tuple[int, int, int]) -> dict[str, Any]:
    """Return spans of the grid's cells: of frames, and as shares of the height and of the width."""
    times, rows, columns = (cells(w, p) for w, p in zip(frames, grid, strict=True))
    return {"times": times, "rows": _shares(rows), "columns": _shares(columns)}


def _shares(spans: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    whole = spans[-1][1]
    return [(start / whole, stop / whole) for start, stop in spans]


def _array(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
