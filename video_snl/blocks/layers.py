"""Layers of the blocks: 1x1 convolutions on rows, norms, and those that start at zero.

A layer that starts at zero says so itself, in its ``reset_parameters``: tools that draw the weights
of every module anew, one by one (FSDP, for modules made on the meta device), so find the identity
that a block starts as.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.operators import autocast_dtype, is_exporting

__all__ = [
    "BATCH_NORM",
    "CONV",
    "ZERO_BATCH_NORM",
    "ZERO_CONV",
    "LayerNorm",
    "Pointwise",
    "ZeroBiasLinear",
    "ZeroGroupNorm",
    "ZeroLayerNorm",
    "ZeroPointwise",
    "ZeroStart",
    "check_counts",
    "check_dense",
    "check_dtype",
    "check_feature_map",
]

_AXES = {1: "L", 2: "HW", 3: "THW"}


def check_counts(least: int = 1, /, **counts: int) -> None:
    """Check that counts, such as numbers of channels, are whole numbers of at least ``least``.

    Raises:
        ValueError: one is not.
    """
    for name, value in counts.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < least:
            wanted = f"at least {least}" if whole else "a whole number"
            raise ValueError(f"{name}={value!r} must be {wanted}.")


def check_dense(x: Any, expected: str) -> None:
    """Check that an input is a dense tensor; ``expected`` says which, for the message.

    Raises:
        ValueError: it is something else, such as an array, or a sparse or nested tensor.
    """
    if not isinstance(x, Tensor):
        kind = f"{type(x).__module__}.{type(x).__name__}".removeprefix("builtins.")
        advice = "" if x is None else "; torch.as_tensor makes tensors of lists and arrays"
        raise ValueError(f"{expected}, got a {kind}{advice}.")
    if x.is_nested or x.layout is not torch.strided:
        form = "nested tensor" if x.is_nested else f"tensor in the layout {x.layout}"
        raise ValueError(f"{expected}, got a {form}; a dense tensor is needed.")


def check_dtype(x: Tensor, layer: nn.Module | None, whose: str = "this block") -> None:
    """Check that the type of an input is one that a layer takes.

    Args:
        x: the input.
        layer: its ``weight`` has the type that it takes; None for any in floating point.
        whose: what takes the input, for the message.

    Raises:
        ValueError: another type than that of the weight, where autocast does not convert both.
    """
    # Weights that are parametrised, or sharded, are made where they are used: not here.
    weight = None if layer is None else layer._parameters.get("weight")
    known = weight is not None and (weight.is_floating_point() or weight.is_complex())
    dtype = weight.dtype if weight is not None and known else x.dtype
    if not (dtype.is_floating_point or dtype.is_complex and known):
        raise ValueError(f"{whose} expects features in floating point, got {dtype}.")
    if x.dtype == dtype:
        return
    # Autocast converts neither integers nor complex numbers, nor what is wider than float32.
    narrow = (torch.float16, torch.bfloat16, torch.float32)
    converted = x.dtype in narrow and dtype in narrow
    if not converted or autocast_dtype(x.device.type) is None:
        raise ValueError(
            f"{whose} expects features in {dtype}, as its weights are, got {x.dtype}: give "
            f"x.to({dtype}), convert the weights by .to(dtype), or, for types of at most 32 bits, "
            "run it in torch.autocast."
        )


def check_feature_map(x: Tensor, channels: int, ndim: int, layer: nn.Module | None) -> None:
    """Check the input of a block.

    Args:
        x: what was given.
        channels, ndim: those of the block.
        layer: the layer that sees the input, whose ``weight`` has the type that it takes; None for
            none, which takes any in floating point.

    Raises:
        ValueError: no dense tensor, another shape than (B, channels, *grid), a grid without
            positions, or another type than that of the weight, which autocast does not convert.
    """
    if not _fits(x, channels, ndim):
        axes = ", ".join(["B", str(channels), *_AXES[ndim]])
        expected = f"this block expects a ({axes}) feature map"
        check_dense(x, expected)
        whole = x.ndim == ndim + 2 and x.shape[1] == channels
        empty = " of at least one position" if whole else ""
        raise ValueError(f"{expected}{empty}, got {tuple(x.shape)}.")
    check_dtype(x, layer)


def _fits(x: Any, channels: int, ndim: int) -> bool:
    dense = isinstance(x, Tensor) and x.layout is torch.strided and not x.is_nested
    return dense and x.ndim == ndim + 2 and x.shape[1] == channels and 0 not in x.shape[2:]


class Pointwise(nn.Linear):
    """A 1x1 convolution on positions as rows, (B, N, in) -> (B, N, out); one matrix product.

    A linear layer: with few positions the backward pass of a convolution takes half as long again
    on a CPU. The weight has no axes of a grid, so that blocks of 1, 2 and 3 dimensions share it.
    Unlike its base it may have groups, whose weight is (out, in / groups), and biases of some parts
    of the outputs alone.

    Args:
        in_channels, out_channels, groups: as of a convolution.
        biased: parts of the outputs side by side, and whether each has a bias; none by default.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int = 1,
        *,
        biased: Sequence[tuple[int, bool]] = (),
    ) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.groups = in_channels, out_channels, groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups))
        self.biased = [part for part in biased if part[0]]
        size = sum(width for width, has in self.biased if has)
        self.register_parameter("bias", nn.Parameter(torch.empty(size)) if size else None)
        self.reset_parameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a module that version 0.2 pickled, which knew its sizes by its weight alone."""
        super().__setstate__(state)
        if "in_features" not in self.__dict__:
            self.out_features, per_group = self.weight.shape
            self.in_features = per_group * self.groups
            self.biased = [(self.out_features, self.bias is not None)]

    def reset_parameters(self) -> None:
        """Draw the weights as a convolution starts."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            bound = self.weight.shape[1] ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.whole_bias()
        if self.groups > 1:
            return F.conv1d(x.mT, self.weight[..., None], bias, groups=self.groups).mT
        if self._keeps_channels_first(x):
            weight = self.weight[None]
            if x.shape[0] != 1:  # the gradient of an expanded weight is a sum, also over one
                weight = weight.expand(x.shape[0], -1, -1)
            if bias is None:
                return torch.bmm(weight, x.mT).mT
            return torch.baddbmm(bias[:, None], weight, x.mT).mT
        return F.linear(x, self.weight, bias)

    def _keeps_channels_first(self, x: Tensor) -> bool:
        """Tell if rows whose channels lie apart in memory are left so: where they are many.

        A linear layer copies the rows, and so does the sum with X what comes of them. The product
        of each sample by itself has a gradient of the weights for each instead.
        """
        if x.ndim != 3 or x.stride(-1) == 1 or not x.is_cpu or is_exporting():
            return False
        return 2 * x.shape[1] > self.in_features

    def whole_bias(self) -> Tensor | None:
        """Return the bias of all outputs, zero in the parts without one; None for none at all."""
        bias = self.bias
        if bias is None or len(bias) == self.out_features:
            return bias
        own = iter(bias.split([width for width, has in self.biased if has]))
        zeros = bias.new_zeros
        return torch.cat([next(own) if has else zeros(width) for width, has in self.biased])

    def parts(self) -> list[nn.Linear]:
        """Return the layers that stand side by side in this one, without groups.

        Their weights and biases are views of this layer's: gradients reach it, and changes in place
        are changes of it.
        """
        found, first, first_bias = [], 0, 0
        for width, has in self.biased:
            layer = nn.Linear(self.in_features, width, bias=has, device="meta")
            del layer.weight  # a parameter, which would cut the view off
            layer.weight = self.weight[first : first + width]  # type: ignore[assignment]
            first += width
            if has and self.bias is not None:
                del layer.bias
                layer.bias = self.bias[first_bias : first_bias + width]  # type: ignore[assignment]
                first_bias += width
            found.append(layer)
        return found

    def matrix(self) -> Tensor:
        """Return the whole matrix, block-diagonal where there are groups. Shape: (out, in)."""
        return torch.block_diag(*self.weight.chunk(self.groups))

    def extra_repr(self) -> str:
        out_channels, in_channels = self.weight.shape
        return f"{in_channels * self.groups}, {out_channels}, groups={self.groups}"


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of a (B, C, *grid) map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ZeroBiasLinear(nn.Linear):
    """An ``nn.Linear`` whose bias starts at zero."""

    def reset_parameters(self) -> None:
        """Draw the weight as ``nn.Linear`` does, and set the bias to zero."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ZeroStart(nn.Module):
    """Mixin of layers whose weight and bias start at zero, and are zero when drawn anew."""

    def reset_parameters(self) -> None:
        """Set all parameters to zero, and statistics of a norm as in a new one."""
        super().reset_parameters()  # type: ignore[misc]
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)


class ZeroPointwise(ZeroStart, Pointwise):
    """A :class:`Pointwise` that starts at zero."""


class ZeroConv1d(ZeroStart, nn.Conv1d):
    """An ``nn.Conv1d`` that starts at zero."""


class ZeroConv2d(ZeroStart, nn.Conv2d):
    """An ``nn.Conv2d`` that starts at zero."""


class ZeroConv3d(ZeroStart, nn.Conv3d):
    """An ``nn.Conv3d`` that starts at zero."""


class ZeroBatchNorm1d(ZeroStart, nn.BatchNorm1d):
    """An ``nn.BatchNorm1d`` whose weight starts at zero."""


class ZeroBatchNorm2d(ZeroStart, nn.BatchNorm2d):
    """An ``nn.BatchNorm2d`` whose weight starts at zero."""


class ZeroBatchNorm3d(ZeroStart, nn.BatchNorm3d):
    """An ``nn.BatchNorm3d`` whose weight starts at zero."""


class ZeroGroupNorm(ZeroStart, nn.GroupNorm):
    """An ``nn.GroupNorm`` whose weight starts at zero."""


class ZeroLayerNorm(ZeroStart, LayerNorm):
    """A :class:`LayerNorm` whose weight starts at zero."""


CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
ZERO_CONV = {1: ZeroConv1d, 2: ZeroConv2d, 3: ZeroConv3d}
ZERO_BATCH_NORM = {1: ZeroBatchNorm1d, 2: ZeroBatchNorm2d, 3: ZeroBatchNorm3d}
