"""Effect of a block's filter on the graph frequencies of its affinity.

The response G(lambda) is the filter at a graph frequency lambda = 1 - mu, mu being an eigenvalue of
A; its gains are the sizes of G. The parts of a signal are what lies in the eigenspaces of A with
lambda < 1 (smooth), lambda = 1 (the null space) and lambda > 1 (oscillating).

All computations are in float64, without gradients, and from the thin factors of A where it has any.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.polynomial.chebyshev import poly2cheb
from torch import Tensor
from torch.nn import functional as F

from video_snl.analysis.spectrum.eigenvalues import (
    CompressedAffinity,
    Eigendecomposition,
    complex_share,
    compress,
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
    "response_gain",
    "signal_parts",
    "smooth_and_oscillating",
    "symmetry_error",
]


@torch.no_grad()
def frequency_response(block: NonlocalBlock, frequencies: Tensor, unit: int = 0) -> Tensor:
    """Return G(lambda) with z -> z G(lambda) for amplitudes z (Cs,) at graph frequency lambda.

    G = sum_k (1 - lambda)^k W_k for a polynomial filter. The residual X is not part of it, nor is
    the norm unless it is fused. For an A with spectrum in [-1, 1], lambda is in [0, 2]; for CGNL it
    is a frequency on the graph of channels. Shapes: (L,) -> (L, Cs, C), in the block's dtype.

    Args:
        block: the block.
        frequencies: graph frequencies (L,).
        unit: number of the sub-block, from 0.

    Raises:
        ValueError: for a sub-block that the block does not have.
    """
    _check_unit(block, unit)
    return block.response(frequencies.to(block.sub_blocks[unit].combine.weight), unit)


class ResponseGain(NamedTuple):
    """Gain of a filter at a graph frequency, in any direction and on average.

    Shapes: singular_values of G(lambda) (L, min(Cs, C)), descending; spectral (L,), the first of
    them: the largest gain of any amplitudes z; frobenius (L,), the root of the sum of their
    squares.
    """

    singular_values: Tensor
    spectral: Tensor
    frobenius: Tensor

    @classmethod
    def from_singular_values(cls, values: Tensor) -> ResponseGain:
        """Make the gains from the singular values of responses."""
        return cls(values, values[..., 0], torch.linalg.vector_norm(values, dim=-1))

    def rms(self, width: int) -> Tensor:
        """Return the root mean square gain of random amplitudes z (Cs = width,). Shape: (L,)."""
        return self.frobenius / width**0.5


@torch.no_grad()
def response_gain(response: Tensor) -> ResponseGain:
    """Return the gains of a :func:`frequency_response`. Shape: (L, Cs, C)."""
    return ResponseGain.from_singular_values(torch.linalg.svdvals(response.double()))


@torch.no_grad()
def chebyshev_coefficients(block: NonlocalBlock, unit: int = 0) -> Tensor:
    """Return C_k with sum_k T_k(A) Z C_k = sum_k A^k Z W_k, without the norm.

    T_k is the Chebyshev polynomial of degree k, at most 1 in size on A's spectrum [-1, 1], so that
    the sizes of the C_k can be compared, which those of the W_k cannot. Shape: (K + 1, Cs, C).

    Raises:
        ValueError: for the Cayley filter, or a sub-block that the block does not have.
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
    """Part of a signal: its number of eigenvectors, and energies of Z, A Z and F(A, Z).

    An energy is a sum of squares over positions and channels. Shapes: (B,).
    """

    size: Tensor
    signal: Tensor
    product: Tensor
    output: Tensor


class Parts(NamedTuple):
    """A signal in the eigenspaces of A with lambda < 1, lambda = 1 (A z = 0) and lambda > 1.

    The parts are orthogonal before and after the filter: their sizes sum to N, their energies to
    those of the whole signal.
    """

    smooth: Part
    null: Part
    oscillating: Part

    def totals(self, quantity: str) -> dict[str, float]:
        """Sum a quantity, a field of :class:`Part`, over the batch; by the name of the part."""
        parts = self._asdict()
        return {name: float(getattr(part, quantity).sum()) for name, part in parts.items()}


@torch.no_grad()
def smooth_and_oscillating(block: NonlocalBlock, x: Tensor, unit: int = 0) -> Parts:
    """Measure what a sub-block's filter does to the smooth and the oscillating part of its Z.

    F(A, Z) is taken before the norm. An eigenvalue of A counts as zero up to N eps times the
    largest, eps being that of A's dtype. Shape: x (B, C, *grid), the feature map of the block.

    Raises:
        ValueError: for an A that is not symmetric, a sub-block that the block does not have, or a
            later sub-block in training mode, where the norm before it depends on the batch.
    """
    _check_unit(block, unit)
    affinity, signals = block.graph_and_signals(x, unit + 1)
    return signal_parts(
        block, _compress_symmetric(block, affinity).decompose(), signals[unit], unit
    )


@torch.no_grad()
def signal_parts(
    block: NonlocalBlock, decomposed: Eigendecomposition, z: Tensor, unit: int = 0
) -> Parts:
    """Return :func:`smooth_and_oscillating` for a decomposed A and a known signal.

    Args:
        block: the block.
        decomposed: decomposition of A, which is symmetric and common to all sub-blocks.
        z: signal (B, N, Cs) of the sub-block, from :meth:`NonlocalBlock.graph_and_signals`.
        unit: number of the sub-block, from 0.
    """
    values, rows = _in_the_eigenbasis(decomposed, z.double())
    gains = block.filter.response(1 - values.flatten()).unflatten(0, values.shape)
    terms = (gains[..., None] * rows[:, :, None]).flatten(2)
    out = terms @ _weight(block, unit)
    energies = [y.square().sum(-1) for y in (rows, values[..., None] * rows, out)]

    def part(mask: Tensor, size: Tensor) -> Part:
        return Part(size, *(energy.where(mask, 0).sum(-1) for energy in energies))

    smooth, oscillating = (part(mask, mask.sum(-1)) for mask in (values > 0, values < 0))
    # Of the null space the eigenbasis has more rows than dimensions.
    null_size = torch.full_like(smooth.size, z.shape[1]) - smooth.size - oscillating.size
    return Parts(smooth, part(values == 0, null_size), oscillating)


def _in_the_eigenbasis(decomposed: Eigendecomposition, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (B, K) and amplitudes (B, K, C) of z (B, N, C), the null space last.

    What is orthogonal to the basis stays in its N positions: its energies need no eigenvectors.
    """
    affinity, values, vectors = decomposed
    values = values.where(values.abs() > affinity.null_bound(values), 0)
    if affinity.basis is None:
        return values, vectors.mT @ z
    amplitudes = affinity.basis.mT @ z
    rest = z - affinity.basis @ amplitudes
    return F.pad(values, (0, affinity.positions)), torch.cat([vectors.mT @ amplitudes, rest], 1)


def _compress_symmetric(block: NonlocalBlock, affinity: Affinity) -> CompressedAffinity:
    """Compress the affinity of a block, or say why it has no orthogonal parts."""
    if isinstance(block.filter, ChannelGraph):
        reason = "the vertices of its graph are channels, not positions"
    elif block.config.pool > 1:
        reason = f"with pool={block.config.pool} its affinity is not square"
    else:
        compressed = compress(affinity)
        if compressed.is_symmetric():
            return compressed
        reason = f"||A - A^T|| / ||A|| is {float(compressed.symmetry_error().max()):.2g}, and not 0"
    c = block.config
    raise ValueError(
        f"a block with kernel={c.kernel}, symmetric={c.symmetric}, normalization="
        f"{c.normalization!r} has no orthogonal smooth and oscillating parts: {reason}. A "
        "symmetric one has, such as SNL's (symmetric=True, normalization='sym')."
    )


def _weight(block: NonlocalBlock, unit: int) -> Tensor:
    """Return W of all terms, without the norm unless it is fused. Shape: (terms * Cs, C)."""
    return block.sub_blocks[unit].combine.matrix().mT.double()


def _check_unit(block: NonlocalBlock, unit: int) -> None:
    if not 0 <= unit < len(block.units):
        raise ValueError(f"unit={unit} must be from 0 to {len(block.units) - 1}.")
