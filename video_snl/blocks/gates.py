"""Channel attention: the blocks that arXiv:2108.02451 compares nonlocal ones with in Table 6.

They weigh or shift channels by a summary of all positions (GE: of a neighbourhood), on a grid of
1, 2 or 3 axes. Shapes of all blocks: (B, C, *grid) -> (B, C, *grid). ``mask``, boolean (B, *grid)
or (B, T), is True where a position exists: the others count nowhere and are returned as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.blocks.layers import (
    BATCH_NORM,
    CONV,
    ZERO_CONV,
    LayerNorm,
    check_counts,
    check_feature_map,
)
from video_snl.blocks.masks import kept_or, mask_of, masked_mean, zeroed
from video_snl.blocks.sub_block import Described

__all__ = ["CGD", "GATES", "GC", "GE", "SE"]


class _Gate(Described):
    """Base of the gates, of C channels on a grid of so many axes."""

    # Modules that version 0.2 pickled do not know them, and take what their layers do.
    in_channels: int | None = None
    ndim: int | None = None

    def __init__(self, in_channels: int, ndim: int) -> None:
        super().__init__()
        check_counts(in_channels=in_channels)
        if ndim not in (1, 2, 3):
            raise ValueError(f"ndim={ndim} must be 1, 2 or 3.")
        self.in_channels, self.ndim = in_channels, ndim

    def reset_parameters(self) -> None:
        """Draw the weights of all layers anew."""
        for layer in self.modules():
            if layer is not self and hasattr(layer, "reset_parameters"):
                layer.reset_parameters()  # type: ignore[operator]

    def _check(self, x: Tensor, first: nn.Module | None) -> None:
        if self.in_channels is not None and self.ndim is not None:
            check_feature_map(x, self.in_channels, self.ndim, first)


class SE(_Gate):
    """Squeeze-and-excitation: Y = X sigmoid(W2 relu(W1 mean(X))) (Hu et al., arXiv:1709.01507).

    Args:
        in_channels: C.
        ndim: number of axes of the grid.
        reduction: divisor of C that gives the rows of W1 (at least one row).
        zero_init: zero as the initial W2. A sigmoid cannot be 1: the block then halves its input.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        ndim: int,
        reduction: int = 16,
        zero_init: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, ndim)
        self.excite = _bottleneck(in_channels, ndim, reduction, zero_init)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check(x, self.excite[0])
        there = mask_of(mask, x)
        gate = self.excite(masked_mean(x, there)).sigmoid()
        return kept_or(zeroed(x, there) * gate, x, there)


class GC(_Gate):
    """Global context: Y = X + W2 relu(norm(W1 c)), c = sum_j softmax_j(<w, x_j>) x_j.

    Cao et al., arXiv:1904.11492. Without a bottleneck, Y = X + W c: their simplified nonlocal
    block, C^2 + C weights. No bias before the softmax, which it would not change.

    Args:
        in_channels: C.
        ndim: number of axes of the grid.
        reduction: divisor of C that gives the rows of W1 (at least one row), or None for no
            bottleneck.
        fusion: ``"add"`` as above; ``"mul"``: Y = X sigmoid(W2 relu(norm(W1 c))), a gate, which
            cannot start as the identity; ``"both"``: the gate, then the sum, each with weights of
            its own.
        zero_init: zero as the initial last weight: the block starts as the identity.
        device, dtype: of the parameters.

    Raises:
        ValueError: for an unknown fusion, or a reduction below 1.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        ndim: int,
        reduction: int | None = 16,
        fusion: Literal["add", "mul", "both"] = "add",
        zero_init: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, ndim)
        if fusion not in ("add", "mul", "both"):
            raise ValueError(f"fusion={fusion!r} is unknown; choose 'add', 'mul' or 'both'.")
        self.mask = CONV[ndim](in_channels, 1, 1, bias=False)

        def transform() -> nn.Module:
            if reduction is not None:
                return _bottleneck(in_channels, ndim, reduction, zero_init, normalised=True)
            return _last(zero_init)[ndim](in_channels, in_channels, 1, bias=False)

        self.transform = transform() if fusion != "mul" else None
        self.gate = transform() if fusion != "add" else None
        self.to(device=device, dtype=dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a module that version 0.2 pickled, which only adds."""
        super().__setstate__(state)
        if "gate" not in self._modules:
            self.__dict__.setdefault("gate", None)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check(x, self.mask)
        there = mask_of(mask, x)
        features = zeroed(x, there)
        scores = self.mask(features).flatten(2)
        if there is not None:
            scores = scores.masked_fill(~there.flatten(1)[:, None], -torch.inf)
        context = features.flatten(2) @ scores.softmax(-1).mT
        context = context.reshape(*x.shape[:2], *[1] * (x.ndim - 2))
        y = features if self.gate is None else features * self.gate(context).sigmoid()
        y = y if self.transform is None else y + self.transform(context)
        return kept_or(y, x, there)


class GE(_Gate):
    """Gather-excite: Y = X sigmoid(excite(gather(X))) (Hu et al., arXiv:1810.12348).

    Args:
        in_channels: C.
        ndim: number of axes of the grid.
        theta: ``"minus"``: the gather is a mean and there are no parameters; ``"theta"``: it is a
            chain of depthwise convolutions of stride 2; ``"plus"``: two pointwise layers after it.
        extent: number of positions along an axis that a gather covers, a power of two; 0 for all
            positions, with a mean only.
        reduction: reduction of the channels in the pointwise layers of ``"plus"``.
        zero_init: zero as the initial weight of the last pointwise layer. A sigmoid cannot be 1:
            the block then halves its input.
        device, dtype: of the parameters.

    Raises:
        ValueError: for an extent that is not a power of two, or 0 with a parametrised gather.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        ndim: int,
        theta: Literal["minus", "theta", "plus"] = "minus",
        extent: int = 0,
        reduction: int = 16,
        zero_init: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, ndim)
        _check_extent(theta, extent)
        self.extent = extent
        self.averages = theta == "minus"
        self.gather = nn.Identity() if self.averages else _depthwise(in_channels, ndim, extent)
        self.excite: nn.Module = (
            _bottleneck(in_channels, ndim, reduction, zero_init)
            if theta == "plus"
            else nn.Identity()
        )
        self.to(device=device, dtype=dtype)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check(x, None if self.averages else self.gather[0])  # type: ignore[index]
        there = mask_of(mask, x)
        if there is not None and self.extent:
            raise ValueError(
                f"GE with extent={self.extent} takes no mask: its gates are of boxes of the whole "
                "grid; use extent=0, the mean over all positions that exist."
            )
        gathered = self._means(x, there) if self.averages else self.gather(x)
        gate = self.excite(gathered).sigmoid()
        if self.extent:
            gate = F.interpolate(gate, size=x.shape[2:])
        return kept_or(zeroed(x, there) * gate, x, there)

    def _means(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.extent == 0:
            return masked_mean(x, mask)
        for axis in range(2, x.ndim):  # the mean over a box is a mean along every axis in turn
            lines = x.movedim(axis, -1)
            means = F.avg_pool1d(
                lines.flatten(0, -2)[:, None],
                2 * self.extent - 1,
                self.extent,
                self.extent - 1,
                count_include_pad=False,
            )
            x = means.unflatten(0, lines.shape[:-1]).squeeze(-2).movedim(-1, axis)
        return x


class CGD(_Gate):
    """Compact global descriptor: Y = X (1 + y2) (He et al., arXiv:1907.09665).

    With a and m the mean and the maximum over the positions and s = softmax(a) over the channels:
    y0 = tanh(s <a, w0> + b0), y1 = tanh(s <m, w1> + b1), y2 = tanh(y0 <y1, w2> + b2). 6 C weights.

    Args:
        in_channels: C.
        ndim: number of axes of the grid.
        zero_init: zero as the initial w2: the block starts as the identity.
        device, dtype: of the parameters.
    """

    zero_init = True  # in modules that version 0.2 pickled

    def __init__(
        self,
        in_channels: int,
        *,
        ndim: int,
        zero_init: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, ndim)
        self.zero_init = zero_init
        self.weight = nn.Parameter(torch.empty(3, in_channels))
        self.bias = nn.Parameter(torch.empty(3, in_channels))
        self.reset_parameters()
        self.to(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        bound = (6 / (self.weight.shape[1] + 1)) ** 0.5  # of Xavier's range for a (C, 1) weight
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)
        if self.zero_init:
            with torch.no_grad():
                self.weight[2].zero_()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check(x, self)
        there = mask_of(mask, x)
        flat = x.flatten(2)
        mean = masked_mean(x, there).flatten(1)
        if there is not None:
            flat = flat.masked_fill(~there.flatten(1)[:, None], -torch.inf)
        largest = flat.amax(-1)
        share = mean.softmax(-1)
        y0 = self._squeeze(share, mean, 0)
        y1 = self._squeeze(share, largest, 1)
        y2 = self._squeeze(y0, y1, 2)
        gate = 1 + y2.reshape(*x.shape[:2], *[1] * (x.ndim - 2))
        return kept_or(zeroed(x, there) * gate, x, there)

    def _squeeze(self, direction: Tensor, values: Tensor, layer: int) -> Tensor:
        """Compute tanh(direction <values, w> + b). Shapes: (B, C), (B, C) -> (B, C)."""
        amount = (values * self.weight[layer]).sum(-1, keepdim=True)
        return (direction * amount + self.bias[layer]).tanh()


_LayerNorm = LayerNorm  # its name in modules that version 0.2 pickled

GATES: dict[str, type[Described]] = {"se": SE, "ge": GE, "gc": GC, "cgd": CGD}


def _bottleneck(
    channels: int, ndim: int, reduction: int, zero_init: bool, *, normalised: bool = False
) -> nn.Sequential:
    check_counts(reduction=reduction)
    hidden = max(1, channels // reduction)
    last = _last(zero_init)[ndim](hidden, channels, 1)
    norm = [LayerNorm(hidden)] if normalised else []
    return nn.Sequential(CONV[ndim](channels, hidden, 1), *norm, nn.ReLU(), last)


def _last(zero_init: bool) -> Mapping[int, Callable[..., nn.Module]]:
    """Return the convolutions for the last layer of a branch."""
    return ZERO_CONV if zero_init else CONV


def _depthwise(channels: int, ndim: int, extent: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(extent.bit_length() - 1):
        if layers:
            layers.append(nn.ReLU())
        layers.append(CONV[ndim](channels, channels, 3, 2, 1, groups=channels, bias=False))
        layers.append(BATCH_NORM[ndim](channels))
    return nn.Sequential(*layers)


def _check_extent(theta: str, extent: int) -> None:
    if theta not in ("minus", "theta", "plus"):
        raise ValueError(f"theta={theta!r} is unknown; choose 'minus', 'theta' or 'plus'.")
    if extent < 0 or extent & (extent - 1) or extent == 1:
        raise ValueError(f"extent={extent} must be 0 (all positions) or 2, 4, 8, ...")
    if extent == 0 and theta != "minus":
        raise ValueError(
            f"theta={theta!r} with extent=0: a convolution over all positions would fix the size "
            "of the feature map; choose extent=2, 4, 8, ... or theta='minus'."
        )
