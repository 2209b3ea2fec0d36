"""What the explorer's script reads: pictures once each, maps in levels, where positions lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from video_snl.errors import UserError
from video_snl.explain.encoding import base64_of, encoded_rows, palette, picture_uri
from video_snl.explain.structure import BlockMaps, Explanation, cells

__all__ = ["encoded_map", "page_data"]

_SEQUENTIAL, _DIVERGING = "inferno", "coolwarm"
# Negative weights below this share of the largest are rounding, not what the block does.
_ROUNDING = 1e-5


def page_data(explanations: Sequence[Explanation], kinds: Mapping[str, str]) -> dict[str, Any]:
    """All explanations as JSON; ``kinds`` are the labels of the maps' kinds."""
    pictures: dict[str, int] = {}  # Networks that see the same clip share its pictures.
    return {
        "kinds": dict(kinds),
        "palettes": {"sequential": palette(_SEQUENTIAL), "diverging": palette(_DIVERGING)},
        "explanations": [_explanation(each, pictures) for each in explanations],
        "pictures": list(pictures),
    }


def encoded_map(matrix: ArrayLike, steps: int) -> dict[str, Any]:
    """A map, and of each of its rows: the strongest position, the total and its parts by time.

    Args:
        matrix: (N, N) weights.
        steps: Times of the grid; N is a multiple of it.

    Raises:
        ValueError: for values that are not finite.
    """
    weights = np.asarray(matrix, dtype=np.float64)
    encoded = encoded_rows(weights)
    size = np.abs(weights)
    by_time = size.reshape(len(weights), steps, -1).sum(2)
    total = by_time.sum(1)
    shares = by_time / np.where(total > 0, total, 1.0)[:, None]
    return {
        "rows": encoded,
        "signed": bool(weights.min() < -_ROUNDING * weights.max(initial=0.0)),
        "strongest": base64_of(size.argmax(1).astype(np.int32)),
        "total": base64_of(total.astype(np.float32)),
        "shares": base64_of(shares.astype(np.float32)),
    }


def _explanation(explanation: Explanation, pictures: dict[str, int]) -> dict[str, Any]:
    t, h, w = explanation.frames.shape[:3]
    uris = [picture_uri(frame) for frame in explanation.frames]
    gradcam = explanation.gradcam
    return {
        "frames": [pictures.setdefault(uri, len(pictures)) for uri in uris],
        "height": h,
        "width": w,
        "gradcam": None if gradcam is None else _grid("Grad-CAM", gradcam, (t, h, w)),
        "blocks": [_block(block, (t, h, w)) for block in explanation.blocks],
    }


def _block(block: BlockMaps, frames: tuple[int, int, int]) -> dict[str, Any]:
    steps = block.grid[0]
    return {
        "position": block.position,
        "unit": block.unit,
        "cells": _cells(block.grid, frames),
        "maps": {
            kind: _checked(f"{kind} of {block.title}", matrix, lambda m: encoded_map(m, steps))
            for kind, matrix in block.maps.items()
        },
        "before": _grid(f"the features before {block.title}", block.before, frames),
        "after": _grid(f"the features after {block.title}", block.after, frames),
    }


def _grid(name: str, values: NDArray[Any], frames: tuple[int, int, int]) -> dict[str, Any]:
    t, h, w = values.shape
    rows = _checked(name, values.reshape(1, -1), encoded_rows)
    return {"cells": _cells((t, h, w), frames), "rows": rows}


def _cells(grid: tuple[int, int, int], frames: tuple[int, int, int]) -> dict[str, Any]:
    """Spans of the grid's cells: of frames, and as shares of the height and of the width."""
    times, rows, columns = (cells(w, p) for w, p in zip(frames, grid, strict=True))
    return {"times": times, "rows": _shares(rows), "columns": _shares(columns)}


def _shares(spans: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    whole = spans[-1][1]
    return [(start / whole, stop / whole) for start, stop in spans]


def _checked(
    name: str, values: NDArray[Any], encode: Callable[[NDArray[Any]], dict[str, Any]]
) -> dict[str, Any]:
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise UserError(
            f"{wrong} of the {values.size} values of {name} are not finite and cannot be shown: "
            "the network overflows on this input; try another checkpoint."
        )
    return encode(values)
