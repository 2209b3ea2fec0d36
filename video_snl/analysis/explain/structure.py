"""What is shown of a network on one clip: plain values, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = [
    "SENSITIVITY",
    "BlockMaps",
    "Box",
    "Explanation",
    "affinity_kind",
    "box_of",
    "cells",
    "flat_index",
    "is_signed",
    "query_index",
    "shown_grid",
    "sums_by_time",
]

SENSITIVITY = "sensitivity"
# Negative weights below this share of the largest are rounding, not what the block does.
_ROUNDING = 1e-5

Grid = tuple[int, int, int]
"""Sizes along time, height and width."""


def affinity_kind(power: int) -> str:
    """The name of A^power among the maps: ``affinity``, ``affinity^2``, ..."""
    return "affinity" if power == 1 else f"affinity^{power}"


@dataclass(frozen=True)
class BlockMaps:
    """Where the positions of one unit of one block look.

    Attributes:
        position: Where the block stands, ``before:res4.5``.
        unit: Number of the unit within the block, from 0.
        block: Its name, ``snl``.
        grid: Sizes (t, h, w) of the maps; n = t h w. A position is numbered row by row, as in
            :func:`flat_index`.
        full_grid: Sizes of the feature map; other than ``grid`` where the maps are subsampled.
        maps: float32 (n, n) by kind, in the order of the menu: ``affinity``, ``affinity^2``, ...,
            ``sensitivity``. Row i is how much position i looks at each position. A block without
            an affinity has ``sensitivity`` alone.
        before: float32 (t, h, w), norms over the channels of the unit's input.
        after: The same of its output.
        whole: Where the maps are subsampled, by kind: float64 (n, t), the
            :func:`sums_by_time` of the whole rows, which the maps do not have.
    """

    position: str
    unit: int
    block: str
    grid: Grid
    full_grid: Grid
    maps: dict[str, np.ndarray]
    before: np.ndarray
    after: np.ndarray
    whole: dict[str, np.ndarray] = field(default_factory=dict)

    def by_time(self, kind: str) -> np.ndarray:
        """The :func:`sums_by_time` of the rows of a kind, of all positions. (n, t)."""
        if self.grid != self.full_grid:
            return self.whole[kind]
        return sums_by_time(self.maps[kind], self.grid, self.grid)

    @property
    def title(self) -> str:
        """``snl before:res4.5``, and the unit where it is not the first."""
        return f"{self.block} {self.position}" + (f" unit {self.unit}" if self.unit else "")


@dataclass(frozen=True)
class Explanation:
    """One network on one clip.

    Attributes:
        source: The video, picture or tracklet.
        checkpoint: The network's file.
        frames: uint8 (T, H, W, 3), what the network saw, cropped; a picture has T = 1.
        classes: The highest classes with their scores, in [0, 1]; none for re-identification.
        gradcam: float32 (T, h, w) in [0, 1], one map per frame (coarser than the frames), for the
            first of the classes; None where there is none.
        blocks: The units of all blocks, in the order they are passed; several units of a block
            follow each other.
        notes: Sentences to be shown with it: what was subsampled, what is missing and why.
    """

    source: str
    checkpoint: str
    frames: np.ndarray
    classes: list[tuple[str, float]]
    gradcam: np.ndarray | None
    blocks: list[BlockMaps]
    notes: list[str] = field(default_factory=list)


class Box(NamedTuple):
    """Frames and pixels, half-open: frames[start:stop, top:bottom, left:right]."""

    start: int
    stop: int
    top: int
    bottom: int
    left: int
    right: int


def box_of(at: Grid, grid: Grid, frames: Grid) -> Box:
    """What of the frames, sizes (T, H, W), the position ``at`` (t, h, w) of a grid stands for.

    The grid is laid over the frames in equal parts, rounded down to whole frames and pixels, so
    that the boxes of all positions tile the clip. (What a position sees, its receptive field, is
    larger.) Where the grid is finer than the frames, boxes of one frame or pixel repeat.

    Raises:
        ValueError: The position is outside the grid.
    """
    flat_index(at, grid)
    spans = [_span(*axis) for axis in zip(at, grid, frames, strict=True)]
    (start, stop), (top, bottom), (left, right) = spans
    return Box(start, stop, top, bottom, left, right)


def cells(full: int, shown: int) -> list[tuple[int, int]]:
    """Half-open ranges of ``full`` positions that ``shown`` ones stand for, along one axis."""
    return [_span(cell, shown, full) for cell in range(shown)]


def sums_by_time(rows: np.ndarray, full: Grid, shown: Grid) -> np.ndarray:
    """Sums of the sizes in rows over the positions of each time that is shown.

    Shapes: (Q, N), N the positions of ``full`` -> float64 (Q, t), t the times of ``shown``.
    """
    sizes = np.abs(rows.astype(np.float64)).reshape(len(rows), full[0], -1).sum(2)
    return np.add.reduceat(sizes, [start for start, _ in cells(full[0], shown[0])], axis=1)


def is_signed(weights: np.ndarray) -> bool:
    """Whether a map has negative weights that are not the rounding of what is not."""
    return bool(weights.min() < -_ROUNDING * weights.max(initial=0.0))


def query_index(full_grid: Grid, grid: Grid) -> np.ndarray:
    """The position of the full grid whose rows are shown, for each of the grid. int64 (n,).

    The middle one of a cell; of two, the earlier.
    """
    axes = [
        [(start + stop - 1) // 2 for start, stop in cells(full, shown)]
        for full, shown in zip(full_grid, grid, strict=True)
    ]
    places = np.meshgrid(*axes, indexing="ij")
    return np.ravel_multi_index([place.ravel() for place in places], full_grid).astype(np.int64)


def flat_index(at: Grid, grid: Grid) -> int:
    """The number of a position: (t h_grid + h) w_grid + w.

    Raises:
        ValueError: It is outside the grid.
    """
    if not all(0 <= place < size for place, size in zip(at, grid, strict=True)):
        raise ValueError(
            f"position {','.join(map(str, at))} is outside the feature map of "
            f"{'x'.join(map(str, grid))} positions (time x rows x columns, counted from 0)."
        )
    return (at[0] * grid[1] + at[1]) * grid[2] + at[2]


def shown_grid(full: Grid, limit: int) -> Grid:
    """The grid that is shown of a full one: at most ``limit`` positions, in proportion.

    Rows and columns are thinned before time: frames are few and differ most.
    """
    t, h, w = full
    if t * h * w <= limit:
        return full
    t = min(t, max(1, limit // 4))
    per_step = max(1, limit // t)
    scale = math.sqrt(per_step / (h * w))
    if min(h, w) * scale < 1:  # a strip, of which one row or column is left
        return (t, 1, min(w, per_step)) if h < w else (t, min(h, per_step), 1)
    return t, min(h, math.floor(h * scale)), min(w, math.floor(w * scale))


def _span(place: int, parts: int, whole: int) -> tuple[int, int]:
    start = place * whole // parts
    return start, max(start + 1, (place + 1) * whole // parts)
