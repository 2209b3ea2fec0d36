"""The nonlocal block: one module for every row of Table 1 of arXiv:2108.02451, in 1d, 2d and 3d.

A :class:`BlockConfig` is such a row: a kernel, a normalisation and a filter. :class:`NonlocalBlock`
turns a feature map into an affinity A and a signal Z, and hands both to its sub-blocks, which weigh
the terms of the filter, normalise them and add them to the feature map.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from video_snl.blocks.filters import ChannelGraph, GraphFilter, Polynomial, block_diagonal
from video_snl.blocks.kernels import AffinitySpec
from video_snl.blocks.layers import check_feature_map
from video_snl.blocks.masks import mask_of, masked_max_pool, zeroed
from video_snl.blocks.operators import (
    Affinity,
    LowRank,
    autocast_dtype,
    split_channels,
    to_vertices,
    without_autocast,
)
from video_snl.blocks.sub_block import (
    BATCH_NORM,
    CONV,
    BlockConfig,
    Described,
    Normalization,
    Pointwise,
    Recipe,
    SubBlock,
    check_counts,
)

__all__ = [
    "BATCH_NORM",
    "CONV",
    "BlockConfig",
    "GraphFilter",
    "NonlocalBlock",
    "Normalization",
    "Pointwise",
    "Recipe",
    "SubBlock",
    "in_full_range",
]


def in_full_range(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a method in float32 where it would run in float16, whose range its sums exceed.

    Its first argument is a tensor, and others are in float16 only where that one is.
    """

    def widened(argument: Any) -> Any:
        half = isinstance(argument, Tensor) and argument.dtype == torch.float16
        return argument.float() if half else argument

    @functools.wraps(function)
    def wide(self: nn.Module, x: Tensor, *others: Any) -> Any:
        device = x.device.type
        if x.dtype != torch.float16 and autocast_dtype(device) != torch.float16:
            return function(self, x, *others)
        with without_autocast(device):
            return function(self, *map(widened, (x, *others)))

    return wide


def _projection(name: str) -> property:
    def view(self: NonlocalBlock) -> nn.Linear:
        found = self.projections()
        if name not in found:
            raise AttributeError(f"this block has no projection {name}, but {', '.join(found)}.")
        return found[name]

    return property(view, doc=f"The projection {name}, see :meth:`projections`.")


class NonlocalBlock(Described):
    """Y = X + norm(F(A, Z)), F(A, Z) = sum_k A^k Z W_k, Z = X W_Z (eq. 12 of arXiv:2108.02451).

    The kernel of the config makes A from embeddings X W_theta, X W_phi. The projections of X are
    one 1x1 convolution, the W_k another. Several sub-blocks are a stage of arXiv:1806.00681: all of
    them use the affinity made from the input of the first one.

    A mask is True where a position exists. The others are returned as they are, and what is there,
    NaN included, changes nothing else.

    Args:
        in_channels: C, channels of the feature map.
        inter_channels: Cs, transferred channels; default C // ``config.reduction``.
        ndim: number of axes of the grid of positions, 1, 2 or 3.
        config: the block's row in Table 1.
        num_units: number of sub-blocks, each with its own W_Z, W_k and norm.
        zero_init: zero as the initial weight of the norms: the block starts as the identity.
        activation: None, or ``"relu"`` after the norm (the form of the paper's released code).
        recipe: former name of ``config``, with a DeprecationWarning.
        device, dtype: of the parameters.

    Shapes:
        x: (B, C, L), (B, C, H, W) or (B, C, T, H, W) for ndim 1, 2, 3; the output has x's shape.
        mask: boolean, of x without its channels, or (B, T) for ndim 3.

    Raises:
        ValueError: for sizes below 1, an ndim beyond 1-3, or ``zero_init`` together with an
            activation: a ReLU after a zero weight passes no gradient, so the block never trains.
    """

    gamma: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        *,
        ndim: int,
        config: BlockConfig | None = None,
        num_units: int = 1,
        zero_init: bool = True,
        activation: Literal["relu"] | None = None,
        recipe: BlockConfig | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if recipe is not None:
            _warn_renamed("recipe", "config")
            config = recipe
        if config is None:
            raise TypeError("NonlocalBlock needs a config, the block's row in Table 1.")
        check_counts(in_channels=in_channels, num_units=num_units)
        width = in_channels // config.reduction if inter_channels is None else inter_channels
        _check_sizes(in_channels, width, ndim, config.groups)
        _check_start(zero_init, activation)
        self.in_channels, self.inter_channels, self.ndim = in_channels, width, ndim
        self.config, self.filter = config, config.filter()
        self.widths = config.kernel.widths(width) if self.filter.products else ()
        self.parts = (sum(self.widths), width if config.transfer else 0)  # of the projection
        biased = [name in config.bias for name in ("theta", "phi")][: len(self.widths)]
        biased += [False] * (len(self.widths) - len(biased)) + ["g" in config.bias]
        self.project = Pointwise(
            in_channels,
            sum(self.parts),
            biased=[each for each in zip((*self.widths, self.parts[1]), biased, strict=True)],
        )
        start = config.kernel.start() if self.filter.products else None
        gamma = None if start is None else nn.Parameter(torch.full((1,), float(start)))
        self.register_parameter("gamma", gamma)
        # Checkpoints have the sub-blocks under the name of units.
        self.units = nn.ModuleList(
            SubBlock(
                in_channels,
                width if config.transfer else in_channels,
                ndim=ndim,
                terms=self.filter.count,
                transfer=config.transfer and number > 0,
                config=config,
                zero_init=zero_init,
                activation=activation,
            )
            for number in range(num_units)
        )
        self.to(device=device, dtype=dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a module that version 0.2 pickled, which has no gamma and no parts by name."""
        super().__setstate__(state)
        self._parameters.setdefault("gamma", None)
        widths = (*self.widths, self.parts[1])
        if len(self.project.biased) != len([width for width in widths if width]):
            has = self.project.bias is not None
            self.project.biased = [(width, has) for width in widths if width]

    def reset_parameters(self) -> None:
        """Draw all weights anew, as a new block has them."""
        self.project.reset_parameters()
        if self.gamma is not None:
            nn.init.constant_(self.gamma, self.config.kernel.start() or 0.0)
        if isinstance(self.filter, nn.Module):
            self.filter.reset_parameters()  # type: ignore[operator]
        for sub_block in self.sub_blocks:
            sub_block.reset_parameters()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check(x)
        there = mask_of(mask, x)
        for _ in range(self.config.recurrence):
            affinity, z = self._graph_and_signal(x, there, to_apply=True)
            for number, sub_block in enumerate(self.sub_blocks):
                z = z if number == 0 else self._signal(sub_block, x, there)
                x = sub_block(x, self._terms(z, affinity), there)
        return x

    @property
    def sub_blocks(self) -> list[SubBlock]:
        """Return the sub-blocks, in the order in which they are applied."""
        return list(self.units)  # type: ignore[arg-type]

    def projections(self) -> dict[str, nn.Linear]:
        """Return the 1x1 convolutions of X by their names, which ``project`` has side by side.

        They are ``theta``, ``phi`` and ``g`` (Z), in DNL also ``unary``; a block has those that its
        equation has. Their weights are views of ``project``'s, through which gradients and changes
        in place reach it. The weights of the terms are ``sub_blocks[i].combine``.
        """
        names = ["theta", "phi", "unary"][: len(self.widths)]
        names += [f"embedding_{number}" for number in range(len(names), len(self.widths))]
        names += ["g"] if self.config.transfer else []
        return dict(zip(names, self.project.parts(), strict=True))

    theta = _projection("theta")
    phi = _projection("phi")
    g = _projection("g")

    @property
    def recipe(self) -> BlockConfig:
        """Return ``config``, of which this is the former name."""
        _warn_renamed("recipe", "config")
        return self.config

    @property
    def stage(self) -> list[SubBlock]:
        """Return ``sub_blocks``, of which this is the former name."""
        _warn_renamed("stage", "sub_blocks")
        return self.sub_blocks

    def affinity(self, x: Tensor, mask: Tensor | None = None) -> Affinity:
        """Return A for the feature map ``x``, an operator over its N = prod(x.shape[2:]) positions.

        CGNL's is over the channels of all positions, (B groups) operators of size N Cs / groups.
        With a mask, A_ij = 0 where position j does not exist.
        """
        self._check(x)
        return self._graph_and_signal(x, mask_of(mask, x))[0]

    def graph_and_signals(self, x: Tensor, count: int) -> tuple[Affinity, list[Tensor]]:
        """Return A for ``x`` and the signals Z (B, N, Cs) of the first ``count`` sub-blocks.

        Raises:
            ValueError: for later sub-blocks in training mode, whose norms depend on the batch.
        """
        if count > 1 and self.training:
            raise ValueError(
                f"unit={count - 1} in training mode: the norms before it depend on the batch; call "
                "eval()."
            )
        self._check(x)
        affinity, z = self._graph_and_signal(x)
        signals = [z]
        sub_blocks = self.sub_blocks
        for sub_block, following in zip(sub_blocks[: count - 1], sub_blocks[1:count], strict=True):
            x = sub_block(x, self._terms(signals[-1], affinity))
            signals.append(self._signal(following, x))
        return affinity, signals

    def affinity_multiply_adds(self, x: Tensor) -> int:
        """Count the multiply-adds of the products with A on ``x``, per batch element."""
        self._check(x)
        affinity, z = self._graph_and_signal(x[:1])
        once = self.filter.multiply_adds(affinity, z.shape[-1])
        return self.config.recurrence * len(self.units) * once

    def separate_multiply_adds(self, positions: int) -> int:
        """Count the multiply-adds saved by applying W to a sum of A^k Z, per batch element.

        Other code applies W to every A^k Z by itself; the paper's tables count NS so.
        """
        if not isinstance(self.filter, Polynomial):
            return 0
        products = sum(c != 0 for row in self.filter.coefficients for c in row)
        weights = self.sub_blocks[0].combine.weight.numel() // self.filter.count
        each = (products - self.filter.count) * weights * positions
        return self.config.recurrence * len(self.units) * each

    def as_graph_filter(self, x: Tensor, unit: int = 0) -> GraphFilter:
        """Return the equation of sub-block ``unit`` for the feature map ``x``, its norm folded in.

        In evaluation mode and without an activation the sub-block returns ``X + output()``, where X
        is its own input: ``x``, or for a later one the output of the sub-block before.

        Raises:
            ValueError: for the Cayley filter, which is not a polynomial of A (see
                :meth:`response`), a block with an activation, recurrence or sub-sampled keys, or
                in training mode.
        """
        _check_linear(self)
        affinity, signals = self.graph_and_signals(x, unit + 1)
        z = signals[unit]
        weight, bias = self.sub_blocks[unit].folded(x, self._terms(z, affinity))
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
        """Return g(lambda) W, the filter at graph frequencies lambda in [0, 2], without the norm.

        An eigenvector of L = I - A with eigenvalue lambda and the amplitudes z (Cs,) leaves the
        filter of sub-block ``unit`` with the amplitudes z g(lambda). Shapes: (L,) -> (L, Cs, C).
        """
        weight = self.sub_blocks[unit].combine.matrix().mT
        per_term = weight.unflatten(0, (self.filter.count, -1))
        return torch.einsum("lt,tio->lio", self.filter.response(frequencies), per_term)

    def fuse(self) -> NonlocalBlock:
        """Fold the BatchNorms into the weights, in place, for inference.

        Raises:
            ValueError: in training mode, where a BatchNorm depends on its batch.
        """
        if self.training:
            raise ValueError("fuse() folds the statistics of evaluation mode: call eval() first.")
        for sub_block in self.sub_blocks:
            sub_block.fuse()
        if self.config.norm == "batch":
            bias = tuple(name for name in self.config.biases if name in (*self.config.bias, "out"))
            self.config = replace(self.config, norm="none", bias=bias)
            if self.description is not None:
                self.description = {**self.description, "norm": "none", "bias": ",".join(bias)}
        return self

    def extra_repr(self) -> str:
        c = self.config
        return (
            f"in_channels={self.in_channels}, inter_channels={self.inter_channels}, "
            f"kernel={c.kernel}, symmetric={c.symmetric}, normalization={c.normalization!r}, "
            f"filter={self.filter}"
        )

    def _check(self, x: Tensor) -> None:
        check_feature_map(x, self.in_channels, self.ndim, self.project)

    def _graph_and_signal(
        self, x: Tensor, mask: Tensor | None = None, *, to_apply: bool = False
    ) -> tuple[Affinity, Tensor]:
        """Return A and Z of the first sub-block; ``to_apply`` asks for A's cheapest form."""
        features, grid = zeroed(x, mask).flatten(2).mT, tuple(x.shape[2:])
        there = None if mask is None else mask.flatten(1)
        embedded, signal = self._projected(features, there)
        keys = key_mask = None
        if self.config.pool > 1:
            first = self.widths[0] if self.widths else 0
            if self.config.pool_first:
                pooled, key_mask = self._pooled(features, grid, there)
                keys, signal = self._projected(pooled, key_mask)
                keys = keys[..., first:]
            else:
                keys, key_mask = self._pooled(embedded[..., first:], grid, there)
                signal, _ = self._pooled(signal, grid, there)
        channels = signal.shape[-1] if to_apply else 0
        return self._graph(embedded, keys, grid, channels, there, key_mask), signal

    def _projected(self, features: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the embeddings and Z of features, zero where no position exists."""
        projected = self.project(features)
        if there is not None and self.project.bias is not None:
            projected = torch.where(there[..., None], projected, 0)
        embedded, signal = split_channels(projected, self.parts)
        return (
            embedded if self.widths else features,
            signal if self.config.transfer else features,
        )

    @in_full_range
    def _graph(
        self,
        embedded: Tensor,
        keys: Tensor | None,
        grid: tuple[int, ...],
        channels: int,
        mask: Tensor | None,
        key_mask: Tensor | None,
    ) -> Affinity:
        if not self.filter.products:
            nothing = embedded[..., :0]
            return LowRank(nothing, nothing)
        spec = AffinitySpec(
            grid,
            self.config.symmetric,
            self.config.normalization,
            keys,
            channels,
            0 if self.filter.keeps_factors else self.filter.products,
            mask,
            key_mask,
            self.gamma,
        )
        return self.config.kernel.affinity(embedded, spec)

    @in_full_range
    def _terms(self, z: Tensor, affinity: Affinity) -> Tensor:
        return self.filter.terms(affinity, z)

    def _signal(self, sub_block: SubBlock, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return Z of a later sub-block from its input."""
        features, grid = zeroed(x, mask).flatten(2).mT, tuple(x.shape[2:])
        there = None if mask is None else mask.flatten(1)
        pooled = self.config.pool > 1
        if pooled and self.config.pool_first:
            features, there = self._pooled(features, grid, there)
        z = features if sub_block.transfer is None else sub_block.transfer(features)
        if there is not None and sub_block.transfer is not None:
            z = torch.where(there[..., None], z, 0)
        if not pooled or self.config.pool_first:
            return z
        return self._pooled(z, grid, there)[0]

    def _pooled(
        self, x: Tensor, grid: tuple[int, ...], mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Max-pool along the spatial axes, as in arXiv:1711.07971.

        Shapes: (B, N, C) and a mask (B, N) -> (B, M, C) and a mask (B, M).
        """
        window = [1] * (self.ndim == 3) + [self.config.pool] * min(self.ndim, 2)
        return masked_max_pool(x, mask, grid, window, self.config.ceil_mode)


def _check_sizes(in_channels: int, inter_channels: int, ndim: int, groups: int) -> None:
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
    if inter_channels == 0:
        raise ValueError(
            f"inter_channels=0 with in_channels={in_channels} must be at least 1; by default it is "
            "a part of in_channels."
        )
    check_counts(inter_channels=inter_channels)
    if in_channels % groups or inter_channels % groups:
        raise ValueError(
            f"groups={groups} must divide in_channels={in_channels} and "
            f"inter_channels={inter_channels}."
        )


def _check_start(zero_init: bool, activation: str | None) -> None:
    if activation not in (None, "relu"):
        raise ValueError(f"activation={activation!r} is unknown; choose 'relu' or None.")
    if zero_init and activation == "relu":
        raise ValueError(
            "zero_init=True with activation='relu': a ReLU after a zero weight passes no "
            "gradient, so the block never trains; set zero_init=False or activation=None."
        )


def _check_linear(block: NonlocalBlock) -> None:
    reason = None
    if not isinstance(block.filter, Polynomial | ChannelGraph):
        reason = f"{block.filter} is not a polynomial of A; see response(frequencies)"
    elif block.training:
        reason = "in training mode its norm depends on the batch; call eval() first"
    elif block.config.norm == "layer":
        reason = "its LayerNorm depends on each position"
    elif any(sub_block.activation for sub_block in block.sub_blocks):
        reason = "its activation is not linear"
    elif block.config.pool > 1 or block.config.recurrence > 1:
        reason = "with sub-sampled keys or recurrence it is not a filter on one graph"
    if reason:
        raise ValueError(f"this block has no form sum_k A^k Z W_k: {reason}.")


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(
        f"{old} of a NonlocalBlock has become {new} (the old name goes with version 0.3)",
        DeprecationWarning,
        stacklevel=3,
    )
