"""Rows of affinities and of their powers over the positions of a feature map, in chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import ChannelGraph
from video_snl.blocks.operators import Affinity, LowRank

__all__ = ["affinity_rows", "has_affinity", "key_shares", "power_rows"]

_CHUNK = 256  # rows of A in memory, beside those that were asked for


def has_affinity(block: nn.Module) -> bool:
    """Tell whether a block has an affinity between positions; channel gates have none."""
    return isinstance(block, NonlocalBlock) and block.filter.products > 0


@torch.no_grad()
def affinity_rows(block: NonlocalBlock, x: Tensor, index: Tensor, powers: int) -> list[Tensor]:
    """Compute rows of A, A^2, ..., A^powers of a block for one feature map.

    CGNL's vertices are the channels of all positions. Its row of position i is the mean over the
    channels of i, and the sum over those of j.

    With sub-sampled keys (``pool``) A is N x M and has no powers: one tensor is returned, in which
    the positions that share a key share what is given to it equally.

    Args:
        x: The block's input (1, C, *grid).
        index: Positions (Q,).

    Returns:
        Tensors (Q, N), one for each power.
    """
    affinity = block.affinity(x)
    if block.config.pool > 1:
        shares, keys = key_shares(tuple(x.shape[2:]), block.config.pool)
        rows = affinity.rows(index)[0]
        return [rows[:, keys.to(rows.device)] * shares.to(rows)]
    if isinstance(block.filter, ChannelGraph):
        assert isinstance(affinity, LowRank)
        graphs = _between_positions(affinity, math.prod(x.shape[2:]), powers)
        return [graph.rows(index)[0] for graph in graphs]
    return power_rows(affinity, index, powers)


def power_rows(affinity: Affinity, index: Tensor, powers: int) -> list[Tensor]:
    """Compute rows of A, ..., A^powers: e_i^T A^k = sum_j (e_i^T A^(k-1))_j e_j^T A, A by rows.

    No N x N tensor is formed, of a softmax neither, whose transpose would be one.

    Shapes: a batch of one; index (Q,) -> tensors (Q, N).
    """
    found = [affinity.rows(index)[0]]
    for _ in range(powers - 1):
        last = found[-1]
        product = torch.zeros_like(last)
        for part in torch.arange(last.shape[1], device=index.device).split(_CHUNK):
            product += last[:, part] @ affinity.rows(part)[0]
        found.append(product)
    return found


def key_shares(grid: Sequence[int], pool: int) -> tuple[Tensor, Tensor]:
    """Return every position's share of its sub-sampled key, and that key's number. (N,), (N,).

    Keys are pooled along the spatial axes, the last two at most; an odd rest is a key, too.
    """
    time = len(grid) == 3
    windows = [1 if time and axis == 0 else pool for axis in range(len(grid))]
    sizes = [-(-size // window) for size, window in zip(grid, windows, strict=True)]
    keys = torch.zeros(tuple(grid), dtype=torch.int64)
    for axis, (window, size) in enumerate(zip(windows, sizes, strict=True)):
        shape = [1] * len(grid)
        shape[axis] = -1
        keys = keys * size + (torch.arange(grid[axis]) // window).view(shape)
    keys = keys.flatten()
    return 1 / keys.bincount()[keys], keys


def _between_positions(affinity: LowRank, positions: int, powers: int) -> list[LowRank]:
    """Return CGNL's powers of A between positions; A^k = L (R^T L)^(k-1) R^T over the vertices."""
    left, right = affinity.left, affinity.right  # (groups, N Cs / groups, rank)
    channels = left.shape[0] * left.shape[1] / positions
    once, found = right.mT @ left, []
    for _ in range(powers):
        found.append(LowRank(_summed(left, positions) / channels, _summed(right, positions)))
        left = left @ once
    return found


def _summed(factor: Tensor, positions: int) -> Tensor:
    """Sum over the channels of a position; groups side by side. -> (1, N, groups rank)."""
    per_position = factor.unflatten(1, (positions, -1)).sum(2)
    return per_position.movedim(0, 1).flatten(1)[None]
