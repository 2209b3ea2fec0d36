"""Eigenvalues of affinities, how symmetric they are, and what that means for the Cayley filter."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.cases import EXACT, features, made, new
from tests.blocks.operators import OPERATORS, make_inputs
from tests.blocks.test_cost import Recorder
from video_snl.analysis.spectrum.filters import (
    complex_share,
    eigenvalues,
    symmetry_error,
)
from video_snl.blocks import (
    Affinity,
    Cayley,
    Dense,
    LowRank,
    SymmetricLowRank,
    filters,
    normalize,
)

THIN = pytest.mark.parametrize("shape", [(9, 2), (9, 4), (9, 5), (4, 4), (1, 3)], ids=str)


def assert_same_values(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Equal up to their order. Shapes: (B, N)."""
    assert actual.shape == expected.shape
    for found, wanted in zip(actual.cdouble(), expected.detach().cdouble(), strict=True):
        left = found.clone()
        for value in wanted:
            nearest = (left - value).abs().argmin()
            assert (left[nearest] - value).abs() < tolerance * max(1, float(wanted.abs().max()))
            left[nearest] = torch.inf


@pytest.mark.parametrize("operator", list(OPERATORS))
@THIN
def test_the_eigenvalues_are_those_of_the_matrix(operator: str, shape: tuple[int, int]) -> None:
    a = OPERATORS[operator][0](make_inputs(2, *shape, channels=1))
    values = eigenvalues(a)
    assert_same_values(values, torch.linalg.eigvals(a.to_dense()))
    assert (values.real.diff() <= 0).all()


@THIN
def test_of_a_symmetric_operator_they_are_real(shape: tuple[int, int]) -> None:
    x = make_inputs(2, *shape, channels=1)
    both = SymmetricLowRank(torch.cat([x.left, x.right], -1))
    alike = both.scale(x.row, x.row.clone())  # symmetric, although its structure is not
    assert isinstance(alike, LowRank)
    for a in (both, alike, Dense(both.to_dense()), Dense(alike.to_dense().float())):
        values = eigenvalues(a)
        assert values.dtype == torch.float64
        matrix = a.to_dense().double()
        assert_close(values, torch.linalg.eigvalsh(matrix).flip(-1), rtol=0, atol=1e-6)
        assert (complex_share(values) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eigenvalues_are_exact_in_any_dtype(dtype: torch.dtype) -> None:
    x = make_inputs(2, 9, 3, 1)
    left, right = x.left.to(dtype), x.right.to(dtype)
    exact = LowRank(left.double(), right.double())
    assert_same_values(eigenvalues(LowRank(left, right)), eigenvalues(exact))


@pytest.mark.parametrize("operator", list(OPERATORS))
@THIN
def test_the_symmetry_error_is_that_of_the_matrix(operator: str, shape: tuple[int, int]) -> None:
    a = OPERATORS[operator][0](make_inputs(2, *shape, channels=1))
    matrix = a.to_dense()
    expected = torch.linalg.matrix_norm(matrix - matrix.mT) / torch.linalg.matrix_norm(matrix)
    error = symmetry_error(a)
    assert_close(error, expected.nan_to_num(), rtol=0, atol=1e-12)
    if isinstance(a, SymmetricLowRank):
        assert torch.equal(error, torch.zeros(2, dtype=torch.float64))


def test_the_symmetry_error_of_extremes() -> None:
    swap = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert_close(symmetry_error(Dense(swap)), torch.tensor([2.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("function", [eigenvalues, symmetry_error])
def test_an_affinity_that_is_not_square_has_no_eigenvalues(
    function: Callable[[Affinity], Tensor],
) -> None:
    x = torch.rand(2, 6, 3)
    pooled = new("nl", pool=2).affinity(torch.rand(2, 8, 1, 2, 3))
    for a, keys in ((LowRank(x, x[:, :4]), 4), (Dense(torch.rand(2, 6, 4)), 4), (pooled, 2)):
        with pytest.raises(ValueError, match=f"6 positions and {keys} keys is not square.*pool=1"):
            function(a)


@pytest.mark.parametrize("structure", ["low rank", "symmetric", "scaled apart", "blocks"])
def test_no_matrix_of_all_pairs_exists(structure: str) -> None:
    left, right, row = torch.rand(2, 257, 8), torch.rand(2, 257, 8), torch.rand(2, 257)
    symmetric = SymmetricLowRank(torch.cat([left, right], -1))
    a = {
        "low rank": LowRank(left, right),
        "symmetric": symmetric,
        "scaled apart": symmetric.scale(row, row + 1),
        "blocks": new("snl").affinity(torch.randn(2, 8, 1, 1, 257)),
    }[structure]
    with Recorder() as seen:
        assert eigenvalues(a).shape == (2, 257)
        symmetry_error(a)
    assert (2, 257) in seen.shapes
    assert max(torch.Size(shape).numel() for shape in seen.shapes) < 257**2
    with Recorder() as seen:
        eigenvalues(Dense(a.to_dense()))
    assert (2, 257, 257) in seen.shapes


def test_the_share_of_complex_eigenvalues() -> None:
    values = torch.tensor(
        [[100, 1j, -1j, 1e-5j], [1, 1e-5j, -1e-5j, 1e-8j]], dtype=torch.complex128
    )
    assert complex_share(values).tolist() == [0.5, 0.5]
    assert complex_share(values, tolerance=0.1).tolist() == [0, 0]
    assert complex_share(values.real).tolist() == [0, 0]
    assert complex_share(torch.zeros(1, 3, dtype=torch.complex64)).tolist() == [0]
    # Real but defective: one eigenvalue 1 with one eigenvector, in another basis.
    basis = features(2, 2)
    jordan = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    defective = basis @ jordan @ basis.inverse()
    assert complex_share(eigenvalues(Dense(defective[None]))).tolist() == [0]


def with_gaps(grid: tuple[int, ...]) -> Tensor:
    """Features of two clips; positions of the first frame of the second one have no degree."""
    x = 2 * features(2, 8, *grid)
    x[1, :, 0] = 0
    return x


@pytest.mark.parametrize("case", ["snl", "snl exponential", "snl_a1", "gsnl", "cayley"])
@pytest.mark.parametrize("grid", [(1, 2, 2), (2, 3, 4), (2, 7, 7)], ids=["dense", "thin", "paper"])
def test_the_spectrum_of_snl_is_real_and_from_minus_one_to_one(
    case: str, grid: tuple[int, ...]
) -> None:
    a = made(case).affinity(with_gaps(grid))
    values = eigenvalues(a)
    assert not values.is_complex() and values.shape == (2, torch.Size(grid).numel())
    assert values.abs().max() <= 1 + 1e-12
    connected = (a.degree() > 0).any(-1)
    assert connected[0]
    assert_close(values[connected, 0], torch.ones_like(values[connected, 0]), **EXACT)
    assert symmetry_error(a).max() < 1e-15


def test_snl_reaches_minus_one_on_a_bipartite_graph() -> None:
    # theta lives on the first half of the positions, phi on the second.
    theta, phi = features(1, 20, 3).abs(), features(1, 20, 3, seed=2).abs()
    theta[:, 10:], phi[:, :10] = 0, 0
    values = eigenvalues(normalize(SymmetricLowRank(torch.cat([theta, phi], -1)), "sym"))
    assert_close(values, -values.flip(-1), **EXACT)
    assert_close(values[0, -1], torch.tensor(-1.0, dtype=torch.float64), **EXACT)


def test_positions_without_degree_have_the_eigenvalue_zero() -> None:
    block = made("snl")
    x = with_gaps((2, 3, 3))
    x[0] = 0
    a = block.affinity(x)
    assert (a.degree()[1, :9] == 0).all() and (a.degree()[0] == 0).all()
    values = eigenvalues(a)
    assert (values[0] == 0).all()
    assert (values[1].abs() < 1e-14).sum() >= 9
    assert symmetry_error(a)[0] == 0


@pytest.mark.parametrize("case", ["nl", "nl relu", "snl_a2", "nl sym"])
def test_an_asymmetric_m_gives_complex_eigenvalues_in_any_normalisation(case: str) -> None:
    a = made(case, channels=32, width=16).affinity(features(2, 32, 2, 7, 7))
    values = eigenvalues(a)
    assert values.is_complex() and values.shape == (2, 98)
    assert (symmetry_error(a) > 0.1).all()
    assert (complex_share(values) > 0).all()
    assert (values.abs() <= 1 + 1e-12).all() or case == "nl sym"


@pytest.mark.parametrize("grid", [(1, 2, 2), (2, 7, 7)], ids=["dense", "thin"])
def test_the_random_walk_of_a_symmetric_m_has_the_real_spectrum_of_snl(
    grid: tuple[int, ...],
) -> None:
    x = with_gaps(grid)
    walk, snl = made("gsnl rw").affinity(x), made("snl").affinity(x)
    assert (symmetry_error(walk) > 0.01).any()
    values = eigenvalues(walk)
    assert (complex_share(values, 1e-12) == 0).all()
    assert_close(values.real, eigenvalues(snl), **EXACT)


ZOOMS = [-1e30, -200.0, -90.0, -30.0, 0.0, 30.0, 1e3, 1e4, 1e8, 1e20, 1e38]


@pytest.mark.parametrize("zoom", ZOOMS)
@pytest.mark.parametrize("dense", [False, True], ids=["factored", "dense"])
@pytest.mark.parametrize("order", [1, 3])
def test_the_error_of_a_cayley_filter_is_that_of_its_condition(
    zoom: float, dense: bool, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 2 order eps sqrt(1 + 4 h^2), and finite for every zoom, with all gradients."""
    monkeypatch.setattr(filters, "prefers_dense", lambda *costs: dense)
    block = new("cayley", 2, channels=16, width=8, zero_init=False).eval()
    cayley, z = Cayley(order), features(1, 42, 5).float()
    nn.init.constant_(cayley.zoom, zoom)
    x = features(1, 16, 6, 7).float().requires_grad_()
    affinity = block.affinity(x)
    assert isinstance(affinity, SymmetricLowRank)
    found = cayley.terms(affinity, z)
    wide = SymmetricLowRank(affinity.factors.detach().double())
    expected = copy.deepcopy(cayley).double().terms(wide, z.double()).detach()
    condition = (1 + 4 * cayley.h.detach().double() ** 2).sqrt()
    error = (found.double() - expected).norm() / expected.norm()
    assert error <= 2 * order * torch.finfo(torch.float32).eps * condition
    found.sum().backward()
    for gradient in (x.grad, cayley.zoom.grad, *(p.grad for p in block.project.parameters())):
        assert gradient is not None and gradient.isfinite().all()
    # |C| = 1: no term is larger than Z.
    assert (found.detach().norm(dim=1) <= (1 + 1e-4) * z.norm()).all()
    assert cayley.response(torch.linspace(0, 2, 5)).abs().max() <= 1 + 1e-6


def test_the_condition_of_a_cayley_filter() -> None:
    block = made("cayley", 2)
    matrix = block.affinity(features(1, 8, 3, 4)).to_dense()[0].detach()
    eye = torch.eye(12, dtype=torch.float64)
    for h in (1e-3, 1.0, 30.0, 1e4):
        condition = torch.linalg.cond(h * (eye - matrix) + 1j * eye)
        assert condition <= (1 + 4 * h**2) ** 0.5 * (1 + 1e-9)
