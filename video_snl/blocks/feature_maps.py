"""Feature maps before and after modules: measured on an example, or read from the layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from video_snl.blocks.layouts import (
    GridOf,
    Layout,
    Pathway,
    Where,
    WithBlock,
    element_of,
    grid_sizes,
)
from video_snl.blocks.places import Site
from video_snl.blocks.sub_block import BATCH_NORM, CONV

__all__ = ["FeatureMap", "Told", "measured", "read_layers", "say_shared"]

_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Told(NamedTuple):
    """What was said about the feature maps; see :func:`insert_blocks`."""

    layout: Layout | Literal["auto"]
    in_channels: int | None
    pathway: Pathway | None
    prefix_tokens: int
    grid: GridOf | None


class FeatureMap(NamedTuple):
    """A feature map: order of its axes, number of channels, axes of its grid."""

    layout: Layout
    channels: int
    ndim: int


def say_shared(path: str, how: str) -> None:
    warnings.warn(f"{path} {how}: its block is applied in each.", stacklevel=3)


# ---- channels and axes, measured on an example ---------------------------------------------------


def measured(
    model: nn.Module, sites: Sequence[tuple[Site, Where]], example: Any, told: Told
) -> list[FeatureMap]:
    """Run the network on an example, and return the feature maps at the positions."""
    calls: list[list[tuple[torch.Size, int | None]]] = [[] for _ in sites]

    def note(at: int, value: Any, args: Sequence[Any], options: Mapping[str, Any]) -> None:
        site, _ = sites[at]
        key = element_of(value, told.pathway, type(site.module).__name__)
        value = value if key is None else value[key]
        axes = None
        if told.layout == "tokens" or (told.layout == "auto" and told.grid is not None):
            grid = told.grid(*args, **options) if callable(told.grid) else told.grid
            axes = len(grid_sizes(value.shape, told.prefix_tokens, grid)[0])
        calls[at].append((value.shape, axes))

    def before(at: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = args[0] if args else next(iter(options.values()))
            note(at, given, args, options)

        return hook

    def after(at: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> None:
            keyed = isinstance(out, Mapping)
            several = out if isinstance(out, (tuple, list)) else (out,)
            note(at, out, () if keyed else several, out if keyed else {})

        return hook

    arguments, options = _arguments(example)
    handles = []
    try:
        for at, (site, where) in enumerate(sites):
            if where == "before":
                handle = site.module.register_forward_pre_hook(before(at), with_kwargs=True)
            else:
                handle = site.module.register_forward_hook(after(at), with_kwargs=True)
            handles.append(handle)
        with _left_as_it_is(model):
            model(*arguments, **options)
    finally:
        for handle in handles:
            handle.remove()
    return [_seen(model, *site, found, told) for site, found in zip(sites, calls, strict=True)]


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments; of lists copies, which some networks change."""
    if isinstance(example, dict):
        return (), {name: _copied(value) for name, value in example.items()}
    given = example if isinstance(example, tuple) else (example,)
    return tuple(map(_copied, given)), {}


def _copied(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, (list, dict)) else value


@contextmanager
def _left_as_it_is(model: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode, and leave modes, buffers and random state as they were."""
    training = {module: module.training for module in model.modules()}
    buffers = {module: dict(module._buffers) for module in training}
    kept = {
        buffer: buffer.detach().clone()
        for own in buffers.values()
        for buffer in own.values()
        if buffer is not None
    }
    devices = sorted({t.device.index for t in model.parameters() if t.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            model.eval()
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
            module._buffers.update(buffers[module])
        with torch.no_grad():
            for buffer, content in kept.items():
                buffer.copy_(content)


def _seen(
    model: nn.Module,
    site: Site,
    where: Where,
    calls: Sequence[tuple[torch.Size, int | None]],
    told: Told,
) -> FeatureMap:
    """Return the feature map at a position from its shapes in all calls of the module."""
    position = f"positions=['{where}:{site.bare}']"
    if not calls:
        raise ValueError(
            f"{position}: the example does not call this {type(site.module).__name__} (perhaps its "
            "parts, one by one): choose a module that is called."
        )
    shapes = list(dict.fromkeys(tuple(shape[1:]) for shape, _ in calls))
    if len(shapes) > 1:
        named = ", ".join(map(str, shapes))
        raise ValueError(
            f"{position}: one forward calls this module with maps of different shapes, {named} "
            "after the batch: choose a module that has one."
        )
    if len(calls) > 1:
        say_shared(site.bare, f"is called {len(calls)} times in one forward")
    shape, axes = calls[0]
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"{position} has {tuple(shape)} there, no feature map of (batch, channels) and 1 to 3 "
            "axes; choose a module that has one."
        )
    layout = told.layout if told.layout != "auto" else _layout_of(model, site, shape, told)
    channels = int(shape[1] if layout == "channels_first" else shape[-1])
    if told.in_channels not in (None, channels):
        raise ValueError(
            f"in_channels={told.in_channels}, but the example has {channels} at {position}."
        )
    if layout == "tokens":
        if axes is None:
            grid_sizes(shape, told.prefix_tokens, None)
        return FeatureMap(layout, channels, axes or 1)
    return FeatureMap(layout, channels, len(shape) - 2)


def _layout_of(model: nn.Module, site: Site, shape: Sequence[int], told: Told) -> Layout:
    """Tell the order of the axes by the layers whose numbers of channels fit them.

    Raises:
        ValueError: Both orders fit, or none.
    """
    last: Layout = "tokens" if len(shape) == 3 else "channels_last"
    if last == "tokens" and (told.grid is not None or told.prefix_tokens):
        return last
    for module in (site.module, model):
        first_fits = shape[1] in _first_widths(module)
        last_fits = shape[-1] in _last_widths(module)
        if first_fits != last_fits:
            return "channels_first" if first_fits else last
        if first_fits:
            break
    raise ValueError(
        f"the order of the axes of {tuple(shape)} at {site.bare} cannot be told: give "
        f'layout="channels_first" or layout="{last}".'
    )


def _first_widths(module: nn.Module) -> set[int]:
    """Return the channels of the layers of a module that have them in the second axis."""
    found: set[int] = set()
    for layer in _own_layers(module):
        if isinstance(layer, _ConvNd):
            found |= {layer.in_channels, layer.out_channels}
        elif isinstance(layer, _BatchNorm):
            found.add(layer.num_features)
        elif isinstance(layer, nn.GroupNorm):
            found.add(layer.num_channels)
    return found


def _last_widths(module: nn.Module) -> set[int]:
    """Return the channels of the layers of a module that have them in the last axis."""
    found: set[int] = set()
    for layer in _own_layers(module):
        if isinstance(layer, nn.LayerNorm):
            found.add(layer.normalized_shape[-1])
        elif isinstance(layer, nn.Linear):
            found |= {layer.in_features, layer.out_features}
    return found


def _own_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and those in it, without inserted blocks and their wrappers."""
    while isinstance(module, WithBlock):
        module = module.module
    yield module
    for child in module.children():
        yield from _own_layers(child)


# ---- channels and axes, read from the layers -----------------------------------------------------


def read_layers(model: nn.Module, site: Site, where: Where, told: Told) -> FeatureMap:
    """Return the feature map before or after a module, from its layers.

    Raises:
        ValueError: They leave no answer, or several.
    """
    layout = told.layout
    if layout in ("auto", "channels_first"):
        if layout == "auto" and (told.grid is not None or told.prefix_tokens):
            layout = "tokens"
        elif layout == "auto" and _starts_with_norm_of_last(site):
            raise ValueError(
                f"positions=['{where}:{site.bare}']: the layers of {type(site.module).__name__} do "
                "not tell the order of the axes: give example=INPUT, an input of the network, or "
                'layout="tokens" or "channels_last".'
            )
        else:
            return FeatureMap("channels_first", *_feature_map(site, where, told.in_channels))
    channels = _width(site, where) if told.in_channels is None else told.in_channels
    if layout == "channels_last" or callable(told.grid):
        return FeatureMap(layout, channels, _axes(model))  # type: ignore[arg-type]
    return FeatureMap("tokens", channels, 1 if told.grid is None else len(told.grid))


def _starts_with_norm_of_last(site: Site) -> bool:
    """Tell whether a module starts with a layer of channels in the last axis."""
    for layer in _own_layers(site.module):
        if isinstance(layer, _ConvNd | _BatchNorm):
            return False
        if isinstance(layer, nn.LayerNorm | nn.Linear | nn.MultiheadAttention):
            return True
    return False


def _width(site: Site, where: Where) -> int:
    """Return the width of the tokens before or after a transformer's unit, from its layers."""
    own = list(_own_layers(site.module))
    norms = [layer for layer in own if isinstance(layer, nn.LayerNorm)]
    linear = [layer for layer in own if isinstance(layer, nn.Linear)]
    if not norms or not linear:
        raise ValueError(
            f"positions=['{where}:{site.bare}']: {type(site.module).__name__} holds no LayerNorm "
            "and Linear to read the number of channels from: give example=INPUT, an input of the "
            "network, or in_channels=."
        )
    return norms[0].normalized_shape[0] if where == "before" else linear[-1].out_features


def _axes(model: nn.Module) -> int:
    """Return the number of axes of a network's feature maps: that of its convolutions."""
    return max(
        (len(layer.kernel_size) for layer in _own_layers(model) if isinstance(layer, _ConvNd)),
        default=1,
    )


def _feature_map(site: Site, where: Where, given: int | None) -> tuple[int, int]:
    """Return channels and axes of the feature map before or after a convolutional module."""
    own = list(_own_layers(site.module))
    ndim = max((len(m.kernel_size) for m in own if isinstance(m, _ConvNd)), default=0)
    if ndim == 0:
        raise ValueError(
            f"positions=['{where}:{site.bare}']: {type(site.module).__name__} holds no convolution "
            "to read the number of channels from: give example=INPUT, an input of the network, or "
            "choose a module that does."
        )
    if given is not None:
        return given, ndim
    passes = list(_passes(site.module, ndim))
    if where == "before":
        return passes[0][0], ndim
    outputs = _outputs(passes)
    if len(outputs) != 1:
        raise ValueError(
            f"positions=['{where}:{site.bare}']: the layers of {type(site.module).__name__} do not "
            "tell how many channels leave it: give example=INPUT, an input of the network, or "
            "in_channels=."
        )
    return outputs.pop(), ndim


def _passes(module: nn.Module, ndim: int) -> Iterator[tuple[int, int]]:
    """Yield the input and output widths of the layers of a module, in their order."""
    if isinstance(module, WithBlock):
        yield from _passes(module.module, ndim)
    elif isinstance(module, (CONV[ndim], _TRANSPOSED[ndim])):
        yield module.in_channels, module.out_channels
    elif isinstance(module, BATCH_NORM[ndim]):
        yield module.num_features, module.num_features
    elif hasattr(module, "branch0"):  # Inception's branches stand beside each other in its output
        branches = [
            list(_passes(branch, ndim))
            for name, branch in module.named_children()
            if name.startswith("branch")
        ]
        yield branches[0][0][0], sum(branch[-1][1] for branch in branches)
    else:
        for child in module.children():
            yield from _passes(child, ndim)


def _outputs(passes: Sequence[tuple[int, int]]) -> set[int]:
    """Return the widths that leave layers that follow each other, or start from the same input.

    None where a layer takes what no layer before it gives: maps are joined there.
    """
    first, width = passes[0]
    ends = set()
    for into, out in passes[1:]:
        if into != width:
            if into != first:
                return set()
            ends.add(width)  # another path begins at the input, such as a shortcut
        width = out
    return ends | {width}
