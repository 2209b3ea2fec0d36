"""The equations as loops over positions, written from the papers, not from the code.

Slow and obvious: one row of a result is one expression. Everything is differentiable, in the
dtype of the inputs; the tests use float64. Shapes: matrices (B, N, N), features (B, N, C).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def rows(batch: int, positions: int, row: Callable[[int, int], Tensor], *shape: int) -> Tensor:
    """Stack ``row(b, i)``, each of this shape, over clips and positions. Shape: (B, N, ...)."""
    if batch == 0:
        return torch.zeros(0, positions, *shape, dtype=torch.float64)
    values = [row(b, i) for b in range(batch) for i in range(positions)]
    return torch.stack(values).view(batch, positions, *shape)


def pairwise(left: Tensor, right: Tensor) -> Tensor:
    """M_ij = <left_i, right_j>."""
    batch, positions, _ = left.shape
    return rows(batch, positions, lambda b, i: (left[b, i] * right[b]).sum(-1), positions)


def symmetrized(matrix: Tensor) -> Tensor:
    """M'_ij = (M_ij + M_ji) / 2."""
    batch, positions, _ = matrix.shape
    return rows(batch, positions, lambda b, i: (matrix[b, i] + matrix[b, :, i]) / 2, positions)


def scaled(matrix: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """row_i M_ij col_j."""
    batch, positions, _ = matrix.shape
    return rows(batch, positions, lambda b, i: row[b, i] * matrix[b, i] * col[b], positions)


def degrees(matrix: Tensor) -> Tensor:
    """d_i = sum_j M_ij. Shape: (B, N)."""
    batch, positions, _ = matrix.shape
    return rows(batch, positions, lambda b, i: matrix[b, i].sum())


def normalized(matrix: Tensor, how: str) -> Tensor:
    """M_ij / sqrt(d_i d_j) ("sym") or M_ij / d_i ("rw"), zero where a degree is zero."""
    batch, positions, _ = matrix.shape
    d = degrees(matrix)

    def row(b: int, i: int) -> Tensor:
        divisors = d[b, i] * d[b] if how == "sym" else d[b, i].expand(positions)
        kept = divisors != 0
        # The square root of a zero has no gradient.
        divisors = torch.where(kept, divisors, torch.ones_like(divisors))
        return kept * matrix[b, i] / (divisors**0.5 if how == "sym" else divisors)

    return rows(batch, positions, row, positions)


def product(matrix: Tensor, z: Tensor) -> Tensor:
    """(A z)_i = sum_j A_ij z_j. Shape: (B, N, C)."""
    batch, positions, channels = z.shape
    return rows(batch, positions, lambda b, i: (matrix[b, i, :, None] * z[b]).sum(0), channels)


def linear(weight: Tensor | tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    """weight x_i (+ bias) at every position. Shapes: (O, C) and (O,), x (B, N, C) -> (B, N, O)."""
    if isinstance(weight, tuple):
        return linear(weight[0], x) + weight[1]
    batch, positions, _ = x.shape
    return rows(batch, positions, lambda b, i: (weight * x[b, i]).sum(-1), weight.shape[0])
