"""Affinities that are products of thin factors, and are applied without the N x N matrix."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from video_snl.blocks.operators import Affinity, Dense, prefers_dense, wide

__all__ = ["LowRank", "SymmetricLowRank"]


class _Factored(Affinity):
    """An affinity that can be applied factor by factor or as the matrix, whichever costs less."""

    @abc.abstractmethod
    def _costs(self, channels: int, times: int) -> tuple[int, int]:
        """Multiply-adds of ``times`` products: with the matrix formed once, and by the factors."""

    @abc.abstractmethod
    def _by_factors(self, z: Tensor) -> Tensor:
        """A z, factor by factor."""

    def matmul(self, z: Tensor) -> Tensor:
        if prefers_dense(*self._costs(z.shape[-1], 1)):
            return self.to_dense() @ z
        return self._by_factors(z)

    def multiply_adds(self, channels: int) -> int:
        return min(self._costs(channels, 1))

    def for_products(self, channels: int, times: int) -> Affinity:
        formed = times > 0 and prefers_dense(*self._costs(channels, times))
        return Dense(self.to_dense()) if formed else self


class LowRank(_Factored):
    """A = left right^T, never formed where that costs more.

    Shapes: left (B, N, R), right (B, M, R), mostly M = N. ``matmul`` takes the cheaper of two
    exact orders:

        A z = left (right^T z)          (N + M) R C multiply-adds
        A z = (left right^T) z          N M (R + C)
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        same = left.shape[0] == right.shape[0] and left.shape[2:] == right.shape[2:]
        if left.ndim != 3 or right.ndim != 3 or not same:
            raise ValueError(
                f"LowRank needs factors (B, N, R) and (B, M, R), got {tuple(left.shape)} and "
                f"{tuple(right.shape)}."
            )
        self.left, self.right = left, right

    def _by_factors(self, z: Tensor) -> Tensor:
        return self.left @ (self.right.mT @ z)

    def degree(self) -> Tensor:
        return _row_sums(self.left, self.right)

    def transpose(self) -> LowRank:
        return LowRank(self.right, self.left)

    def symmetrize(self) -> SymmetricLowRank:
        return SymmetricLowRank(torch.cat([self.left, self.right], -1))

    def scale(self, row: Tensor, col: Tensor | None) -> LowRank:
        right = self.right if col is None else _scaled(self.right, col)
        return LowRank(_scaled(self.left, row), right)

    def to_dense(self) -> Tensor:
        return self.left @ self.right.mT

    def rows(self, index: Tensor) -> Tensor:
        return self.left[:, index] @ self.right.mT

    def _costs(self, channels: int, times: int) -> tuple[int, int]:
        """The first is less only for N < 2 R C / (R + C) < 2 min(R, C) (M = N, one product)."""
        (_, n, rank), m = self.left.shape, self.right.shape[1]
        return n * m * (rank + times * channels), times * (n + m) * rank * channels


class SymmetricLowRank(_Factored):
    """A = (left right^T + right left^T) / 2, given both factors side by side.

    Shape: factors (B, N, 2 R) = [left, right]. With P the exchange of the two halves of the 2 R
    rows, A = factors P factors^T / 2, so that ``matmul`` is one product with all of ``factors`` on
    either side, or one with the matrix, whichever is cheaper:

        A z = factors P (factors^T z) / 2           4 N R C multiply-adds
        A z = (left right^T + (.)^T) / 2 z          N^2 (R + C)
    """

    def __init__(self, factors: Tensor) -> None:
        if factors.ndim != 3 or factors.shape[-1] % 2:
            raise ValueError(
                f"SymmetricLowRank needs factors (B, N, 2 R), got {tuple(factors.shape)}."
            )
        self.factors = factors

    @property
    def left(self) -> Tensor:
        """Shape: (B, N, R)."""
        return self.factors.chunk(2, -1)[0]

    @property
    def right(self) -> Tensor:
        """Shape: (B, N, R)."""
        return self.factors.chunk(2, -1)[1]

    def _by_factors(self, z: Tensor) -> Tensor:
        return self.factors @ (_exchanged(self.factors.mT @ z) / 2)

    def degree(self) -> Tensor:
        left, right = self.factors.chunk(2, -1)
        return (_row_sums(left, right) + _row_sums(right, left)) / 2

    def transpose(self) -> SymmetricLowRank:
        return self

    def symmetrize(self) -> SymmetricLowRank:
        return self

    def scale(self, row: Tensor, col: Tensor | None) -> Affinity:
        if row is col:  # stays symmetric, at the same rank
            return SymmetricLowRank(_scaled(self.factors, row))
        right = torch.cat([self.right, self.left], -1)
        right = right if col is None else _scaled(right, col)
        return LowRank(_scaled(self.factors, row) / 2, right)

    def to_dense(self) -> Tensor:
        left, right = self.factors.chunk(2, -1)
        matrix = left @ right.mT
        return (matrix + matrix.mT) / 2

    def rows(self, index: Tensor) -> Tensor:
        return (self.factors[:, index] / 2) @ _exchanged(self.factors.mT)

    def _costs(self, channels: int, times: int) -> tuple[int, int]:
        """As for :class:`LowRank`; the first is less only for N < 4 R C / (R + C)."""
        _, n, both = self.factors.shape
        return n * n * (both // 2 + times * channels), times * 2 * n * both * channels


def _exchanged(rows: Tensor) -> Tensor:
    """The two halves of the rows exchanged. Shape: (B, 2 R, C)."""
    first, second = rows.chunk(2, 1)
    return torch.cat([second, first], 1)


def _row_sums(left: Tensor, right: Tensor) -> Tensor:
    """left right^T 1. No matmul, which autocast and TF32 would take out of float32."""
    return (left * right.sum(1, keepdim=True, dtype=wide(right))).sum(-1)


def _scaled(factor: Tensor, weight: Tensor) -> Tensor:
    return (factor * weight[..., None]).to(factor.dtype)
