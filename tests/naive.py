"""The equations as plain loops over positions, written from the papers, not from the code.

Slow and obvious: one entry of a result is one expression. Everything is differentiable, in the
dtype of the inputs; the tests use float64. Shapes: matrices (B, N, N), features (B, N, C).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _entries(batch: int, positions: int, entry: Callable[[int, int, int], Tensor]) -> Tensor:
    """The matrices with ``entry(b, i, j)`` in row i and column j. Shape: (B, N, N)."""
    if batch == 0:
        return torch.zeros(0, positions, positions, dtype=torch.float64)
    cells = [
        entry(b, i, j) for b in range(batch) for i in range(positions) for j in range(positions)
    ]
    return torch.stack(cells).view(batch, positions, positions)


def pairwise(left: Tensor, right: Tensor) -> Tensor:
    """M_ij = <left_i, right_j>."""
    batch, positions, _ = left.shape
    return _entries(batch, positions, lambda b, i, j: (left[b, i] * right[b, j]).sum())


def symmetrized(matrix: Tensor) -> Tensor:
    """M'_ij = (M_ij + M_ji) / 2."""
    batch, positions, _ = matrix.shape
    return _entries(batch, positions, lambda b, i, j: (matrix[b, i, j] + matrix[b, j, i]) / 2)


def scaled(matrix: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """row_i M_ij col_j."""
    batch, positions, _ = matrix.shape
    return _entries(batch, positions, lambda b, i, j: row[b, i] * matrix[b, i, j] * col[b, j])


def degrees(matrix: Tensor) -> Tensor:
    """d_i = sum_j M_ij. Shape: (B, N)."""
    batch, positions, _ = matrix.shape
    if batch == 0:
        return torch.zeros(0, positions, dtype=matrix.dtype)
    sums = [
        sum(matrix[b, i, j] for j in range(positions))
        for b in range(batch)
        for i in range(positions)
    ]
    return torch.stack(sums).view(batch, positions)


def normalized(matrix: Tensor, how: str) -> Tensor:
    """M_ij / sqrt(d_i d_j) ("sym") or M_ij / d_i ("rw"), zero where a degree is zero."""
    batch, positions, _ = matrix.shape
    d = degrees(matrix)

    def entry(b: int, i: int, j: int) -> Tensor:
        if d[b, i] == 0 or (how == "sym" and d[b, j] == 0):
            return 0 * matrix[b, i, j]
        return matrix[b, i, j] / ((d[b, i] * d[b, j]) ** 0.5 if how == "sym" else d[b, i])

    return _entries(batch, positions, entry)


def product(matrix: Tensor, z: Tensor) -> Tensor:
    """(A z)_i = sum_j A_ij z_j. Shape: (B, N, C)."""
    batch, positions, channels = z.shape
    if batch == 0:
        return torch.zeros(0, positions, channels, dtype=z.dtype)
    rows = [
        sum(matrix[b, i, j] * z[b, j] for j in range(positions))
        for b in range(batch)
        for i in range(positions)
    ]
    return torch.stack(rows).view(batch, positions, channels)


def linear(weight: Tensor, x: Tensor) -> Tensor:
    """weight x_i at every position. Shapes: weight (O, C), x (B, N, C) -> (B, N, O)."""
    batch, positions, _ = x.shape
    values = [
        (weight[o] * x[b, i]).sum()
        for b in range(batch)
        for i in range(positions)
        for o in range(weight.shape[0])
    ]
    return torch.stack(values).view(batch, positions, weight.shape[0])
