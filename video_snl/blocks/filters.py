"""Graph filters: from an affinity A and transferred features Z to the terms of F(A, Z).

A filter gives some functions of A applied to Z, side by side; the block multiplies them by weights
that it keeps as one 1x1 convolution.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor

from video_snl.blocks.kernels import from_vertices, to_vertices
from video_snl.blocks.operators import Affinity

__all__ = ["ChannelGraph", "Filter", "Polynomial"]


class Filter(abc.ABC):
    """``count`` functions f_t of an affinity; F(A, Z) = sum_t f_t(A) Z W_t."""

    count: int
    products: int  # with A; without any, a block has no use for embeddings
    keeps_factors = False  # whether the filter itself chooses how to use the factors of A

    @abc.abstractmethod
    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        """[f_t(A) Z] side by side. Shapes: z (B, N, Cs) -> (B, N, count * Cs)."""

    @abc.abstractmethod
    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        """Multiply-adds of the products with A, for one batch element."""

    @abc.abstractmethod
    def response(self, frequencies: Tensor) -> Tensor:
        """f_t(1 - lambda) for eigenvalues lambda of L = I - A. Shapes: (L,) -> (L, count)."""


class Polynomial(Filter):
    """f_t(A) = sum_k c_tk A^k, eq. 12 of arXiv:2108.02451.

    Args:
        coefficients: c, one row for each term: ``[[1], [0, 1]]`` for [Z, A Z], ``[[1, -1]]`` for
            [Z - A Z].

    Raises:
        ValueError: for no row, or a row of zeros.
    """

    def __init__(self, coefficients: Sequence[Sequence[float]]) -> None:
        if not coefficients or not all(any(row) for row in coefficients):
            raise ValueError(
                f"coefficients={coefficients} must be rows with a non-zero entry each."
            )
        self.coefficients = tuple(tuple(row) for row in coefficients)
        self.count, self.products = len(coefficients), max(map(len, coefficients)) - 1

    @classmethod
    def powers(cls, *powers: int) -> Polynomial:
        """The terms A^k Z for the powers k given."""
        return cls([[0] * power + [1] for power in powers])

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        affinity = affinity.for_products(z.shape[-1], self.products)
        powers = [z]
        for _ in range(self.products):
            powers.append(affinity.matmul(powers[-1]))
        terms = [_combined(row, powers) for row in self.coefficients]
        return terms[0] if len(terms) == 1 else torch.cat(terms, -1)

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        # A matrix that is formed is formed once.
        once = affinity.multiply_adds(channels)
        formed = affinity.for_products(channels, self.products)
        if formed is affinity:
            return self.products * once
        return once + (self.products - 1) * formed.multiply_adds(channels)

    def response(self, frequencies: Tensor) -> Tensor:
        powers = [(1 - frequencies) ** k for k in range(self.products + 1)]
        return torch.stack([_combined(row, powers) for row in self.coefficients], -1)

    def weights_of_powers(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """W_k with sum_k A^k Z W_k = sum_t f_t(A) Z W_t, for the weights W_t of the terms."""
        powers = [torch.zeros_like(weights[0])] * (self.products + 1)
        for row, weight in zip(self.coefficients, weights, strict=True):
            for k, coefficient in enumerate(row):
                powers[k] = powers[k] + coefficient * weight
        return powers

    def __repr__(self) -> str:
        return f"Polynomial({[list(row) for row in self.coefficients]})"


class ChannelGraph(Filter):
    """A Z on a graph whose vertices are the channels of all positions, in groups (CGNL)."""

    count = products = 1

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        product = affinity.matmul(to_vertices(z, self.groups))
        return from_vertices(product, self.groups, z.shape[-1])

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        return self.groups * affinity.multiply_adds(1)

    def response(self, frequencies: Tensor) -> Tensor:
        return (1 - frequencies)[:, None]

    def __repr__(self) -> str:
        return f"ChannelGraph(groups={self.groups})"


def _combined(row: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    parts = [values[k] if c == 1 else c * values[k] for k, c in enumerate(row) if c != 0]
    return parts[0] if len(parts) == 1 else sum(parts[1:], parts[0])
