"""How much what a block does at a position depends on its input at each position.

With F what a sub-block of a block adds to its input, and v = F_i / |F_i| the direction of what it
adds at position i, row i of the sensitivity is |v^T dF_i / dX_j| for every position j: the norm
over the channels of a vector-Jacobian product. X is the block's input; the identity of the residual
connection is not in F, and v does not take part in the derivative. Where F_i is zero, v is the
direction of the output Y_i, and where that is zero, too, the row is zero.

Unlike the affinity, it knows the values, the weights after the filter, and that the affinity
itself depends on its input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.block import GraphFilter, NonlocalBlock
from video_snl.blocks.filters import Polynomial

__all__ = ["SubBlockPass", "chunk_size", "sensitivity_rows", "sub_block_passes"]

_NUMBERS = 2**25  # held by the products of one chunk: 128 MB in float32


class SubBlockPass(NamedTuple):
    """Input and output of one sub-block, and the sum of all it added. (B, C, *grid) each.

    With recurrence, a sub-block runs several times: from its first input to its last output.
    """

    before: Tensor
    after: Tensor
    added: Tensor


def sub_block_passes(block: nn.Module, x: Tensor) -> list[SubBlockPass]:
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
    return [
        SubBlockPass(
            turns[0][0], turns[-1][1], sum((y - x for x, y in turns[1:]), _added(turns[0]))
        )
        for turns in passes.values()
    ]


def chunk_size(channels: int, positions: int) -> int:
    """Return the number of rows computed at once: memory is bounded whatever the sizes."""
    return max(1, _NUMBERS // (8 * channels * positions))


def sensitivity_rows(block: nn.Module, x: Tensor, index: Tensor, unit: int = 0) -> Iterator[Tensor]:
    """Yield the rows of a sub-block's sensitivity, in chunks of :func:`chunk_size`.

    Args:
        block: Block in evaluation mode: what it does to one clip must not depend on others.
        x: The block's input (1, C, *grid).
        index: Positions (Q,).

    Yields:
        Tensors (q, N), q in all Q.
    """
    x = x.detach()
    by_rows = unit == 0 and _is_sum_of_powers(block)
    for part in index.split(chunk_size(x.shape[1], math.prod(x.shape[2:]))):
        with torch.enable_grad():
            gradient = _by_rows(block, x, part) if by_rows else _by_batch(block, x, part, unit)
        yield gradient.flatten(2).norm(dim=1)


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
    result = sub_block_passes(block, copies)[unit]
    here = torch.arange(len(index), device=index.device)
    added, after = (y.flatten(2).mT[here, index] for y in (result.added, result.after))
    along = (added * _direction(added, after)).sum()
    [gradient] = torch.autograd.grad(along, copies)
    return gradient


def _direction(added: Tensor, after: Tensor) -> Tensor:
    """Return unit vectors (q, C) along what is added, or what comes out where nothing is."""
    nothing = added.norm(dim=-1, keepdim=True) == 0
    return F.normalize(torch.where(nothing, after, added).detach(), dim=-1, eps=1e-30)


def _added(turn: tuple[Tensor, Tensor]) -> Tensor:
    return turn[1] - turn[0]
