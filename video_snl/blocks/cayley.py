"""The Cayley filter: rational functions of the graph Laplacian, solved exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.filters import Filter
from video_snl.blocks.lowrank import SymmetricLowRank
from video_snl.blocks.operators import Affinity, prefers_dense, wide

__all__ = ["Cayley"]


class Cayley(nn.Module, Filter):
    """F = Z W_0 + 2 Re sum_j C^j Z W_j, C = (h L - i)(h L + i)^-1, L = I - A (arXiv:1705.07664).

    The zoom h > 0 is learned. The terms are [Z, Re C Z, Im C Z, Re C^2 Z, ...]; the factors 2 and
    -2 of the complex W_j are part of the real weights the block multiplies them by. A must be
    symmetric: then |C| = 1 on its spectrum and nothing is ever near-singular.

    With A = factors P factors^T / 2 and a = h + i, the inverse is a solve of size 2 R (Woodbury):

        (h L + i)^-1 = (a I - h A)^-1 = [I + factors (2 a / h P - factors^T factors)^-1 factors^T]/a

    Where N < 2 R the N x N system is solved instead. In float32 at least.

    Args:
        order: r >= 1, the number of complex terms.
    """

    keeps_factors = True

    def __init__(self, order: int = 1) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order={order} of a Cayley filter must be at least 1.")
        self.order, self.count, self.products = order, 1 + 2 * order, order
        self.zoom = nn.Parameter(torch.tensor(1.0).expm1().log())  # h = softplus(zoom) = 1

    @property
    def h(self) -> Tensor:
        """The zoom, in float32 or wider."""
        return F.softplus(self.zoom.to(wide(self.zoom)))

    def terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        dtype = wide(z)
        with torch.autocast(z.device.type, enabled=False):
            solve = self._solver(affinity, dtype, z.shape[-1])
            real, terms = z.to(dtype), [z.to(dtype)]
            y = torch.complex(real, torch.zeros_like(real))
            for _ in range(self.order):
                y = y - 2j * solve(y)  # (h L - i)(h L + i)^-1 = I - 2 i (h L + i)^-1
                terms += [y.real, y.imag]
            return torch.cat(terms, -1)

    def multiply_adds(self, affinity: Affinity, channels: int) -> int:
        """Real multiply-adds; a complex one counts as four."""
        assert isinstance(affinity, SymmetricLowRank)
        dense, factored = _costs(affinity, channels, self.order)
        return min(dense, factored)

    def response(self, frequencies: Tensor) -> Tensor:
        h = self.h.detach().to(frequencies)
        c = torch.complex(h * frequencies, -torch.ones_like(frequencies))
        c = c / c.conj()
        powers = [c**j for j in range(1, self.order + 1)]
        parts = [part for power in powers for part in (power.real, power.imag)]
        return torch.stack([torch.ones_like(frequencies), *parts], -1)

    def _solver(
        self, affinity: Affinity, dtype: torch.dtype, channels: int
    ) -> Callable[[Tensor], Tensor]:
        """y -> (h L + i)^-1 y."""
        h = self.h.to(dtype)
        a = torch.complex(h, torch.ones_like(h))
        if not isinstance(affinity, SymmetricLowRank) or prefers_dense(
            *_costs(affinity, channels, self.order)
        ):
            matrix = affinity.to_dense().to(dtype)
            eye = torch.eye(matrix.shape[-1], dtype=dtype, device=matrix.device)
            system = a * eye - h * matrix
            return lambda y: torch.linalg.solve(system, y)
        factors = affinity.factors.to(dtype)
        size = factors.shape[-1]
        exchange = torch.eye(size, dtype=dtype, device=factors.device).roll(size // 2, 0)
        system = (2 * a / h) * exchange - factors.mT @ factors

        def solve(y: Tensor) -> Tensor:
            inner = torch.linalg.solve(system, _real_times(factors.mT, y))
            return (y + _real_times(factors, inner)) / a

        return solve

    def __repr__(self) -> str:
        return f"Cayley(order={self.order})"


def _real_times(matrix: Tensor, y: Tensor) -> Tensor:
    """A real matrix times a complex one."""
    return torch.complex(matrix @ y.real, matrix @ y.imag)


def _costs(affinity: SymmetricLowRank, channels: int, order: int) -> tuple[int, int]:
    """Multiply-adds of forming and solving the N x N system, and of the 2 R one."""
    _, n, both = affinity.factors.shape
    dense = n * n * both // 2 + order * (4 * n**3 // 3 + 4 * n * n * channels)
    solved = 4 * both**3 // 3 + 4 * both * both * channels
    return dense, n * both * both + order * (solved + 4 * n * both * channels)
