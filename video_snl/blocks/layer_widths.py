"""Feature maps before and after modules, read from their layers.

The layers of a module name widths, and their order alone does not tell which of these enters or
leaves it: units split their input, join maps, or pass some by. So a copy of the module without
values runs on maps of each width.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from video_snl.blocks.feature_maps import (
    FeatureMap,
    Told,
    may_have_samples_second,
    unsure_of_samples,
)
from video_snl.blocks.layouts import Layout, Pathway, Where, WithBlock, element_of
from video_snl.blocks.places import Site, bare_children, own_layers

__all__ = ["read_layers"]

_SIDES = (64, 96)
"""Positions along each axis of the maps on which modules are tried: two numbers, as channels stay
where positions change, and large enough for modules that shrink them."""


def read_layers(model: nn.Module, site: Site, where: Where, told: Told) -> FeatureMap:
    """Return the feature map before or after a module, from its layers.

    The layers name widths; that the module takes just one of them, and what it makes of it, is
    seen in runs of a copy of it on made-up maps, which have no values and take no memory.

    Raises:
        ValueError: They leave no answer, or several.
    """
    layout, position = told.layout, f"positions=['{where}:{site.bare}']"
    kind = type(site.module).__name__
    if layout == "auto":
        layout = "channels_first"
        if told.grid is not None or told.prefix_tokens:
            layout = "tokens"
            if may_have_samples_second(model):
                raise unsure_of_samples(f"{position}: what {kind} takes")
        elif _starts_with_norm_of_last(site):
            raise ValueError(
                f"{position}: the layers of {kind} do not tell the order of the axes: give "
                'example=INPUT, an input of the network, or layout="tokens", "tokens_first" or '
                '"channels_last".'
            )
    own = list(own_layers(site.module))
    ndim = max((len(layer.kernel_size) for layer in own if isinstance(layer, _ConvNd)), default=0)
    if layout == "channels_first" and ndim == 0:
        raise ValueError(
            f"{position}: {kind} holds no convolution to read the number of channels from: give "
            "example=INPUT, an input of the network, or choose a module that does."
        )
    if layout == "channels_last":
        ndim = _axes(model)
    elif layout != "channels_first":
        ndim = len(told.grid) if told.grid is not None and not callable(told.grid) else 1
        ndim = _axes(model) if callable(told.grid) else ndim
    channels = _tried(site.module, where, layout, ndim, told.pathway)
    if channels is None and layout != "channels_first":
        channels = _width(site, where)
    if told.in_channels is not None:
        if channels not in (None, told.in_channels):
            raise ValueError(
                f"in_channels={told.in_channels}, but the layers have {channels} at {position}."
            )
        channels = told.in_channels
    if channels is None:
        raise ValueError(
            f"{position}: the layers of {kind} do not tell how many channels "
            f"{'enter' if where == 'before' else 'leave'} it: give example=INPUT, an input of the "
            "network, or in_channels=."
        )
    return FeatureMap(layout, channels, ndim)


def _starts_with_norm_of_last(site: Site) -> bool:
    """Tell whether a module starts with a layer of channels in the last axis."""
    for layer in own_layers(site.module):
        if isinstance(layer, _ConvNd | _BatchNorm):
            return False
        if isinstance(layer, nn.LayerNorm | nn.Linear | nn.MultiheadAttention):
            return True
    return False


def _width(site: Site, where: Where) -> int | None:
    """Return the width of the tokens of a transformer's unit, which needs more than a map to run.

    It begins with the norm of its input and ends with a linear layer.
    """
    own = list(own_layers(site.module))
    norms = [layer for layer in own if isinstance(layer, nn.LayerNorm)]
    linear = [layer for layer in own if isinstance(layer, nn.Linear)]
    if not hasattr(site.module, "attn") or not norms or not linear:
        return None
    return norms[0].normalized_shape[0] if where == "before" else linear[-1].out_features


def _axes(model: nn.Module) -> int:
    """Return the number of axes of a network's feature maps: that of its convolutions."""
    return max(
        (len(layer.kernel_size) for layer in own_layers(model) if isinstance(layer, _ConvNd)),
        default=1,
    )


def _tried(
    module: nn.Module, where: Where, layout: Layout, ndim: int, pathway: Pathway | None
) -> int | None:
    """Return the only width that a module takes, or what leaves it then; None if not known."""
    if isinstance(module, _ConvNd):
        return module.in_channels if where == "before" else module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features if where == "before" else module.out_features
    first = layout == "channels_first"
    without_values = _without_values(module)
    if without_values is None:
        return None

    def run(width: int, side: int = _SIDES[0]) -> tuple[Any] | None:
        shape = {
            "channels_first": (2, width, *[side] * ndim),
            "channels_last": (2, *[side] * ndim, width),
            "tokens": (2, side, width),
            "tokens_first": (side, 2, width),
        }[layout]
        dtype = next((p.dtype for p in module.parameters()), None)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return (without_values(torch.empty(shape, dtype=dtype, device="meta")),)
            except Exception:  # of any kind: the module takes no such map
                return None

    taken = [width for width in sorted(_widths_in(module, first)) if run(width) is not None]
    # A module that takes other numbers, too, may get any: it slices channels, or averages them.
    if len(taken) != 1 or run(taken[0] + 1) is not None or run(2 * taken[0]) is not None:
        return None
    if where == "before":
        return taken[0]
    left: set[int] = set()
    for side in _SIDES:
        ran = run(taken[0], side)
        if ran is None:
            return None
        key = element_of(ran[0], pathway, type(module).__name__)
        out = ran[0] if key is None else ran[0][key]
        if out.ndim != (3 if layout in ("tokens", "tokens_first") else ndim + 2):
            return None
        left.add(int(out.shape[1 if first else -1]))
    return left.pop() if len(left) == 1 else None


def _without_values(module: nn.Module) -> nn.Module | None:
    """Return a copy of a module in evaluation mode, without values, hooks and blocks.

    It is None of a module that cannot be copied.
    """
    memo: dict[int, Any] = {}  # what stands for an object in the copy
    try:
        for each in own_layers(module):
            own = [*each._parameters.values(), *each._buffers.values(), *vars(each).values()]
            for tensor in own:
                if isinstance(tensor, Tensor):
                    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
                    kept = isinstance(tensor, nn.Parameter)
                    memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if kept else empty
        for each in module.modules():
            if isinstance(each, WithBlock):
                memo[id(each.block)] = each.block
        copied = copy.deepcopy(module, memo)
    except Exception:  # of any kind: of the methods by which its parts are copied
        return None
    for parent, name, child in list(bare_children(copied)):
        parent._modules[name] = child
    for each in copied.modules():
        each._forward_hooks.clear()
        each._forward_pre_hooks.clear()
    return copied.eval()


def _widths_in(module: nn.Module, first: bool) -> set[int]:
    """Return the widths that the layers of a module take, in the second axis or in the last."""
    found: set[int] = set()
    for layer in own_layers(module):
        if first and isinstance(layer, _ConvNd):
            found.add(layer.in_channels)
        elif first and isinstance(layer, _BatchNorm):
            found.add(layer.num_features)
        elif not first and isinstance(layer, nn.LayerNorm):
            found.add(layer.normalized_shape[-1])
        elif not first and isinstance(layer, nn.Linear):
            found.add(layer.in_features)
    return found
