"""Filters on a given graph, against loops over its edges; test_affinity.py has what is general."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from tests import naive
from tests.blocks.cases import EXACT, assert_same_with_gradients, features
from tests.blocks.test_cost import Recorder
from video_snl.blocks import (
    Cayley,
    Dense,
    GraphAffinity,
    GraphFilterLayer,
    Polynomial,
    Scaled,
    SymmetricLowRank,
    normalize,
)
from video_snl.blocks.operators import RectifiedSum

NORMALIZATIONS = pytest.mark.parametrize("how", ["sym", "rw", None])


@dataclass(frozen=True)
class Edges:
    """Edges of a graph with duplicates, self-loops and vertices without any."""

    pairs: list[tuple[int, int]]
    vertices: int
    weights: Tensor

    @property
    def index(self) -> Tensor:
        return torch.tensor(self.pairs, dtype=torch.long).view(-1, 2).T

    def matrix(self, weights: Tensor | None = None) -> Tensor:
        """A_ij = sum of the weights of the edges (i, j), by a loop. Shape: (1, N, N)."""
        weights = self.weights if weights is None else weights
        size = self.vertices
        entries = [[torch.zeros((), dtype=weights.dtype)] * size for _ in range(size)]
        for (i, j), weight in zip(self.pairs, weights, strict=True):
            entries[i][j] = entries[i][j] + weight
        return torch.stack([torch.stack(row) for row in entries])[None]


@st.composite
def graphs(draw: st.DrawFn) -> Edges:
    vertices = draw(st.integers(1, 6))
    vertex = st.integers(0, vertices - 1)
    pairs = draw(st.lists(st.tuples(vertex, vertex), max_size=12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    weights = 0.1 + torch.rand(len(pairs), generator=generator, dtype=torch.float64)
    return Edges(pairs, vertices, weights.requires_grad_())


# Vertex 3 hears itself and, twice, 0; vertex 4 has no edges; vertex 2 is heard but hears nobody.
EXAMPLE = Edges(
    [(0, 1), (1, 2), (3, 0), (3, 3), (3, 0), (0, 2), (1, 0)],
    5,
    torch.tensor([1.0, 0.5, 2.0, 0.25, 1.5, 3.0, 0.75], dtype=torch.float64),
)


@NORMALIZATIONS
@given(edges=graphs())
@settings(max_examples=20, deadline=None)
def test_a_filter_is_that_of_the_matrix(how: str | None, edges: Edges) -> None:
    graph = GraphAffinity(edges.index, edges.vertices, edges.weights, normalization=how)
    matrix = edges.matrix() if how is None else naive.normalized(edges.matrix(), how)
    z = features(2, edges.vertices, 3).requires_grad_()
    layer = GraphFilterLayer(3, 4, order=2, dtype=torch.float64)
    weights = layer.combine.weight.split(3, 1)
    once = naive.product(matrix.expand(2, -1, -1), z)
    powers = [z, once, naive.product(matrix.expand(2, -1, -1), once)]
    expected = sum(naive.linear(w, p) for w, p in zip(weights, powers, strict=True))
    leaves = [z, edges.weights, *layer.parameters()]
    assert_same_with_gradients(layer(z, graph), expected + layer.combine.bias, leaves)
    assert_close(graph.to_dense(), matrix, **EXACT)


@NORMALIZATIONS
def test_the_direction_and_vertices_without_edges(how: str | None) -> None:
    graph = GraphAffinity(EXAMPLE.index, 5, EXAMPLE.weights, normalization=how)
    z = features(1, 5, 2)
    y = graph.matmul(z)
    assert (y[:, [2, 4]] == 0).all() and (y[:, [0, 1, 3]] != 0).any(-1).all()
    # Vertex 1 listens to 0, but 0 does not listen to 3, which listens to it.
    changed = z.clone()
    changed[:, 3] += 1
    assert_close(graph.matmul(changed)[:, :3], y[:, :3], rtol=0, atol=0)
    changed = z.clone()
    changed[:, 0] += 1
    heard = (graph.matmul(changed) != y).any(-1)[0]
    assert heard.tolist() == [False, True, False, True, False]
    if how == "rw":
        assert_close(graph.degree()[0], torch.tensor([1.0, 1, 0, 1, 0], dtype=torch.float64))
    if how == "sym":
        assert (graph.to_dense()[..., 2] == 0).all()  # nobody hears the one who hears nobody


def test_gradients_of_vertices_without_edges_are_finite() -> None:
    weights = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    z = torch.randn(1, 4, 2, requires_grad=True)
    for how in ("sym", "rw"):
        graph = GraphAffinity([[0, 1, 2], [1, 0, 2]], 4, weights, normalization=how)
        gradients = torch.autograd.grad(graph.matmul(z).square().sum(), [z, weights])
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_graph_without_weights_or_without_edges() -> None:
    graph = GraphAffinity([[0, 0, 1], [1, 1, 0]], 3)
    assert graph.to_dense().tolist() == [[[0, 2, 0], [1, 0, 0], [0, 0, 0]]]
    assert repr(graph) == "GraphAffinity(vertices=3, edges=3)"
    empty = GraphAffinity([[], []], 3, normalization="sym")
    assert (empty.matmul(torch.randn(2, 3, 4)) == 0).all() and empty.degree().tolist() == [[0] * 3]


def test_numbers_of_other_types() -> None:
    """Counts of NumPy are counts, and one signal may meet weights of a batch."""
    graph = GraphAffinity(EXAMPLE.index, np.int64(5), torch.ones(2, 7))
    assert graph.vertices == 5 and graph.matmul(torch.ones(1, 5, 1)).shape == (2, 5, 1)
    z = torch.ones(1, 5, 2, dtype=torch.complex128)
    assert torch.equal(graph.matmul(z).real.float(), graph.matmul(torch.ones(1, 5, 2)))
    one = torch.ones(1, 2, 1)
    scaled = Scaled(torch.full((1, 2), 0.5), RectifiedSum(one[..., 0], one[..., 0]), one[..., 0])
    assert torch.equal(scaled.matmul(one.long()), scaled.matmul(one))


def test_a_symmetric_graph_has_frequencies_from_0_to_2() -> None:
    edges = Edges(EXAMPLE.pairs, 5, EXAMPLE.weights)
    both = GraphAffinity(edges.index, 5, edges.weights).symmetrize()
    graph = normalize(both, "sym")
    matrix = graph.to_dense()
    assert_close(matrix, matrix.mT)
    assert torch.linalg.eigvalsh(matrix).abs().max() <= 1 + 1e-12
    z, cayley = features(2, 5, 3), Cayley(2)
    assert_close(cayley.terms(graph, z), cayley.terms(Dense(matrix), z), **EXACT)
    bones = torch.tensor([[0, 1], [1, 2]])  # docs/blocks.md: give both directions
    one, two = (
        GraphAffinity(edges, 3, normalization="sym").to_dense()[0]
        for edges in (bones, torch.cat([bones, bones.flip(0)], 1))
    )
    assert one.nonzero().tolist() == [[0, 1]] and torch.equal(two, two.mT)
    # Two complex solves, of four real multiply-adds each.
    assert cayley.multiply_adds(graph, 3) == 2 * (4 * 5**3 // 3 + 4 * 5**2 * 3)
    assert not isinstance(graph, SymmetricLowRank)


@NORMALIZATIONS
def test_forward_mode_derivatives(how: str | None) -> None:
    z, weights = features(2, 5, 3), EXAMPLE.weights
    tangents = features(2, 5, 3, seed=4), features(7, seed=5)
    filter = Polynomial.powers(0, 1, 2)

    def of_the_graph(z: Tensor, weights: Tensor) -> Tensor:
        graph = GraphAffinity(EXAMPLE.index, 5, weights, normalization=how)
        return filter.terms(graph, z)

    def of_the_matrix(z: Tensor, weights: Tensor) -> Tensor:
        return filter.terms(normalize(Dense(EXAMPLE.matrix(weights)), how), z)

    found, expected = (
        torch.func.jvp(function, (z, weights), tangents)
        for function in (of_the_graph, of_the_matrix)
    )
    assert_close(found, expected, **EXACT)
    _, backward = torch.autograd.functional.jvp(of_the_graph, (z, weights), tangents)
    assert_close(found[1], backward, **EXACT)


@NORMALIZATIONS
def test_vmap(how: str | None) -> None:
    layer = GraphFilterLayer(3, 2, order=2, dtype=torch.float64)
    z, weights = features(4, 2, 5, 3), features(4, 7, seed=2).abs()

    def filtered(z: Tensor, weights: Tensor) -> Tensor:
        graph = GraphAffinity(EXAMPLE.index, 5, weights, normalization=how)
        return layer(z, graph)

    one_by_one = torch.stack([filtered(*pair) for pair in zip(z, weights, strict=True)])
    assert_close(torch.vmap(filtered)(z, weights), one_by_one, **EXACT)
    same = torch.stack([filtered(part, weights[0]) for part in z])
    assert_close(torch.vmap(filtered, in_dims=(0, None))(z, weights[0]), same, **EXACT)
    # Weights of a batch do the same without vmap.
    of_a_batch = torch.stack([filtered(z[0][b, None], weights[b])[0] for b in range(2)])
    assert_close(filtered(z[0], weights[:2]), of_a_batch, **EXACT)
    gradients = torch.vmap(torch.func.grad(lambda z, w: filtered(z, w).sum()))(z, weights)
    assert gradients.shape == z.shape


@NORMALIZATIONS
def test_csr_and_neighbours(how: str | None) -> None:
    expected = GraphAffinity(EXAMPLE.index, 5, EXAMPLE.weights, normalization=how).to_dense()
    full = EXAMPLE.matrix()[0].to_sparse_csr()
    for csr in (
        full,
        torch.sparse_csr_tensor(
            full.crow_indices().int(), full.col_indices().int(), full.values(), (5, 5)
        ),
    ):
        assert_close(GraphAffinity.from_csr(csr, normalization=how).to_dense(), expected, **EXACT)
    neighbours, weights = ([[] for _ in range(5)] for _ in range(2))
    for (i, j), weight in zip(EXAMPLE.pairs, EXAMPLE.weights.tolist(), strict=True):
        neighbours[i].append(j)
        weights[i].append(weight)
    listed = GraphAffinity.from_neighbours(neighbours, weights, normalization=how)
    assert_close(listed.to(dtype=torch.float64).to_dense(), expected, rtol=1e-6, atol=1e-6)
    plain = GraphAffinity.from_neighbours([[1, 1], [], [0]])
    assert plain.to_dense().tolist() == [[[0, 2, 0], [0, 0, 0], [1, 0, 0]]]
    assert GraphAffinity.from_neighbours([[], []]).vertices == 2


def test_values_of_a_csr_tensor_pass_on_gradients() -> None:
    matrix = EXAMPLE.matrix()[0].to_sparse_csr()
    values = matrix.values().clone().requires_grad_()
    csr = torch.sparse_csr_tensor(matrix.crow_indices(), matrix.col_indices(), values, (5, 5))
    z = features(1, 5, 2)
    GraphAffinity.from_csr(csr).matmul(z).sum().backward()
    assert values.grad.isfinite().all() and values.grad.abs().sum() > 0


@NORMALIZATIONS
def test_a_batch_of_graphs_is_each_by_itself(how: str | None) -> None:
    parts = [
        GraphAffinity(EXAMPLE.index, 5, EXAMPLE.weights, normalization=how),
        GraphAffinity([[0, 1], [1, 0]], 2, features(2, seed=3).abs(), normalization=how),
        GraphAffinity([[], []], 3).to(dtype=torch.float64),
    ]
    joined = GraphAffinity.batch(parts)
    assert joined.sizes == (5, 2, 3) and joined.vertices == 10
    assert GraphAffinity.batch([joined, parts[1]]).sizes == (5, 2, 3, 2)
    z = features(2, 10, 3)
    apart = zip(parts, z.split(joined.sizes, 1), strict=True)
    layer = GraphFilterLayer(3, 4, order=2, dtype=torch.float64)
    assert_close(layer(z, joined), torch.cat([layer(s, part) for part, s in apart], 1), **EXACT)
    assert_close(joined.to_dense()[0], torch.block_diag(*(p.to_dense()[0] for p in parts)))
    assert torch.equal(joined.edges[:, :7], EXAMPLE.index)
    weighted = GraphAffinity([[0, 1], [1, 0]], 2, features(2, 2, seed=3).abs())
    assert GraphAffinity.batch([parts[0], weighted]).to_dense().shape == (2, 7, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_in_float32(dtype: torch.dtype) -> None:
    """A star, whose centre hears 5000 others: their sum leaves float16's range."""
    edges = torch.stack([torch.zeros(5000, dtype=torch.long), torch.arange(5000)])
    weights = torch.full((5000,), 20.0, dtype=dtype)
    graph = GraphAffinity(edges, 5000, weights, normalization="rw")
    assert GraphAffinity(edges, 5000, weights).degree()[0, 0] == 100_000
    assert graph.weights.dtype == dtype
    y = graph.matmul(torch.full((1, 5000, 1), 3.0, dtype=dtype))
    assert y.dtype == dtype
    assert_close(y[0, 0].float(), torch.tensor([3.0]), rtol=1e-2, atol=0)


def test_cost_is_that_of_the_edges() -> None:
    vertices = 400
    around = torch.arange(vertices)
    ring = GraphAffinity(torch.stack([around, around.roll(1)]), vertices, normalization="sym")
    z = torch.randn(2, vertices, 8, requires_grad=True)
    with Recorder() as recorder:
        GraphFilterLayer(8, 8, order=2)(z, ring).sum().backward()
        ring.rows(torch.tensor([1, 2]))
    assert max(torch.Size(shape).numel() for shape in recorder.shapes) == 2 * vertices * 3 * 8
    assert ring.multiply_adds(8) == vertices * 8
    assert Polynomial.powers(0, 2).multiply_adds(ring, 8) == 2 * vertices * 8


def _refusals() -> Iterator[Any]:
    csr = torch.eye(3).to_sparse_csr()
    for name, build, message in (
        ("range", lambda: GraphAffinity([[0], [3]], 3), "name vertex 3, .* vertices 0 to 2"),
        ("negative", lambda: GraphAffinity([[-1], [0]], 3), "name vertex -1"),
        ("floats", lambda: GraphAffinity([[0.0], [1.0]], 3), "are integers.* got torch.float32"),
        ("bool", lambda: GraphAffinity(torch.ones(2, 2, dtype=torch.bool), 3), "torch.bool"),
        (
            "pairs",
            lambda: GraphAffinity([[0, 1], [1, 2], [2, 0]], 3),
            r"shape \(2, E\), got \(3, 2\)",
        ),
        ("flat", lambda: GraphAffinity(torch.arange(4), 4), r"got \(4,\)"),
        ("count", lambda: GraphAffinity([[], []], -1), "vertices=-1"),
        ("weights", lambda: GraphAffinity([[0], [1]], 2, [-0.5]), "at least 0.* got -0.5"),
        ("NaN", lambda: GraphAffinity([[0], [1]], 2, [torch.nan]), "finite .* got nan"),
        ("inf", lambda: GraphAffinity([[0], [1]], 2, [torch.inf]), "finite .* got inf"),
        ("complex", lambda: GraphAffinity([[0], [1]], 2, torch.ones(1) * 1j), "real numbers"),
        ("number", lambda: GraphAffinity([[0], [1]], 2, [1.0, 1.0]), r"shape \(1,\) or \(B, 1\)"),
        ("way", lambda: GraphAffinity([[0], [1]], 2, normalization="max"), "'max' is unknown"),
        ("layout", lambda: GraphAffinity.from_csr(torch.eye(3)), r"square .* torch.strided"),
        (
            "square",
            lambda: GraphAffinity.from_csr(torch.ones(2, 3).to_sparse_csr()),
            r"got \(2, 3\)",
        ),
        ("negative csr", lambda: GraphAffinity.from_csr(-1 * csr), "at least 0"),
        ("lists", lambda: GraphAffinity.from_neighbours([[0], []], [[], [1.0]]), "each neighbour"),
        ("listed", lambda: GraphAffinity.from_neighbours([[2], []]), "name vertex 2"),
        ("none", lambda: GraphAffinity.batch([]), "at least one graph"),
        (
            "batches",
            lambda: GraphAffinity.batch(
                [GraphAffinity([[0], [0]], 1, torch.ones(size, 1)) for size in (2, 3)]
            ),
            r"got B = \[2, 3\]",
        ),
        (
            "signal",
            lambda: GraphAffinity([[0], [0]], 3).matmul(torch.ones(1, 4, 2)),
            r"signal \(B, 3, C\), got \(1, 4, 2\)",
        ),
        ("half", lambda: GraphAffinity([[0], [1]], 2.5), "vertices=2.5 .* a whole number"),
        ("text", lambda: GraphAffinity([[0], [1]], "2"), "vertices='2' .* a whole number"),
        ("truth", lambda: GraphAffinity([[0], [0]], True), "vertices=True .* a count"),
        ("sparse", lambda: GraphAffinity(csr, 3), r"dense .* torch.sparse_csr; .*from_csr\("),
        ("coo", lambda: GraphAffinity(torch.ones(2, 2).to_sparse(), 3), "torch.sparse_coo"),
        (
            "sparse weights",
            lambda: GraphAffinity([[0], [1]], 2, torch.ones(1).to_sparse()),
            "the weights of a graph are a dense tensor",
        ),
        ("ragged", lambda: GraphAffinity([[0, 1], [1]], 2), "in nested lists of one length"),
        ("no edges", lambda: GraphAffinity(None, 2), "got a NoneType"),
        ("words", lambda: GraphAffinity([[0], [1]], 2, ["a"]), "the weights of a graph are"),
        (
            "range of degrees",
            lambda: GraphAffinity([[1, 1], [0, 2]], 3, [3e38, 3e38], normalization="rw"),
            "degree of vertex 1, .* beyond the range of torch.float32: divide all weights",
        ),
        (
            "small degrees",
            lambda: GraphAffinity([[0, 1], [1, 0]], 2, [1e-20, 1e-20], normalization="rw"),
            "degree of vertex 0, .* beyond the range of torch.float32",
        ),
        ("cut off", lambda: GraphAffinity([[0], [0]], 1).to(dtype=torch.int32), "torch.int32"),
        (
            "matrix",
            lambda: GraphAffinity.from_csr(torch.eye(3).to_sparse_csr().values().numpy()),
            r"got a ndarray; torch.sparse_csr_tensor\(m.indptr",
        ),
        (
            "parts of a matrix",
            lambda: GraphAffinity.from_csr(csr.crow_indices(), csr.col_indices(), csr.values()),
            r"expects one tensor .* got 3 values; torch.sparse_csr_tensor\(m.indptr",
        ),
        (
            "swapped",
            lambda: GraphFilterLayer(2, 2)(GraphAffinity([[0], [0]], 1), torch.ones(1, 1, 2)),
            r"layer\(signal, graph\); got a GraphAffinity, then a Tensor",
        ),
        (
            "integers",
            lambda: GraphAffinity([[0], [0]], 1).matmul(torch.ones(1, 1, 2, dtype=torch.int64)),
            r"floating point, got torch.int64, .*give signal.float\(\)",
        ),
        (
            "integers of a layer",
            lambda: GraphFilterLayer(2, 2, 0)(
                torch.ones(1, 1, 2, dtype=torch.bool), GraphAffinity([[0], [0]], 1)
            ),
            "floating point, got torch.bool",
        ),
        (
            "signals",
            lambda: GraphAffinity([[0], [0]], 1, torch.ones(2, 1)).matmul(torch.ones(3, 1, 2)),
            r"weights for a batch of 2, got a signal \(3, 1, 2\): give 2 signals",
        ),
        ("sizes", lambda: GraphFilterLayer(0, 1), "in_channels=0"),
        ("order", lambda: GraphFilterLayer(1, 1, -1), "order=-1 must be at least 0"),
        ("part of an order", lambda: GraphFilterLayer(2, 3, 1.5), "order=1.5 must be a whole"),
        ("size in text", lambda: GraphFilterLayer("2", 3), "in_channels='2' must be a whole"),
        (
            "type",
            lambda: GraphFilterLayer(2, 2)(
                torch.ones(1, 1, 2, dtype=torch.float64), GraphAffinity([[0], [0]], 1)
            ),
            "this filter expects features in torch.float32, .* got torch.float64",
        ),
        (
            "complex signal",
            lambda: GraphFilterLayer(2, 2)(torch.ones(1, 1, 2) * 1j, GraphAffinity([[0], [0]], 1)),
            "got torch.complex64",
        ),
        (
            "channels",
            lambda: GraphFilterLayer(2, 2)(torch.ones(1, 3, 1), GraphAffinity([[0], [0]], 3)),
            r"signal \(B, N, 2\), got \(1, 3, 1\)",
        ),
    ):
        yield pytest.param(build, message, id=name)


@pytest.mark.parametrize(("build", "message"), _refusals())
def test_refusals(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        build()
    assert "\n" not in str(raised.value)


class OnAGraph(nn.Module):
    """A network that makes its graph from weights that it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("index", EXAMPLE.index)
        self.strength = nn.Parameter(EXAMPLE.weights.log())
        self.layer = GraphFilterLayer(3, 2, dtype=torch.float64)

    def forward(self, z: Tensor) -> Tensor:
        graph = GraphAffinity(self.index, 5, self.strength.exp(), normalization="rw")
        return self.layer(z, graph)


def test_export() -> None:
    network, z = OnAGraph(), features(2, 5, 3)
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(network, (z,), dynamic_shapes=({0: batch},))
    assert_close(program.module()(features(7, 5, 3)), network(features(7, 5, 3)), **EXACT)


@pytest.mark.slow
def test_compile() -> None:
    network, z = OnAGraph(), features(2, 5, 3).requires_grad_()
    compiled = torch.compile(network, fullgraph=True)
    assert_same_with_gradients(compiled(z), network(z), [z, *network.parameters()])
    graph = GraphAffinity(EXAMPLE.index, 5, EXAMPLE.weights, normalization="sym")
    layer = torch.compile(network.layer, fullgraph=True)
    assert_close(layer(z, graph), network.layer(z, graph), **EXACT)
