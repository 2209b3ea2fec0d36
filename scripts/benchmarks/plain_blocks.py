"""Nonlocal blocks written plainly from their equations, with the N x N matrix: the peers.

Each takes a (B, C, N) feature map; separate 1x1 convolutions, the affinity as a matrix, BatchNorm.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from video_snl.blocks.options import BlockOptions


class PlainBlock(nn.Module, abc.ABC):
    """Y = X + norm(sum_t W_t terms_t(A, Z))."""

    def __init__(self, channels: int, width: int, terms: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv1d(channels, width, 1, bias=False) for _ in range(3))
        self.weights = nn.ModuleList(
            nn.Conv1d(width, channels, 1, bias=False) for _ in range(terms)
        )
        self.norm = nn.BatchNorm1d(channels)

    @abc.abstractmethod
    def matrix(self, theta: Tensor, phi: Tensor) -> Tensor:
        """Compute A (B, N, N) from theta (B, N, Cs) and phi (B, Cs, N)."""

    def terms(self, a: Tensor, z: Tensor) -> list[Tensor]:
        return [a @ z]

    def forward(self, x: Tensor) -> Tensor:
        a = self.matrix(self.theta(x).transpose(1, 2), self.phi(x))
        terms = self.terms(a, self.g(x).transpose(1, 2))
        parts = [w(t.transpose(1, 2)) for w, t in zip(self.weights, terms, strict=True)]
        return x + self.norm(sum(parts[1:], parts[0]))


class PlainSNL(PlainBlock):
    def __init__(self, channels: int, width: int, terms: int = 2) -> None:
        super().__init__(channels, width, terms)

    def matrix(self, theta: Tensor, phi: Tensor) -> Tensor:
        m = torch.relu(theta) @ torch.relu(phi)
        m = (m + m.transpose(1, 2)) / 2
        d = m.sum(2)
        d = torch.where(d > 0, d, 1).rsqrt()
        return d[:, :, None] * m * d[:, None, :]

    def terms(self, a: Tensor, z: Tensor) -> list[Tensor]:
        powers = [z]
        for _ in range(len(self.weights) - 1):
            powers.append(a @ powers[-1])
        return powers


class PlainNL(PlainBlock):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 1)

    def matrix(self, theta: Tensor, phi: Tensor) -> Tensor:
        return torch.softmax(theta @ phi, -1)


class PlainDotNL(PlainNL):
    def matrix(self, theta: Tensor, phi: Tensor) -> Tensor:
        return (theta @ phi) / phi.shape[-1]


class PlainNS(PlainNL):
    def terms(self, a: Tensor, z: Tensor) -> list[Tensor]:
        return [z - a @ z]


class PlainA2(PlainNL):
    def matrix(self, theta: Tensor, phi: Tensor) -> Tensor:
        return torch.softmax(theta, -1) @ torch.softmax(phi, -1)


# The name of the block, its options, and its peer.
PEERS: dict[str, tuple[str, BlockOptions, Callable[[int, int], nn.Module]]] = {
    "snl": ("snl", {}, PlainSNL),
    "gsnl": ("gsnl", {"order": 3}, lambda channels, width: PlainSNL(channels, width, 4)),
    "nl": ("nl", {}, PlainNL),
    "nl dot": ("nl", {"kernel": "dot"}, PlainDotNL),
    "ns": ("ns", {}, PlainNS),
    "a2": ("a2", {}, PlainA2),
}
