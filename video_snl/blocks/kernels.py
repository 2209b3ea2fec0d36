"""Kernels: from embeddings of the positions to an affinity."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from video_snl.blocks.affinity import Affinity, LowRank

__all__ = ["KERNELS", "Kernel", "relu_dot"]

Kernel = Callable[[Tensor, Tensor], Affinity]


def relu_dot(theta: Tensor, phi: Tensor) -> LowRank:
    """M_ij = <relu(theta_i), relu(phi_j)>. Shapes: theta, phi (B, N, R).

    Both embeddings are rectified, so that every degree is non-negative and D^-1/2 exists
    (arXiv:2108.02451, section 3.3).
    """
    return LowRank(F.relu(theta), F.relu(phi))


KERNELS: dict[str, Kernel] = {"relu_dot": relu_dot}
