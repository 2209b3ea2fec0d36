"""A package of a user's own, with a block, kernels and filters, some of which are wrong."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "own_parts"

BLOCKS = '''
"""Y = X + gain w mean(X), with w (C): what every channel takes of its mean."""

import torch
from torch import nn


class MeanBlock(nn.Module):
    def __init__(self, in_channels, *, ndim, gain=1.0, zero_init=True):
        super().__init__()
        self.ndim, self.gain = ndim, gain
        self.weight = nn.Parameter(torch.full((in_channels,), 0.0 if zero_init else 1.0))

    def forward(self, x):
        means = x.mean(tuple(range(2, x.ndim)), keepdim=True)
        return x + self.gain * self.weight.reshape(-1, *[1] * self.ndim) * means


class Convolution(nn.Module):
    def __init__(self, in_channels, *, ndim):
        super().__init__()
        self.conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[ndim](in_channels, in_channels, 1)

    def forward(self, x):
        return self.conv(x)


class InPlace(nn.Module):
    def __init__(self, in_channels, *, ndim):
        super().__init__()

    def forward(self, x):
        return x.mul_(2)


class MaskedBlock(MeanBlock):
    def forward(self, x, mask=None):
        there = torch.ones_like(x[:, 0], dtype=bool) if mask is None else mask
        there = there.reshape(*there.shape, *[1] * (x.ndim - 1 - there.ndim))[:, None]
        axes = tuple(range(2, x.ndim))
        kept = torch.where(there, x, 0)
        means = kept.sum(axes, keepdim=True) / there.expand_as(x).sum(axes, keepdim=True)
        scaled = self.gain * self.weight.reshape(-1, *[1] * self.ndim) * means
        return torch.where(there, x + scaled, x)
'''
PARTS = '''
"""A function of pairs, a kernel, a filter, and a block of the three."""

from dataclasses import dataclass
from functools import partial

import torch

from video_snl.blocks import BlockConfig, Dense, Filter, Polynomial, normalize
from video_snl.blocks.kernels import PairKernel, pair_kernel
from video_snl.blocks.zoo import dimensions


def square(theta, phi):
    """M_ij = <theta_i, phi_j>^2."""
    return (theta @ phi.mT).square()


def signed(theta, phi):
    return theta @ phi.mT


def of_theta(theta, phi):
    return theta @ theta.mT


def infinite(theta, phi):
    return (theta @ phi.mT) / 0


def near(theta, phi):
    """M_ij = exp(<theta_i, phi_j> / 2), by a tensor that is made here."""
    return ((theta * torch.full((theta.shape[-1],), 0.5)) @ phi.mT).exp()


def narrow(theta, phi):
    """As signed, and of another shape for many positions."""
    return theta[:, :7] @ phi.mT


def shifted(theta, phi):
    """Positive for few positions alone."""
    return (theta @ phi.mT).square() + 10 - theta.shape[1]


def capped(theta, phi):
    """Infinite for many positions."""
    return (theta @ phi.mT).square() / (theta.shape[1] < 9)


def counted(theta, phi):
    return (theta @ phi.mT > 0).float()


def failing(theta, phi):
    raise RuntimeError("no pairs today")


@dataclass(frozen=True)
class Square(PairKernel):
    """The same as a class; ``scaled`` divides by sqrt(Cs) first."""

    scaled: bool = False

    def affinity(self, embedded, spec):
        theta, phi = embedded.chunk(2, -1)
        phi = phi if spec.keys is None else spec.keys
        scale = theta.shape[-1] ** -0.5 if self.scaled else 1.0
        matrix = Dense((scale * theta @ phi.mT).square())
        return normalize(matrix.symmetrize() if spec.symmetric else matrix, spec.normalization)


class Leaving(Square):
    def __init__(self, scaled=False):
        raise SystemExit(3)


class LeavingFilter(Polynomial):
    def __init__(self, order):
        raise SystemExit(3)


class Chebyshev(Filter):
    """T_0(A) Z, ..., T_order(A) Z."""

    def __init__(self, order):
        self.count, self.products = order + 1, order

    def terms(self, affinity, z):
        terms = [z, affinity.matmul(z)]
        while len(terms) < self.count:
            terms.append(2 * affinity.matmul(terms[-1]) - terms[-2])
        return torch.cat(terms[: self.count], -1)

    def multiply_adds(self, affinity, channels):
        return self.products * affinity.multiply_adds(channels)

    def response(self, frequencies):
        angles = (1 - frequencies).clamp(-1, 1).arccos()
        return torch.stack([(k * angles).cos() for k in range(self.count)], -1)


class Narrow(Chebyshev):
    def terms(self, affinity, z):
        return super().terms(affinity, z)[..., 1:]


class Uncounted(Chebyshev):
    def __init__(self, order):
        self.count = self.products = "two"


def two_hop(*, kernel: str = "relu_dot") -> BlockConfig:
    """Y = X + norm(A A Z W), A = D^-1 M."""
    return BlockConfig(
        kernel=pair_kernel(kernel), normalization="rw", filter=partial(Polynomial.powers, 2)
    )


TwoHop1d, TwoHop2d, TwoHop3d = dimensions("TwoHop", two_hop)
'''
WRONG = """
import threading

import torch
from torch import nn

NUMBER = 3


class WithoutAxes(nn.Module):
    def __init__(self, in_channels):
        super().__init__()


class Base(nn.Module):
    def __init__(self, in_channels, *, ndim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


class Fails(Base):
    def __init__(self, in_channels, *, ndim):
        raise RuntimeError("no block today")


class Exits(Base):
    def __init__(self, in_channels, *, ndim):
        raise SystemExit(3)


class ExitsLater(Base):
    def forward(self, x):
        raise SystemExit(3)


class ExitsInCopies(Base):
    def __deepcopy__(self, memo):
        raise SystemExit(3)


class NotSetUp(nn.Module):
    def __init__(self, in_channels, *, ndim):
        self.ndim = ndim


class Widens(Base):
    def forward(self, x):
        return self.weight * x.double()


class Meta(Base):
    def forward(self, x):
        return (self.weight * x).to("meta")


class Unsettles(Base):
    def __init__(self, in_channels, *, ndim):
        super().__init__(in_channels, ndim=ndim)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)

    def forward(self, x):
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(True)
        return self.weight * x


class Halves(Base):
    def forward(self, x):
        return self.weight * x[..., ::2]


class Pair(Base):
    def forward(self, x):
        return self.weight * x, x


class Infinite(Base):
    def forward(self, x):
        return self.weight * x / 0


class Steep(Base):
    def forward(self, x):
        return self.weight * (x - x).abs().sqrt()


class Detached(Base):
    def forward(self, x):
        return self.weight * x.detach()


class Stumbles(Base):
    def forward(self, x):
        raise RuntimeError("no forward today")


class Locked(Base):
    def __init__(self, in_channels, *, ndim):
        super().__init__(in_channels, ndim=ndim)
        self.lock = threading.Lock()

    def forward(self, x):
        return self.weight * x
"""


def write_package(root: Path) -> Path:
    """Write the package below a folder, which is returned."""
    package = root / NAME
    package.mkdir()
    for name, text in {"blocks": BLOCKS, "parts": PARTS, "wrong": WRONG}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (package / "leaving.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    (package / "needy.py").write_text("import not_installed_anywhere\n", encoding="utf-8")
    return root


def forget_package() -> None:
    """Let the next import of the package run its code."""
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]
    importlib.invalidate_caches()


def is_imported() -> bool:
    return any(name.partition(".")[0] == NAME for name in sys.modules)


@contextmanager
def importable(root: Path) -> Iterator[None]:
    """Let the package below a folder be imported; forget it at the end."""
    forget_package()
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path[:] = [each for each in sys.path if each != str(root)]
        forget_package()
