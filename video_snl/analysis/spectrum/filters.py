"""Blocks on the graph's spectrum: eigenvalues of A, frequency responses, Chebyshev weights.

An eigenvalue mu of A is the graph frequency lambda = 1 - mu of the Laplacian L = I - A. Everything
is computed in float64, without gradients, and from the thin factors of A where it has any.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.polynomial.chebyshev import poly2cheb
from torch import Tensor
from torch.nn import functional as F

from video_snl.analysis.spectrum.eigenvalues import (
    Compressed,
    Eigenspaces,
    complex_share,
    compressed,
    effective_rank,
    eigenvalues,
    symmetry_error,
)
from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import ChannelGraph, Polynomial
from video_snl.blocks.operators import Affinity

__all__ = [
    "Part",
    "Parts",
    "ResponseGain",
    "chebyshev_coefficients",
    "complex_share",
    "effective_rank",
    "eigenvalues",
    "frequency_response",
    "graph_and_signals",
    "parts_of",
    "response_gain",
    "smooth_and_oscillating",
    "symmetry_error",
]


@torch.no_grad()
def frequency_response(block: NonlocalBlock, frequencies: Tensor, unit: int = 0) -> Tensor:
    """G(lambda) with z -> z G(lambda) for amplitudes z (Cs,) at graph frequency lambda.

    G = sum_k (1 - lambda)^k W_k for a polynomial filter. The residual X is not part of it, nor is
    the norm unless it is fused. For an A with spectrum in [-1, 1], lambda is in [0, 2]; for CGNL it
    is a frequency on the graph of channels. Shapes: (L,) -> (L, Cs, C), in the block's dtype.

    Raises:
        ValueError: for a unit that the block does not have.
    """
    _check_unit(block, unit)
    return block.response(frequencies.to(block.stage[unit].combine.weight), unit)


class ResponseGain(NamedTuple):
    """How much a filter amplifies a graph frequency, in any and in the average direction.

    Shapes: singular_values of G(lambda) (L, min(Cs, C)), descending; spectral (L,), the first of
    them: the largest gain of any amplitudes z; frobenius (L,), the root of the sum of their
    squares: the root mean square gain of random z, times sqrt(Cs).
    """

    singular_values: Tensor
    spectral: Tensor
    frobenius: Tensor


@torch.no_grad()
def response_gain(response: Tensor) -> ResponseGain:
    """The gains of a :func:`frequency_response`. Shape: (L, Cs, C)."""
    values = torch.linalg.svdvals(response.double())
    return ResponseGain(values, values[..., 0], torch.linalg.vector_norm(values, dim=-1))


@torch.no_grad()
def chebyshev_coefficients(block: NonlocalBlock, unit: int = 0) -> Tensor:
    """C_k with sum_k T_k(A) Z C_k = sum_k A^k Z W_k, the norm apart. Shape: (K + 1, Cs, C).

    T_k is the Chebyshev polynomial of degree k, at most 1 in size on A's spectrum [-1, 1], so that
    the sizes of the C_k can be compared, which those of the W_k cannot.

    Raises:
        ValueError: for the Cayley filter, or a unit that the block does not have.
    """
    _check_unit(block, unit)
    weight = _weight(block, unit)
    if isinstance(block.filter, ChannelGraph):
        powers = [torch.zeros_like(weight), weight]
    elif isinstance(block.filter, Polynomial):
        powers = block.filter.weights_of_powers(weight.chunk(block.filter.count))
    else:
        raise ValueError(
            f"{block.filter} is rational in A and has no finite sum of Chebyshev polynomials; see "
            "frequency_response."
        )
    rows = [torch.from_numpy(poly2cheb([0] * k + [1])) for k in range(len(powers))]
    change = torch.stack([F.pad(row, (0, len(powers) - len(row))) for row in rows])
    return torch.einsum("kj,kio->jio", change.to(weight), torch.stack(powers))


class Part(NamedTuple):
    """One part of a signal: eigenvectors in it, energies of Z, of A Z and of F(A, Z).

    An energy is a sum of squares over positions and channels. Shapes: (B,).
    """

    size: Tensor
    signal: Tensor
    product: Tensor
    output: Tensor


class Parts(NamedTuple):
    """A signal in the eigenspaces of A with lambda < 1, lambda = 1 (A z = 0) and lambda > 1.

    The parts are orthogonal before and behind the filter: their sizes sum to N, their energies to
    those of the whole signal.
    """

    smooth: Part
    null: Part
    oscillating: Part


@torch.no_grad()
def smooth_and_oscillating(block: NonlocalBlock, x: Tensor, unit: int = 0) -> Parts:
    """What a unit's filter does to the smooth and to the oscillating part of its signal Z.

    F(A, Z) is taken before the norm. An eigenvalue of A counts as zero up to N eps times the
    largest, eps being that of A's dtype. Shape: x (B, C, *grid), the feature map of the block.

    Raises:
        ValueError: for an A that is not symmetric, a unit that the block does not have, or a later
            unit in training mode, where the norm before it depends on the batch.
    """
    _check_unit(block, unit)
    affinity, signals = graph_and_signals(block, x, unit + 1)
    return parts_of(block, _symmetric(block, affinity).eigenspaces(), signals[unit], unit)


@torch.no_grad()
def parts_of(block: NonlocalBlock, spaces: Eigenspaces, z: Tensor, unit: int = 0) -> Parts:
    """:func:`smooth_and_oscillating` of a unit's signal, where A is decomposed already.

    Args:
        spaces: Of A, which is symmetric and the same for all units.
        z: (B, N, Cs), of :func:`graph_and_signals`.
    """
    values, rows = _in_the_eigenbasis(spaces, z.double())
    gains = block.filter.response(1 - values.flatten()).unflatten(0, values.shape)
    terms = (gains[..., None] * rows[:, :, None]).flatten(2)
    out = terms @ _weight(block, unit)
    energies = [y.square().sum(-1) for y in (rows, values[..., None] * rows, out)]
    smooth, oscillating = (Part(_count(m), *_sums(energies, m)) for m in (values > 0, values < 0))
    positions = torch.full_like(smooth.size, z.shape[1])
    null = Part(positions - smooth.size - oscillating.size, *_sums(energies, values == 0))
    return Parts(smooth, null, oscillating)


def _in_the_eigenbasis(spaces: Eigenspaces, z: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, K) and amplitudes (B, K, C) of z (B, N, C); what A maps to zero comes last.

    What is orthogonal to the basis stays in its N positions: its energies need no eigenvectors.
    """
    core, values, vectors = spaces
    largest = F.pad(values.abs(), (0, 1)).amax(-1, keepdim=True)
    values = values.where(values.abs() > core.positions * core.eps * largest, 0)
    if core.basis is None:
        return values, vectors.mT @ z
    amplitudes = core.basis.mT @ z
    rest = z - core.basis @ amplitudes
    return F.pad(values, (0, core.positions)), torch.cat([vectors.mT @ amplitudes, rest], 1)


@torch.no_grad()
def graph_and_signals(block: NonlocalBlock, x: Tensor, units: int) -> tuple[Affinity, list[Tensor]]:
    """A, and the signals Z (B, N, Cs) of the first ``units`` units, which share it.

    Raises:
        ValueError: for later units in training mode, whose norms depend on the batch.
    """
    if units > 1 and block.training:
        raise ValueError(
            f"unit={units - 1} in training mode: the norms before it depend on the batch; call "
            "eval()."
        )
    affinity, z = block._graph_and_signal(x)
    signals = [z]
    for number in range(units - 1):
        x = block.stage[number](x, block._terms(affinity, signals[-1]))
        signals.append(block._signal(block.stage[number + 1], x))
    return affinity, signals


def _symmetric(block: NonlocalBlock, affinity: Affinity) -> Compressed:
    if isinstance(block.filter, ChannelGraph):
        reason = "the vertices of its graph are channels, not positions"
    elif block.recipe.pool > 1:
        reason = f"with pool={block.recipe.pool} its affinity is not square"
    else:
        core = compressed(affinity)
        if core.is_symmetric():
            return core
        reason = f"||A - A^T|| / ||A|| is {float(core.symmetry_error().max()):.2g}, and not 0"
    r = block.recipe
    raise ValueError(
        f"a block with kernel={r.kernel}, symmetric={r.symmetric}, normalization="
        f"{r.normalization!r} has no orthogonal smooth and oscillating parts: {reason}. A "
        "symmetric one has, such as SNL's (symmetric=True, normalization='sym')."
    )


def _weight(block: NonlocalBlock, unit: int) -> Tensor:
    """W of all terms, without the norm unless it is fused. Shape: (terms * Cs, C)."""
    return block.stage[unit].combine.matrix().mT.double()


def _check_unit(block: NonlocalBlock, unit: int) -> None:
    if not 0 <= unit < len(block.units):
        raise ValueError(f"unit={unit} must be from 0 to {len(block.units) - 1}.")


def _count(mask: Tensor) -> Tensor:
    return mask.sum(-1)


def _sums(energies: list[Tensor], mask: Tensor) -> list[Tensor]:
    return [energy.where(mask, 0).sum(-1) for energy in energies]
