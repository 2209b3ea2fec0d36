"""Maps of a network to show: those of its blocks, and Grad-CAM (arXiv:1610.02391).

The maps of a block are its affinity, powers of it, and its sensitivity: how much what the block
does at a position depends on its input at each position. With F what a sub-block of a block adds to
its input, and v = F_i / |F_i| the direction of what it adds at position i, row i of the sensitivity
is |v^T dF_i / dX_j| for every position j: the norm over the channels of a vector-Jacobian product.
X is the block's input; the identity of the residual connection is not in F, and v does not take
part in the derivative. Where F_i is zero, v is the direction of the output Y_i, and where that is
zero, too, the row is zero. Unlike the affinity, the sensitivity knows the values, the weights after
the filter, and that the affinity itself depends on its input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.analysis.explain.rows import affinity_rows, has_affinity
from video_snl.analysis.explain.structure import (
    SENSITIVITY,
    BlockMaps,
    Grid,
    affinity_kind,
    cells,
    query_index,
    shown_grid,
    sums_by_time,
)
from video_snl.blocks.block import GraphFilter, NonlocalBlock
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.insertion import block_places
from video_snl.utils.progress import counted

__all__ = [
    "POWERS",
    "as_grid",
    "block_maps",
    "gradcam",
    "last_unit",
    "map_count",
    "pooled",
    "positions_limit",
    "sensitivity_rows",
]

POWERS = 3  # of the affinity, as far as they exist
_MOST_POSITIONS = 1024  # 32 x 32, the feature maps of small images

# Of large feature maps fewer are shown: the sensitivity takes a backward pass for each.
_FEWEST_POSITIONS = 64
_CPU_NUMBERS, _GPU_NUMBERS = 250_000_000, 5_000_000_000

# Entries of all maps of a page; as one byte each in base64 they are two thirds of its 10 MB.
_ENTRIES = 4_800_000

_CHUNK_NUMBERS = 2**25  # held by the products of one chunk of the sensitivity: 128 MB in float32


def positions_limit(maps: int) -> int:
    """Return the most positions of a map on a page with so many maps."""
    return min(_MOST_POSITIONS, math.isqrt(_ENTRIES // max(1, maps)))


def map_count(block: nn.Module) -> int:
    """Count the maps of a block, over all of its sub-blocks."""
    sub_blocks = len(block.sub_blocks) if isinstance(block, NonlocalBlock) else 1
    return sub_blocks * (1 + (_powers(block) if has_affinity(block) else 0))


def block_maps(
    position: str, name: str, block: nn.Module, x: Tensor, limit: int
) -> list[BlockMaps]:
    """Compute the maps of the sub-blocks of a block.

    Args:
        position: Position of the block, such as ``before:res4.5``.
        name: Name of the block.
        block: Block in evaluation mode.
        x: Input of the block (1, C, *grid).
        limit: Positions to show at most; of more, evenly spaced ones are taken for the rows, and
            means over boxes of positions for the columns.
    """
    full = as_grid(tuple(x.shape[2:]))
    numbers = _GPU_NUMBERS if x.is_cuda else _CPU_NUMBERS
    affordable = max(_FEWEST_POSITIONS, numbers // max(1, x.numel()))
    grid = shown_grid(full, min(limit, affordable))
    index = torch.from_numpy(query_index(full, grid)).to(x.device)
    shared: dict[str, np.ndarray] = {}
    whole: dict[str, np.ndarray] = {}
    if isinstance(block, NonlocalBlock) and has_affinity(block):
        rows = affinity_rows(block, x, index, _powers(block))
        for power, row in enumerate(rows, start=1):
            kind = affinity_kind(power)
            shared[kind], whole[kind] = _shown(_array(row), full, grid)
    with torch.no_grad():
        passes = _sub_block_passes(block, x)
    found = []
    for unit, result in enumerate(passes):
        what = f"{name} {position}, unit {unit}" if len(passes) > 1 else f"{name} {position}"
        before, after = (
            pooled(_array(y.flatten(2).norm(dim=1)), full, grid).reshape(grid)
            for y in (result.before, result.after)
        )
        own, sums = _sensitivity(block, x, index, unit, (full, grid), what)
        maps, every = {**shared, SENSITIVITY: own}, {**whole, SENSITIVITY: sums}
        kept = {} if full == grid else every
        found.append(BlockMaps(position, unit, name, grid, full, maps, before, after, kept))
    return found


def sensitivity_rows(block: nn.Module, x: Tensor, index: Tensor, unit: int = 0) -> Iterator[Tensor]:
    """Yield the rows of a sub-block's sensitivity, in chunks that bound the memory.

    Args:
        block: Block in evaluation mode: what it does to one clip must not depend on others.
        x: The block's input (1, C, *grid).
        index: Positions (Q,).

    Yields:
        Tensors (q, N), q in all Q.
    """
    x = x.detach()
    by_rows = unit == 0 and _is_sum_of_powers(block)
    for part in index.split(_chunk_size(x.shape[1], math.prod(x.shape[2:]))):
        with torch.enable_grad():
            gradient = _by_rows(block, x, part) if by_rows else _by_batch(block, x, part, unit)
        yield gradient.flatten(2).norm(dim=1)


def as_grid(sizes: tuple[int, ...]) -> Grid:
    """Return the sizes of a feature map of 1, 2 or 3 axes as time, height and width."""
    if len(sizes) == 3:
        return sizes[0], sizes[1], sizes[2]
    return (1, sizes[0], sizes[1]) if len(sizes) == 2 else (sizes[0], 1, 1)


def pooled(values: np.ndarray, full: Grid, grid: Grid) -> np.ndarray:
    """Take means over the boxes of positions that the shown ones stand for. (Q, N) -> (Q, n)."""
    if full == grid:
        return np.ascontiguousarray(values, dtype=np.float32)
    boxes = values.astype(np.float64).reshape(-1, *full)
    for axis, (size, shown) in enumerate(zip(full, grid, strict=True), start=1):
        starts = [start for start, _ in cells(size, shown)]
        widths = [stop - start for start, stop in cells(size, shown)]
        shape = [-1 if place == axis else 1 for place in range(4)]
        boxes = np.add.reduceat(boxes, starts, axis) / np.reshape(widths, shape)
    return boxes.reshape(len(values), -1).astype(np.float32)


def last_unit(model: nn.Module) -> nn.Module | None:
    """Return the last residual unit of a network with its block; None without stages."""
    places = list(block_places(model).values())
    if not places:
        return None
    return model.get_submodule(places[-1])


def gradcam(model: nn.Module, layer: nn.Module, clip: Tensor, label: int) -> np.ndarray:
    """Compute the map of a class, ReLU(sum_c mean(dy/dF_c) F_c), over its largest value.

    Args:
        model: (1, 3, T, H, W) -> (1, classes), or for images (1, 3, H, W).
        layer: Layer with the output F (1, C, t, h, w) or (1, C, h, w).
        label: Number of the class.

    Returns:
        float32 (T, h, w) in [0, 1], interpolated along time; zero where nothing speaks for the
        class. An image has T = 1.
    """
    with torch.enable_grad():
        found = LayerGradCam(model, layer).attribute(clip, target=label, relu_attributions=True)
    assert isinstance(found, Tensor)
    cam = found.detach().float()
    if cam.ndim == 4:
        cam = cam[:, :, None]
    frames = clip.shape[2] if clip.ndim == 5 else 1
    cam = F.interpolate(cam, size=(frames, *cam.shape[3:]), mode="trilinear", align_corners=False)
    largest = cam.max()
    return (cam / largest.where(largest > 0, torch.ones_like(largest)))[0, 0].cpu().numpy()


def _sensitivity(
    block: nn.Module, x: Tensor, index: Tensor, unit: int, grids: tuple[Grid, Grid], what: str
) -> tuple[np.ndarray, np.ndarray]:
    chunks = math.ceil(len(index) / _chunk_size(x.shape[1], math.prod(x.shape[2:])))
    rows = counted(sensitivity_rows(block, x, index, unit), chunks, f"sensitivity of {what}")
    maps, sums = zip(*(_shown(_array(row), *grids) for row in rows), strict=True)
    return np.concatenate(maps), np.concatenate(sums)


def _chunk_size(channels: int, positions: int) -> int:
    """Return the number of rows computed at once: memory is bounded whatever the sizes."""
    return max(1, _CHUNK_NUMBERS // (8 * channels * positions))


class _SubBlockPass(NamedTuple):
    """Input and output of one sub-block, and the sum of all it added. (B, C, *grid) each.

    With recurrence, a sub-block runs several times: from its first input to its last output.
    """

    before: Tensor
    after: Tensor
    added: Tensor


def _sub_block_passes(block: nn.Module, x: Tensor) -> list[_SubBlockPass]:
    """Run a block and record what its sub-blocks do; a block without any counts as one."""
    sub_blocks = block.sub_blocks if isinstance(block, NonlocalBlock) else [block]
    passes: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {
        sub_block: [] for sub_block in sub_blocks
    }

    def note(sub_block: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        passes[sub_block].append((given[0], made))

    handles = [sub_block.register_forward_hook(note) for sub_block in sub_blocks]
    try:
        block(x)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for turns in passes.values():
        added = turns[0][1] - turns[0][0]
        for before, after in turns[1:]:
            added = added + (after - before)
        found.append(_SubBlockPass(turns[0][0], turns[-1][1], added))
    return found


def _is_sum_of_powers(block: nn.Module) -> bool:
    """Tell whether F_i = sum_k (A^k Z)_i W_k + bias with weights independent of the input."""
    if not isinstance(block, NonlocalBlock) or not isinstance(block.filter, Polynomial):
        return False
    first, config = block.sub_blocks[0], block.config
    plain = config.pool == config.recurrence == 1 and first.activation is None
    return plain and not isinstance(first.norm, nn.GroupNorm) and not block.training


def _by_rows(block: nn.Module, x: Tensor, index: Tensor) -> Tensor:
    """Compute gradients from the rows of A of these positions alone. Shape: (q, C, *grid).

    That takes N Cs for each, where whole products take N^2.
    """
    assert isinstance(block, NonlocalBlock)
    x = x.clone().requires_grad_()
    added = _rows_of(block.as_graph_filter(x), index)
    unchanged = x.flatten(2).mT[0, index]
    along = (added * _direction(added, unchanged + added)).sum(-1)
    if not along.requires_grad:  # which a filter without any term of X would not
        return torch.zeros_like(x).expand(len(index), *x.shape[1:])
    each = torch.eye(len(index), dtype=along.dtype, device=along.device)
    [gradient] = torch.autograd.grad(along, x, each, is_grads_batched=True)
    return gradient.squeeze(1)


def _rows_of(graph: GraphFilter, index: Tensor) -> Tensor:
    """Compute what a graph filter adds at some positions. Shape: (q, C)."""
    z, rows = graph.signal, graph.affinity.rows(index) if len(graph.weights) > 1 else None
    added = z[:, index] @ graph.weights[0]
    for weight in graph.weights[1:]:
        assert rows is not None
        added = added + (rows @ z) @ weight
        if weight is not graph.weights[-1]:
            z = graph.affinity.matmul(z)
    return (added + graph.bias)[0]


def _by_batch(block: nn.Module, x: Tensor, index: Tensor, unit: int) -> Tensor:
    """Compute gradients from one copy of the input for each position. Shape: (q, C, *grid)."""
    copies = x.expand(len(index), *x.shape[1:]).clone().requires_grad_()
    result = _sub_block_passes(block, copies)[unit]
    here = torch.arange(len(index), device=index.device)
    added, after = (y.flatten(2).mT[here, index] for y in (result.added, result.after))
    along = (added * _direction(added, after)).sum()
    [gradient] = torch.autograd.grad(along, copies)
    return gradient


def _direction(added: Tensor, after: Tensor) -> Tensor:
    """Return unit vectors (q, C) along what is added, or what comes out where nothing is."""
    nothing = added.norm(dim=-1, keepdim=True) == 0
    return F.normalize(torch.where(nothing, after, added).detach(), dim=-1, eps=1e-30)


def _shown(rows: np.ndarray, full: Grid, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as they are shown, and the sums by time of the whole rows."""
    return pooled(rows, full, grid), sums_by_time(rows, full, grid)


def _powers(block: nn.Module) -> int:
    """Return the number of powers: an affinity with sub-sampled keys is not square and has one."""
    return POWERS if isinstance(block, NonlocalBlock) and block.config.pool == 1 else 1


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
