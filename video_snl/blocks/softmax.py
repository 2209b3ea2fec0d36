"""The affinity of an exponential kernel over its degree: a softmax over the keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.operators import Affinity, Dense, is_exporting, prefers_small_matrix, wide

__all__ = ["Softmax"]


class Softmax(Affinity):
    """A_ij = exp(scale <q_i, k_j>) / sum_j exp(scale <q_i, k_j>), applied without being stored.

    Shapes: query (B, N, E), key (B, M, E), mostly M = N. ``matmul`` is
    scaled_dot_product_attention, whose fused kernels keep one tile of A at a time: N M (E + C)
    multiply-adds, memory linear in N. Their backward pass computes A again; on a CPU, where A is
    small (N <= max(4 C, 256)), the matrix is formed once and kept, which is faster.
    """

    def __init__(self, query: Tensor, key: Tensor, scale: float = 1.0) -> None:
        if query.ndim != 3 or key.ndim != 3 or query.shape[::2] != key.shape[::2]:
            raise ValueError(
                f"Softmax needs a query (B, N, E) and a key (B, M, E), got {tuple(query.shape)} "
                f"and {tuple(key.shape)}."
            )
        self.query, self.key, self.scale_factor = query, key, scale

    def matmul(self, z: Tensor) -> Tensor:
        channels = z.shape[-1]
        if z.device.type == "cpu" and prefers_small_matrix(*self._sizes(), channels):
            return self.to_dense() @ z
        # The fused kernels want queries as wide as values, and channels side by side in memory.
        width = max(channels, self.query.shape[-1])
        query, key, value = (_as_wide(x, width) for x in (self.query, self.key, z))
        parts = _parts(query)
        result = F.scaled_dot_product_attention(
            query.unflatten(1, (parts, -1)),
            key[:, None].expand(-1, parts, -1, -1),
            value[:, None].expand(-1, parts, -1, -1),
            scale=self.scale_factor,
        )
        return result.flatten(1, 2)[..., :channels]

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

    def _sizes(self) -> tuple[int, int]:
        return self.query.shape[1], self.key.shape[1]

    def _softmax(self, query: Tensor) -> Tensor:
        query = query if self.scale_factor == 1 else self.scale_factor * query
        return (query @ self.key.mT).softmax(-1)


def _as_wide(x: Tensor, width: int) -> Tensor:
    if x.shape[-1] < width:
        return F.pad(x, (0, width - x.shape[-1]))
    return x if x.stride(-1) == 1 else x.contiguous()


def _parts(query: Tensor) -> int:
    """Into how many heads to divide the queries of (B, N, E), all with the same keys.

    torch's backward pass on a CPU gives one thread to each head of each batch element.
    """
    batch, positions = query.shape[:2]
    if query.device.type != "cpu" or not query.requires_grad or is_exporting():
        return 1
    if torch.compiler.is_compiling():  # which cannot ask for the number of threads
        return 1
    wanted = torch.get_num_threads() // max(batch, 1)
    return wanted if wanted > 1 and positions % wanted == 0 else 1
