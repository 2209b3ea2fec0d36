"""The nonlocal block: one module for every member of the family, in 1d, 2d and 3d."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.filters import ChannelGraph, Polynomial
from video_snl.blocks.graph_filter import GraphFilter, block_diagonal
from video_snl.blocks.kernels import Wanted, to_vertices
from video_snl.blocks.lowrank import LowRank
from video_snl.blocks.operators import Affinity
from video_snl.blocks.recipe import Recipe, check_sizes, check_start
from video_snl.blocks.unit import Pointwise, Unit

__all__ = ["NonlocalBlock"]

_AXES = {1: "L", 2: "HW", 3: "THW"}
_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _in_full_range(function: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a method in float32 where it would run in float16, whose range its sums leave."""

    @functools.wraps(function)
    def wide(self: NonlocalBlock, *args: Any) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        device = tensors[0].device.type
        if not any(t.dtype == torch.float16 for t in tensors) and not _casts_to_half(device):
            return function(self, *args)
        with torch.autocast(device, enabled=False):
            return function(self, *(_widened(a) for a in args))

    return wide


def _casts_to_half(device: str) -> bool:
    if device == "meta":  # has no autocast, and to ask is an error
        return False
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def _widened(argument: Any) -> Any:
    half = isinstance(argument, Tensor) and argument.dtype == torch.float16
    return argument.float() if half else argument


class NonlocalBlock(nn.Module):
    """Y = X + norm(F(A, Z)), F(A, Z) = sum_k A^k Z W_k, Z = X W_Z (eq. 12 of arXiv:2108.02451).

    A is made of embeddings X W_theta, X W_phi, as the recipe says. The projections of X are one
    1x1 convolution, the W_k another. Several units are a stage of arXiv:1806.00681: all of them
    use the affinity of the first one's input.

    Args:
        in_channels: C, channels of the feature map.
        inter_channels: Cs, transferred channels; default C // ``recipe.reduction``.
        ndim: 1, 2 or 3, the axes of the grid of positions.
        recipe: the block's row in Table 1.
        num_units: units that share one affinity; each has its own W_Z, W_k and norm.
        zero_init: start the norms' weights at zero, so that the block is the identity at first.
        activation: None, or ``"relu"`` behind the norm (the form of the paper's released code).

    Shapes:
        x: (B, C, L), (B, C, H, W) or (B, C, T, H, W) for ndim 1, 2, 3; the output has x's shape.

    Raises:
        ValueError: for sizes below 1, an ndim beyond 1-3, or ``zero_init`` together with an
            activation: a ReLU behind a zero weight passes no gradient, so the block never trains.
    """

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        *,
        ndim: int,
        recipe: Recipe,
        num_units: int = 1,
        zero_init: bool = True,
        activation: Literal["relu"] | None = None,
    ) -> None:
        super().__init__()
        width = in_channels // recipe.reduction if inter_channels is None else inter_channels
        check_sizes(in_channels, width, ndim, num_units, recipe.groups)
        check_start(zero_init, activation)
        self.in_channels, self.inter_channels, self.ndim = in_channels, width, ndim
        self.recipe, self.filter = recipe, recipe.filter()
        self.widths = recipe.kernel.widths(width) if self.filter.products else ()
        self.parts = (sum(self.widths), width if recipe.transfer else 0)  # of the projection
        self.project = Pointwise(in_channels, sum(self.parts))
        self.units = nn.ModuleList(
            Unit(
                in_channels,
                width if recipe.transfer else in_channels,
                ndim=ndim,
                terms=self.filter.count,
                transfer=recipe.transfer and number > 0,
                groups=recipe.groups,
                norm=recipe.norm,
                zero_init=zero_init,
                activation=activation,
            )
            for number in range(num_units)
        )

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.recipe.recurrence):
            affinity, z = self._graph_and_signal(x, to_apply=True)
            for number, unit in enumerate(self.stage):
                z = z if number == 0 else self._signal(unit, x)
                x = unit(x, self._terms(affinity, z))
        return x

    @property
    def stage(self) -> list[Unit]:
        """The units."""
        return list(self.units)  # type: ignore[arg-type]

    def affinity(self, x: Tensor) -> Affinity:
        """A for the feature map ``x``, an operator over its N = prod(x.shape[2:]) positions.

        CGNL's is over the channels of all positions, (B groups) operators of size N Cs / groups.
        """
        return self._graph_and_signal(x)[0]

    def affinity_multiply_adds(self, x: Tensor) -> int:
        """Multiply-adds of the products with A on the feature map ``x``, per batch element."""
        affinity, z = self._graph_and_signal(x[:1])
        once = self.filter.multiply_adds(affinity, z.shape[-1])
        return self.recipe.recurrence * len(self.units) * once

    def separate_multiply_adds(self, positions: int) -> int:
        """Multiply-adds saved by applying W to a sum of A^k Z at once, per batch element.

        Other code applies W to every A^k Z by itself; the paper's tables count NS so.
        """
        if not isinstance(self.filter, Polynomial):
            return 0
        products = sum(c != 0 for row in self.filter.coefficients for c in row)
        weights = self.stage[0].combine.weight.numel() // self.filter.count
        each = (products - self.filter.count) * weights * positions
        return self.recipe.recurrence * len(self.units) * each

    def as_graph_filter(self, x: Tensor, unit: int = 0) -> GraphFilter:
        """The equation of a unit for the feature map ``x`` of the block, its norm folded in.

        In evaluation mode, and without an activation, ``X + output()`` is what the unit returns,
        X being what it is given: ``x``, or for a later unit of a stage the output of the one
        before.

        Raises:
            ValueError: for the Cayley filter, which is no polynomial of A (see :meth:`response`),
                a block with an activation, recurrence or sub-sampled keys, or in training mode.
        """
        _check_linear(self)
        affinity, z = self._graph_and_signal(x)
        for number in range(unit):
            x = self.stage[number](x, self._terms(affinity, z))
            z = self._signal(self.stage[number + 1], x)
        weight, bias = self.stage[unit].folded(x, self._terms(affinity, z))
        per_term = weight.chunk(self.filter.count, -2)
        if isinstance(self.filter, ChannelGraph):
            assert isinstance(affinity, LowRank)
            groups = self.filter.groups
            vertices = to_vertices(z, groups).unflatten(0, (-1, groups)).flatten(1, 2)
            weights = [torch.zeros_like(weight), weight]
            whole = block_diagonal(affinity, groups)
            return GraphFilter(whole, vertices, weights, bias, groups)
        assert isinstance(self.filter, Polynomial)
        return GraphFilter(affinity, z, self.filter.weights_of_powers(per_term), bias)

    def response(self, frequencies: Tensor, unit: int = 0) -> Tensor:
        """g(lambda) W, what the filter does to graph frequencies lambda in [0, 2], the norm apart.

        An eigenvector of L = I - A with eigenvalue lambda and the amplitudes z (Cs,) leaves the
        filter with the amplitudes z g(lambda). Shapes: (L,) -> (L, Cs, C).
        """
        weight = self.stage[unit].combine.matrix().mT
        per_term = weight.unflatten(0, (self.filter.count, -1))
        return torch.einsum("lt,tio->lio", self.filter.response(frequencies), per_term)

    def fuse(self) -> NonlocalBlock:
        """Fold the BatchNorms into the weights, in place, for inference.

        Raises:
            ValueError: in training mode, where a BatchNorm depends on its batch.
        """
        if self.training:
            raise ValueError("fuse() folds the statistics of evaluation mode: call eval() first.")
        for unit in self.stage:
            unit.fuse()
        return self

    def extra_repr(self) -> str:
        r = self.recipe
        return (
            f"in_channels={self.in_channels}, inter_channels={self.inter_channels}, "
            f"kernel={r.kernel}, symmetric={r.symmetric}, normalization={r.normalization!r}, "
            f"filter={self.filter}"
        )

    def _graph_and_signal(self, x: Tensor, *, to_apply: bool = False) -> tuple[Affinity, Tensor]:
        """A, as its kernel gives it or in the form cheapest to apply, and Z of the first unit."""
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            axes = ", ".join(["B", str(self.in_channels), *_AXES[self.ndim]])
            raise ValueError(f"this block expects a ({axes}) feature map, got {tuple(x.shape)}.")
        features, grid, width = x.flatten(2).mT, tuple(x.shape[2:]), sum(self.widths)
        projected = self.project(features)
        embedded, signal = projected.split(self.parts, -1)
        embedded = embedded if width else features
        signal = signal if self.recipe.transfer else features
        keys = None
        if self.recipe.pool > 1:
            first = self.widths[0] if width else 0
            keys, signal = self._pooled(embedded[..., first:], grid), self._pooled(signal, grid)
        return self._graph(embedded, keys, grid, signal.shape[-1] if to_apply else 0), signal

    @_in_full_range
    def _graph(
        self, embedded: Tensor, keys: Tensor | None, grid: tuple[int, ...], channels: int
    ) -> Affinity:
        if not self.filter.products:
            nothing = embedded[..., :0]
            return LowRank(nothing, nothing)
        wanted = Wanted(
            grid,
            self.recipe.symmetric,
            self.recipe.normalization,
            keys,
            channels,
            0 if self.filter.keeps_factors else self.filter.products,
        )
        return self.recipe.kernel.affinity(embedded, wanted)

    @_in_full_range
    def _terms(self, affinity: Affinity, z: Tensor) -> Tensor:
        return self.filter.terms(affinity, z)

    def _signal(self, unit: Unit, x: Tensor) -> Tensor:
        """Z of a later unit of a stage."""
        features = x.flatten(2).mT
        z = features if unit.transfer is None else unit.transfer(features)
        return self._pooled(z, tuple(x.shape[2:])) if self.recipe.pool > 1 else z

    def _pooled(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Max-pooled along the spatial axes, as in arXiv:1711.07971; an odd rest is kept.

        Shapes: (B, N, C) -> (B, M, C).
        """
        window = [1] * (self.ndim == 3) + [self.recipe.pool] * min(self.ndim, 2)
        pooled = _POOL[self.ndim](x.mT.unflatten(2, grid), window, ceil_mode=True)
        return pooled.flatten(2).mT


def _check_linear(block: NonlocalBlock) -> None:
    reason = None
    if not isinstance(block.filter, Polynomial | ChannelGraph):
        reason = f"{block.filter} is no polynomial of A; see response(frequencies)"
    elif block.training:
        reason = "in training mode its norm depends on the batch; call eval() first"
    elif any(unit.activation for unit in block.stage):
        reason = "its activation is not linear"
    elif block.recipe.pool > 1 or block.recipe.recurrence > 1:
        reason = "with sub-sampled keys or recurrence it is no filter on one graph"
    if reason:
        raise ValueError(f"this block has no form sum_k A^k Z W_k: {reason}.")
