"""Graph filters: from an affinity A and transferred features Z to F(A, Z) = sum_k A^k Z W_k."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from video_snl.blocks.affinity import Affinity

__all__ = ["Polynomial"]


@dataclass(frozen=True)
class Polynomial:
    """sum_k A^k Z W_k over the given powers k (eq. 12 of arXiv:2108.02451).

    ``terms`` gives [A^k Z for k in powers]; the block multiplies them by the W_k, which it keeps
    as one 1x1 convolution over the concatenated terms.
    """

    powers: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.powers or list(self.powers) != sorted(set(self.powers)) or self.powers[0] < 0:
            raise ValueError(
                f"powers={self.powers} must be distinct exponents >= 0 in ascending order."
            )

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        """[A^k Z] side by side. Shapes: z (B, N, Cs) -> (B, N, len(powers) * Cs)."""
        kept = []
        for power in range(self.powers[-1] + 1):
            if power > 0:
                z = affinity.matmul(z)
            if power in self.powers:
                kept.append(z)
        return torch.cat(kept, dim=-1)

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        """Multiply-adds of the products with A, for one batch element."""
        return self.powers[-1] * affinity.multiply_adds(channels)
