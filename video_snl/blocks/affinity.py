"""Affinities as linear operators on signals, (B, N, C) -> (B, N, C).

A nonlocal block is a filter on a fully connected graph over the N positions of a feature map. Its
affinity A is N x N, which is never needed as a matrix: the filters only apply it.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor

__all__ = ["Affinity", "Dense", "LowRank", "SymmetricLowRank", "normalize", "prefers_dense"]

# torch.compiler.is_exporting appeared in torch 2.7; before it, compiled graphs count as exported.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def prefers_dense(positions: int, rank: int, channels: int) -> bool:
    """Whether forming A (N x N) and multiplying by it is the cheaper of two exact orders.

    Forming a symmetrised product of (N, R) factors and applying it to C channels costs
    N^2 (R + C) multiply-adds, applying its factors in turn 4 N R C. The first is less only for
    N < 4 R C / (R + C) < 4 min(R, C): with more positions no N x N matrix is ever formed, and
    memory stays linear in N. An exported graph always takes the second: the comparison would
    freeze the sizes it was exported with.
    """
    if _is_exporting() or torch.jit.is_tracing():
        return False
    return positions * (rank + channels) < 4 * rank * channels


class Affinity(abc.ABC):
    """A, one N x N operator per batch element, known by what it does to signals."""

    @abc.abstractmethod
    def matmul(self, z: Tensor) -> Tensor:
        """A z. Shapes: (B, N, C) -> (B, N, C)."""

    @abc.abstractmethod
    def degree(self) -> Tensor:
        """A 1, the row sums, in float32 or wider. Shape: (B, N)."""

    @abc.abstractmethod
    def transpose(self) -> Affinity:
        """A^T."""

    @abc.abstractmethod
    def symmetrize(self) -> Affinity:
        """(A + A^T) / 2."""

    @abc.abstractmethod
    def scale(self, row: Tensor, col: Tensor) -> Affinity:
        """diag(row) A diag(col). Shapes: row, col (B, N)."""

    @abc.abstractmethod
    def to_dense(self) -> Tensor:
        """The matrix itself, for pictures, analysis and tests. Shape: (B, N, N)."""

    @abc.abstractmethod
    def rows(self, index: Tensor) -> Tensor:
        """Some rows of A: where the chosen positions look. Shapes: index (Q,) -> (B, Q, N)."""

    @abc.abstractmethod
    def multiply_adds(self, channels: int) -> int:
        """Multiply-adds of ``matmul`` on ``channels`` channels, for one batch element."""


class Dense(Affinity):
    """A given as its matrix. Shape: matrix (B, N, N)."""

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 3 or matrix.shape[1] != matrix.shape[2]:
            raise ValueError(f"Dense needs a (B, N, N) matrix, got shape {tuple(matrix.shape)}.")
        self.matrix = matrix

    def matmul(self, z: Tensor) -> Tensor:
        return self.matrix @ z

    def degree(self) -> Tensor:
        return self.matrix.sum(-1, dtype=_wide(self.matrix))

    def transpose(self) -> Dense:
        return Dense(self.matrix.mT)

    def symmetrize(self) -> Dense:
        return Dense((self.matrix + self.matrix.mT) / 2)

    def scale(self, row: Tensor, col: Tensor) -> Dense:
        scaled = row[..., None] * self.matrix * col[:, None, :]
        return Dense(scaled.to(self.matrix.dtype))

    def to_dense(self) -> Tensor:
        return self.matrix

    def rows(self, index: Tensor) -> Tensor:
        return self.matrix[:, index]

    def multiply_adds(self, channels: int) -> int:
        return self.matrix.shape[1] ** 2 * channels


class LowRank(Affinity):
    """A = left right^T, never formed. Shapes: left, right (B, N, R).

    ``matmul`` costs 2 N R C multiply-adds; forming A and multiplying by it N^2 (R + C).
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        _check_factors("LowRank", left, right)
        self.left, self.right = left, right

    def matmul(self, z: Tensor) -> Tensor:
        return self.left @ (self.right.mT @ z)

    def degree(self) -> Tensor:
        return _row_sums(self.left, self.right)

    def transpose(self) -> LowRank:
        return LowRank(self.right, self.left)

    def symmetrize(self) -> SymmetricLowRank:
        return SymmetricLowRank(self.left, self.right)

    def scale(self, row: Tensor, col: Tensor) -> LowRank:
        return LowRank(_scaled(self.left, row), _scaled(self.right, col))

    def to_dense(self) -> Tensor:
        return self.left @ self.right.mT

    def rows(self, index: Tensor) -> Tensor:
        return self.left[:, index] @ self.right.mT

    def multiply_adds(self, channels: int) -> int:
        _, positions, rank = self.left.shape
        return 2 * positions * rank * channels


class SymmetricLowRank(Affinity):
    """A = (left right^T + right left^T) / 2. Shapes: left, right (B, N, R).

    ``matmul`` takes the cheaper of two exact orders (see :func:`prefers_dense`):

        A z = [left (right^T z) + right (left^T z)] / 2      4 N R C multiply-adds
        A z = (M + M^T) / 2 z,  M = left right^T             N^2 (R + C)
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        _check_factors("SymmetricLowRank", left, right)
        self.left, self.right = left, right

    def matmul(self, z: Tensor) -> Tensor:
        _, positions, rank = self.left.shape
        if prefers_dense(positions, rank, z.shape[-1]):
            return self.to_dense() @ z
        forth = self.left @ (self.right.mT @ z)
        back = self.right @ (self.left.mT @ z)
        return (forth + back) / 2

    def degree(self) -> Tensor:
        return (_row_sums(self.left, self.right) + _row_sums(self.right, self.left)) / 2

    def transpose(self) -> SymmetricLowRank:
        return self

    def symmetrize(self) -> SymmetricLowRank:
        return self

    def scale(self, row: Tensor, col: Tensor) -> Affinity:
        if row is col:  # stays symmetric, at the same rank
            return SymmetricLowRank(_scaled(self.left, row), _scaled(self.right, row))
        left = torch.cat([_scaled(self.left, row), _scaled(self.right, row)], -1) / 2
        right = torch.cat([_scaled(self.right, col), _scaled(self.left, col)], -1)
        return LowRank(left, right)

    def to_dense(self) -> Tensor:
        matrix = self.left @ self.right.mT
        return (matrix + matrix.mT) / 2

    def rows(self, index: Tensor) -> Tensor:
        forth = self.left[:, index] @ self.right.mT
        back = self.right[:, index] @ self.left.mT
        return (forth + back) / 2

    def multiply_adds(self, channels: int) -> int:
        _, positions, rank = self.left.shape
        if prefers_dense(positions, rank, channels):
            return positions**2 * (rank + channels)
        return 4 * positions * rank * channels


def normalize(affinity: Affinity, how: str | None) -> Affinity:
    """The affinity divided by its degrees d = A 1.

    ``"sym"``: D^-1/2 A D^-1/2; ``"rw"`` (random walk): D^-1 A; ``None``: A. A position of degree
    zero gets a zero row (and, for ``"sym"``, a zero column) and a finite gradient. Degrees below
    1e-19 (float32) count as zero: their d^-3/2, a factor of the gradient, is out of range.

    Raises:
        ValueError: for any other ``how``.
    """
    if how is None:
        return affinity
    degree = affinity.degree()
    connected = degree > torch.finfo(degree.dtype).tiny ** 0.5
    # The inner where keeps the power away from zero, where its gradient is infinite and would
    # turn into NaN even though the outer where discards the value.
    safe = torch.where(connected, degree, 1)
    if how == "sym":
        weight = torch.where(connected, safe.rsqrt(), 0)
        return affinity.scale(weight, weight)
    if how == "rw":
        weight = torch.where(connected, safe.reciprocal(), 0)
        return affinity.scale(weight, torch.ones_like(weight))
    raise ValueError(f"normalization={how!r} is unknown; choose 'sym', 'rw' or None.")


def _check_factors(name: str, left: Tensor, right: Tensor) -> None:
    if left.shape != right.shape or left.ndim != 3:
        raise ValueError(
            f"{name} needs two (B, N, R) factors of one shape, got "
            f"{tuple(left.shape)} and {tuple(right.shape)}."
        )


def _wide(x: Tensor) -> torch.dtype:
    """float32 at least: half-precision sums over thousands of positions overflow."""
    return torch.promote_types(x.dtype, torch.float32)


def _row_sums(left: Tensor, right: Tensor) -> Tensor:
    """left right^T 1. No matmul, which autocast and TF32 would take out of float32."""
    return (left * right.sum(1, keepdim=True, dtype=_wide(right))).sum(-1)


def _scaled(factor: Tensor, weight: Tensor) -> Tensor:
    return (factor * weight[..., None]).to(factor.dtype)
