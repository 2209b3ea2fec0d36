"""Filters on a graph that is given by its edges, in place of one that a kernel makes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from video_snl.blocks.filters import Polynomial
from video_snl.blocks.layers import ZeroBiasLinear, check_counts, check_dtype
from video_snl.blocks.operators import (
    Affinity,
    can_be_read,
    normalize,
    rows_by_products,
    wide,
)

__all__ = ["GraphAffinity", "GraphFilterLayer"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class GraphAffinity(Affinity):
    """A given graph: A_ij is the sum of the weights of the edges (i, j), then normalised.

    An edge (i, j) lets vertex i listen to vertex j: (A z)_i = sum_j A_ij z_j. PyTorch Geometric and
    others write edges as (source, target), which is the opposite order: give ``edges.flip(0)``. An
    edge (i, j) is not an edge (j, i); give both for an undirected graph. Duplicate edges are
    summed, self-loops are kept, and none is added. A vertex without edges has a row of zeros, so
    that A z is 0 there. The degrees D are row sums; with ``"sym"``, D^-1/2 A D^-1/2, no vertex
    hears one that listens to none.

    A z is a gather of rows of z, weighted and added by ``index_add``: E C multiply-adds, and memory
    for E C entries. All derivatives exist, forward mode included, with respect to z and the
    weights. Sums are in float32 or wider. One graph serves a batch of any size; graphs of one batch
    that differ are joined by :meth:`batch`. On CUDA ``index_add`` adds in any order, unless
    ``torch.use_deterministic_algorithms`` is set.

    Args:
        edges: integers (2, E), the rows i and j of each edge; a tensor or nested sequences.
        vertices: N, number of vertices, also those without edges.
        weights: non-negative and finite, (E,), or (B, E) for a batch with weights of its own; one
            for each edge where None.
        normalization: ``"sym"``, ``"rw"`` or None, see :func:`normalize`. The filters of
            arXiv:2108.02451 have their reading by frequencies for a symmetric graph with ``"sym"``.

    Attributes:
        listening, heard: i and j of each edge. Shape: (E,).
        weights: weight of each edge, after the normalisation. Shape: (1, E) or (B, E).
        sizes: number of vertices of each graph that :meth:`batch` has joined.

    Raises:
        ValueError: for edges that are not integers (2, E) or out of range, weights of another
            shape, negative or not finite, sparse tensors, a number of vertices that is not whole,
            an unknown normalisation, or degrees beyond the range of their dtype, by which nothing
            can be divided. Values are checked where they can be read: not in compiled or exported
            graphs, nor within torch.func.
    """

    listening: Tensor
    heard: Tensor
    weights: Tensor
    sizes: tuple[int, ...]

    def __init__(
        self,
        edges: Tensor | Sequence[Sequence[int]],
        vertices: int,
        weights: Tensor | Sequence[float] | None = None,
        *,
        normalization: Literal["sym", "rw"] | None = None,
    ) -> None:
        count = _checked_count(vertices)
        index = _checked_edges(edges, count)
        strength = _checked_weights(weights, index)
        self._set(index[0], index[1], strength, (count,))
        if normalization is not None:
            _check_degrees(self.degree())
        normalized = normalize(self, normalization)
        assert isinstance(normalized, GraphAffinity)
        self.weights = normalized.weights

    @classmethod
    def from_csr(
        cls,
        matrix: Tensor,
        *parts: Any,
        normalization: Literal["sym", "rw"] | None = None,
    ) -> GraphAffinity:
        """Build the graph of a square matrix in torch's CSR layout; row i holds what i listens to.

        A SciPy matrix m becomes one by ``torch.sparse_csr_tensor(m.indptr, m.indices, m.data)``.

        Raises:
            ValueError: for another layout or shape, ``parts`` of a matrix in place of one tensor,
                and as the constructor.
        """
        if parts or not isinstance(matrix, Tensor):
            got = f"{1 + len(parts)} values" if parts else f"a {type(matrix).__name__}"
            raise ValueError(
                f"from_csr expects one tensor in the layout torch.sparse_csr, got {got}; "
                "torch.sparse_csr_tensor(m.indptr, m.indices, m.data, m.shape) makes one of a "
                "SciPy matrix m."
            )
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
        if matrix.layout != torch.sparse_csr or not square:
            raise ValueError(
                f"from_csr expects a square (N, N) tensor in the layout torch.sparse_csr, got "
                f"{tuple(matrix.shape)} in {matrix.layout}; matrix.to_sparse_csr() makes one."
            )
        vertices = matrix.shape[0]
        rows = torch.arange(vertices, device=matrix.device)
        listening = rows.repeat_interleave(matrix.crow_indices().diff())
        edges = torch.stack([listening, matrix.col_indices().long()])
        return cls(edges, vertices, matrix.values(), normalization=normalization)

    @classmethod
    def from_neighbours(
        cls,
        neighbours: Sequence[Sequence[int]],
        weights: Sequence[Sequence[float]] | None = None,
        *,
        normalization: Literal["sym", "rw"] | None = None,
    ) -> GraphAffinity:
        """Build the graph in which vertex i listens to the vertices ``neighbours[i]``.

        Raises:
            ValueError: for weights that are not as many as the neighbours, and as the constructor.
        """
        counts = [len(row) for row in neighbours]
        flat = None
        if weights is not None:
            if [len(row) for row in weights] != counts:
                raise ValueError("weights of from_neighbours must be one for each neighbour.")
            flat = [weight for row in weights for weight in row]
        edges = [
            [vertex for vertex, count in enumerate(counts) for _ in range(count)],
            [neighbour for row in neighbours for neighbour in row],
        ]
        return cls(edges, len(neighbours), flat, normalization=normalization)

    @classmethod
    def batch(cls, graphs: Sequence[GraphAffinity]) -> GraphAffinity:
        """Join graphs into a block-diagonal one, with the vertices of one after those of another.

        A signal for it is ``torch.cat(signals, 1)``, and ``signal.split(graph.sizes, 1)`` takes it
        apart. Each graph keeps its normalisation.

        Raises:
            ValueError: for no graph, or batches of weights of different sizes.
        """
        if not graphs:
            raise ValueError("GraphAffinity.batch needs at least one graph.")
        batches = {len(graph.weights) for graph in graphs} - {1}
        if len(batches) > 1:
            raise ValueError(
                f"GraphAffinity.batch joins graphs with weights (E,) or of one batch (B, E), got "
                f"B = {sorted(batches)}."
            )
        rows, columns, before = [], [], 0
        for graph in graphs:
            rows.append(graph.listening + before)
            columns.append(graph.heard + before)
            before += graph.vertices
        size = max(batches, default=1)
        weights = torch.cat([graph.weights.expand(size, -1) for graph in graphs], 1)
        sizes = tuple(size for graph in graphs for size in graph.sizes)
        return cls._of(torch.cat(rows), torch.cat(columns), weights, sizes)

    @property
    def vertices(self) -> int:
        """Return N."""
        return sum(self.sizes)

    @property
    def edges(self) -> Tensor:
        """Return the edges, as they were given. Shape: (2, E)."""
        return torch.stack([self.listening, self.heard])

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GraphAffinity:
        """Return the graph on a device, with weights of a dtype.

        Raises:
            ValueError: for a dtype that holds no fractions.
        """
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"the weights of a graph are in floating point, not in {dtype}.")
        return self._of(
            self.listening.to(device),
            self.heard.to(device),
            self.weights.to(device=device, dtype=dtype),
            self.sizes,
        )

    def matmul(self, z: Tensor) -> Tensor:
        if z.ndim != 3 or z.shape[1] != self.vertices:
            raise ValueError(
                f"this graph of {self.vertices} vertices expects a signal (B, {self.vertices}, C), "
                f"got {tuple(z.shape)}."
            )
        _check_kind(z)
        batch = len(self.weights)
        if batch != 1 and z.shape[0] not in (1, batch):
            raise ValueError(
                f"this graph has weights for a batch of {batch}, got a signal {tuple(z.shape)}: "
                f"give {batch} signals, or weights (E,), which serve a batch of any size."
            )
        messages = self.weights[..., None] * z.index_select(1, self.heard)
        return self._gathered(messages).to(z.dtype)

    def degree(self) -> Tensor:
        return self._gathered(self.weights)

    def transpose(self) -> GraphAffinity:
        return self._of(self.heard, self.listening, self.weights, self.sizes)

    def symmetrize(self) -> GraphAffinity:
        return self._of(
            torch.cat([self.listening, self.heard]),
            torch.cat([self.heard, self.listening]),
            torch.cat([self.weights, self.weights], 1) / 2,
            self.sizes,
        )

    def scale(self, row: Tensor, col: Tensor | None) -> GraphAffinity:
        weights = self.weights * row.index_select(1, self.listening)
        weights = weights if col is None else weights * col.index_select(1, self.heard)
        return self._of(self.listening, self.heard, weights.to(self.weights.dtype), self.sizes)

    def to_dense(self) -> Tensor:
        size = self.vertices
        place = self.listening * size + self.heard
        flat = self.weights.new_zeros(len(self.weights), size * size)
        return flat.index_add(1, place, self.weights).unflatten(1, (size, size))

    def rows(self, index: Tensor) -> Tensor:
        return rows_by_products(self, index, self.weights.new_zeros(self.vertices))

    def multiply_adds(self, channels: int) -> int:
        return len(self.listening) * channels

    def __repr__(self) -> str:
        return f"GraphAffinity(vertices={self.vertices}, edges={len(self.listening)})"

    @classmethod
    def _of(
        cls, listening: Tensor, heard: Tensor, weights: Tensor, sizes: tuple[int, ...]
    ) -> GraphAffinity:
        """Make a graph of parts that are known to be right. Shapes: (E,), (E,), (B or 1, E)."""
        graph = cls.__new__(cls)
        graph._set(listening, heard, weights, sizes)
        return graph

    def _set(
        self, listening: Tensor, heard: Tensor, weights: Tensor, sizes: tuple[int, ...]
    ) -> None:
        self.listening, self.heard, self.weights, self.sizes = listening, heard, weights, sizes

    def _gathered(self, values: Tensor) -> Tensor:
        """Add the values of the edges of each vertex. Shape: (B, E, ...) -> (B, N, ...)."""
        values = values.to(wide(values))
        empty = values.new_zeros(values.shape[0], self.vertices, *values.shape[2:])
        return empty.index_add(1, self.listening, values)


class GraphFilterLayer(nn.Module):
    """F(A, X) = sum_k A^k X W_k + b, k = 0 ... order (eq. 12 of arXiv:2108.02451), for a given A.

    Args:
        in_channels, out_channels: channels of the input and the output.
        order: highest power of A, at least 0.
        bias: b, zero at the start.
        device, dtype: those of the parameters.

    Shapes:
        x: (B, N, in_channels) -> (B, N, out_channels).

    Raises:
        ValueError: for sizes below 1, an order below 0 or numbers that are not whole, or a signal
            of another shape, of integers or, outside autocast, of another type than the weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 1,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels)
        check_counts(0, order=order)
        self.in_channels = in_channels
        self.filter = Polynomial.powers(*range(order + 1))
        # The weights [W_0, W_1, ...] side by side.
        self.combine = ZeroBiasLinear((order + 1) * in_channels, out_channels, bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw the weights as ``nn.Linear`` does, and set the bias to zero."""
        self.combine.reset_parameters()

    def forward(self, x: Tensor, affinity: Affinity) -> Tensor:
        """Return F(A, X) for an affinity of any kind over the N vertices."""
        if not isinstance(x, Tensor) or not isinstance(affinity, Affinity):
            raise ValueError(
                "this filter expects a signal, then a graph or another affinity: "
                f"layer(signal, graph); got a {type(x).__name__}, then a "
                f"{type(affinity).__name__}."
            )
        if x.ndim != 3 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"this filter expects a signal (B, N, {self.in_channels}), got {tuple(x.shape)}."
            )
        _check_kind(x)
        check_dtype(x, self.combine, "this filter")
        return self.combine(self.filter.terms(affinity, x))

    def extra_repr(self) -> str:
        return f"order={self.filter.products}"


def _check_kind(z: Tensor) -> None:
    if not (z.is_floating_point() or z.is_complex()):
        raise ValueError(
            f"a signal on a graph is in floating point, got {z.dtype}, in which its sums would be "
            "cut off; give signal.float()."
        )


def _checked_count(vertices: int) -> int:
    count = vertices
    if not isinstance(vertices, int | torch.SymInt):  # which stays open in an exported graph
        try:
            count = operator.index(vertices)
        except TypeError as error:
            raise ValueError(
                f"vertices={vertices!r} of a graph must be a whole number, their count."
            ) from error
    if isinstance(vertices, bool) or count < 0:
        raise ValueError(f"vertices={vertices} of a graph must be a count of at least 0.")
    return count


def _dense(values: Any, what: str, device: torch.device | None = None) -> Tensor:
    """Return values as a plain tensor."""
    try:
        found = torch.as_tensor(values, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the {what} of a graph are a tensor or numbers in nested lists of one length, got a "
            f"{type(values).__name__} ({error})."
        ) from error
    if found.layout is not torch.strided or found.is_quantized:
        kind = found.dtype if found.is_quantized else found.layout
        raise ValueError(
            f"the {what} of a graph are a dense tensor, got {kind}; "
            "GraphAffinity.from_csr(matrix.to_sparse_csr()) takes a sparse matrix of weights."
        )
    return found


def _checked_edges(edges: Tensor | Sequence[Sequence[int]], vertices: int) -> Tensor:
    """Return the edges as int64. Shape: (2, E)."""
    index = _dense(edges, "edges")
    if index.ndim != 2 or index.shape[0] != 2:
        raise ValueError(f"the edges of a graph have the shape (2, E), got {tuple(index.shape)}.")
    # An empty list becomes a tensor of floating point.
    if index.dtype not in _INTEGERS and index.numel():
        raise ValueError(
            f"the edges of a graph are integers, numbers of its vertices; got {index.dtype}."
        )
    index = index.long()
    if index.numel() and can_be_read(index):
        least, largest = (int(value) for value in index.aminmax())
        if least < 0 or largest >= vertices:
            wrong = least if least < 0 else largest
            raise ValueError(
                f"the edges name vertex {wrong}, but this graph has the vertices 0 to "
                f"{vertices - 1}; vertices= sets their number."
            )
    return index


def _checked_weights(weights: Tensor | Sequence[float] | None, index: Tensor) -> Tensor:
    """Return the weights in floating point. Shape: (1, E) or (B, E)."""
    count = index.shape[1]
    if weights is None:
        return torch.ones(1, count, device=index.device)
    given = _dense(weights, "weights", index.device)
    if given.is_complex():
        raise ValueError(f"the weights of a graph are real numbers, got {given.dtype}.")
    given = given if given.is_floating_point() else given.to(torch.get_default_dtype())
    if given.ndim not in (1, 2) or given.shape[-1] != count:
        raise ValueError(
            f"the weights of these {count} edges have the shape ({count},) or (B, {count}), got "
            f"{tuple(given.shape)}."
        )
    if can_be_read(given) and not (given.isfinite() & (given >= 0)).all():
        raise ValueError(
            "the weights of a graph are finite and at least 0, since its degrees divide them; got "
            f"{float(given[~(given.isfinite() & (given >= 0))][0]):g}."
        )
    return given if given.ndim == 2 else given[None]


def _check_degrees(degree: Tensor) -> None:
    """Refuse degrees out of range: their reciprocal, zero, would take the edges away in silence."""
    if not can_be_read(degree):
        return
    smallest = torch.finfo(degree.dtype).tiny ** 0.5  # below, normalize() takes it for zero
    outside = ~degree.isfinite() | (degree > 0) & (degree <= smallest)
    if outside.any():
        vertex = int(outside.any(0).nonzero()[0])
        raise ValueError(
            f"the degree of vertex {vertex}, the sum of the weights of its edges, is beyond the "
            f"range of {degree.dtype}: divide all weights by one number, which changes nothing in "
            "a normalised graph."
        )
