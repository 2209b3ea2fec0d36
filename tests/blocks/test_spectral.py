"""Eigenvalues, frequency responses, Chebyshev weights and the parts of a signal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.cases import CASES, EXACT, features, made, new, nonlocal_cases
from tests.blocks.test_affinity import OPERATORS, make_inputs
from tests.blocks.test_cost import Recorder
from video_snl.blocks import Affinity, Dense, LowRank, Polynomial, SymmetricLowRank, normalize
from video_snl.blocks.spectral import (
    Parts,
    chebyshev_coefficients,
    complex_share,
    eigenvalues,
    frequency_response,
    response_gain,
    smooth_and_oscillating,
    symmetry_error,
)
from video_snl.blocks.spectral_plots import (
    plot_chebyshev,
    plot_parts,
    plot_response,
    plot_spectrum,
)

SYMMETRIC = ["snl", "snl exponential", "snl_a1", "gsnl 0", "gsnl", "gsnl 8", "gsnl dot", "cayley 3"]
WITHOUT_PARTS = {
    "nl": r"EmbeddedGaussian.*symmetric=False.*'rw'.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "nl sym": r"EmbeddedGaussian.*symmetric=False.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "snl_a2": r"ReluDot.*symmetric=False.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "gsnl rw": r"symmetric=True, normalization='rw'.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "a2": r"GatherDistribute.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "cgnl": r"the vertices of its graph are channels",
}
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


def weight(block: nn.Module) -> Tensor:
    """W of the first unit. Shape: (terms * Cs, C)."""
    return block.units[0].combine.matrix().mT


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


@nonlocal_cases
def test_the_frequency_response_is_the_filter_at_an_eigenvalue(case: str) -> None:
    block, frequencies = made(case), torch.linspace(0, 2, 5, dtype=torch.float64)
    response = frequency_response(block, frequencies)
    if isinstance(block.filter, Polynomial):
        weights = weight(block).chunk(block.filter.count)
        powers = block.filter.weights_of_powers(weights)
        expected = torch.stack(
            [sum((1 - f) ** k * w for k, w in enumerate(powers)) for f in frequencies]
        )
        assert_close(response, expected, **EXACT)
    assert frequency_response(new(case), frequencies).dtype == torch.float32
    with pytest.raises(ValueError, match="unit=1 must be from 0 to 0"):
        frequency_response(block, frequencies, unit=1)


def test_the_gains_of_a_response() -> None:
    block, frequencies = made("gsnl"), torch.linspace(0, 2, 5, dtype=torch.float64)
    response = frequency_response(block, frequencies)
    values, spectral, frobenius = response_gain(response)
    assert values.shape == (5, 4) and (values.diff() <= 0).all()
    assert_close(spectral, torch.linalg.matrix_norm(response, 2), **EXACT)
    assert_close(frobenius, response.square().sum((1, 2)).sqrt(), **EXACT)
    z = features(1000, 4)
    z = z / z.norm(dim=-1, keepdim=True)
    gains = (z @ response).norm(dim=-1)
    assert (gains.amax(1) <= spectral + 1e-12).all()
    assert_close(gains.square().mean(1).sqrt(), frobenius / 2, rtol=0.05, atol=0)


@pytest.mark.parametrize("case", [c for c in CASES if "cayley" not in c and "cgnl" not in c])
def test_chebyshev_weights_give_the_same_filter(case: str) -> None:
    block, x = made(case), features(2, 8, 2, 3, 2)
    affinity, z = block._graph_and_signal(x)
    coefficients = chebyshev_coefficients(block)
    matrix, polynomials = affinity.to_dense(), [z]
    for k in range(1, len(coefficients)):
        product = matrix @ polynomials[-1]
        polynomials.append(product if k == 1 else 2 * product - polynomials[-2])
    terms = block.filter.terms(affinity, z) @ weight(block)
    total = sum(t @ c for t, c in zip(polynomials, coefficients, strict=True))
    assert_close(total, terms, **EXACT)


def test_chebyshev_weights_of_known_polynomials() -> None:
    snl = made("snl")
    first, second = weight(snl).chunk(2)
    assert torch.equal(chebyshev_coefficients(snl), torch.stack([first, second]))
    square = chebyshev_coefficients(made("gsnl"))  # A^2 = T_0 / 2 + T_2 / 2
    w0, w1, w2 = weight(made("gsnl")).chunk(3)
    assert_close(square, torch.stack([w0 + w2 / 2, w1, w2 / 2]), **EXACT)
    cgnl = made("cgnl grouped")
    w = weight(cgnl)
    assert torch.equal(chebyshev_coefficients(cgnl), torch.stack([0 * w, w]))
    two = made("gsnl", num_units=2)
    assert not torch.equal(chebyshev_coefficients(two), chebyshev_coefficients(two, unit=1))


def test_a_cayley_filter_has_no_chebyshev_weights() -> None:
    with pytest.raises(ValueError, match=r"Cayley\(order=3\) is rational in A.*frequency_response"):
        chebyshev_coefficients(made("cayley 3"))
    with pytest.raises(ValueError, match="unit=-1 must be from 0 to 0"):
        chebyshev_coefficients(made("snl"), unit=-1)


def by_projection(case: str, x: Tensor, width: int) -> list[list[Tensor]]:
    """The parts by the dense matrix: eigenvectors projected on, then the filter itself."""
    block = made(case, width=width)
    affinity, z = block._graph_and_signal(x)
    matrix = affinity.to_dense()
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    parts = []
    for mask in (values > 1e-13, values.abs() <= 1e-13, values < -1e-13):
        part = (vectors * mask[:, None]) @ vectors.mT @ z
        out = block.filter.terms(affinity, part) @ weight(block)
        energies = [y.square().sum((1, 2)) for y in (part, matrix @ part, out)]
        parts.append([mask.sum(-1), *energies])
    return parts


@pytest.mark.parametrize("case", SYMMETRIC)
@pytest.mark.parametrize("width", [2, 4, 8])  # N = 12: thin factors, and thick ones
def test_the_parts_of_a_signal_are_its_projections(case: str, width: int) -> None:
    block, x = made(case, width=width), with_gaps((2, 3, 2))
    parts = smooth_and_oscillating(block, x)
    for part, expected in zip(parts, by_projection(case, x, width), strict=True):
        for value, wanted in zip(part, expected, strict=True):
            assert_close(value, wanted, **EXACT)
    assert (sum(part.size for part in parts) == 12).all()
    affinity, z = block._graph_and_signal(x)
    assert_close(sum(part.signal for part in parts), z.square().sum((1, 2)), **EXACT)
    assert_close(
        sum(part.product for part in parts), affinity.matmul(z).square().sum((1, 2)), **EXACT
    )
    out = block.filter.terms(affinity, z) @ weight(block)
    assert_close(sum(part.output for part in parts), out.square().sum((1, 2)), **EXACT)
    assert (parts.null.product == 0).all()


def test_rounding_does_not_fill_the_null_space() -> None:
    block, x = new("snl exponential").eval(), torch.ones(1, 8, 2, 3, 2)
    parts = smooth_and_oscillating(block, x)  # A = 1 / N everywhere
    assert [int(part.size) for part in parts] == [1, 11, 0]
    assert_close(parts.smooth.product, parts.smooth.signal, rtol=1e-5, atol=0)
    assert parts.null.signal < 1e-10 * parts.smooth.signal


def test_a_later_unit_has_its_own_signal() -> None:
    block, x = made("snl", num_units=2), features(2, 8, 2, 3, 4)
    parts = smooth_and_oscillating(block, x, unit=1)
    z = block.as_graph_filter(x, unit=1).signal
    assert_close(sum(part.signal for part in parts), z.square().sum((1, 2)), **EXACT)
    with pytest.raises(ValueError, match=r"unit=1 in training mode.*call eval\(\)"):
        smooth_and_oscillating(block.train(), x, unit=1)
    smooth_and_oscillating(block, x)
    with pytest.raises(ValueError, match="unit=2 must be from 0 to 1"):
        smooth_and_oscillating(block, x, unit=2)


@pytest.mark.parametrize("case", list(WITHOUT_PARTS))
def test_an_asymmetric_affinity_has_no_parts(case: str) -> None:
    with pytest.raises(ValueError, match=WITHOUT_PARTS[case]):
        smooth_and_oscillating(made(case), features(2, 8, 2, 3, 4))


def test_sub_sampled_keys_leave_no_parts() -> None:
    with pytest.raises(ValueError, match="with pool=2 its affinity is not square"):
        smooth_and_oscillating(made("nl", pool=2), features(2, 8, 2, 4, 4))


def test_nothing_is_trained_or_changed() -> None:
    block, x = new("gsnl").train(), torch.randn(2, 8, 2, 3, 4, requires_grad=True)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    parts = smooth_and_oscillating(block, x)
    values = [eigenvalues(block.affinity(x)), chebyshev_coefficients(block), parts.smooth.output]
    assert not any(value.requires_grad for value in values)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_every_picture_is_drawn(tmp_path: Path) -> None:
    frequencies = torch.linspace(0, 2, 21)
    for case in ("nl", "gsnl 0", "cayley 3"):
        block, x, folder = made(case), features(2, 8, 2, 3, 4), tmp_path / case
        plot_spectrum(eigenvalues(block.affinity(x)), folder / "spectrum.png", title=case)
        response = frequency_response(block, frequencies)
        plot_response(frequencies, response, str(folder / "response.png"))
        if case != "cayley 3":
            plot_chebyshev(chebyshev_coefficients(block), folder / "chebyshev.png", title=case)
        if case != "nl":
            plot_parts(smooth_and_oscillating(block, x), folder / "parts.png", title=case)
        drawn = list(folder.iterdir())
        assert len(drawn) == (4 if case == "gsnl 0" else 3)
        for file in drawn:
            assert file.suffix == ".png" and file.read_bytes().startswith(b"\x89PNG")


def test_a_signal_of_zeros_has_a_picture(tmp_path: Path) -> None:
    parts = smooth_and_oscillating(made("snl"), torch.zeros(1, 8, 1, 2, 2, dtype=torch.float64))
    assert isinstance(parts, Parts)
    plot_parts(parts, tmp_path / "zeros.png")
    assert (tmp_path / "zeros.png").stat().st_size > 0


def test_only_the_pictures_load_matplotlib_and_nothing_loads_lightning() -> None:
    lines = [
        "import sys, video_snl.blocks.spectral",
        "assert 'matplotlib' not in sys.modules",
        "import video_snl.blocks.spectral_plots",
        "assert not {'matplotlib.pyplot', 'lightning'} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
