"""Frequency responses, Chebyshev weights, the parts of a signal, and the plots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.blocks.cases import CASES, EXACT, features, made, new, nonlocal_cases
from tests.blocks.test_spectral import with_gaps
from video_snl.analysis.spectrum.filter_plots import (
    plot_chebyshev,
    plot_parts,
    plot_response,
    plot_spectrum,
)
from video_snl.analysis.spectrum.filters import (
    Parts,
    chebyshev_coefficients,
    eigenvalues,
    frequency_response,
    response_gain,
    smooth_and_oscillating,
)
from video_snl.blocks import Polynomial

SYMMETRIC = ["snl", "snl exponential", "snl_a1", "gsnl 0", "gsnl", "gsnl 8", "gsnl dot", "cayley 3"]
WITHOUT_PARTS = {
    "nl": r"EmbeddedGaussian.*symmetric=False.*'rw'.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "nl sym": r"EmbeddedGaussian.*symmetric=False.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "snl_a2": r"ReluDot.*symmetric=False.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "gsnl rw": r"symmetric=True, normalization='rw'.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "a2": r"GatherDistribute.*\|\|A - A\^T\|\| / \|\|A\|\| is ",
    "cgnl": r"the vertices of its graph are channels",
}


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


def weight(block: nn.Module) -> Tensor:
    """W of the first unit. Shape: (terms * Cs, C)."""
    return block.units[0].combine.matrix().mT


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


def test_every_plot_is_drawn(tmp_path: Path) -> None:
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


def test_a_signal_of_zeros_has_a_plot(tmp_path: Path) -> None:
    parts = smooth_and_oscillating(made("snl"), torch.zeros(1, 8, 1, 2, 2, dtype=torch.float64))
    assert isinstance(parts, Parts)
    plot_parts(parts, tmp_path / "zeros.png")
    assert (tmp_path / "zeros.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_plots_load_matplotlib_and_nothing_loads_lightning() -> None:
    lines = [
        "import sys, video_snl.analysis.spectrum.filters",
        "assert 'matplotlib' not in sys.modules",
        "import video_snl.analysis.spectrum.filter_plots",
        "assert not {'matplotlib.pyplot', 'lightning'} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
