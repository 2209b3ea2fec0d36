"""The position that the figures are about: as asked for, or the one that looks the most."""

from __future__ import annotations

import numpy as np

from video_snl.analysis.explain.structure import (
    SENSITIVITY,
    BlockMaps,
    Explanation,
    Grid,
    cells,
    flat_index,
)
from video_snl.errors import UserError

__all__ = ["check_position", "corresponding", "parse_at", "strongest"]


def parse_at(text: str) -> Grid:
    """Parse ``T,ROW,COL`` into three numbers.

    Raises:
        UserError: It is something else.
    """
    words = text.split(",")
    if len(words) != 3 or not all(word.strip().isdecimal() for word in words):
        raise UserError(
            f"--at {text}: give a position of the feature map as T,ROW,COL, counted from 0, "
            "such as --at 0,3,3"
        )
    t, row, column = (int(word) for word in words)
    return t, row, column


def check_position(at: Grid, first: Grid | None) -> None:
    """Check that a position lies in the feature map of the first block; ``first`` is its grid.

    Raises:
        UserError: It is not, or there is no block.
    """
    if first is None:
        raise UserError(
            f"--at {','.join(map(str, at))}: the network has no blocks, and so no positions to "
            "choose from; leave it out."
        )
    try:
        flat_index(at, first)
    except ValueError as error:
        raise UserError(f"--at: {error}") from error


def strongest(explanations: list[Explanation]) -> Grid | None:
    """Find the position of the first block whose output depends most on its input.

    It has the largest row sum of the sensitivity; where all are zero, it is the centre. None where
    there is no block.
    """
    blocks = [block for explanation in explanations for block in explanation.blocks]
    return _strongest(blocks[0]) if blocks else None


def corresponding(at: Grid, of: Grid, block: BlockMaps) -> Grid:
    """Return the position of a block's maps that stands for the place ``at`` of the grid ``of``.

    Of the block's full grid, that is the one in the same place of the clip (``at`` itself where
    ``of`` is that grid); of its maps, the cell that contains it.
    """
    t, h, w = (
        _cell((2 * place + 1) * full // (2 * whole), full, shown)
        for place, whole, full, shown in zip(at, of, block.full_grid, block.grid, strict=True)
    )
    return t, h, w


def _cell(place: int, full: int, shown: int) -> int:
    """Return the number of the :func:`cell <.structure.cells>` that contains a place."""
    return next(n for n, (_, stop) in enumerate(cells(full, shown)) if place < stop)


def _strongest(block: BlockMaps) -> Grid:
    sums = block.by_time(SENSITIVITY).sum(1)
    if not sums.any():
        t, h, w = (size // 2 for size in block.full_grid)
        return t, h, w
    places = np.unravel_index(int(sums.argmax()), block.grid)
    t, h, w = (
        (sum(cells(full, shown)[place]) - 1) // 2
        for place, full, shown in zip(places, block.full_grid, block.grid, strict=True)
    )
    return t, h, w
