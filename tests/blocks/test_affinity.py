"""Properties of every affinity operator. A new operator adds a line to ``OPERATORS``."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from tests import naive
from tests.blocks.operators import (
    EXACT,
    OPERATORS,
    Build,
    Equation,
    Inputs,
    assert_same,
    both_orders,
    choose_order,
    every_operator,
    few,
    inputs,
    make_inputs,
)
from video_snl.blocks import (
    Affinity,
    CrissCross,
    Dense,
    LowRank,
    Softmax,
    SymmetricLowRank,
    normalize,
)
from video_snl.blocks.operators import PowerSeries, to_vertices


@every_operator
@few
@given(x=inputs(4))
def test_the_matrix_is_the_equation(build: Build, equation: Equation, x: Inputs) -> None:
    assert_same(x, build(x).to_dense(), equation(x))


@every_operator
@both_orders
def test_matmul_is_the_product_with_the_matrix(
    build: Build, equation: Equation, dense_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_order(monkeypatch, dense_order)

    @few
    @given(inputs(30))
    def against_the_matrix(x: Inputs) -> None:
        assert_same(x, build(x).matmul(x.z), build(x).to_dense() @ x.z)

    against_the_matrix()
    x = make_inputs(2, 4, 3, 2)
    assert_same(x, build(x).matmul(x.z), naive.product(equation(x), x.z))


@every_operator
@few
@given(x=inputs(30), data=st.data())
def test_the_other_operations_are_those_of_the_matrix(
    build: Build, equation: Equation, x: Inputs, data: st.DataObject
) -> None:
    operator, matrix = build(x), build(x).to_dense()
    index = torch.tensor(
        data.draw(st.lists(st.integers(0, matrix.shape[1] - 1), min_size=1, max_size=3))
    )
    row, col = x.col[..., None], x.row[:, None]
    assert_same(x, operator.degree(), matrix.sum(2))
    assert_same(x, operator.rows(index), matrix[:, index])
    assert_same(x, operator.transpose().to_dense(), matrix.mT)
    assert_same(x, operator.symmetrize().to_dense(), (matrix + matrix.mT) / 2)
    assert_same(x, operator.scale(x.col, x.row).to_dense(), row * matrix * col)
    assert_same(x, operator.scale(x.col, x.col).to_dense(), row * matrix * row.mT)


@every_operator
@pytest.mark.parametrize("how", ["sym", "rw", None])
@few
@given(x=inputs(4))
def test_normalize(build: Build, equation: Equation, how: str | None, x: Inputs) -> None:
    expected = equation(x) if how is None else naive.normalized(equation(x), how)
    assert_same(x, normalize(build(x), how).to_dense(), expected)


@pytest.mark.parametrize("name", [n for n in OPERATORS if not re.search("soft|criss|sum", n)])
@pytest.mark.parametrize("how", ["sym", "rw"])
def test_a_position_of_degree_zero_has_a_zero_row_and_a_finite_gradient(
    name: str, how: str
) -> None:
    build, _ = OPERATORS[name]
    x = make_inputs(2, 5, 3, 2)
    with torch.no_grad():
        x.left[:, 1], x.right[:, 1] = 0, 0
    normalized = normalize(build(x), how)
    assert (normalized.degree() > 0).any(1).all()
    assert (normalized.to_dense()[:, 1] == 0).all()
    assert (normalized.matmul(x.z)[:, 1] == 0).all()
    (normalized.matmul(x.z) ** 2).sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in x.leaves() if leaf.grad is not None)
    assert x.left.grad.abs().max() > 0


@pytest.mark.parametrize("size", [1e-15, 1e-8, 1e8])
def test_the_normalised_affinity_has_a_finite_gradient_at_any_size_of_the_factors(
    size: float,
) -> None:
    left = (size * make_inputs(1, 6, 3, 1).left.detach()).float().requires_grad_()
    operator = normalize(SymmetricLowRank(torch.cat([left, left], -1)), "sym")
    operator.matmul(torch.ones(1, 6, 2)).sum().backward()
    assert left.grad.isfinite().all()


def test_normalize_rejects_an_unknown_way() -> None:
    with pytest.raises(ValueError, match="'max' is unknown; choose 'sym', 'rw' or None"):
        normalize(Dense(torch.ones(1, 2, 2)), "max")


@every_operator
@both_orders
@pytest.mark.parametrize("how", ["sym", "rw"])
def test_first_and_second_derivatives(
    build: Build,
    equation: Equation,
    how: str,
    dense_order: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose_order(monkeypatch, dense_order)
    leaves = make_inputs(1, 3, 2, 2, seed=1).leaves()
    assert (leaves[0] > 0).all()

    def output(*values: Tensor) -> Tensor:
        x = Inputs(*values)
        return normalize(build(x), how).matmul(x.z)

    # The fused kernels of a softmax have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        assert gradcheck(output, leaves)
        assert gradgradcheck(output, leaves)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_fused_softmax_has_a_right_first_derivative(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queries are divided among several threads."""
    choose_order(monkeypatch, dense=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    leaves = make_inputs(1, 6, 2, 2, seed=1).leaves()
    assert gradcheck(lambda q, k, _r, _c, z: Softmax(q, k).matmul(z), leaves)


def test_factors_and_matrices_of_wrong_shape_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"\(B, N, N\) matrix, got shape \(2, 3\)"):
        Dense(torch.ones(2, 3))
    for operator in (LowRank, Softmax):
        with pytest.raises(ValueError, match=r"got \(1, 2, 3\) and \(1, 3, 2\)"):
            operator(torch.ones(1, 2, 3), torch.ones(1, 3, 2))
    with pytest.raises(ValueError, match=r"factors \(B, N, 2 R\), got \(1, 2, 3\)"):
        SymmetricLowRank(torch.ones(1, 2, 3))


@few
@given(x=inputs(5))
def test_symmetrising_and_equal_weights_stay_at_the_rank_of_the_factors(x: Inputs) -> None:
    operator = LowRank(x.left, x.right).symmetrize().scale(x.row, x.row)
    assert isinstance(operator, SymmetricLowRank)
    assert operator.left.shape == x.left.shape


sizes = st.integers(1, 3000)
times = st.integers(1, 8)


def factors(positions: int, rank: int) -> Tensor:
    return torch.empty(1, positions, rank, device="meta")


@settings(deadline=None)
@given(sizes, sizes, sizes, times)
def test_the_cheaper_order_is_taken(n: int, rank: int, channels: int, count: int) -> None:
    """Forming A costs N^2 R once; a product N^2 C, or 2 N R C (4 N R C symmetrised)."""
    formed = n**2 * (rank + count * channels)
    for operator, each in (
        (LowRank(factors(n, rank), factors(n, rank)), 2 * n * rank * channels),
        (SymmetricLowRank(factors(n, 2 * rank)), 4 * n * rank * channels),
    ):
        cheapest = operator.for_products(channels, count)
        assert isinstance(cheapest, Dense) == (formed < count * each)
        assert operator.multiply_adds(channels) == min(n**2 * (rank + channels), each)


@settings(deadline=None)
@given(sizes, sizes, st.integers(1, 3000), times)
def test_many_positions_are_never_made_dense(rank: int, more: int, c: int, count: int) -> None:
    n = max(4 * rank, 256) + more
    for operator in (
        LowRank(factors(n, rank), factors(n, rank)),
        SymmetricLowRank(factors(n, 2 * rank)),
    ):
        assert operator.for_products(c, count) is operator


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 2))
@settings(max_examples=10, deadline=None)
def test_a_criss_cross_sees_the_lines_through_a_position(grid: list[int], batch: int) -> None:
    positions = torch.Size(grid).numel()
    x = make_inputs(batch, positions, 3, 2)
    a = CrissCross.softmax(x.left, x.right, grid)
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(positions, len(grid))
    differing = (places[:, None] != places[None]).sum(-1)
    exponents = (x.left @ x.right.mT).masked_fill(differing > 1, -torch.inf)
    assert_same(x, a.to_dense(), exponents.softmax(-1))
    assert_same(x, a.matmul(x.z), exponents.softmax(-1) @ x.z)
    assert_same(x, a.transpose().matmul(x.z), exponents.softmax(-1).mT @ x.z)
    assert_same(
        x,
        a.scale(x.row, x.col).degree(),
        (a.to_dense() * x.row[..., None] * x.col[:, None]).sum(-1),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_degrees_of_half_precision_factors_are_float32(
    dtype: torch.dtype, symmetric: bool, autocast: bool
) -> None:
    both = (1e4 * torch.rand(2, 3000, 16)).to(dtype)

    def build(x: Tensor) -> Affinity:
        return SymmetricLowRank(x) if symmetric else LowRank(*x.chunk(2, -1))

    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        degree = build(both).degree()
    assert degree.dtype == torch.float32
    assert_close(degree.double(), build(both.double()).degree(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("width", [6, 8, 24])
def test_scaled_softmaxes_of_large_exponents_have_finite_gradients(width: int) -> None:
    """Fused attention would round scaled exponents otherwise on its way back, to infinity."""
    generator = torch.Generator().manual_seed(0)
    leaves = [1e4 * torch.randn(2, 1024, width, generator=generator) for _ in range(3)]
    query, key, z = (leaf.requires_grad_() for leaf in leaves)
    y = Softmax(query, key, width**-0.5).matmul(z)
    for gradient in torch.autograd.grad((y / 1e4).square().mean(), leaves):
        assert gradient.isfinite().all()


@few
@given(
    batch=st.integers(1, 3),
    positions=st.integers(1, 9),
    groups=st.integers(1, 3),
    each=st.integers(1, 4),
    channels_first=st.booleans(),
)
def test_a_power_series_of_channels_is_the_product_with_its_matrix(
    batch: int, positions: int, groups: int, each: int, channels_first: bool
) -> None:
    generator = torch.Generator().manual_seed(positions)
    shape = (3, batch, positions, groups * each)
    theta, phi, z = torch.rand(shape, generator=generator, dtype=torch.float64)
    if channels_first:
        theta, phi, z = (x.mT.contiguous().mT for x in (theta, phi, z))
    series = PowerSeries(theta, phi, (0.5, 0, 2.0), groups)
    expected = series.to_dense() @ to_vertices(z, groups)
    assert_close(to_vertices(series.of_channels(z), groups), expected, **EXACT)
    assert_close(series.matmul(to_vertices(z, groups)), expected, **EXACT)
    t, p = (to_vertices(x, groups) for x in (theta, phi))
    assert_close(series.to_dense(), 0.5 + 2 * t**2 @ (p**2).mT, **EXACT)
