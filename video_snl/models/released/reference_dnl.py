"""The disentangled nonlocal block as released: nothing whitened, a unary term in every unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from video_snl.blocks.block import BlockConfig, Pointwise, SubBlock
from video_snl.blocks.kernels import AffinitySpec, Kernel
from video_snl.blocks.operators import Affinity, LowRank, Sum

__all__ = ["DisentangledStage", "PlainDisentangled"]


@dataclass(frozen=True)
class PlainDisentangled(Kernel):
    """A kernel of pairs plus a unary softmax, with A_ij = pair_ij + softmax_j(m_j).

    Nothing is whitened; ``symmetric`` and ``normalization`` are those of the pairs alone.
    """

    pair: Kernel

    def widths(self, inter_channels: int) -> tuple[int, ...]:
        return inter_channels, inter_channels, 1

    def affinity(self, embedded: Tensor, spec: AffinitySpec) -> Affinity:
        pair = self.pair.affinity(embedded[..., :-1], spec)
        return Sum([pair, _unary(embedded[..., -1:])])


def _unary(scores: Tensor) -> LowRank:
    """A_ij = softmax_j(m_j). Shape: scores (B, N, 1)."""
    salience = scores.softmax(1)
    return LowRank(torch.ones_like(salience), salience)


class DisentangledStage(nn.Module):
    """Units X + relu(norm((A + 1 softmax(X w_m)^T) Z W)) that share the A of the first one's input.

    The unary softmax is each unit's own, of its own input, so that no affinity is common to all.

    Shapes:
        x: (B, C, *grid) with ``ndim`` axes; the output has x's shape.
    """

    def __init__(
        self,
        in_channels: int,
        inter_channels: int,
        *,
        ndim: int,
        config: BlockConfig,
        num_units: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.project = Pointwise(in_channels, 2 * inter_channels)
        # Z and the scores of the unary softmax, side by side.
        self.signals = nn.ModuleList(
            Pointwise(in_channels, inter_channels + 1) for _ in range(num_units)
        )
        self.units = nn.ModuleList(
            SubBlock(
                in_channels,
                inter_channels,
                ndim=ndim,
                terms=1,
                transfer=False,
                groups=1,
                norm="batch",
                zero_init=False,
                activation="relu",
            )
            for _ in range(num_units)
        )

    def forward(self, x: Tensor) -> Tensor:
        spec = AffinitySpec(tuple(x.shape[2:]), self.config.symmetric, self.config.normalization)
        pair = self.config.kernel.affinity(self.project(x.flatten(2).mT), spec)
        for unit, signal in zip(self.units, self.signals, strict=True):
            projected = signal(x.flatten(2).mT)
            affinity = Sum([pair, _unary(projected[..., -1:])])
            x = unit(x, affinity.matmul(projected[..., :-1]))
        return x
