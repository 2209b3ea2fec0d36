"""Explanation of a network on one clip: plain values, all finite. Without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from video_snl.errors import UserError

__all__ = [
    "SENSITIVITY",
    "BlockMaps",
    "Box",
    "Explanation",
    "affinity_kind",
    "box_of",
    "cells",
    "check_explanations",
    "check_finite",
    "flat_index",
    "is_signed",
    "query_index",
    "shown_grid",
    "sums_by_time",
]

SENSITIVITY = "sensitivity"

Grid = tuple[int, int, int]
"""Sizes along time, height and width."""

# Negative weights below this share of the largest are rounding, not what the block does.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class BlockMaps:
    """Maps of where the positions of one sub-block of one block look.

    Attributes:
        position: Position of the block, ``before:res4.5``.
        unit: Number of the sub-block within the block, from 0.
        block: Name of the block, ``snl``.
        grid: Sizes (t, h, w) of the maps; n = t h w. A position is numbered row by row, as in
            :func:`flat_index`.
        full_grid: Sizes of the feature map; other than ``grid`` where the maps are subsampled.
        maps: float32 (n, n) by kind, in the order of the menu: ``affinity``, ``affinity^2``, ...,
            ``sensitivity``. Row i is how much position i looks at each position. A block without
            an affinity has ``sensitivity`` alone.
        before: float32 (t, h, w), norms over the channels of the sub-block's input.
        after: The same of its output.
        whole: Sums by kind, float64 (n, t): the :func:`sums_by_time` of the whole rows where the
            maps are subsampled; else empty.
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
        """Return the :func:`sums_by_time` of the rows of a kind, over all positions. (n, t)."""
        if self.grid != self.full_grid:
            return self.whole[kind]
        return sums_by_time(self.maps[kind], self.grid, self.grid)

    @property
    def title(self) -> str:
        """``snl before:res4.5``, and the sub-block where it is not the first."""
        return f"{self.block} {self.position}" + (f" unit {self.unit}" if self.unit else "")


@dataclass(frozen=True)
class Explanation:
    """Explanation of one network on one clip.

    Attributes:
        source: The video, image or tracklet.
        checkpoint: The network's file.
        frames: uint8 (T, H, W, 3), what the network saw, cropped; an image has T = 1.
        classes: The highest classes with their scores, in [0, 1]; none for re-identification.
        gradcam: float32 (T, h, w) in [0, 1], one map per frame (coarser than the frames), for the
            first of the classes; None where there is none.
        blocks: The sub-blocks of all blocks, in the order they are passed; those of one block
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


def affinity_kind(power: int) -> str:
    """Return the name of A^power among the maps: ``affinity``, ``affinity^2``, ..."""
    return "affinity" if power == 1 else f"affinity^{power}"


def box_of(at: Grid, grid: Grid, frames: Grid) -> Box:
    """Return the box of the frames, sizes (T, H, W), for the position ``at`` (t, h, w) of a grid.

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
    """Return half-open ranges of ``full`` positions that ``shown`` ones cover, along an axis."""
    return [_span(cell, shown, full) for cell in range(shown)]


def sums_by_time(rows: np.ndarray, full: Grid, shown: Grid) -> np.ndarray:
    """Sum the sizes in rows over the positions of each time that is shown.

    Shapes: (Q, N), N the positions of ``full`` -> float64 (Q, t), t the times of ``shown``.
    """
    sizes = np.abs(rows.astype(np.float64)).reshape(len(rows), full[0], -1).sum(2)
    return np.add.reduceat(sizes, [start for start, _ in cells(full[0], shown[0])], axis=1)


def is_signed(weights: np.ndarray) -> bool:
    """Tell whether a map has negative weights beyond rounding."""
    return bool(weights.min() < -_ROUNDING * weights.max(initial=0.0))


def query_index(full_grid: Grid, grid: Grid) -> np.ndarray:
    """Return the position of the full grid whose rows are shown, for each cell. int64 (n,).

    The middle one of a cell; of two, the earlier.
    """
    axes = [
        [(start + stop - 1) // 2 for start, stop in cells(full, shown)]
        for full, shown in zip(full_grid, grid, strict=True)
    ]
    places = np.meshgrid(*axes, indexing="ij")
    return np.ravel_multi_index([place.ravel() for place in places], full_grid).astype(np.int64)


def flat_index(at: Grid, grid: Grid) -> int:
    """Return the number of a position: (t h_grid + h) w_grid + w.

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
    """Return the grid that is shown of a full one: at most ``limit`` positions, in proportion.

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


def check_finite(name: str, values: np.ndarray, done: str = "shown") -> None:
    """Check that all values are finite.

    Args:
        name: Name of the values, for the message.
        done: Participle for the message: they cannot be ``shown``, ``measured``.

    Raises:
        UserError: Some are not; it says how many.
    """
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise UserError(
            f"{wrong} of the {values.size} values of {name} are not finite and cannot be {done}: "
            "the network overflows on this input; try another checkpoint."
        )


def check_explanations(explanations: Sequence[Explanation]) -> None:
    """Check that all that is written about some networks is finite.

    Raises:
        UserError: Something is not; it says what.
    """
    for explanation in explanations:
        for block in explanation.blocks:
            for kind, values in block.maps.items():
                check_finite(f"{kind} of {block.title}", values)
            check_finite(f"the features before {block.title}", block.before)
            check_finite(f"the features after {block.title}", block.after)
        if explanation.gradcam is not None:
            check_finite("Grad-CAM", explanation.gradcam)
        check_finite("the scores", np.array([score for _, score in explanation.classes]))


def _span(place: int, parts: int, whole: int) -> tuple[int, int]:
    start = place * whole // parts
    return start, max(start + 1, (place + 1) * whole // parts)
