"""What the explorer's script reads: pictures once each, maps in levels, where positions lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from video_snl.analysis.explain.encoding import base64_of, encoded_rows, palette, picture_uri
from video_snl.analysis.explain.finite import check_explanations
from video_snl.analysis.explain.structure import BlockMaps, Explanation, cells, is_signed

__all__ = ["encoded_map", "page_data"]

_SEQUENTIAL, _DIVERGING = "inferno", "coolwarm"


def page_data(explanations: Sequence[Explanation], kinds: Mapping[str, str]) -> dict[str, Any]:
    """All explanations as JSON; ``kinds`` are the labels of the maps' kinds.

    Raises:
        UserError: for maps with values that are not finite.
    """
    check_explanations(explanations)
    pictures: dict[str, int] = {}  # Networks that see the same clip share its pictures.
    return {
        "kinds": dict(kinds),
        "palettes": {"sequential": palette(_SEQUENTIAL), "diverging": palette(_DIVERGING)},
        "explanations": [_explanation(each, pictures) for each in explanations],
        "pictures": list(pictures),
    }


def encoded_map(matrix: ArrayLike, by_time: ArrayLike, positions: int) -> dict[str, Any]:
    """A map, and of each of its rows: the strongest position, the total and its parts by time.

    Args:
        matrix: (N, N) weights.
        by_time: (N, T), sums of the sizes of the whole rows, also where the map is subsampled.
        positions: In a whole row. The total that is stored is N times the mean of a whole row.

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


def _explanation(explanation: Explanation, pictures: dict[str, int]) -> dict[str, Any]:
    t, h, w = explanation.frames.shape[:3]
    uris = [picture_uri(frame) for frame in explanation.frames]
    gradcam = explanation.gradcam
    return {
        "frames": [pictures.setdefault(uri, len(pictures)) for uri in uris],
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
    """Spans of the grid's cells: of frames, and as shares of the height and of the width."""
    times, rows, columns = (cells(w, p) for w, p in zip(frames, grid, strict=True))
    return {"times": times, "rows": _shares(rows), "columns": _shares(columns)}


def _shares(spans: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    whole = spans[-1][1]
    return [(start / whole, stop / whole) for start, stop in spans]
