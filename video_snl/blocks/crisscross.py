"""Affinities between positions that share all coordinates but one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from video_snl.blocks.operators import Affinity, wide

__all__ = ["CrissCross"]


class CrissCross(Affinity):
    """A_ij is zero unless positions i and j lie on one line of the grid along an axis.

    ``lines`` holds a tensor for each axis of the grid, with one matrix for each line along it:
    (B, *other lengths, L, L) for an axis of length L. A is the sum over the axes.
    ``matmul`` costs N (sum of L) C multiply-adds and A takes memory for N (sum of L) entries.
    """

    def __init__(self, lines: Sequence[Tensor], grid: Sequence[int]) -> None:
        self.lines, self.grid = tuple(lines), tuple(grid)

    @classmethod
    def softmax(
        cls, query: Tensor, key: Tensor, grid: Sequence[int], scale: float = 1.0
    ) -> CrissCross:
        """The softmax of scale <q_i, k_j> over the positions j of all lines through i.

        Shapes: query, key (B, N, E), N = prod(grid).
        """
        axes = range(len(grid))
        q, k = (x.unflatten(1, tuple(grid)) for x in (query, key))
        scores = []
        for axis in axes:
            line = scale * _along(q, axis) @ _along(k, axis).mT
            if axis > 0:  # a position meets itself once
                itself = torch.eye(line.shape[-1], dtype=torch.bool, device=line.device)
                line = line.masked_fill(itself, -torch.inf)
            scores.append(_back(line, axis))
        weights = torch.cat(scores, -1).softmax(-1).split(list(grid), -1)
        return cls([_along(w, axis) for axis, w in zip(axes, weights, strict=True)], grid)

    def matmul(self, z: Tensor) -> Tensor:
        z = z.unflatten(1, self.grid)
        first, *others = (_back(m @ _along(z, a), a) for a, m in enumerate(self.lines))
        return sum(others, first).flatten(1, -2)

    def degree(self) -> Tensor:
        sums = (m.sum(-1, keepdim=True, dtype=wide(m)) for m in self.lines)
        first, *others = (_back(m, axis) for axis, m in enumerate(sums))
        return sum(others, first).flatten(1)

    def transpose(self) -> CrissCross:
        return self._each(lambda line, axis: line.mT)

    def symmetrize(self) -> CrissCross:
        return self._each(lambda line, axis: (line + line.mT) / 2)

    def scale(self, row: Tensor, col: Tensor | None) -> CrissCross:
        col = torch.ones_like(row) if col is None else col
        r, c = (x[..., None].unflatten(1, self.grid) for x in (row, col))
        return self._each(
            lambda line, axis: (_along(r, axis) * line * _along(c, axis).mT).to(line.dtype)
        )

    def to_dense(self) -> Tensor:
        line = self.lines[0]
        positions = torch.Size(self.grid).numel()
        eye = torch.eye(positions, dtype=line.dtype, device=line.device)
        return self.matmul(eye.expand(line.shape[0], -1, -1))

    def rows(self, index: Tensor) -> Tensor:
        line = self.lines[0]
        chosen = torch.zeros(
            torch.Size(self.grid).numel(), len(index), dtype=line.dtype, device=line.device
        )
        chosen[index, torch.arange(len(index), device=line.device)] = 1
        return self.transpose().matmul(chosen.expand(line.shape[0], -1, -1)).mT

    def multiply_adds(self, channels: int) -> int:
        return torch.Size(self.grid).numel() * sum(self.grid) * channels

    def _each(self, change: Callable[[Tensor, int], Tensor]) -> CrissCross:
        return CrissCross([change(line, a) for a, line in enumerate(self.lines)], self.grid)


def _along(x: Tensor, axis: int) -> Tensor:
    """The lines along an axis. Shape: (B, *grid, C) -> (B, *other lengths, L, C)."""
    return x.movedim(axis + 1, -2)


def _back(lines: Tensor, axis: int) -> Tensor:
    """From lines along an axis to the grid. Shape: (B, *other lengths, L, C) -> (B, *grid, C)."""
    return lines.movedim(-2, axis + 1)
