"""Nonlocal blocks written plainly from their equations: the peers of ours.

Each takes a (B, C, N) feature map; separate 1x1 convolutions, the affinity as an N x N matrix,
BatchNorm. CGNL and factored A2 never form the matrix: they follow the order of operations that
their authors (and for A2, whose own code is not for PyTorch, its common ports) have published.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class AuthorsCGNL(nn.Module):
    """CGNL as in github.com/KaiyuYue/cgnl-network.pytorch: powers, two products for each group."""

    def __init__(self, channels: int, width: int, groups: int = 1, order: int = 2) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv1d(channels, width, 1, bias=False) for _ in range(3))
        self.z = nn.Conv1d(width, channels, 1, groups=groups, bias=False)
        self.norm = nn.GroupNorm(groups, channels)
        self.groups, self.order = groups, order

    def kernel(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        shape, gamma = theta.shape, torch.full((1,), 1e-4)
        theta, phi = theta.reshape(len(theta), 1, -1), phi.reshape(len(phi), 1, -1)
        thetas, phis = [], []
        for k in range(self.order + 1):
            alpha = torch.sqrt((2 * gamma) ** k / math.factorial(k) * torch.exp(-2 * gamma))
            thetas.append(theta.pow(k).mul(alpha))
            phis.append(phi.pow(k).mul(alpha))
        moments = torch.bmm(torch.cat(phis, 1), g.reshape(len(g), -1, 1))
        return torch.bmm(moments.mT, torch.cat(thetas, 1)).view(shape)

    def forward(self, x: Tensor) -> Tensor:
        parts = [layer(x).chunk(self.groups, 1) for layer in (self.theta, self.phi, self.g)]
        return (
            self.norm(self.z(torch.cat([self.kernel(*p) for p in zip(*parts, strict=True)], 1))) + x
        )


class AuthorsA2(nn.Module):
    """Double attention, gathered and distributed as in its paper (arXiv:1810.11579)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.a, self.b, self.v = (nn.Conv1d(channels, width, 1, bias=False) for _ in range(3))
        self.z = nn.Conv1d(width, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        gathering, distribution = F.softmax(self.b(x), 2), F.softmax(self.v(x), 1)
        descriptors = torch.bmm(self.a(x), gathering.mT)
        return x + self.norm(self.z(torch.bmm(descriptors, distribution)))


# The name of the block, its options, and its peer.
PEERS: dict[str, tuple[str, BlockOptions, Callable[[int, int], nn.Module]]] = {
    "snl": ("snl", {}, PlainSNL),
    "gsnl": ("gsnl", {"order": 3}, lambda channels, width: PlainSNL(channels, width, 4)),
    "nl": ("nl", {}, PlainNL),
    "nl dot": ("nl", {"kernel": "dot"}, PlainDotNL),
    "ns": ("ns", {}, PlainNS),
    "a2": ("a2", {}, PlainA2),
    "a2 factored": ("a2", {}, AuthorsA2),
    "cgnl": ("cgnl", {}, AuthorsCGNL),
    "cgnl 8 groups": ("cgnl", {"groups": 8}, lambda c, width: AuthorsCGNL(c, width, 8)),
}
