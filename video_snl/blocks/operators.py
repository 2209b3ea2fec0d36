"""Affinities as linear operators on signals, (B, N, C) -> (B, N, C).

A nonlocal block is a filter on a fully connected graph over the N positions of a feature map. Its
affinity A is N x N, but the filters only apply it, and most structures do so without the matrix:

    Dense               the matrix itself
    LowRank             left right^T
    PowerSeries         sum_k c_k t_i^k p_j^k, of single channels
    SymmetricLowRank    (left right^T + right left^T) / 2
    Softmax             exp(<q_i, k_j>), divided by the row sums
    RectifiedSum        relu(a_i + b_j)
    CrissCross          one small matrix for each line of the grid
    Scaled, Sum         made of other affinities

:class:`~video_snl.blocks.graphs.GraphAffinity` is a graph that is given by its edges.
Where the keys are sub-sampled A is N x M and maps (B, M, C) to (B, N, C).
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "Affinity",
    "CrissCross",
    "Dense",
    "LowRank",
    "PowerSeries",
    "RectifiedSum",
    "Scaled",
    "Softmax",
    "Sum",
    "SymmetricLowRank",
    "autocast_dtype",
    "can_be_read",
    "from_vertices",
    "halves",
    "is_exporting",
    "normalize",
    "prefers_dense",
    "rows_by_products",
    "side_by_side",
    "softmax",
    "split_channels",
    "to_vertices",
    "wide",
    "without_autocast",
]


# In the names of the backward passes of fused attention, which have no derivative of their own.
_FUSED = ("FlashAttention", "EfficientAttention", "CudnnAttention")


class Affinity(abc.ABC):
    """One N x N operator A per batch element, defined by its action on signals."""

    @abc.abstractmethod
    def matmul(self, z: Tensor) -> Tensor:
        """Return A z. Shapes: (B, N, C) -> (B, N, C)."""

    @abc.abstractmethod
    def degree(self) -> Tensor:
        """Return A 1, the row sums, in float32 or wider. Shape: (B, N)."""

    @abc.abstractmethod
    def transpose(self) -> Affinity:
        """Return A^T."""

    @abc.abstractmethod
    def to_dense(self) -> Tensor:
        """Return the matrix, for plots, analysis and tests. Shape: (B, N, N)."""

    @abc.abstractmethod
    def rows(self, index: Tensor) -> Tensor:
        """Return some rows of A, the attention maps of positions. Shapes: (Q,) -> (B, Q, N)."""

    @abc.abstractmethod
    def multiply_adds(self, channels: int) -> int:
        """Count the multiply-adds of ``matmul`` on ``channels`` channels, per batch element."""

    def symmetrize(self) -> Affinity:
        """Return (A + A^T) / 2."""
        matrix = self.to_dense()
        return Dense((matrix + matrix.mT) / 2)

    def scale(self, row: Tensor, col: Tensor | None) -> Affinity:
        """Return diag(row) A diag(col); ``col=None`` stands for ones. Shapes: (B, N)."""
        return Scaled(row, self, torch.ones_like(row) if col is None else col)

    def for_products(self, channels: int, times: int) -> Affinity:
        """Return the same operator in the form in which ``times`` products cost least.

        For a single one :meth:`matmul` chooses by itself.
        """
        return self


class Dense(Affinity):
    """A stored as a matrix. Shape: matrix (B, N, N)."""

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


class _Factored(Affinity):
    """Base of affinities with thin factors, applied in the cheaper of two exact orders."""

    @abc.abstractmethod
    def _costs(self, channels: int, times: int) -> tuple[int, int]:
        """Count the multiply-adds of ``times`` products, by a matrix formed once and by factors."""

    @abc.abstractmethod
    def _by_factors(self, z: Tensor) -> Tensor:
        """Return A z, multiplied factor by factor."""

    def matmul(self, z: Tensor) -> Tensor:
        if prefers_dense(*self._costs(z.shape[-1], 1)):
            return torch.bmm(self.to_dense(), z)
        return self._by_factors(z)

    def multiply_adds(self, channels: int) -> int:
        return min(self._costs(channels, 1))

    def for_products(self, channels: int, times: int) -> Affinity:
        formed = times > 0 and prefers_dense(*self._costs(channels, times))
        return Dense(self.to_dense()) if formed else self


class LowRank(_Factored):
    """A = left right^T, formed as a matrix only where that costs less.

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
        if self.left.stride(-1) == 1:
            return torch.bmm(self.left, torch.bmm(self.right.mT, z))
        return torch.bmm(torch.bmm(z.mT, self.right), self.left.mT).mT

    def degree(self) -> Tensor:
        return _row_sums(self.left, self.right)

    def transpose(self) -> LowRank:
        return LowRank(self.right, self.left)

    def symmetrize(self) -> SymmetricLowRank:
        return SymmetricLowRank(torch.cat([self.left, self.right], -1))

    def scale(self, row: Tensor, col: Tensor | None) -> LowRank:
        right = self.right if col is None else _times(self.right, col)
        return LowRank(_times(self.left, row), right)

    def to_dense(self) -> Tensor:
        return torch.bmm(self.left, self.right.mT)

    def rows(self, index: Tensor) -> Tensor:
        return self.left[:, index] @ self.right.mT

    def _costs(self, channels: int, times: int) -> tuple[int, int]:
        # For one product and M = N the matrix costs less where N < 2 R C / (R + C).
        (_, n, rank), m = self.left.shape, self.right.shape[1]
        return n * m * (rank + times * channels), times * (n + m) * rank * channels


class PowerSeries(LowRank):
    """A_ij = sum_k c_k t_i^k p_j^k of single channels, the graph of CGNL (arXiv:1810.13125).

    Its vertices are the channels of all positions, in ``groups`` separate graphs, as
    :func:`to_vertices` has them. :meth:`of_channels` multiplies by Horner's rule, without the
    powers, which are the factors ``left`` and ``right`` and formed on use.

    Shapes: theta, phi (B, N, Cs). The operator: (B groups) of size N Cs / groups.
    """

    def __init__(
        self, theta: Tensor, phi: Tensor, coefficients: Sequence[float], groups: int = 1
    ) -> None:
        self.theta, self.phi, self.groups = theta, phi, groups
        self.coefficients = tuple(coefficients)

    @property
    def left(self) -> Tensor:  # type: ignore[override]
        """Shape: (B groups, N Cs / groups, terms)."""
        return self._powers(self.theta)

    @property
    def right(self) -> Tensor:  # type: ignore[override]
        """Shape: (B groups, N Cs / groups, terms)."""
        return self._powers(self.phi)

    def of_channels(self, z: Tensor) -> Tensor:
        """Return A z for z as channels of positions. Shapes: (B, N, Cs) -> (B, N, Cs)."""
        theta, phi, moment = (x.unflatten(-1, (self.groups, -1)) for x in (self.theta, self.phi, z))
        gains: list[Tensor | None] = []  # None where the series has no such power
        for k, coefficient in enumerate(self.coefficients):
            moment = moment * phi if k > 0 else moment
            total = moment.sum((1, 3), keepdim=True, dtype=wide(moment)) if coefficient else None
            gains.append(None if total is None else (coefficient * total).to(theta.dtype))
        result: Tensor | None = None
        for gain in reversed(gains):
            if result is None:
                result = gain
            else:
                result = theta * result if gain is None else torch.addcmul(gain, theta, result)
        assert result is not None
        return result.expand_as(theta).flatten(2)

    def _powers(self, x: Tensor) -> Tensor:
        x = to_vertices(x, self.groups)
        return torch.cat([c**0.5 * x**k for k, c in enumerate(self.coefficients) if c], -1)


class SymmetricLowRank(_Factored):
    """A = (left right^T + right left^T) / 2, from both factors side by side.

    Shape: factors (B, N, 2 R) = [left, right]. Let P exchange the two halves of the 2 R rows. Then
    A = factors P factors^T / 2, and ``matmul`` takes the cheaper of two exact orders:

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
        return halves(self.factors)[0]

    @property
    def right(self) -> Tensor:
        """Shape: (B, N, R)."""
        return halves(self.factors)[1]

    def _by_factors(self, z: Tensor) -> Tensor:
        if self.factors.stride(-1) == 1:
            return torch.bmm(self.factors, _exchanged(torch.bmm(self.factors.mT, z), 1) / 2)
        exchanged = _exchanged(torch.bmm(z.mT, self.factors), 2)
        return torch.bmm(exchanged / 2, self.factors.mT).mT

    def degree(self) -> Tensor:
        left, right = halves(self.factors)
        return (_row_sums(left, right) + _row_sums(right, left)) / 2

    def transpose(self) -> SymmetricLowRank:
        return self

    def symmetrize(self) -> SymmetricLowRank:
        return self

    def scale(self, row: Tensor, col: Tensor | None) -> Affinity:
        if row is col:  # stays symmetric, at the same rank
            return SymmetricLowRank(_times(self.factors, row))
        right = torch.cat([self.right, self.left], -1)
        right = right if col is None else _times(right, col)
        return LowRank(_times(self.factors, row) / 2, right)

    def to_dense(self) -> Tensor:
        left, right = halves(self.factors)
        matrix = torch.bmm(left, right.mT)
        return (matrix + matrix.mT) / 2

    def rows(self, index: Tensor) -> Tensor:
        return (self.factors[:, index] / 2) @ _exchanged(self.factors, 2).mT

    def _costs(self, channels: int, times: int) -> tuple[int, int]:
        # For one product the matrix costs less where N < 4 R C / (R + C).
        _, n, both = self.factors.shape
        return n * n * (both // 2 + times * channels), times * 2 * n * both * channels


class Softmax(Affinity):
    """A_ij = exp(scale <q_i, k_j>) / sum_j exp(scale <q_i, k_j>), applied without being stored.

    Shapes: query (B, N, E), key (B, M, E), mostly M = N. ``matmul`` is
    scaled_dot_product_attention, whose fused kernels keep one tile of A at a time: N M (E + C)
    multiply-adds, memory linear in N. Their backward pass computes A again; on a CPU a small A
    (N <= max(4 C, 256)) is formed once and kept, which is faster. ``mask`` (B, M) is True at the
    keys that count, at least one in each element of the batch.

    The fused kernels have no forward-mode derivative, so that it is taken through torch's plain
    one, which holds N M entries; nor a second one: for those choose the plain kernel for the
    forward pass, ``with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)``.
    """

    def __init__(
        self, query: Tensor, key: Tensor, scale: float = 1.0, mask: Tensor | None = None
    ) -> None:
        if query.ndim != 3 or key.ndim != 3 or query.shape[::2] != key.shape[::2]:
            raise ValueError(
                f"Softmax needs a query (B, N, E) and a key (B, M, E), got {tuple(query.shape)} "
                f"and {tuple(key.shape)}."
            )
        # Scaled here: fused kernels round scale <q_i, k_j> otherwise on the way back than forwards,
        # and the exponential of the difference of large ones is infinite.
        self.query = query if scale == 1 else scale * query
        self.key, self.mask = key, mask

    def matmul(self, z: Tensor) -> Tensor:
        positions, keys, channels = self.query.shape[1], self.key.shape[1], z.shape[-1]
        if z.device.type == "cpu" and _prefers_small_matrix(positions, keys, channels):
            return self.to_dense() @ z
        # The fused kernels want queries as wide as values, and channels side by side in memory.
        width = max(channels, self.query.shape[-1])
        query, key, value = (_as_wide(x, width) for x in (self.query, self.key, z))
        heads = _heads(query)
        attend = functools.partial(
            F.scaled_dot_product_attention,
            query.unflatten(1, (heads, -1)),
            key[:, None].expand(-1, heads, -1, -1),
            value[:, None].expand(-1, heads, -1, -1),
            attn_mask=None if self.mask is None else self.mask[:, None, None],
            scale=1.0,
        )
        try:
            result = attend()
        except NotImplementedError:  # forward-mode differentiation
            with sdpa_kernel(SDPBackend.MATH):
                result = attend()
        return _with_advice(result).flatten(1, 2)[..., :channels]

    def degree(self) -> Tensor:
        return torch.ones(self.query.shape[:2], dtype=wide(self.query), device=self.query.device)

    def transpose(self) -> Dense:
        # The columns of a softmax have no common factor, so that the matrix is needed.
        return Dense(self.to_dense().mT)

    def to_dense(self) -> Tensor:
        return self._softmax(self.query)

    def rows(self, index: Tensor) -> Tensor:
        return self._softmax(self.query[:, index])

    def multiply_adds(self, channels: int) -> int:
        (_, positions, embedded), keys = self.query.shape, self.key.shape[1]
        return positions * keys * (embedded + channels)

    def _softmax(self, query: Tensor) -> Tensor:
        scores = query @ self.key.mT
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask[:, None], -torch.inf)
        return scores.softmax(-1)


class RectifiedSum(Affinity):
    """A_ij = relu(a_i + b_j), applied without being stored, at N log N + N C.

    With the keys in the order of their b, those that i listens to are the last ones, and

        (A z)_i = a_i sum_j z_j + sum_j b_j z_j    over the j with b_j > -a_i

    are differences of two running sums. Shapes: a (B, N), b (B, M); ``mask`` (B, M) is True at the
    keys that count.
    """

    def __init__(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> None:
        self.a, self.b, self.mask = a, b, mask

    def matmul(self, z: Tensor) -> Tensor:
        if is_exporting():  # ONNX cannot search
            return self.to_dense() @ z
        if self.mask is not None:
            z = torch.where(self.mask[..., None], z, 0)
        dtype = wide(z)
        b, order = self.b.sort(1)
        z = z.to(dtype).gather(1, order[..., None].expand(-1, -1, z.shape[-1]))
        both = torch.cat([z, b.to(dtype)[..., None] * z], -1)
        # Sums of the keys from each place on, and of none at the end.
        after = F.pad(both.flip(1).cumsum(1).flip(1), (0, 0, 0, 1))
        first = torch.searchsorted(b.detach().contiguous(), -self.a.detach(), right=True)
        own = after.gather(1, first[..., None].expand(-1, -1, after.shape[-1]))
        plain, weighted = own.chunk(2, -1)
        return (self.a.to(dtype)[..., None] * plain + weighted).to(self.a.dtype)

    def degree(self) -> Tensor:
        return self.matmul(torch.ones_like(self.b, dtype=wide(self.b))[..., None]).squeeze(-1)

    def transpose(self) -> Affinity:
        return Dense(self.to_dense().mT)

    def to_dense(self) -> Tensor:
        return self._pairs(self.a)

    def rows(self, index: Tensor) -> Tensor:
        return self._pairs(self.a[:, index])

    def multiply_adds(self, channels: int) -> int:
        positions, keys = self.a.shape[1], self.b.shape[1]
        return keys * channels + positions * channels

    def _pairs(self, a: Tensor) -> Tensor:
        pairs = F.relu(a[..., None] + self.b[:, None])
        return pairs if self.mask is None else torch.where(self.mask[:, None], pairs, 0)


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
        cls,
        query: Tensor,
        key: Tensor,
        grid: Sequence[int],
        scale: float = 1.0,
        mask: Tensor | None = None,
    ) -> CrissCross:
        """Build the softmax of scale <q_i, k_j> over the positions j of all lines through i.

        ``mask`` is True at the positions that exist: those i listen to such j alone; what the
        others listen to does not matter.

        Shapes: query, key (B, N, E), mask (B, N), N = prod(grid).
        """
        axes = range(len(grid))
        there = None if mask is None else mask[..., None].unflatten(1, tuple(grid))
        q, k = (x.unflatten(1, tuple(grid)) for x in (query, key))
        scores = []
        for axis in axes:
            line = scale * _along(q, axis) @ _along(k, axis).mT
            if axis > 0:  # a position meets itself once
                itself = torch.eye(line.shape[-1], dtype=torch.bool, device=line.device)
                line = line.masked_fill(itself, -torch.inf)
            if there is not None:
                of_line = _along(there, axis)
                line = line.masked_fill(of_line & ~of_line.mT, -torch.inf)
            scores.append(_back(line, axis))
        weights = torch.cat(scores, -1).softmax(-1).split(list(grid), -1)
        return cls([_along(w, axis) for axis, w in zip(axes, weights, strict=True)], grid)

    def matmul(self, z: Tensor) -> Tensor:
        z = z.unflatten(1, self.grid)
        products = (_back(m @ _along(z, axis), axis) for axis, m in enumerate(self.lines))
        return _total(products).flatten(1, -2)

    def degree(self) -> Tensor:
        sums = (m.sum(-1, keepdim=True, dtype=wide(m)) for m in self.lines)
        return _total(_back(m, axis) for axis, m in enumerate(sums)).flatten(1)

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
        return self.rows(torch.arange(self._positions, device=self.lines[0].device))

    def rows(self, index: Tensor) -> Tensor:
        return rows_by_products(self, index, self.lines[0].new_zeros(self._positions))

    def multiply_adds(self, channels: int) -> int:
        return self._positions * sum(self.grid) * channels

    @property
    def _positions(self) -> int:
        return torch.Size(self.grid).numel()

    def _each(self, change: Callable[[Tensor, int], Tensor]) -> CrissCross:
        return CrissCross([change(line, a) for a, line in enumerate(self.lines)], self.grid)


class Scaled(Affinity):
    """diag(row) A diag(col), where A cannot absorb the factors. Shapes: row, col (B, N)."""

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
        return _total(part.matmul(z) for part in self.parts)

    def degree(self) -> Tensor:
        return _total(part.degree() for part in self.parts)

    def transpose(self) -> Sum:
        return Sum([part.transpose() for part in self.parts])

    def symmetrize(self) -> Sum:
        return Sum([part.symmetrize() for part in self.parts])

    def scale(self, row: Tensor, col: Tensor | None) -> Sum:
        return Sum([part.scale(row, col) for part in self.parts])

    def to_dense(self) -> Tensor:
        return _total(part.to_dense() for part in self.parts)

    def rows(self, index: Tensor) -> Tensor:
        return _total(part.rows(index) for part in self.parts)

    def multiply_adds(self, channels: int) -> int:
        return sum(part.multiply_adds(channels) for part in self.parts)


def normalize(affinity: Affinity, how: str | None) -> Affinity:
    """Divide an affinity by its degrees d = A 1.

    ``"sym"``: D^-1/2 A D^-1/2; ``"rw"`` (random walk): D^-1 A; ``None``: A. A position of degree
    zero gets a zero row (and, for ``"sym"``, a zero column) and a finite gradient. Degrees below
    1e-19 (float32) count as zero: their d^-3/2, a factor of the gradient, is out of range.

    Raises:
        ValueError: for any other ``how``.
    """
    if how is None:
        return affinity
    degree = affinity.degree()
    # 1 / infinity is zero, as is its derivative, where a power of zero would be infinite.
    safe = torch.where(degree > torch.finfo(degree.dtype).tiny ** 0.5, degree, torch.inf)
    if how == "sym":
        weight = safe.rsqrt()
        return affinity.scale(weight, weight)
    if how == "rw":
        return affinity.scale(safe.reciprocal(), None)
    raise ValueError(f"normalization={how!r} is unknown; choose 'sym', 'rw' or None.")


def to_vertices(x: Tensor, groups: int) -> Tensor:
    """View the channels of all positions as vertices: (B, N, Cs) -> (B groups, N Cs / groups, 1).

    The vertices of a group are its channels of the first position, then of the second, and so on.
    """
    return x.unflatten(-1, (groups, -1)).movedim(2, 1).flatten(2).flatten(0, 1)[..., None]


def from_vertices(vertices: Tensor, groups: int, inter_channels: int) -> Tensor:
    """Invert :func:`to_vertices`."""
    per_group = vertices.squeeze(-1).unflatten(0, (-1, groups))
    return per_group.unflatten(2, (-1, inter_channels // groups)).movedim(1, 2).flatten(2)


def split_channels(x: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
    """Divide the channels into parts, of which gradients are joined as ``x`` is laid out.

    Shapes: (B, N, sum of widths) -> each (B, N, width).
    """
    if x.stride(-1) == 1 or not x.requires_grad:
        return x.split_with_sizes(widths, -1)
    return [part.mT for part in x.mT.split_with_sizes(widths, 1)]


def halves(x: Tensor) -> Sequence[Tensor]:
    """Divide the channels in two. Shape: (B, N, 2 C) -> twice (B, N, C)."""
    if x.stride(-1) == 1 or not x.requires_grad:
        return x.chunk(2, -1)
    first, second = x.mT.chunk(2, 1)
    return first.mT, second.mT


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate channels, laid out in memory as the first part. Shapes: each (B, N, C)."""
    if parts[0].stride(-1) == 1:
        return torch.cat(list(parts), -1)
    return torch.cat([part.mT for part in parts], 1).mT


def softmax(x: Tensor, dim: int) -> Tensor:
    """Return the softmax over axis 1 or 2, laid out in memory as ``x``. Shape: (B, N, C)."""
    return x.softmax(dim) if x.stride(-1) == 1 else x.mT.softmax(3 - dim).mT


def rows_by_products(affinity: Affinity, index: Tensor, zeros: Tensor) -> Tensor:
    """Return rows of A by products with A^T. Shapes: (Q,) and zeros (N,) -> (B, Q, N).

    Column q of A^T e is row index[q] of A, where e has a one at index[q] in column q.
    """
    chosen = zeros[:, None].repeat(1, len(index))
    chosen[index, torch.arange(len(index), device=index.device)] = 1
    return affinity.transpose().matmul(chosen[None]).mT


def prefers_dense(dense: int, factored: int) -> bool:
    """Choose between two exact orders by their multiply-adds: True forms A as a matrix.

    An exported graph always takes the factored order, since the comparison would freeze the sizes
    it was exported with.
    """
    return not is_exporting() and dense < factored


def autocast_dtype(device: str) -> torch.dtype | None:
    """Return the type that autocast takes products in on a kind of device; None where it is off."""
    # The meta device has no autocast, and to ask for it is an error.
    if device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Return a context without autocast on a kind of device."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def wide(x: Tensor) -> torch.dtype:
    """Return float32 or wider: half-precision sums over thousands of positions overflow."""
    return torch.promote_types(x.dtype, torch.float32)


def can_be_read(x: Tensor) -> bool:
    """Tell if a check may read the values of x: not in recorded graphs, nor within torch.func."""
    if torch.compiler.is_compiling() or is_exporting() or x.device.type == "meta":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)


def _prefers_small_matrix(positions: int, keys: int, channels: int) -> bool:
    """Decide the same for :class:`Softmax`, whose two orders cost equally many multiply-adds.

    The bound N <= max(4 C, 256) is the one below which a product of factors may be formed, too.
    """
    return not is_exporting() and max(positions, keys) <= max(4 * channels, 256)


# torch.compiler.is_exporting appeared in torch 2.7; before it, compiled graphs count as exported.
_recording = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def is_exporting() -> bool:
    """Tell if a graph is being recorded that has to hold for other sizes than its present ones."""
    return _recording() or torch.jit.is_tracing()


class _NoSecondDerivative(torch.autograd.Function):
    """The identity, whose own derivative is an error that says what to do."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:
        raise RuntimeError(
            "fused attention has no second derivative: run the forward pass within "
            "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), which keeps "
            "N x N entries."
        )


def _with_advice(result: Tensor) -> Tensor:
    """Let second derivatives through a fused kernel name the kernel that has them."""
    if torch.compiler.is_compiling():
        return result
    node = result.grad_fn
    if node is None or not any(word in node.name() for word in _FUSED):
        return result

    def marked(gradients: tuple[Tensor | None, ...], _: object) -> tuple[Tensor | None, ...] | None:
        if not torch.is_grad_enabled():  # as in every first derivative
            return None
        return tuple(None if g is None else _NoSecondDerivative.apply(g) for g in gradients)

    node.register_hook(marked)  # type: ignore[union-attr]
    return result


def _total(tensors: Iterable[Tensor]) -> Tensor:
    first, *others = tensors
    return sum(others, first)


def _times(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply row i of x by weight i. Shapes: (B, N, C), (B, N) -> (B, N, C).

    The dtype is x's, but for integers, whose products would be cut off.
    """
    product = x * weight[..., None]
    return product.to(x.dtype) if x.is_floating_point() or x.is_complex() else product


def _exchanged(x: Tensor, axis: int) -> Tensor:
    """Exchange the two halves of an axis."""
    first, second = x.chunk(2, axis)
    return torch.cat([second, first], axis)


def _row_sums(left: Tensor, right: Tensor) -> Tensor:
    """Return left right^T 1. Shapes: (B, N, R), (B, M, R) -> (B, N)."""
    # Without a matmul, which autocast and TF32 would take out of float32.
    return (left * right.sum(1, keepdim=True, dtype=wide(right))).sum(-1)


def _as_wide(x: Tensor, width: int) -> Tensor:
    """Pad the channels with zeros up to a width, and lay them side by side in memory."""
    if x.shape[-1] < width:
        return F.pad(x, (0, width - x.shape[-1]))
    return x if x.stride(-1) == 1 else x.contiguous()


def _heads(query: Tensor) -> int:
    """Return how many heads to divide the queries (B, N, E) into, which share their keys.

    torch's backward pass on a CPU gives one thread to each head of each batch element.
    """
    batch, positions = query.shape[:2]
    if query.device.type != "cpu" or not query.requires_grad or is_exporting():
        return 1
    if torch.compiler.is_compiling():  # which cannot ask for the number of threads
        return 1
    wanted = torch.get_num_threads() // max(batch, 1)
    return wanted if wanted > 1 and positions % wanted == 0 else 1


def _along(x: Tensor, axis: int) -> Tensor:
    """View the grid as lines along an axis. Shape: (B, *grid, C) -> (B, *other lengths, L, C)."""
    return x.movedim(axis + 1, -2)


def _back(lines: Tensor, axis: int) -> Tensor:
    """Undo :func:`_along`. Shape: (B, *other lengths, L, C) -> (B, *grid, C)."""
    return lines.movedim(-2, axis + 1)
