"""The nonlocal block: one module for every member of the family, in 1d, 2d and 3d."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.affinity import Affinity, normalize
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.kernels import Kernel

__all__ = ["NonlocalBlock"]

_AXES = {1: "L", 2: "HW", 3: "THW"}
_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class NonlocalBlock(nn.Module):
    """Y = X + norm(F(A, Z)), F(A, Z) = sum_k A^k Z W_k, Z = X W_Z (eq. 12 of arXiv:2108.02451).

    A is the kernel of the embeddings X W_theta and X W_phi, symmetrised and normalised as asked.
    The projections W_theta, W_phi, W_Z are one 1x1 convolution, the W_k another.

    Args:
        in_channels: C, channels of the feature map.
        inter_channels: Cs, transferred channels; default ``in_channels // 2``.
        ndim: 1, 2 or 3, the axes of the grid of positions.
        kernel: from the two embeddings to an affinity, see :mod:`video_snl.blocks.kernels`.
        symmetric: replace M by (M + M^T) / 2 before the normalisation.
        normalization: ``"sym"``, ``"rw"`` or None, see :func:`normalize`.
        filter: which powers of A are applied.
        zero_init: start the norm's weight at zero, so that the block is the identity at first.
        activation: None, or ``"relu"`` behind the norm (the form of the paper's released code).

    Shapes:
        x: (B, C, L), (B, C, H, W) or (B, C, T, H, W) for ndim 1, 2, 3; the output has x's shape.

    Raises:
        ValueError: for sizes below 1, an ndim beyond 1-3, or ``zero_init`` together with an
            activation: a ReLU behind a zero weight passes no gradient, so the block never trains.
    """

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        *,
        ndim: int,
        kernel: Kernel,
        symmetric: bool,
        normalization: Literal["sym", "rw"] | None,
        filter: Polynomial,
        zero_init: bool = True,
        activation: Literal["relu"] | None = None,
    ) -> None:
        super().__init__()
        width = in_channels // 2 if inter_channels is None else inter_channels
        _check(in_channels, width, ndim, zero_init, activation)
        self.in_channels, self.inter_channels, self.ndim = in_channels, width, ndim
        self.kernel, self.symmetric, self.normalization = kernel, symmetric, normalization
        self.filter, self.activation = filter, activation
        self.project = _CONV[ndim](in_channels, 3 * width, 1, bias=False)
        self.combine = _CONV[ndim](len(filter.powers) * width, in_channels, 1, bias=False)
        self.norm = _NORM[ndim](in_channels)
        nn.init.constant_(self.norm.weight, 0.0 if zero_init else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        terms = self._terms(self._embed(x)).to(x.dtype)
        out = self.norm(self.combine(terms.mT.unflatten(2, x.shape[2:])))
        return x + (F.relu(out) if self.activation == "relu" else out)

    def affinity(self, x: Tensor) -> Affinity:
        """A for the feature map ``x``, an operator over its N = prod(x.shape[2:]) positions."""
        return self._graph(self._embed(x))[0]

    def affinity_multiply_adds(self, x: Tensor) -> int:
        """Multiply-adds of the products with A on the feature map ``x``, per batch element."""
        return self.filter.multiply_adds(self.affinity(x[:1]), self.inter_channels)

    def _embed(self, x: Tensor) -> Tensor:
        """X W_theta, X W_phi and X W_Z side by side. Shape: (B, N, 3 Cs)."""
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            axes = ", ".join(["B", str(self.in_channels), *_AXES[self.ndim]])
            raise ValueError(f"this block expects a ({axes}) feature map, got {tuple(x.shape)}.")
        return self.project(x).flatten(2).mT

    def _graph(self, embedded: Tensor) -> tuple[Affinity, Tensor]:
        theta, phi, z = embedded.chunk(3, dim=-1)
        affinity = self.kernel(theta, phi)
        if self.symmetric:
            affinity = affinity.symmetrize()
        return normalize(affinity, self.normalization), z

    def _terms(self, embedded: Tensor) -> Tensor:
        if embedded.dtype == torch.float16:
            # Sums over positions leave float16's range, so these products run in float32.
            with torch.autocast(embedded.device.type, enabled=False):
                return self._terms(embedded.float())
        affinity, z = self._graph(embedded)
        return self.filter.terms(affinity, z)

    def extra_repr(self) -> str:
        kernel = getattr(self.kernel, "__name__", repr(self.kernel))
        return (
            f"in_channels={self.in_channels}, inter_channels={self.inter_channels}, "
            f"kernel={kernel}, symmetric={self.symmetric}, "
            f"normalization={self.normalization!r}, powers={self.filter.powers}"
        )


def _check(
    in_channels: int, inter_channels: int, ndim: int, zero_init: bool, activation: str | None
) -> None:
    if ndim not in _CONV:
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    if in_channels < 1 or inter_channels < 1:
        raise ValueError(
            f"in_channels={in_channels} and inter_channels={inter_channels} must be at least 1 "
            "(inter_channels defaults to in_channels // 2)."
        )
    if activation not in (None, "relu"):
        raise ValueError(f"activation={activation!r} is unknown; choose 'relu' or None.")
    if zero_init and activation == "relu":
        raise ValueError(
            "zero_init=True together with activation='relu' never trains: a ReLU behind a zero "
            "weight passes no gradient. Choose zero_init=False or activation=None."
        )
