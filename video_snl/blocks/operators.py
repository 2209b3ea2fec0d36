"""Affinities as linear operators on signals, (B, N, C) -> (B, N, C).

A nonlocal block is a filter on a fully connected graph over the N positions of a feature map. Its
affinity A is N x N, which is never needed as a matrix: the filters only apply it. Where the keys
are sub-sampled A is N x M and maps (B, M, C) to (B, N, C).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Affinity", "Dense", "Scaled", "Sum", "normalize", "prefers_dense"]

# torch.compiler.is_exporting appeared in torch 2.7; before it, compiled graphs count as exported.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def prefers_dense(dense: int, factored: int) -> bool:
    """Whether to form A as a matrix, given the multiply-adds of the two exact orders.

    The one place where an order is chosen. An exported graph always takes the factored one: the
    comparison would freeze the sizes it was exported with.
    """
    return not is_exporting() and dense < factored


def prefers_small_matrix(positions: int, keys: int, channels: int) -> bool:
    """Whether a matrix that costs no arithmetic to avoid is small enough to be formed all the same.

    The bound is that below which a product of factors, too, may be formed: N <= max(4 C, 256).
    """
    return not is_exporting() and max(positions, keys) <= max(4 * channels, 256)


def is_exporting() -> bool:
    """Whether the graph is being recorded for other sizes than those it now has."""
    return _is_exporting() or torch.jit.is_tracing()


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
    def to_dense(self) -> Tensor:
        """The matrix itself, for pictures, analysis and tests. Shape: (B, N, N)."""

    @abc.abstractmethod
    def rows(self, index: Tensor) -> Tensor:
        """Some rows of A: where the chosen positions look. Shapes: index (Q,) -> (B, Q, N)."""

    @abc.abstractmethod
    def multiply_adds(self, channels: int) -> int:
        """Multiply-adds of ``matmul`` on ``channels`` channels, for one batch element."""

    def symmetrize(self) -> Affinity:
        """(A + A^T) / 2."""
        matrix = self.to_dense()
        return Dense((matrix + matrix.mT) / 2)

    def scale(self, row: Tensor, col: Tensor | None) -> Affinity:
        """diag(row) A diag(col), None for ones. Shapes: row, col (B, N)."""
        return Scaled(row, self, torch.ones_like(row) if col is None else col)

    def for_products(self, channels: int, times: int) -> Affinity:
        """The same operator in the form in which ``times`` products with it cost least."""
        return self


class Dense(Affinity):
    """A given as its matrix. Shape: matrix (B, N, N)."""

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 3:
            raise ValueError(f"Dense needs a (B, N, N) matrix, got shape {tuple(matrix.shape)}.")
        self.matrix = matrix

    def matmul(self, z: Tensor) -> Tensor:
        return self.matrix @ z

    def degree(self) -> Tensor:
        return self.matrix.sum(-1, dtype=wide(self.matrix))

    def transpose(self) -> Dense:
        return Dense(self.matrix.mT)

    def scale(self, row: Tensor, col: Tensor | None) -> Dense:
        scaled = row[..., None] * self.matrix
        scaled = scaled if col is None else scaled * col[:, None, :]
        return Dense(scaled.to(self.matrix.dtype))

    def to_dense(self) -> Tensor:
        return self.matrix

    def rows(self, index: Tensor) -> Tensor:
        return self.matrix[:, index]

    def multiply_adds(self, channels: int) -> int:
        _, positions, keys = self.matrix.shape
        return positions * keys * channels


class Scaled(Affinity):
    """diag(row) A diag(col) for an affinity that cannot take the factors in. Shapes: (B, N)."""

    def __init__(self, row: Tensor, inner: Affinity, col: Tensor) -> None:
        self.row, self.inner, self.col = row, inner, col

    def matmul(self, z: Tensor) -> Tensor:
        return _times(self.inner.matmul(_times(z, self.col)), self.row)

    def degree(self) -> Tensor:
        return self.row * self.inner.matmul(self.col[..., None]).squeeze(-1)

    def transpose(self) -> Affinity:
        return Scaled(self.col, self.inner.transpose(), self.row)

    def to_dense(self) -> Tensor:
        return self.row[..., None] * self.inner.to_dense() * self.col[:, None]

    def rows(self, index: Tensor) -> Tensor:
        return self.row[:, index, None] * self.inner.rows(index) * self.col[:, None]

    def multiply_adds(self, channels: int) -> int:
        return self.inner.multiply_adds(channels)


class Sum(Affinity):
    """The sum of affinities of one size."""

    def __init__(self, parts: Sequence[Affinity]) -> None:
        self.parts = tuple(parts)

    def matmul(self, z: Tensor) -> Tensor:
        first, *others = (part.matmul(z) for part in self.parts)
        return sum(others, first)

    def degree(self) -> Tensor:
        first, *others = (part.degree() for part in self.parts)
        return sum(others, first)

    def transpose(self) -> Sum:
        return Sum([part.transpose() for part in self.parts])

    def symmetrize(self) -> Sum:
        return Sum([part.symmetrize() for part in self.parts])

    def scale(self, row: Tensor, col: Tensor | None) -> Sum:
        return Sum([part.scale(row, col) for part in self.parts])

    def to_dense(self) -> Tensor:
        first, *others = (part.to_dense() for part in self.parts)
        return sum(others, first)

    def rows(self, index: Tensor) -> Tensor:
        first, *others = (part.rows(index) for part in self.parts)
        return sum(others, first)

    def multiply_adds(self, channels: int) -> int:
        return sum(part.multiply_adds(channels) for part in self.parts)


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
        return affinity.scale(weight, None)
    raise ValueError(f"normalization={how!r} is unknown; choose 'sym', 'rw' or None.")


def wide(x: Tensor) -> torch.dtype:
    """float32 at least: half-precision sums over thousands of positions overflow."""
    return torch.promote_types(x.dtype, torch.float32)


def _times(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight[..., None]).to(x.dtype)
