"""The position that the pictures are of: as asked for, or the one that looks the most."""

from __future__ import annotations

import numpy as np

from video_snl.errors import UserError
from video_snl.explain.structure import (
    SENSITIVITY,
    BlockMaps,
    Explanation,
    Grid,
    cells,
    flat_index,
)

__all__ = ["chosen", "corresponding", "parse_at"]


def parse_at(text: str) -> Grid:
    """``T,ROW,COL`` as three numbers.

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


def chosen(explanations: list[Explanation], at: Grid | None) -> Grid | None:
    """A position of the feature map of the first block shown; None where no block is.

    Where none is asked for, the one whose output depends most on the block's input: the largest
    row sum of the sensitivity, or the centre where all are zero.

    Raises:
        UserError: The position is outside of that feature map.
    """
    blocks = [block for explanation in explanations for block in explanation.blocks]
    if not blocks:
        if at is not None:
            raise UserError(
                f"--at {','.join(map(str, at))}: the network has no blocks, and so no positions to "
                "choose from; leave it out."
            )
        return None
    first = blocks[0]
    if at is None:
        return _strongest(first)
    try:
        flat_index(at, first.full_grid)
    except ValueError as error:
        raise UserError(f"--at: {error}") from error
    return at


def corresponding(at: Grid, of: Grid, block: BlockMaps) -> Grid:
    """The position of a block's maps in the same place of the clip as ``at`` of the grid ``of``."""
    t, h, w = (
        (2 * place + 1) * size // (2 * whole)
        for place, whole, size in zip(at, of, block.grid, strict=True)
    )
    return t, h, w


def _strongest(block: BlockMaps) -> Grid:
    sums = block.maps[SENSITIVITY].sum(1)
    if not sums.any():
        t, h, w = (size // 2 for size in block.full_grid)
        return t, h, w
    places = np.unravel_index(int(sums.argmax()), block.grid)
    t, h, w = (
        (sum(cells(full, shown)[place]) - 1) // 2
        for place, full, shown in zip(places, block.full_grid, block.grid, strict=True)
    )
    return t, h, w
