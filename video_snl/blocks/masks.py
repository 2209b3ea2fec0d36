"""Positions that do not exist: padding of clips, of sequences and of images of several sizes.

A mask is True where a position exists. Blocks set the features of the others to zero before they
look at them, leave them out of every sum, softmax, maximum and statistic, and return what was there
as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from video_snl.blocks.operators import can_be_read

__all__ = [
    "check_mask",
    "kept_or",
    "mask_of",
    "masked_max_pool",
    "masked_mean",
    "masked_norm",
    "takes_mask",
    "zeroed",
]

_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def takes_mask(block: nn.Module | type[nn.Module]) -> bool:
    """Tell whether a block, or the blocks of a class, take ``mask=`` in their forward pass."""
    return "mask" in inspect.signature(block.forward).parameters


def check_mask(mask: Tensor, name: str = "mask") -> None:
    """Refuse what is not a boolean tensor: 0 and 1, or 0 and -inf, have no meaning of their own.

    Raises:
        ValueError: the mask is none.
    """
    if not isinstance(mask, Tensor):
        raise ValueError(
            f"{name} is a {type(mask).__module__}.{type(mask).__name__}; a boolean tensor was "
            "expected, which torch.as_tensor makes of lists and arrays."
        )
    if mask.dtype != torch.bool:
        raise ValueError(
            f"{name} is {mask.dtype} of the shape {tuple(mask.shape)}; a boolean mask was "
            "expected, True where a position exists: mask != 0 makes one of numbers."
        )


def mask_of(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """Return the mask of the positions of a feature map.

    Args:
        mask: boolean, True where a position exists: (B, *grid), or (B, T) for (B, C, T, H, W).
        x: feature map (B, C, *grid).

    Returns:
        A mask (B, *grid); None for none.

    Raises:
        ValueError: another shape or type; in eager mode also an element of the batch of which no
            position exists.
    """
    if mask is None:
        return None
    check_mask(mask)
    grid = tuple(x.shape[2:])
    of_frames = len(grid) == 3 and tuple(mask.shape) == (x.shape[0], grid[0])
    if not (of_frames or tuple(mask.shape) == (x.shape[0], *grid)):
        frames = f" or {(x.shape[0], grid[0])}" if len(grid) == 3 else ""
        raise ValueError(
            f"mask has the shape {tuple(mask.shape)}; a boolean mask {(x.shape[0], *grid)}{frames} "
            "was expected, True where a position exists."
        )
    if of_frames:
        mask = mask[:, :, None, None].expand(-1, *grid)
    if can_be_read(mask):
        empty = (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"mask is False at all positions of element {empty[0]} of the batch.")
    return mask


def zeroed(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set features of positions that do not exist to zero. Shapes: (B, C, *grid), (B, *grid)."""
    return x if mask is None else torch.where(mask[:, None], x, 0)


def kept_or(changed: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the changed features, and those of ``x`` where no position exists."""
    return changed if mask is None else torch.where(mask[:, None], changed, x)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the positions that exist. Shapes: (B, C, *grid) -> (B, C, 1, ...)."""
    axes = list(range(2, x.ndim))
    if mask is None:
        return x.mean(axes, keepdim=True)
    count = mask.sum(list(range(1, mask.ndim)), keepdim=True)[:, None]
    return zeroed(x, mask).sum(axes, keepdim=True) / count


def masked_max_pool(
    x: Tensor, mask: Tensor | None, grid: Sequence[int], window: list[int], ceil_mode: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Take the maximum over those members of each window that exist.

    Shapes: x (B, N, C), mask (B, N) -> (B, M, C), (B, M). A window without members is zero.
    """

    def pooled(rows: Tensor) -> Tensor:
        maps = rows.mT.unflatten(2, tuple(grid))
        return _POOL[len(grid)](maps, window, ceil_mode=ceil_mode).flatten(2).mT

    if mask is None:
        return pooled(x), None
    there = pooled(mask[..., None].to(x.dtype)).squeeze(2) > 0
    largest = pooled(x.masked_fill(~mask[..., None], -torch.inf))
    return torch.where(there[..., None], largest, 0), there


def masked_norm(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a norm whose statistics are those of the positions that exist.

    In training a BatchNorm takes them over all such positions of the batch, in evaluation a
    GroupNorm over those of each element. Shapes: x (B, C, *grid), mask (B, *grid).
    """
    if mask is None:
        return norm(x)
    if isinstance(norm, nn.GroupNorm):
        return _group_norm(norm, x, mask)
    if not isinstance(norm, _BatchNorm) or not (norm.training or norm.running_mean is None):
        return norm(x)
    if isinstance(norm, SyncBatchNorm):  # rows, of which every process may have another number
        rows = norm(x.movedim(1, -1)[mask])
        spread = torch.zeros_like(x).movedim(1, -1).masked_scatter(mask[..., None], rows)
        return spread.movedim(-1, 1)
    return _batch_norm(norm, x, mask)


def _batch_norm(norm: _BatchNorm, x: Tensor, mask: Tensor) -> Tensor:
    axes = [0, *range(2, x.ndim)]
    weight = mask[:, None].to(torch.promote_types(x.dtype, torch.float32))
    count = weight.sum()
    mean = (x * weight).sum(axes, keepdim=True) / count
    variance = ((x - mean) ** 2 * weight).sum(axes, keepdim=True) / count
    if norm.training and norm.running_mean is not None:
        assert norm.running_var is not None and norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share: Tensor | float
        share = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
        with torch.no_grad():
            unbiased = variance.flatten() * count / (count - 1).clamp(min=1)
            for running, new in ((norm.running_mean, mean.flatten()), (norm.running_var, unbiased)):
                running.copy_(running + share * (new.to(running.dtype) - running))
    return _affine(norm, (x - mean) * (variance + norm.eps).rsqrt(), x)


def _group_norm(norm: nn.GroupNorm, x: Tensor, mask: Tensor) -> Tensor:
    groups = x.unflatten(1, (norm.num_groups, -1))
    axes = list(range(2, groups.ndim))
    weight = mask[:, None, None].to(torch.promote_types(x.dtype, torch.float32))
    count = weight.sum(axes, keepdim=True) * groups.shape[2]
    mean = (groups * weight).sum(axes, keepdim=True) / count
    variance = ((groups - mean) ** 2 * weight).sum(axes, keepdim=True) / count
    return _affine(norm, ((groups - mean) * (variance + norm.eps).rsqrt()).flatten(1, 2), x)


def _affine(norm: _BatchNorm | nn.GroupNorm, normalised: Tensor, x: Tensor) -> Tensor:
    if norm.weight is not None:
        shape = (-1, *[1] * (x.ndim - 2))
        normalised = normalised * norm.weight.view(shape) + norm.bias.view(shape)
    return normalised.to(x.dtype)
