"""Kernels: from embeddings of the positions to an affinity.

A kernel states the widths of the embeddings it needs and turns them, side by side in one tensor,
into A. With theta_i and phi_j the embeddings of positions i and j, M_ij = k(theta_i, phi_j) and A
is M after :func:`~video_snl.blocks.operators.normalize`.
"""

from __future__ import annotations

import abc
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.operators import (
    Affinity,
    CrissCross,
    Dense,
    LowRank,
    PowerSeries,
    RectifiedSum,
    Scaled,
    Softmax,
    Sum,
    SymmetricLowRank,
    halves,
    normalize,
    softmax,
    split_channels,
    to_vertices,
    wide,
)
from video_snl.blocks.user_blocks import check_pairs, import_named, pairs_of, reason_of

__all__ = [
    "AffinitySpec",
    "ChannelDot",
    "CrissCrossGaussian",
    "Disentangled",
    "FunctionKernel",
    "GatherDistribute",
    "Kernel",
    "PairKernel",
    "ReluDot",
    "Taylor",
    "pair_kernel",
]


@dataclass(frozen=True)
class AffinitySpec:
    """The affinity that a block asks of its kernel.

    Args:
        grid: lengths of the axes, whose product is N.
        symmetric: symmetrisation of M to (M + M^T) / 2 before the normalisation.
        normalization: normalisation of M, as :func:`normalize` takes it.
        keys: phi of sub-sampled positions (B, M, width), in place of phi of all positions.
        mask: (B, N), True where a position exists; None where all do. Embeddings of the others are
            zero, and no position listens to them.
        key_mask: the same of the ``keys``.
        channels, times: number of channels that A will be applied to, and number of times. A
            product of embeddings is formed as a matrix where that costs least; 0 keeps its factors.
        gamma: scalar (1,) that the block learns for its kernel, see :meth:`Kernel.start`.
    """

    grid: tuple[int, ...]
    symmetric: bool = False
    normalization: str | None = None
    keys: Tensor | None = None
    channels: int = 0
    times: int = 0
    mask: Tensor | None = None
    key_mask: Tensor | None = None
    gamma: Tensor | None = None

    @property
    def heard(self) -> Tensor | None:
        """Mask (B, M) of what positions listen to: the keys, or all positions."""
        return self.mask if self.keys is None else self.key_mask


class Kernel(abc.ABC):
    """Map from embeddings to an affinity."""

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        """Return the channels of the embeddings, by default of theta and of phi."""
        return inter_channels, inter_channels

    def start(self) -> float | None:
        """Return the initial value of the scalar that the block learns for it; None without one."""
        return None

    @abc.abstractmethod
    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        """Return the affinity that ``spec`` asks for. Shape: embedded (B, N, sum of widths)."""

    def check(self, symmetric: bool, normalization: str | None) -> None:  # noqa: B027
        """Raise ValueError where these cannot be combined with the kernel."""


@dataclass(frozen=True)
class PairKernel(Kernel):
    """A kernel of pairs of positions, which a block may combine with either normalisation."""


@dataclass(frozen=True)
class ReluDot(PairKernel):
    """M_ij = <relu(theta_i), relu(phi_j)>.

    Both embeddings are rectified, so that every degree is non-negative and D^-1/2 exists
    (arXiv:2108.02451, section 3.3).
    """

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        factors = F.relu(embedded)
        product: Affinity = SymmetricLowRank(factors)
        if not spec.symmetric:
            theta, phi = halves(factors)
            product = LowRank(theta, phi if spec.keys is None else F.relu(spec.keys))
        # Before the normalisation: with few positions a matrix is scaled faster than its factors.
        return normalize(product.for_products(spec.channels, spec.times), spec.normalization)


@dataclass(frozen=True)
class Dot(PairKernel):
    """M_ij = <theta_i, phi_j> / N, the dot product of arXiv:1711.07971 (N keys)."""

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        theta, phi = halves(embedded)
        phi = phi if spec.keys is None else spec.keys
        heard = spec.heard
        count = phi.shape[1] if heard is None else heard.sum(1)[:, None, None]
        dot = LowRank(theta / count, phi)
        return dot.symmetrize() if spec.symmetric else dot

    def check(self, symmetric: bool, normalization: str | None) -> None:
        if normalization is not None:
            raise ValueError(
                f"kernel='dot' with normalization={normalization!r}: dot products give degrees of "
                "either sign and near zero; use normalization=None or kernel='relu_dot'."
            )


@dataclass(frozen=True)
class Concatenation(PairKernel):
    """M_ij = relu(a_i + b_j) / N, the concatenation of arXiv:1711.07971 (N keys).

    Their relu(w^T [theta_i, phi_j]) with w^T theta_i = a_i and w^T phi_j = b_j, two linear layers
    in a row as one: embeddings of one channel.
    """

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return 1, 1

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        a, b = halves(embedded)
        b = b if spec.keys is None else spec.keys
        heard = spec.heard
        count = b.shape[1] if heard is None else heard.sum(1)[:, None]
        pairs: Affinity = RectifiedSum(a.squeeze(-1), b.squeeze(-1), heard)
        # Symmetrised, a position would else listen to one that does not exist, which listens to it.
        rows = torch.ones_like(a.squeeze(-1)) if spec.mask is None else spec.mask.to(a.dtype)
        rows = rows / count
        pairs = Scaled(rows, pairs, torch.ones_like(b.squeeze(-1)))
        return pairs.symmetrize() if spec.symmetric else pairs

    def check(self, symmetric: bool, normalization: str | None) -> None:
        if normalization is not None:
            raise ValueError(
                f"kernel='concatenation' with normalization={normalization!r}: it is divided by N "
                "as in its paper, and a position may have no neighbour; use normalization=None."
            )


@dataclass(frozen=True)
class EmbeddedGaussian(PairKernel):
    """M_ij = exp(<theta_i, phi_j>), or exp(<theta_i, phi_j> / sqrt(Cs)) where ``scaled``.

    Divided by its degree M is a softmax. A symmetrised M, or one divided on both sides, is formed
    as a matrix from the logarithms of its entries and degrees: exponentials of one row may all be
    out of range beside those of another, and their quotients are not.
    """

    name: ClassVar[str] = "embedded_gaussian"
    scaled: bool = False

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        theta, phi = self._pair(embedded)
        phi = phi if spec.keys is None else spec.keys
        scale = theta.shape[-1] ** -0.5 if self.scaled else 1.0
        if spec.normalization == "rw" and not spec.symmetric:
            return Softmax(theta, phi, scale, spec.heard)
        logs = (scale * theta @ phi.mT).to(wide(theta))
        if spec.symmetric:
            # Not logaddexp, whose second derivative is NaN where the two lie far apart.
            logs = torch.stack([logs, logs.mT]).logsumexp(0) - math.log(2)
        pairs = None
        if spec.mask is not None:
            pairs = spec.mask[:, :, None] & spec.mask[:, None]
            # The other rows are zero only at the end: none may be all -inf.
            logs = torch.where(spec.mask[:, None] | ~spec.mask[:, :, None], logs, -torch.inf)
        if spec.normalization == "rw":
            matrix = logs.softmax(-1)
        elif spec.symmetric or phi is theta:  # sqrt(P_ij P_ji) of the random walk P
            logs = logs.log_softmax(-1)
            matrix = ((logs + logs.mT) / 2).exp()
        else:
            degree = logs.logsumexp(-1, keepdim=True)
            matrix = (logs - (degree + degree.mT) / 2).exp()
        matrix = matrix if pairs is None else torch.where(pairs, matrix, 0)
        return Dense(matrix.to(theta.dtype))

    def check(self, symmetric: bool, normalization: str | None) -> None:
        if normalization is None:
            raise ValueError(
                f"kernel={self.name!r} with normalization=None: unnormalised exponentials leave "
                "every floating-point range; use normalization='rw' or 'sym'."
            )

    def _pair(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        theta, phi = halves(embedded)
        return theta, phi


@dataclass(frozen=True)
class Gaussian(EmbeddedGaussian):
    """M_ij = exp(<x_i, x_j>): the features themselves in place of embeddings."""

    name: ClassVar[str] = "gaussian"

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return ()

    def _pair(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        return embedded, embedded


@dataclass(frozen=True)
class FunctionKernel(PairKernel):
    """M_ij = k(theta_i, phi_j) of a user's own function, formed as a matrix.

    Args:
        function: k of all pairs: theta (B, N, Cs), phi (B, M, Cs) -> M (B, N, M), finite and
            differentiable. A normalisation divides by sums of M, which must then have no negative
            entry. :func:`~video_snl.blocks.user_blocks.pairs_of` checks it in every call.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        theta, phi = halves(embedded)
        phi = phi if spec.keys is None else spec.keys
        there = None
        if spec.mask is not None and spec.heard is not None:
            there = spec.mask[:, :, None] & spec.heard[:, None]
        values = pairs_of(self.function, theta, phi, spec.normalization, there)
        matrix = Dense(values)
        return normalize(matrix.symmetrize() if spec.symmetric else matrix, spec.normalization)

    def check(self, symmetric: bool, normalization: str | None) -> None:
        """Try the function on a few embeddings, as :func:`check_pairs` does."""
        check_pairs(self.function, normalization)


@dataclass(frozen=True)
class GatherDistribute(Kernel):
    """A_ij = sum_r softmax_r(theta_i)_r softmax_j(phi)_jr, of rank Cs, with rows that sum to 1.

    ``descriptors`` (default Cs) are gathered over all positions and distributed to each
    (arXiv:1810.11579).
    """

    descriptors: int | None = None

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        width = inter_channels if self.descriptors is None else self.descriptors
        return width, width

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        theta, phi = halves(embedded)
        return LowRank(softmax(theta, 2), _softmax_of_positions(phi, spec.mask))


# Beyond them factorials and exp(-gamma) leave the range of floating point.
_LARGEST_ORDER, _LARGEST_GAMMA = 100, 40


@dataclass(frozen=True)
class Taylor(Kernel):
    """exp(-gamma (t - p)^2) of single channels, as a Taylor series of ``order`` (arXiv:1810.13125).

    The graph's vertices are the channels of all positions, N Cs in all, in ``groups`` separate
    graphs: the affinity's batch is (B groups), its size N Cs / groups, its rank order + 1.
    With 2 for t^2 + p^2, as in the authors' code, M = exp(-2 gamma) sum_k (2 gamma t p)^k / k!

    Raises:
        ValueError: for an order beyond 0 to 100, or a gamma that is not above 0 and at most 40.
    """

    order: int = 2
    gamma: float = 1e-4
    groups: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.order <= _LARGEST_ORDER:
            raise ValueError(f"order={self.order} must be 0 to {_LARGEST_ORDER}.")
        if not 0 < self.gamma <= _LARGEST_GAMMA:
            raise ValueError(
                f"gamma={self.gamma} must be above 0 and at most {_LARGEST_GAMMA}: the series has "
                "its powers and exp(-2 gamma)."
            )

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        gain = math.exp(-2 * self.gamma)
        weights = [gain * (2 * self.gamma) ** k / math.factorial(k) for k in range(self.order + 1)]
        theta, phi = halves(embedded)
        return _series(PowerSeries(theta, phi, weights, self.groups), spec)


@dataclass(frozen=True)
class ChannelDot(Kernel):
    """M_tp = t p of single channels, on the graph of :class:`Taylor` (the code of 1810.13125).

    ``scaled``: divided by the square root of the number of vertices.
    """

    groups: int = 1
    scaled: bool = False

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        theta, phi = halves(embedded)
        if self.scaled:
            each = theta.shape[-1] // self.groups  # vertices of a position and group
            if spec.mask is None:
                theta = theta / (theta.shape[1] * each) ** 0.5
            else:
                theta = theta / (spec.mask.sum(1)[:, None, None] * each).to(theta.dtype).sqrt()
        return _series(PowerSeries(theta, phi, (0, 1), self.groups), spec)


@dataclass(frozen=True)
class CrissCrossGaussian(Kernel):
    """A softmax over the positions that share all coordinates but one (arXiv:1811.11721)."""

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        theta, phi = halves(embedded)
        return CrissCross.softmax(theta, phi, spec.grid, mask=spec.mask)


@dataclass(frozen=True)
class Disentangled(Kernel):
    """A pairwise softmax of whitened embeddings plus a unary softmax (arXiv:2006.06668).

    A_ij = gamma softmax_j(<theta_i - mean theta, phi_j - mean phi> / tau) + softmax_j(m_j), where
    tau is ``temperature``, times sqrt(Cs) where ``scaled``. Rows sum to 1 + gamma. Without an
    initial ``gamma`` it is 1 and not learned, as in the paper's equation.

    Raises:
        ValueError: for a temperature that is not above 0 and finite, or a gamma that is not finite.
    """

    scaled: bool = False
    temperature: float = 1.0
    gamma: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature} must be above 0 and finite.")
        if self.gamma is not None and not math.isfinite(self.gamma):
            raise ValueError(f"gamma={self.gamma}, where the learned weight starts, is not finite.")

    def start(self) -> float | None:
        return self.gamma

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return inter_channels, inter_channels, 1

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        width = embedded.shape[-1] // 2
        theta, phi, unary = split_channels(embedded, [width, width, 1])
        if spec.keys is not None:
            phi, unary = split_channels(spec.keys, [width, 1])
        theta = theta - _mean_of_positions(theta, spec.mask)
        phi = phi - _mean_of_positions(phi, spec.heard)
        scale = (width**-0.5 if self.scaled else 1.0) / self.temperature
        pairwise: Affinity = Softmax(theta, phi, scale, spec.heard)
        if spec.gamma is not None:
            rows = spec.gamma.expand(theta.shape[:2])
            pairwise = Scaled(rows, pairwise, torch.ones_like(phi[..., 0]))
        salience = _softmax_of_positions(unary, spec.heard)
        return Sum([pairwise, LowRank(torch.ones_like(theta[..., :1]), salience)])


def _series(series: PowerSeries, spec: AffinitySpec) -> Affinity:
    """Return a series with the mask and the normalisation that ``spec`` asks for."""
    if spec.mask is None and spec.normalization is None:
        return series
    affinity = LowRank(series.left, series.right)
    if spec.mask is not None:  # the power 0 of a zero is not zero
        there = spec.mask[..., None].expand_as(series.theta).to(series.theta.dtype)
        vertices = to_vertices(there, series.groups).squeeze(-1)
        affinity = affinity.scale(vertices, vertices)
    return normalize(affinity, spec.normalization)


def _mean_of_positions(x: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the positions; x is zero at those that do not exist. (B, N, C) -> (B, 1, C)."""
    if mask is None:
        return x.mean(1, keepdim=True)
    return x.sum(1, keepdim=True) / mask.sum(1)[:, None, None]


def _softmax_of_positions(x: Tensor, mask: Tensor | None) -> Tensor:
    """Divide exp(x) by its sum over the positions that exist. Shapes: (B, N, C), (B, N)."""
    return softmax(x if mask is None else x.masked_fill(~mask[..., None], -torch.inf), 1)


_PAIR_KERNELS: dict[str, type[PairKernel]] = {
    "relu_dot": ReluDot,
    "dot": Dot,
    "embedded_gaussian": EmbeddedGaussian,
    "gaussian": Gaussian,
    "concatenation": Concatenation,
}


def pair_kernel(name: str, *, scaled: bool = False) -> PairKernel:
    """Return the kernel of pairs called ``name``; ``scaled`` divides the exponent by sqrt(Cs).

    Args:
        name: Name of a kernel, or dotted path of a user's own: a subclass of :class:`PairKernel`,
            made without arguments (or with ``scaled=True``), or a function for
            :class:`FunctionKernel`.
        scaled: As above.

    Raises:
        ValueError: for an unknown name, ``scaled`` with a kernel without an exponent, or a path
            that names nothing of the kind.
    """
    if "." in name:
        return _own_kernel(name, scaled)
    if name not in _PAIR_KERNELS:
        raise ValueError(
            f"kernel={name!r} is unknown; choose from: {', '.join(_PAIR_KERNELS)}, or a dotted "
            "path such as my_package.my_kernel."
        )
    kernel = _PAIR_KERNELS[name]
    if not scaled:
        return kernel()
    if not issubclass(kernel, EmbeddedGaussian):
        raise ValueError(
            f"scaled=True with kernel={name!r}: only an exponential kernel has a scale; leave one "
            "of them out."
        )
    return kernel(scaled=True)


def _own_kernel(path: str, scaled: bool) -> PairKernel:
    def fits(found: Any) -> bool:
        return inspect.isfunction(found) or (
            isinstance(found, type) and issubclass(found, PairKernel)
        )

    found = import_named(path, "kernel", "a function of theta and phi, or a PairKernel", fits)
    if inspect.isfunction(found):
        if scaled:
            raise ValueError(f"scaled=True with kernel={path!r}: a function has no scale.")
        return FunctionKernel(found)
    try:
        kernel: PairKernel = found(scaled=True) if scaled else found()
    except (Exception, SystemExit) as error:  # whatever a constructor of others raises
        raise ValueError(f"kernel={path!r} cannot be made: {reason_of(error)}") from error
    return kernel
