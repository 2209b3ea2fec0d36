"""Feature maps before and after modules, measured on an example of the network's input.

:mod:`video_snl.blocks.layer_widths` reads them from the layers, without an example.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from video_snl.blocks.layouts import (
    Grid,
    GridOf,
    Layout,
    Pathway,
    Where,
    element_of,
    grid_sizes,
    replaced,
)
from video_snl.blocks.places import Site, own_layers

__all__ = [
    "FeatureMap",
    "Told",
    "arguments_of",
    "left_as_it_is",
    "may_have_samples_second",
    "measured",
    "say_shared",
    "unsure_of_samples",
]

_Arguments = tuple[Sequence[Any], Mapping[str, Any]]


class Told(NamedTuple):
    """What was said about the feature maps; see :func:`insert_blocks`."""

    layout: Layout | Literal["auto"]
    in_channels: int | None
    pathway: Pathway | None
    prefix_tokens: int
    grid: GridOf | None


class FeatureMap(NamedTuple):
    """A feature map: order of its axes, channels, axes of its grid, and its shapes in all calls."""

    layout: Layout
    channels: int
    ndim: int
    calls: tuple[torch.Size, ...] = ()


class _Call(NamedTuple):
    """A call of a module: its feature map, what the grid of tokens was, the axis of the samples."""

    shape: torch.Size
    grid: Grid | None
    samples: int | None


def say_shared(path: str, how: str) -> None:
    warnings.warn(f"{path} {how}: its block is applied in each.", stacklevel=3)


def measured(
    model: nn.Module, sites: Sequence[tuple[Site, Where]], example: Any, told: Told
) -> list[FeatureMap]:
    """Run the network on an example, and return the feature maps at the positions."""
    calls: list[list[_Call]] = [[] for _ in sites]
    unsure = told.layout == "auto" and may_have_samples_second(model)
    trying = False  # a module is run once more, in which other sites may be

    def note(at: int, given: _Arguments, value: Any, of: _Arguments) -> None:
        nonlocal trying
        if trying:
            return
        site, where = sites[at]
        key = element_of(value, told.pathway, type(site.module).__name__)
        value = value if key is None else value[key]
        args, options = of
        grid = told.grid(*args, **options) if callable(told.grid) else told.grid
        samples = None
        if unsure and value.ndim == 3:
            trying = True
            try:
                samples = _axis_of_samples(site.module, where, given, told.pathway)
            finally:
                trying = False
        calls[at].append(_Call(value.shape, grid, samples))

    def before(at: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            note(at, (args, options), _first(args, options), (args, options))

        return hook

    def after(at: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any], out: Any) -> None:
            keyed = isinstance(out, Mapping)
            several = out if isinstance(out, (tuple, list)) else (out,)
            note(at, (args, options), out, ((), out) if keyed else (several, {}))

        return hook

    arguments, options = arguments_of(example)
    handles = []
    try:
        for at, (site, where) in enumerate(sites):
            if where == "before":
                handle = site.module.register_forward_pre_hook(before(at), with_kwargs=True)
            else:
                handle = site.module.register_forward_hook(after(at), with_kwargs=True)
            handles.append(handle)
        with left_as_it_is(model):
            model(*arguments, **options)
    finally:
        for handle in handles:
            handle.remove()
    return [_seen(model, *site, found, told) for site, found in zip(sites, calls, strict=True)]


def _first(args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    return args[0] if args else next(iter(options.values()))


def may_have_samples_second(model: nn.Module) -> bool:
    """Tell whether a network has layers whose maps are (tokens, batch, channels)."""
    return any(getattr(module, "batch_first", None) is False for module in model.modules())


def _axis_of_samples(
    module: nn.Module, where: Where, given: _Arguments, pathway: Pathway | None
) -> int | None:
    """Return which of the first two axes of a map (., ., C) are the samples; None if not known.

    A module that attends or recurs mixes tokens, and no samples. It is run again with other values
    in the first entry along each axis: where the first token is another, others change, too.
    """
    name, (args, options) = type(module).__name__, given
    value = _first(args, options)
    try:
        key = element_of(value, pathway if where == "before" else None, name)
    except ValueError:
        return None
    x = value if key is None else value[key]
    if x.ndim != 3 or x.is_meta or not x.is_floating_point():
        return None

    def run(x: Tensor) -> Tensor:
        new = x if key is None else replaced(value, key, x)
        # Attention on itself is given one tensor as queries, keys and values.
        changed = [new if arg is value else arg for arg in args]
        named = {name: new if arg is value else arg for name, arg in options.items()}
        out = module.forward(*changed, **named)
        chosen = element_of(out, pathway if where == "after" else None, name)
        return out if chosen is None else out[chosen]

    try:
        bare = run(x.clone())
    except ValueError:
        return None
    if bare.ndim != 3:
        return None
    stays: dict[int, list[int]] = {}  # axes of the output along which the change stays at the first
    for axis in (0, 1):
        if x.shape[axis] > 1:
            other = x.clone()
            other.select(axis, 0).normal_()
            changed = (run(other) != bare).any(2)
            stays[axis] = [
                to
                for to, size in enumerate(changed.shape)
                if size > 1 and not changed.narrow(to, 1, size - 1).any()
            ]
    tokens = [axis for axis, kept in stays.items() if not kept]
    if len(tokens) != 1:
        return None
    samples = 1 - tokens[0]
    if where == "before":
        return samples
    single = [axis for axis in (0, 1) if bare.shape[axis] == 1]
    to = stays.get(samples, single)
    return to[0] if len(to) == 1 else None


def arguments_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments; of lists copies, which some networks change."""
    if isinstance(example, dict):
        return (), {name: _copied(value) for name, value in example.items()}
    given = example if isinstance(example, tuple) else (example,)
    return tuple(map(_copied, given)), {}


def _copied(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, (list, dict)) else value


@contextmanager
def left_as_it_is(model: nn.Module) -> Iterator[None]:
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
    model: nn.Module, site: Site, where: Where, calls: Sequence[_Call], told: Told
) -> FeatureMap:
    """Return the feature map at a position from its shapes in all calls of the module."""
    position = f"positions=['{where}:{site.bare}']"
    if not calls:
        raise ValueError(
            f"{position}: the example does not call this {type(site.module).__name__} (perhaps its "
            "parts, one by one): choose a module that is called."
        )
    shape, grid, _ = calls[0]
    layout = told.layout
    if layout == "auto" and 3 <= len(shape) <= 5:
        layout = _layout_of(model, site, calls, told)
        if layout in ("tokens", "tokens_first"):
            _warn_of_class_token(model, position, told)
    elif 3 <= len(shape) <= 5:
        _check_layout(site.module, position, shape, layout)
    samples = 1 if layout == "tokens_first" else 0
    shapes = list(dict.fromkeys((*s[:samples], *s[samples + 1 :]) for s, _, _ in calls))
    if len(shapes) > 1:
        named = ", ".join(map(str, shapes))
        raise ValueError(
            f"{position}: one forward calls this module with maps of different shapes, {named} "
            "beside the batch: choose a module that has one."
        )
    if len(calls) > 1:
        say_shared(site.bare, f"is called {len(calls)} times in one forward")
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"{position} has {tuple(shape)} there, no feature map of (batch, channels) and 1 to 3 "
            "axes; choose a module that has one."
        )
    channels = int(shape[1] if layout == "channels_first" else shape[-1])
    if told.in_channels not in (None, channels):
        raise ValueError(
            f"in_channels={told.in_channels}, but the example has {channels} at {position}."
        )
    ndim = len(shape) - 2
    if layout in ("tokens", "tokens_first"):
        ordered = (shape[samples], *shapes[0]) if len(shape) == 3 else shape
        ndim = len(grid_sizes(ordered, told.prefix_tokens, grid)[0])
    return FeatureMap(layout, channels, ndim, tuple(call.shape for call in calls))  # type: ignore[arg-type]


def _layout_of(model: nn.Module, site: Site, calls: Sequence[_Call], told: Told) -> Layout:
    """Tell the order of the axes by the layers whose numbers of channels fit them.

    Raises:
        ValueError: Both orders fit, or none; or the samples may be the second axis, and the module
            does not tell.
    """
    shape = calls[0].shape
    last: Layout = "tokens" if len(shape) == 3 else "channels_last"
    said = last == "tokens" and (told.grid is not None or told.prefix_tokens > 0)
    if not said and _channels_are_first(model, site, shape, last):
        return "channels_first"
    if last != "tokens" or not may_have_samples_second(model):
        return last
    samples = {call.samples for call in calls}
    if len(samples) > 1 or None in samples:
        raise unsure_of_samples(f"{tuple(shape)} at {site.bare}")
    return "tokens" if samples == {0} else "tokens_first"


def _check_layout(module: nn.Module, position: str, shape: Sequence[int], layout: str) -> None:
    """Refuse a layout that the layers of a module contradict.

    Raises:
        ValueError: Their numbers of channels fit the other order of the axes alone.
    """
    fits = {1: shape[1] in _first_widths(module), -1: shape[-1] in _last_widths(module)}
    chosen = 1 if layout == "channels_first" else -1
    if fits[-chosen] and not fits[chosen]:
        raise ValueError(
            f"{position}: layout={layout!r} makes {shape[chosen]} of {tuple(shape)} the channels, "
            f"and the layers of this {type(module).__name__} have {shape[-chosen]}: leave layout= "
            "out, or choose the other order."
        )


def _warn_of_class_token(model: nn.Module, position: str, told: Told) -> None:
    """Say that a class token is a position like others where nobody said what the tokens are."""
    named = any(
        name.rpartition(".")[2] in ("class_token", "cls_token")
        for name, _ in model.named_parameters()
    )
    if named and told.grid is None and not told.prefix_tokens:
        warnings.warn(
            f"{position}: this network has a class token, which the block takes for a position in "
            "a row of tokens; prefix_tokens=1 and grid=(H, W) let it pass by.",
            stacklevel=5,
        )


def unsure_of_samples(where: str) -> ValueError:
    """Return the error that asks which of the first two axes are the samples."""
    return ValueError(
        f"{where} may be (batch, tokens, channels) or (tokens, batch, channels), as this network "
        'has layers with batch_first=False: give layout="tokens" for the first, "tokens_first" '
        "for the second."
    )


def _channels_are_first(model: nn.Module, site: Site, shape: Sequence[int], last: Layout) -> bool:
    """Tell whether layers of channels in the second axis fit, of the module or else the network.

    Raises:
        ValueError: Those of the last axis fit as well, or neither do.
    """
    for module in (site.module, model):
        first_fits = shape[1] in _first_widths(module)
        last_fits = shape[-1] in _last_widths(module)
        if first_fits != last_fits:
            return first_fits
        if first_fits:
            break
    raise ValueError(
        f"the order of the axes of {tuple(shape)} at {site.bare} cannot be told: give "
        f'layout="channels_first" or layout="{last}".'
    )


def _first_widths(module: nn.Module) -> set[int]:
    """Return the channels of the layers of a module that have them in the second axis."""
    found: set[int] = set()
    for layer in own_layers(module):
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
    for layer in own_layers(module):
        if isinstance(layer, nn.LayerNorm):
            found.add(layer.normalized_shape[-1])
        elif isinstance(layer, nn.Linear):
            found |= {layer.in_features, layer.out_features}
        elif isinstance(layer, nn.RNNBase):
            out = layer.proj_size or layer.hidden_size
            found |= {layer.input_size, out * (2 if layer.bidirectional else 1)}
    return found
