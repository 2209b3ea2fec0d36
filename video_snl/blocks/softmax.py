"""The affinity of an exponential kernel over its degree: a softmax over the keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.affinity import Affinity, Dense, wide

__all__ = ["Softmax"]


class Softmax(Affinity):
    """A_ij = exp(scale <q_i, k_j>) / sum_j exp(scale <q_i, k_j>), applied without being stored.

    Shapes: query (B, N, E), key (B, M, E), mostly M = N. ``matmul`` is
    scaled_dot_product_attention, whose fused kernels keep one tile of A at a time: N M (E + C)
    multiply-adds, memory linear in N.
    """

    def __init__(self, query: Tensor, key: Tensor, scale: float = 1.0) -> None:
        if query.ndim != 3 or key.ndim != 3 or query.shape[::2] != key.shape[::2]:
            raise ValueError(
                f"Softmax needs a query (B, N, E) and a key (B, M, E), got {tuple(query.shape)} "
                f"and {tuple(key.shape)}."
            )
        self.query, self.key, self.scale_factor = query, key, scale

    def matmul(self, z: Tensor) -> Tensor:
        # The fused kernels want channels side by side in memory and queries as wide as values.
        channels, embedded = z.shape[-1], self.query.shape[-1]
        query, key, value = (x.contiguous() for x in (self.query, self.key, z))
        if embedded < channels:
            query, key = (F.pad(x, (0, channels - embedded)) for x in (query, key))
        elif channels < embedded:
            value = F.pad(value, (0, embedded - channels))
        result = F.scaled_dot_product_attention(
            query[:, None], key[:, None], value[:, None], scale=self.scale_factor
        )
        return result[:, 0, :, :channels]

    def degree(self) -> Tensor:
        return torch.ones(self.query.shape[:2], dtype=wide(self.query), device=self.query.device)

    def transpose(self) -> Dense:
        """Needs the matrix: the columns of a softmax have no common factor."""
        return Dense(self.to_dense().mT)

    def to_dense(self) -> Tensor:
        return self._softmax(self.query)

    def rows(self, index: Tensor) -> Tensor:
        return self._softmax(self.query[:, index])

    def multiply_adds(self, channels: int) -> int:
        (_, positions, embedded), keys = self.query.shape, self.key.shape[1]
        return positions * keys * (embedded + channels)

    def _softmax(self, query: Tensor) -> Tensor:
        return (self.scale_factor * query @ self.key.mT).softmax(-1)
