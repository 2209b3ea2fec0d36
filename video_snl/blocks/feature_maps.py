"""Feature maps before and after modules: measured on an example, or read from the layers."""

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
from video_snl.blocks.places import Site, bare_children, sites_of

__all__ = [
    "FeatureMap",
    "Told",
    "arguments_of",
    "left_as_it_is",
    "measured",
    "read_layers",
    "say_shared",
]

_Arguments = tuple[Sequence[Any], Mapping[str, Any]]

_SIDES = (64, 96)
"""Positions along each axis of the maps on which modules are tried: two numbers, as channels stay
where positions change, and large enough for modules that shrink them."""


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


# ---- channels and axes, measured on an example ---------------------------------------------------


def measured(
    model: nn.Module, sites: Sequence[tuple[Site, Where]], example: Any, told: Told
) -> list[FeatureMap]:
    """Run the network on an example, and return the feature maps at the positions."""
    calls: list[list[_Call]] = [[] for _ in sites]
    unsure = told.layout == "auto" and _may_have_samples_second(model)
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


def _may_have_samples_second(model: nn.Module) -> bool:
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
        others = {next(iter(options)): new} if not args else {}
        out = module.forward(*((new, *args[1:]) if args else ()), **{**options, **others})
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
    if last != "tokens" or not _may_have_samples_second(model):
        return last
    samples = {call.samples for call in calls}
    if len(samples) > 1 or None in samples:
        raise _unsure_of_samples(f"{tuple(shape)} at {site.bare}")
    return "tokens" if samples == {0} else "tokens_first"


def _unsure_of_samples(where: str) -> ValueError:
    return ValueError(
        f"{where} may be (batch, tokens, channels) or (tokens, batch, channels), as this network "
        'has layers with batch_first=False: give layout="tokens" for the first, "tokens_first" '
        "for the second."
    )


def _channels_are_first(model: nn.Module, site: Site, shape: Sequence[int], last: Layout) -> bool:
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
    for layer in module.modules():
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
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm):
            found.add(layer.normalized_shape[-1])
        elif isinstance(layer, nn.Linear):
            found |= {layer.in_features, layer.out_features}
    return found


# ---- channels and axes, read from the layers -----------------------------------------------------


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
            if _may_have_samples_second(model):
                raise _unsure_of_samples(f"{position}: what {kind} takes")
        elif _starts_with_norm_of_last(site):
            raise ValueError(
                f"{position}: the layers of {kind} do not tell the order of the axes: give "
                'example=INPUT, an input of the network, or layout="tokens", "tokens_first" or '
                '"channels_last".'
            )
    own = list(site.module.modules())
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
    channels = told.in_channels
    if channels is None:
        channels = _tried(site.module, where, layout, ndim, told.pathway)
    if channels is None and layout != "channels_first":
        channels = _width(site, where)
    if channels is None:
        raise ValueError(
            f"{position}: the layers of {kind} do not tell how many channels "
            f"{'enter' if where == 'before' else 'leave'} it: give example=INPUT, an input of the "
            "network, or in_channels=."
        )
    return FeatureMap(layout, channels, ndim)


def _starts_with_norm_of_last(site: Site) -> bool:
    """Tell whether a module starts with a layer of channels in the last axis."""
    for layer in site.module.modules():
        if isinstance(layer, _ConvNd | _BatchNorm):
            return False
        if isinstance(layer, nn.LayerNorm | nn.Linear | nn.MultiheadAttention):
            return True
    return False


def _width(site: Site, where: Where) -> int | None:
    """Return the width of the tokens of a transformer's unit, which needs more than a map to run.

    It begins with the norm of its input and ends with a linear layer.
    """
    own = [site.module, *(inner.module for inner in sites_of(site.module))]
    norms = [layer for layer in own if isinstance(layer, nn.LayerNorm)]
    linear = [layer for layer in own if isinstance(layer, nn.Linear)]
    if not hasattr(site.module, "attn") or not norms or not linear:
        return None
    return norms[0].normalized_shape[0] if where == "before" else linear[-1].out_features


def _axes(model: nn.Module) -> int:
    """Return the number of axes of a network's feature maps: that of its convolutions."""
    return max(
        (len(layer.kernel_size) for layer in model.modules() if isinstance(layer, _ConvNd)),
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


def _without_values(module: nn.Module) -> nn.Module:
    """Return a copy of a module in evaluation mode, without values, hooks and blocks."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        empty = torch.empty_like(parameter, device="meta", requires_grad=False)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    copied = copy.deepcopy(module, memo)
    for parent, name, child in list(bare_children(copied)):
        parent._modules[name] = child
    for each in copied.modules():
        each._forward_hooks.clear()
        each._forward_pre_hooks.clear()
        for name, value in vars(each).items():
            if isinstance(value, Tensor):
                vars(each)[name] = value.to("meta")
    return copied.eval()


def _widths_in(module: nn.Module, first: bool) -> set[int]:
    """Return the widths that the layers of a module take, in the second axis or in the last."""
    found: set[int] = set()
    for layer in module.modules():
        if first and isinstance(layer, _ConvNd):
            found.add(layer.in_channels)
        elif first and isinstance(layer, _BatchNorm):
            found.add(layer.num_features)
        elif not first and isinstance(layer, nn.LayerNorm):
            found.add(layer.normalized_shape[-1])
        elif not first and isinstance(layer, nn.Linear):
            found.add(layer.in_features)
    return found
