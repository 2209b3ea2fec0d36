"""Graph filters: from an affinity A and transferred features Z to the terms of F(A, Z).

A filter applies some functions of A to Z and returns the results side by side; the block multiplies
them by its weights, one 1x1 convolution. The functions are polynomials of A, or for :class:`Cayley`
rational functions of the graph Laplacian L = I - A.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.operators import (
    Affinity,
    LowRank,
    PowerSeries,
    SymmetricLowRank,
    from_vertices,
    prefers_dense,
    side_by_side,
    to_vertices,
    wide,
    without_autocast,
)
from video_snl.blocks.user_blocks import import_named, reason_of

__all__ = [
    "Cayley",
    "ChannelGraph",
    "Filter",
    "GraphFilter",
    "Polynomial",
    "block_diagonal",
    "own_filter",
]


class Filter(abc.ABC):
    """Base of filters F(A, Z) = sum_t f_t(A) Z W_t.

    Attributes:
        count: number of terms t.
        products: number of products with A; a block without any needs no embeddings.
        keeps_factors: True where the filter itself chooses how to use the factors of A.
    """

    count: int
    products: int
    keeps_factors = False

    @abc.abstractmethod
    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        """Return the f_t(A) Z side by side. Shapes: z (B, N, Cs) -> (B, N, count * Cs)."""

    @abc.abstractmethod
    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        """Count the multiply-adds of the products with A, per batch element."""

    @abc.abstractmethod
    def response(self, frequencies: Tensor) -> Tensor:
        """Return f_t(1 - lambda) at eigenvalues lambda of L. Shapes: (L,) -> (L, count)."""


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
        """Build the filter whose terms are A^k Z for the given powers k."""
        return cls([[0] * power + [1] for power in powers])

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        if self.products > 1:
            affinity = affinity.for_products(z.shape[-1], self.products)
        powers = [z]
        for _ in range(self.products):
            powers.append(affinity.matmul(powers[-1]))
        terms = [_combined(row, powers) for row in self.coefficients]
        return terms[0] if len(terms) == 1 else side_by_side(terms)

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        # The matrix, where it is formed at all, is formed once.
        once = affinity.multiply_adds(channels)
        formed = affinity.for_products(channels, self.products)
        if formed is affinity:
            return self.products * once
        return once + (self.products - 1) * formed.multiply_adds(channels)

    def response(self, frequencies: Tensor) -> Tensor:
        powers = [(1 - frequencies) ** k for k in range(self.products + 1)]
        return torch.stack([_combined(row, powers) for row in self.coefficients], -1)

    def weights_of_powers(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return the W_k with sum_k A^k Z W_k = sum_t f_t(A) Z W_t, from the W_t of the terms."""
        powers = [torch.zeros_like(weights[0])] * (self.products + 1)
        for row, weight in zip(self.coefficients, weights, strict=True):
            for k, coefficient in enumerate(row):
                powers[k] = powers[k] + coefficient * weight
        return powers

    def __repr__(self) -> str:
        return f"Polynomial({[list(row) for row in self.coefficients]})"


class ChannelGraph(Filter):
    """A Z on CGNL's graph, whose vertices are the channels of all positions, in groups."""

    count = products = 1

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        if isinstance(affinity, PowerSeries):
            return affinity.of_channels(z)
        product = affinity.matmul(to_vertices(z, self.groups))
        return from_vertices(product, self.groups, z.shape[-1])

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        return self.groups * affinity.multiply_adds(1)

    def response(self, frequencies: Tensor) -> Tensor:
        return (1 - frequencies)[:, None]

    def __repr__(self) -> str:
        return f"ChannelGraph(groups={self.groups})"


class Cayley(nn.Module, Filter):
    """F = Z W_0 + 2 Re sum_j C^j Z W_j, C = (h L - i)(h L + i)^-1, L = I - A (arXiv:1705.07664).

    The zoom h > 0 is learned. The terms are [Z, Re C Z, Im C Z, Re C^2 Z, ...]; the factors 2 and
    -2 of the complex W_j are part of the block's real weights. A must be symmetric, with
    eigenvalues in [-1, 1]: then |C| = 1 on its spectrum, and the condition number of h L + i is at
    most sqrt(1 + 4 h^2). So h = 1e3 loses three digits, which no order of the arithmetic saves:
    about lambda = 1 / h, C turns from -1 to 1, and A itself is known to rounding only.

    With A = factors P factors^T / 2, s = h / (1 + h) and c = s + i / (1 + h), which are finite for
    every h, the inverse is a solve of size 2 R (Woodbury):

        (h L + i)^-1 = (c I - s A)^-1 / (1 + h)
                     = [I + s factors (2 c P - s factors^T factors)^-1 factors^T] / (c (1 + h))

    Where it costs less, and for affinities of other structures, the N x N system is solved instead.
    All arithmetic is in float32 or wider.

    Args:
        order: number of complex terms, at least 1.
    """

    keeps_factors = True

    def __init__(self, order: int = 1) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order={order} of a Cayley filter must be at least 1.")
        self.order, self.count, self.products = order, 1 + 2 * order, order
        self.zoom = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the zoom to 1."""
        nn.init.constant_(self.zoom, math.log(math.expm1(1.0)))  # h = softplus(zoom)

    @property
    def h(self) -> Tensor:
        """Return the zoom, in float32 or wider."""
        return F.softplus(self.zoom.to(wide(self.zoom)))

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        dtype = wide(z)
        with without_autocast(z.device.type):
            solve = self._solver(affinity, dtype, z.shape[-1])
            real, terms = z.to(dtype), [z.to(dtype)]
            y = torch.complex(real, torch.zeros_like(real))
            for _ in range(self.order):
                y = y - 2j * solve(y)  # (h L - i)(h L + i)^-1 = I - 2 i (h L + i)^-1
                terms += [y.real, y.imag]
            return torch.cat(terms, -1)

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        # Real ones: a complex multiply-add counts as four.
        if isinstance(affinity, SymmetricLowRank):
            return min(self._costs(affinity, channels))
        return self._dense_cost(affinity.degree().shape[-1], channels)

    def response(self, frequencies: Tensor) -> Tensor:
        h = self.h.detach().to(frequencies)
        c = torch.complex(h * frequencies, -torch.ones_like(frequencies))
        c = (c / c.abs()) ** 2  # c / c*, whose squares would leave the range for a large h
        powers = [c**j for j in range(1, self.order + 1)]
        parts = [part for power in powers for part in (power.real, power.imag)]
        return torch.stack([torch.ones_like(frequencies), *parts], -1)

    def _solver(
        self, affinity: Affinity, dtype: torch.dtype, channels: int
    ) -> Callable[[Tensor], Tensor]:
        """Return the function y -> (h L + i)^-1 y."""
        h = self.h.to(dtype)
        share = h / (1 + h)
        c = torch.complex(share, 1 / (1 + h))
        if not isinstance(affinity, SymmetricLowRank) or prefers_dense(
            *self._costs(affinity, channels)
        ):
            matrix = affinity.to_dense().to(dtype)
            eye = torch.eye(matrix.shape[-1], dtype=dtype, device=matrix.device)
            system = c * eye - share * matrix
            return lambda y: torch.linalg.solve(system, y) / (1 + h)
        factors = affinity.factors.to(dtype)
        size = factors.shape[-1]
        exchange = torch.eye(size, dtype=dtype, device=factors.device).roll(size // 2, 0)
        system = 2 * c * exchange - share * (factors.mT @ factors)

        def solve(y: Tensor) -> Tensor:
            inner = torch.linalg.solve(system, _real_times(factors.mT, y))
            return (y + share * _real_times(factors, inner)) / (c * (1 + h))

        return solve

    def _costs(self, affinity: SymmetricLowRank, channels: int) -> tuple[int, int]:
        """Count the multiply-adds of forming and solving the N x N system, and the 2 R one."""
        _, n, both = affinity.factors.shape
        dense = n * n * both // 2 + self._dense_cost(n, channels)
        solved = 4 * both**3 // 3 + 4 * both * both * channels
        return dense, n * both * both + self.order * (solved + 4 * n * both * channels)

    def _dense_cost(self, n: int, channels: int) -> int:
        return self.order * (4 * n**3 // 3 + 4 * n * n * channels)

    def __repr__(self) -> str:
        return f"Cayley(order={self.order})"


class GraphFilter(NamedTuple):
    """F(A, Z) = sum_k A^k Z W_k + bias (eq. 12 of arXiv:2108.02451) for given A and Z.

    Shapes: signal Z (B, N, Cs); weights W_k (Cs, C), or (B, Cs, C) where the norm depends on its
    input; bias (C,) or (B, C). With ``groups`` (CGNL) the vertices of the graph are the channels
    of all positions: A is N Cs x N Cs, Z is (B, N Cs, 1), and A^k Z meets W_k as (B, N, Cs).
    """

    affinity: Affinity
    signal: Tensor
    weights: list[Tensor]
    bias: Tensor
    groups: int | None = None

    def output(self) -> Tensor:
        """Return what the block adds to X. Shape: (B, N, C)."""
        z, result = self.signal, None
        for power, weight in enumerate(self.weights):
            z = self.affinity.matmul(z) if power > 0 else z
            term = self._features(z, weight.shape[-2]) @ weight
            result = term if result is None else result + term
        assert result is not None
        return result + (self.bias if self.bias.ndim == 1 else self.bias[:, None])

    def _features(self, z: Tensor, channels: int) -> Tensor:
        if self.groups is None:
            return z
        return from_vertices(z.unflatten(1, (self.groups, -1)).flatten(0, 1), self.groups, channels)


def own_filter(path: str, order: int) -> Callable[[], Filter]:
    """Return what makes a filter of a user's own.

    Args:
        path: dotted path of a subclass of :class:`Filter`, which is called as ``MyFilter(order)``.
        order: order of the filter.

    Raises:
        ValueError: the path names no such class, or it cannot be made.
    """

    def fits(found: object) -> bool:
        return isinstance(found, type) and issubclass(found, Filter)

    kind = import_named(path, "filter", "a subclass of video_snl.blocks.Filter", fits)
    try:
        made: Filter = kind(order)
        numbers = made.count, made.products
    except (Exception, SystemExit) as error:  # whatever a constructor of others raises
        raise ValueError(
            f"filter={path!r} cannot be made of order={order}: {reason_of(error)}"
        ) from error
    if not all(isinstance(number, int) for number in numbers) or not numbers >= (1, 0):
        raise ValueError(
            f"filter={path!r}: expected whole numbers count, at least 1, and products; found "
            f"{numbers}."
        )
    return partial(kind, order)


def _combined(row: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    total: Tensor | None = None
    for coefficient, value in zip(row, values, strict=False):  # a row may end before the others
        if coefficient != 0:
            part = value if coefficient == 1 else coefficient * value
            total = part if total is None else total + part
    assert total is not None
    return total


def _real_times(matrix: Tensor, y: Tensor) -> Tensor:
    """Multiply a real matrix by a complex one."""
    return torch.complex(matrix @ y.real, matrix @ y.imag)


def block_diagonal(affinity: LowRank, groups: int) -> LowRank:
    """Join separate graphs into one. Batch (B groups) of V vertices -> batch B of groups * V."""

    def join(factor: Tensor) -> Tensor:
        parts = factor.unflatten(0, (-1, groups))
        batch, _, vertices, rank = parts.shape
        apart = parts.new_zeros(batch, groups, vertices, groups, rank)
        index = torch.arange(groups, device=parts.device)
        apart[:, index, :, index] = parts.movedim(1, 0)
        return apart.flatten(3).flatten(1, 2)

    return LowRank(join(affinity.left), join(affinity.right))
