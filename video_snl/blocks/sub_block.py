"""A sub-block of a nonlocal block: the weights of the filter's terms, the norm, the sum with X.

A :class:`BlockConfig` is a row of Table 1 of arXiv:2108.02451: a kernel, a normalisation, a filter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from video_snl.blocks.filters import Filter
from video_snl.blocks.kernels import Disentangled, Kernel, PairKernel
from video_snl.blocks.layers import (
    BATCH_NORM,
    CONV,
    ZERO_BATCH_NORM,
    LayerNorm,
    Pointwise,
    ZeroGroupNorm,
    ZeroLayerNorm,
    ZeroPointwise,
    ZeroStart,
    check_counts,
)
from video_snl.blocks.masks import kept_or, masked_norm

__all__ = [
    "BATCH_NORM",
    "CONV",
    "BlockConfig",
    "Described",
    "LayerNorm",
    "NormName",
    "Normalization",
    "Pointwise",
    "Recipe",
    "SubBlock",
    "check_counts",
]

Normalization = Literal["sym", "rw"]
NormName = Literal["batch", "group", "layer", "none"]

_BIASES = ("theta", "phi", "g", "out")


@dataclass(frozen=True)
class BlockConfig:
    """Settings of a nonlocal block: its row in Table 1 of arXiv:2108.02451.

    Args:
        kernel: map from embeddings to an affinity, see :mod:`video_snl.blocks.kernels`.
        filter: function that makes the filter, see :mod:`video_snl.blocks.filters`.
        symmetric: symmetrisation of M to (M + M^T) / 2 before the normalisation.
        normalization: ``"sym"``, ``"rw"`` or None, see :func:`normalize`.
        reduction: C / Cs where ``inter_channels`` is not given.
        transfer: Z = X W_Z with Cs channels; if False, Z = X.
        groups: number of groups of channels of the weights W_k, and of a GroupNorm.
        norm: norm after the weights: ``"batch"``, ``"group"``, ``"layer"`` (over the channels of
            each position) or ``"none"``.
        norm_groups: number of groups of a GroupNorm, where it is not ``groups``.
        bias: which of ``"theta"``, ``"phi"``, ``"g"`` (Z) and ``"out"`` (the W_k) have a bias.
        pool: factor by which keys and Z are max-pooled along every spatial axis, at least 1.
        pool_first: pooling of the features before their projection instead of phi and Z after it.
        ceil_mode: pooling keeps an odd rest at the end of an axis.
        recurrence: number of times that the whole block is applied, at least 1.

    Raises:
        ValueError: for values that exclude each other; the message names them.
    """

    kernel: Kernel
    filter: Callable[[], Filter]
    symmetric: bool = False
    normalization: Normalization | None = None
    reduction: int = 2
    transfer: bool = True
    groups: int = 1
    norm: NormName = "batch"
    pool: int = 1
    recurrence: int = 1
    norm_groups: int | None = None
    bias: tuple[str, ...] = ()
    pool_first: bool = False
    ceil_mode: bool = True

    def __post_init__(self) -> None:
        if self.normalization not in (None, *get_args(Normalization)):
            raise ValueError(
                f"normalization={self.normalization!r} is unknown; choose 'sym', 'rw' or None."
            )
        self.kernel.check(self.symmetric, self.normalization)
        for name in ("groups", "pool", "recurrence", "norm_groups"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.norm not in get_args(NormName):
            raise ValueError(
                f"norm={self.norm!r} is unknown; choose from: {', '.join(get_args(NormName))}."
            )
        if self.norm_groups is not None and self.norm != "group":
            raise ValueError(f"norm_groups={self.norm_groups} is of norm='group'.")
        unknown = sorted(set(self.bias) - set(_BIASES))
        if unknown:
            raise ValueError(
                f"bias of {', '.join(unknown)} is unknown; choose from: {', '.join(_BIASES)}."
            )
        lacking = [name for name in self.bias if name not in self.biases]
        if lacking:
            raise ValueError(
                f"bias of {', '.join(lacking)} in a block that has no such projection: it has "
                f"{', '.join(self.biases)}."
            )
        if self.pool == 1:
            if self.pool_first or not self.ceil_mode:
                raise ValueError("pool_first and ceil_mode are of pool=2 or more.")
            return
        if self.symmetric or self.normalization == "sym":
            raise ValueError(
                f"pool={self.pool} with normalization={self.normalization!r}: with sub-sampled "
                "keys the affinity is not square and has no symmetric form; leave one of them out."
            )
        if not isinstance(self.kernel, PairKernel | Disentangled):
            raise ValueError(f"pool={self.pool}: {self.kernel} has no keys to sub-sample.")

    @property
    def biases(self) -> tuple[str, ...]:
        """Return those of theta, phi, g and out that the block's equation has."""
        embeddings = len(self.kernel.widths(1)) if self.filter().products else 0
        return (*("theta", "phi")[:embeddings], *(["g"] if self.transfer else []), "out")


Recipe = BlockConfig
"""Former name of :class:`BlockConfig`."""


class Described(nn.Module):
    """A module whose state dict says how it was made.

    Attributes:
        description: arguments of :func:`~video_snl.blocks.zoo.make_block`, as plain values; None
            where it was made otherwise. It stands in the state dict's ``_metadata``, which
            ``torch.save`` keeps; the names of the tensors do not know of it.
    """

    description: dict[str, Any] | None = None

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.description is not None and hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})["block"] = dict(self.description)


class SubBlock(nn.Module):
    """Y = X + norm([f_1(A) Z, f_2(A) Z, ...] W); the terms come from the block's filter.

    Args:
        in_channels: C.
        channels: Cs, channels of Z.
        ndim: number of axes of the grid.
        terms: number of terms.
        transfer: own projection of X to Z (the block projects for the first sub-block).
        config: the block's row; of it groups, norm and biases.
        zero_init: zero as the initial weight of the norm; without one, of W.
        activation: ``"relu"`` after the norm, or None.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        ndim: int,
        terms: int,
        transfer: bool,
        config: BlockConfig,
        zero_init: bool,
        activation: Literal["relu"] | None,
    ) -> None:
        super().__init__()
        self.activation = activation
        biased = [(channels, "g" in config.bias)]
        self.transfer = Pointwise(in_channels, channels, biased=biased) if transfer else None
        biased = [(in_channels, "out" in config.bias)]
        last = ZeroPointwise if zero_init and config.norm == "none" else Pointwise
        self.combine = last(terms * channels, in_channels, config.groups, biased=biased)
        self.norm = _norm(config, in_channels, ndim, zero_init)

    def reset_parameters(self) -> None:
        """Draw the weights anew, and forget the statistics of the norm."""
        for layer in (self.transfer, self.combine, self.norm):
            if layer is not None and not isinstance(layer, nn.Identity):
                layer.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor, terms: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the block. Shapes: x (B, C, *grid), terms (B, N, terms * Cs) -> (B, C, *grid)."""
        out = masked_norm(self.norm, self.combined(x, terms), mask)
        return kept_or(x + (F.relu(out) if self.activation == "relu" else out), x, mask)

    def combined(self, x: Tensor, terms: Tensor) -> Tensor:
        """Return the terms times W, on the grid of x."""
        out = self.combine(terms if terms.dtype == x.dtype else terms.to(x.dtype))
        if out.stride(-1) != 1:
            return out.mT.reshape(x.shape)
        # Viewed anew: a batch of one may have any stride along the batch, and torch's BatchNorm
        # returns wrong gradients for one that does not fit the other strides.
        rows = out.reshape(-1, out.shape[-1])
        return rows.view(x.shape[0], *x.shape[2:], out.shape[-1]).movedim(-1, 1)

    def fuse(self) -> None:
        """Fold BatchNorm into W and a bias, for inference; a GroupNorm depends on its input."""
        if isinstance(self.norm, _BatchNorm):
            scale, bias = _batch_norm(self.norm)
            weight, own, groups = self.combine.weight, self.combine.bias, self.combine.groups
            out_channels, per_group = weight.shape
            kind = ZeroPointwise if isinstance(self.norm, ZeroStart) else Pointwise
            with torch.device("meta"):
                fused = kind(
                    groups * per_group, out_channels, groups, biased=[(out_channels, True)]
                )
            fused.weight = nn.Parameter((weight * scale[:, None]).detach())
            fused.bias = nn.Parameter((bias if own is None else bias + scale * own).detach())
            self.combine, self.norm = fused.train(self.training), nn.Identity()

    def folded(self, x: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        """Return W and the bias with the norm folded in, as in evaluation mode on these terms.

        Returns:
            W (terms * Cs, C) and bias (C,); with GroupNorm (B, terms * Cs, C) and (B, C).
        """
        weight, own = self.combine.matrix().mT, self.combine.bias
        if isinstance(self.norm, nn.GroupNorm):
            scale, bias = _group_norm(self.norm, self.combined(x, terms))
            return weight * scale[:, None], bias if own is None else bias + scale * own
        if isinstance(self.norm, _BatchNorm):
            scale, bias = _batch_norm(self.norm)
            return weight * scale, bias if own is None else bias + scale * own
        return weight, torch.zeros_like(weight[0]) if own is None else own


def _norm(config: BlockConfig, channels: int, ndim: int, zero_init: bool) -> nn.Module:
    if config.norm == "group":
        groups = config.norm_groups or config.groups
        if channels % groups:
            raise ValueError(f"norm_groups={groups} must divide in_channels={channels}.")
        return (ZeroGroupNorm if zero_init else nn.GroupNorm)(groups, channels)
    if config.norm == "layer":
        return (ZeroLayerNorm if zero_init else LayerNorm)(channels)
    if config.norm == "none":
        return nn.Identity()
    return (ZERO_BATCH_NORM if zero_init else BATCH_NORM)[ndim](channels)


def _batch_norm(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C,) of a norm in evaluation mode."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def _group_norm(norm: nn.GroupNorm, out: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift (B, C) of a norm for its input (B, C, *grid)."""
    per_group = out.unflatten(1, (norm.num_groups, -1)).flatten(2)
    variance, mean = torch.var_mean(per_group, -1, correction=0)
    width = out.shape[1] // norm.num_groups
    scale = norm.weight * (variance + norm.eps).rsqrt().repeat_interleave(width, 1)
    return scale, norm.bias - mean.repeat_interleave(width, 1) * scale
