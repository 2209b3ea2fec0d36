"""What a nonlocal block does behind its filter: weights, norm, residual."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["BATCH_NORM", "CONV", "Pointwise", "Unit"]

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Pointwise(nn.Module):
    """A 1x1 convolution on positions as rows, (B, N, in) -> (B, N, out); one matrix product.

    A linear layer: with few positions the backward pass of a convolution takes half as long again
    on a CPU. The weight has no axes of a grid, so that blocks of 1, 2 and 3 dimensions share it.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups))
        self.bias: nn.Parameter | None = None
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as a convolution starts

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1:
            return F.linear(x, self.weight, self.bias)
        return F.conv1d(x.mT, self.weight[..., None], self.bias, groups=self.groups).mT

    def matrix(self) -> Tensor:
        """Its matrix, of diagonal blocks where there are groups. Shape: (out, in)."""
        return torch.block_diag(*self.weight.chunk(self.groups))

    def extra_repr(self) -> str:
        out_channels, in_channels = self.weight.shape
        return f"{in_channels * self.groups}, {out_channels}, groups={self.groups}"


class Unit(nn.Module):
    """Y = X + norm([f_1(A) Z, f_2(A) Z, ...] W); the terms come from the block's filter.

    Args:
        in_channels: C.
        channels: Cs, channels of Z.
        ndim: axes of the grid.
        terms: number of terms.
        transfer: this unit projects X to Z itself (the block does it for the first one).
        groups: of the weights W and of a GroupNorm.
        norm: ``"batch"`` or ``"group"``.
        zero_init: the norm's weight starts at zero.
        activation: ``"relu"`` behind the norm, or None.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        ndim: int,
        terms: int,
        transfer: bool,
        groups: int,
        norm: Literal["batch", "group"],
        zero_init: bool,
        activation: Literal["relu"] | None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.transfer = Pointwise(in_channels, channels) if transfer else None
        self.combine = Pointwise(terms * channels, in_channels, groups)
        self.norm: nn.GroupNorm | _BatchNorm | nn.Identity = (
            nn.GroupNorm(groups, in_channels) if norm == "group" else BATCH_NORM[ndim](in_channels)
        )
        nn.init.constant_(self.norm.weight, 0.0 if zero_init else 1.0)

    def forward(self, x: Tensor, terms: Tensor) -> Tensor:
        """Shapes: x (B, C, *grid), terms (B, N, terms * Cs) -> (B, C, *grid)."""
        out = self.norm(self.combined(x, terms))
        return x + (F.relu(out) if self.activation == "relu" else out)

    def combined(self, x: Tensor, terms: Tensor) -> Tensor:
        """The terms times W, on the grid of x."""
        out = self.combine(terms.to(x.dtype))
        if out.stride(-1) != 1:
            return out.mT.unflatten(2, x.shape[2:])
        # Viewed anew: a batch of one may have any stride along the batch, and torch's BatchNorm
        # returns wrong gradients for one that does not fit the other strides.
        rows = out.reshape(-1, out.shape[-1])
        return rows.view(x.shape[0], *x.shape[2:], out.shape[-1]).movedim(-1, 1)

    def fuse(self) -> None:
        """Fold BatchNorm into W and a bias, for inference; a GroupNorm depends on its input."""
        if isinstance(self.norm, _BatchNorm):
            scale, bias = _batch_norm(self.norm)
            self.combine.weight = nn.Parameter((self.combine.weight * scale[:, None]).detach())
            self.combine.bias = nn.Parameter(bias.detach())
            self.norm = nn.Identity()

    def folded(self, x: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        """W and the bias with the norm in them, as it acts in evaluation mode on these terms.

        Returns:
            W (terms * Cs, C) and bias (C,); with GroupNorm (B, terms * Cs, C) and (B, C).
        """
        weight = self.combine.matrix().mT
        if isinstance(self.norm, nn.GroupNorm):
            scale, bias = _group_norm(self.norm, self.combined(x, terms))
            return weight * scale[:, None], bias
        if isinstance(self.norm, _BatchNorm):
            scale, bias = _batch_norm(self.norm)
            return weight * scale, bias
        assert self.combine.bias is not None
        return weight, self.combine.bias


def _batch_norm(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of a norm in evaluation mode."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def _group_norm(norm: nn.GroupNorm, out: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift (B, C) of a norm for this input (B, C, *grid)."""
    per_group = out.unflatten(1, (norm.num_groups, -1)).flatten(2)
    variance, mean = torch.var_mean(per_group, -1, correction=0)
    width = out.shape[1] // norm.num_groups
    scale = norm.weight * (variance + norm.eps).rsqrt().repeat_interleave(width, 1)
    return scale, norm.bias - mean.repeat_interleave(width, 1) * scale
