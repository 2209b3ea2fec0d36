"""Kernels: from embeddings of the positions to an affinity.

A kernel names the widths of the embeddings it needs and turns them, side by side in one tensor,
into A. With theta_i and phi_j the embeddings of positions i and j, M_ij = k(theta_i, phi_j) and A
is M after :func:`~video_snl.blocks.operators.normalize`.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.crisscross import CrissCross
from video_snl.blocks.lowrank import LowRank, SymmetricLowRank
from video_snl.blocks.operators import Affinity, Dense, Sum, normalize, wide
from video_snl.blocks.softmax import Softmax

__all__ = ["PAIR_KERNELS", "Kernel", "PairKernel", "Wanted", "pair_kernel"]


@dataclass(frozen=True)
class Wanted:
    """What a block asks of its kernel.

    Args:
        grid: lengths of the axes, whose product is N.
        symmetric: replace M by (M + M^T) / 2 before the normalisation.
        normalization: of M, as :func:`normalize` takes it.
        keys: phi of sub-sampled positions (B, M, width), in place of that of all.
        channels, times: how many channels A will be applied to, and how often: a product of
            embeddings is formed as a matrix where that makes it cheapest. 0: keep its factors.
    """

    grid: tuple[int, ...]
    symmetric: bool = False
    normalization: str | None = None
    keys: Tensor | None = None
    channels: int = 0
    times: int = 0


class Kernel(abc.ABC):
    """From embeddings to an affinity; what a kernel does not say of itself, the block asks for."""

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        """Channels of the embeddings: of theta and phi, unless a kernel needs others."""
        return inter_channels, inter_channels

    @abc.abstractmethod
    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        """A, as wanted. Shape: embedded (B, N, sum of widths)."""

    def check(self, symmetric: bool, normalization: str | None) -> None:  # noqa: B027
        """Raise ValueError where these do not go together with the kernel."""


@dataclass(frozen=True)
class PairKernel(Kernel):
    """A kernel of pairs of positions, which a block may combine with either normalisation."""


@dataclass(frozen=True)
class ReluDot(PairKernel):
    """M_ij = <relu(theta_i), relu(phi_j)>.

    Both embeddings are rectified, so that every degree is non-negative and D^-1/2 exists
    (arXiv:2108.02451, section 3.3).
    """

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        factors = F.relu(embedded)
        product: Affinity = SymmetricLowRank(factors)
        if not wanted.symmetric:
            theta, phi = factors.chunk(2, -1)
            product = LowRank(theta, phi if wanted.keys is None else F.relu(wanted.keys))
        # Before the normalisation: with few positions it is the matrix that is scaled fastest.
        return normalize(product.for_products(wanted.channels, wanted.times), wanted.normalization)


@dataclass(frozen=True)
class Dot(PairKernel):
    """M_ij = <theta_i, phi_j> / N, the dot product of arXiv:1711.07971 (N keys)."""

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        theta, phi = embedded.chunk(2, -1)
        phi = phi if wanted.keys is None else wanted.keys
        dot = LowRank(theta / phi.shape[1], phi)
        return dot.symmetrize() if wanted.symmetric else dot

    def check(self, symmetric: bool, normalization: str | None) -> None:
        if normalization is not None:
            raise ValueError(
                f"kernel='dot' with normalization={normalization!r}: dot products give degrees of "
                "either sign and near zero; use normalization=None or kernel='relu_dot'."
            )


@dataclass(frozen=True)
class EmbeddedGaussian(PairKernel):
    """M_ij = exp(<theta_i, phi_j>), or exp(<theta_i, phi_j> / sqrt(Cs)) where ``scaled``.

    Divided by its degree that is a softmax. Symmetrised, or divided on both sides, M itself is
    needed: then it is formed, with its largest exponent shifted to zero.
    """

    scaled: bool = False

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        theta, phi = self._pair(embedded)
        phi = phi if wanted.keys is None else wanted.keys
        scale = theta.shape[-1] ** -0.5 if self.scaled else 1.0
        if wanted.normalization == "rw" and not wanted.symmetric:
            return Softmax(theta, phi, scale)
        exponents = (scale * theta @ phi.mT).to(wide(theta))
        matrix = Dense((exponents - exponents.detach().amax((1, 2), keepdim=True)).exp())
        whole = normalize(matrix.symmetrize() if wanted.symmetric else matrix, wanted.normalization)
        return Dense(whole.to_dense().to(theta.dtype))

    def check(self, symmetric: bool, normalization: str | None) -> None:
        if normalization is None:
            raise ValueError(
                f"kernel={_name(self)!r} with normalization=None: unnormalised exponentials leave "
                "every floating-point range; use normalization='rw' or 'sym'."
            )

    def _pair(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        theta, phi = embedded.chunk(2, -1)
        return theta, phi


@dataclass(frozen=True)
class Gaussian(EmbeddedGaussian):
    """M_ij = exp(<x_i, x_j>): the features themselves in place of embeddings."""

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return ()

    def _pair(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        return embedded, embedded


@dataclass(frozen=True)
class GatherDistribute(Kernel):
    """A_ij = sum_r softmax_r(theta_i)_r softmax_j(phi)_jr, of rank Cs and with rows that sum to 1.

    Cs descriptors are gathered over all positions and distributed to each (arXiv:1810.11579).
    """

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        theta, phi = embedded.chunk(2, -1)
        return LowRank(theta.softmax(-1), phi.softmax(1))


@dataclass(frozen=True)
class Taylor(Kernel):
    """exp(-gamma (t - p)^2) of single channels, as a Taylor series of ``order`` (arXiv:1810.13125).

    The graph's vertices are the channels of all positions, N Cs in all, in ``groups`` graphs that
    do not touch: the affinity's batch is (B groups), its size N Cs / groups, its rank order + 1.
    With 2 for t^2 + p^2, as in the authors' code, M = exp(-2 gamma) sum_k (2 gamma t p)^k / k!
    """

    order: int = 2
    gamma: float = 1e-4
    groups: int = 1

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        theta, phi = (to_vertices(x, self.groups) for x in embedded.chunk(2, -1))
        return normalize(LowRank(self._powers(theta), self._powers(phi)), wanted.normalization)

    def _powers(self, x: Tensor) -> Tensor:
        """Shapes: (B, V, 1) -> (B, V, order + 1)."""
        gain = math.exp(-2 * self.gamma)
        weights = [gain * (2 * self.gamma) ** k / math.factorial(k) for k in range(self.order + 1)]
        return torch.cat([weight**0.5 * x**k for k, weight in enumerate(weights)], -1)


@dataclass(frozen=True)
class CrissCrossGaussian(Kernel):
    """A softmax over the positions that share all coordinates but one (arXiv:1811.11721)."""

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        theta, phi = embedded.chunk(2, -1)
        return CrissCross.softmax(theta, phi, wanted.grid)


@dataclass(frozen=True)
class Disentangled(Kernel):
    """A pairwise softmax of whitened embeddings plus a unary softmax (arXiv:2006.06668).

    A_ij = softmax_j(<theta_i - mean theta, phi_j - mean phi>) + softmax_j(m_j): rows sum to 2.
    """

    scaled: bool = False

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return inter_channels, inter_channels, 1

    def affinity(self, embedded: Tensor, wanted: Wanted) -> Affinity:
        width = embedded.shape[-1] // 2
        theta, phi, unary = embedded.split([width, width, 1], -1)
        theta, phi = (x - x.mean(1, keepdim=True) for x in (theta, phi))
        pairwise = Softmax(theta, phi, width**-0.5 if self.scaled else 1.0)
        salience = unary.softmax(1)
        return Sum([pairwise, LowRank(torch.ones_like(salience), salience)])


PAIR_KERNELS: dict[str, type[PairKernel]] = {
    "relu_dot": ReluDot,
    "dot": Dot,
    "embedded_gaussian": EmbeddedGaussian,
    "gaussian": Gaussian,
}


def pair_kernel(name: str, *, scaled: bool = False) -> PairKernel:
    """The kernel of pairs called ``name``; ``scaled`` divides the exponent by sqrt(Cs).

    Raises:
        ValueError: for an unknown name, or ``scaled`` with a kernel without an exponent.
    """
    if name not in PAIR_KERNELS:
        raise ValueError(f"kernel={name!r} is unknown; choose from: {', '.join(PAIR_KERNELS)}.")
    kernel = PAIR_KERNELS[name]
    if not scaled:
        return kernel()
    if not issubclass(kernel, EmbeddedGaussian):
        raise ValueError(
            f"scaled=True with kernel={name!r}: only an exponential kernel has a scale; leave one "
            "of them out."
        )
    return kernel(scaled=True)


def to_vertices(x: Tensor, groups: int) -> Tensor:
    """The channels of all positions as vertices. Shape: (B, N, Cs) -> (B groups, N Cs / groups, 1).

    The vertices of a group are its channels of the first position, then of the second, and so on.
    """
    return x.unflatten(-1, (groups, -1)).movedim(2, 1).flatten(2).flatten(0, 1)[..., None]


def from_vertices(vertices: Tensor, groups: int, inter_channels: int) -> Tensor:
    """The inverse of :func:`to_vertices`."""
    per_group = vertices.squeeze(-1).unflatten(0, (-1, groups))
    return per_group.unflatten(2, (-1, inter_channels // groups)).movedim(1, 2).flatten(2)


def _name(kernel: PairKernel) -> str:
    return next(name for name, kind in PAIR_KERNELS.items() if type(kernel) is kind)
