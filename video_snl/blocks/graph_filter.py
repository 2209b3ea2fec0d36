"""A block's equation for one feature map, to look at and to run."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from video_snl.blocks.kernels import from_vertices
from video_snl.blocks.lowrank import LowRank
from video_snl.blocks.operators import Affinity

__all__ = ["GraphFilter", "block_diagonal"]


class GraphFilter(NamedTuple):
    """F(A, Z) = sum_k A^k Z W_k + bias (eq. 12 of arXiv:2108.02451), A and Z given.

    Shapes: signal Z (B, N, Cs); weights W_k (Cs, C), or (B, Cs, C) where the norm depends on its
    input; bias (C,) or (B, C). With ``groups`` (CGNL) the vertices of the graph are the channels
    of all positions: A is N Cs x N Cs, Z is (B, N Cs, 1), and A^k Z meets W_k as (B, N, Cs).
    """

    affinity: Affinity
    signal: Tensor
    weights: list[Tensor]
    bias: Tensor
    groups: int | None = None

    def output(self) -> Tensor:
        """What the block adds to X. Shape: (B, N, C)."""
        z, result = self.signal, None
        for power, weight in enumerate(self.weights):
            z = self.affinity.matmul(z) if power > 0 else z
            term = self._features(z, weight.shape[-2]) @ weight
            result = term if result is None else result + term
        assert result is not None
        return result + (self.bias if self.bias.ndim == 1 else self.bias[:, None])

    def _features(self, z: Tensor, channels: int) -> Tensor:
        if self.groups is None:
            return z
        return from_vertices(z.unflatten(1, (self.groups, -1)).flatten(0, 1), self.groups, channels)


def block_diagonal(affinity: LowRank, groups: int) -> LowRank:
    """Graphs that do not touch as one. Batch (B groups) of V vertices -> batch B of groups V."""

    def together(factor: Tensor) -> Tensor:
        parts = factor.unflatten(0, (-1, groups))
        batch, _, vertices, rank = parts.shape
        apart = parts.new_zeros(batch, groups, vertices, groups, rank)
        index = torch.arange(groups, device=parts.device)
        apart[:, index, :, index] = parts.movedim(1, 0)
        return apart.flatten(3).flatten(1, 2)

    return LowRank(together(affinity.left), together(affinity.right))
