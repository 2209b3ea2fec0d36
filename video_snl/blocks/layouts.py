"""A module with a block before or after it, whatever the order of the axes of its feature map.

A feature map is (B, C, *grid) in convolutional networks, (B, *grid, C) in Swin, and tokens
(B, P + N, C) in vision transformers, whose first P stand for no position (class tokens). Layers of
torch that attend or recur take tokens (P + N, B, C), where ``batch_first`` is False.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Grid",
    "GridOf",
    "Layout",
    "Pathway",
    "Where",
    "WithBlock",
    "check_words",
    "element_of",
    "grid_sizes",
    "replaced",
    "resized_mask",
]

Where = Literal["before", "after"]
Layout = Literal["channels_first", "channels_last", "tokens", "tokens_first"]
Pathway = int | str
Grid = Mapping[str, int] | Sequence[int]
"""Sizes of a grid: (T, H, W), (H, W) or (N,); a mapping names axes in the order of the tokens."""
GridOf = Grid | Callable[..., Grid]

_AXES = "THW"


class WithBlock(nn.Module):
    """Wrapper of a module, with a block before or after it.

    All arguments pass through. The block gets the first argument of the module, or what the module
    returns; where that is a tuple, a list or a mapping, its element ``pathway``. Attributes that
    are plain values, such as the type of a layer that its network looks at, are the module's; its
    layers, methods and weights are so where ``checked``.

    Args:
        module: the wrapped module.
        block: map from (B, C, *grid) to the same shape.
        where: ``"before"`` or ``"after"`` the module.
        layout: order of the axes of the feature map; see the module's docstring.
        pathway: index or key of the feature map; None where one value alone can be one.
        prefix_tokens: P, tokens at the beginning that pass by the block untouched.
        grid: sizes of the grid of the other tokens; None for a sequence. A function gets the
            arguments of the module (of a block after it: what the module returns).

    Attributes:
        mask: positions that exist, see :func:`~video_snl.blocks.insertion.mask_blocks`.
        checked: whether a run of the network on an example showed that the block is called. Without
            that, parts of the module are not handed out, as the network would pass the block by if
            it called them itself.
        calls: while it is a list, it takes the shapes of the feature maps, and no block is applied.
        parts: names of the layers, methods and weights that were handed out meanwhile.

    Raises:
        ValueError: for an unknown layout or side, a negative number of tokens, a grid that is
            none, or tokens and grid with a layout that has no tokens.
        AttributeError: for a part of the module, where ``checked`` is False.
    """

    # Modules that earlier versions pickled have none of their own.
    layout: Layout = "channels_first"
    pathway: Pathway | None = None
    prefix_tokens: int = 0
    grid: GridOf | None = None
    mask: Tensor | Sequence[Tensor] | None = None
    checked: bool = False
    calls: list[torch.Size] | None = None
    parts: tuple[str, ...] = ()

    def __init__(
        self,
        module: nn.Module,
        block: nn.Module,
        where: Where,
        *,
        layout: Layout = "channels_first",
        pathway: Pathway | None = None,
        prefix_tokens: int = 0,
        grid: GridOf | None = None,
    ) -> None:
        super().__init__()
        if where not in get_args(Where):
            raise ValueError(f"where={where!r} is unknown; choose 'before' or 'after'.")
        check_words(layout, prefix_tokens, grid)
        self.module, self.block, self.where = module, block, where
        self.layout, self.pathway = layout, pathway
        self.prefix_tokens, self.grid = prefix_tokens, grid
        # Layers of torch such as nn.TransformerEncoderLayer do not call their parts in evaluation
        # mode: a fused kernel reads the weights, unless a layer below has a hook.
        self.register_forward_pre_hook(_changes_nothing)

    def forward(self, *args: Any, **options: Any) -> Any:
        if self.where == "after":
            result = self.module(*args, **options)
            return self._applied(result, *_returned(result))
        if args:
            return self.module(self._applied(args[0], args, options), *args[1:], **options)
        name = next(iter(options))
        applied = self._applied(options[name], (), options)
        return self.module(**{**options, name: applied})

    def apply_block(self, x: Tensor) -> Tensor:
        """Return the block's output for a feature map (B, C, *grid)."""
        if self.mask is None:
            return self.block(x)
        return self.block(x, mask=resized_mask(self.mask, x.shape[2:]))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            wrapped = self.__dict__.get("_modules", {}).get("module")
            # copy and pickle ask for methods of theirs, which must not be those of the module.
            if wrapped is None or name.startswith("__"):
                raise
            value = getattr(wrapped, name)
            if callable(value) or isinstance(value, Tensor):
                if not self.checked:
                    kind = type(wrapped).__name__
                    raise AttributeError(
                        f"the network reads {name} of a {kind} that has a block {self.where} it, "
                        f"and would pass the block by if it used {name} in place of the {kind}: "
                        "give insert_blocks example=INPUT, on which it checks that."
                    ) from None
                if self.calls is not None and name not in self.parts:
                    self.parts = (*self.parts, name)
            return value

    def extra_repr(self) -> str:
        facts: list[str] = [self.where, self.layout]
        facts += [] if self.pathway is None else [f"pathway={self.pathway!r}"]
        facts += [f"prefix_tokens={self.prefix_tokens}"] if self.prefix_tokens else []
        return ", ".join(facts)

    def _applied(self, value: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Return a value with the block applied to the feature map in it."""
        key = element_of(value, self.pathway, type(self.module).__name__)
        if key is None:
            return self._in_layout(value, args, options)
        return replaced(value, key, self._in_layout(value[key], args, options))

    def _in_layout(self, x: Tensor, args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
        if self.calls is not None:
            self.calls.append(x.shape)
            return x
        if self.layout == "channels_first":
            return self.apply_block(x)
        if self.layout == "channels_last":
            return self.apply_block(x.movedim(-1, 1)).movedim(1, -1)
        grid = self.grid(*args, **options) if callable(self.grid) else self.grid
        if self.layout == "tokens_first":
            return self._on_tokens(x.transpose(0, 1), grid).transpose(0, 1)
        return self._on_tokens(x, grid)

    def _on_tokens(self, x: Tensor, grid: Grid | None) -> Tensor:
        sizes, order = grid_sizes(x.shape, self.prefix_tokens, grid)
        prefix, tokens = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        there = [0, 1, *(2 + axis for axis in order)]
        back = sorted(range(len(there)), key=there.__getitem__)
        out = self.apply_block(tokens.mT.unflatten(2, sizes).permute(there))
        out = out.permute(back).flatten(2).mT
        return torch.cat([prefix, out], 1) if self.prefix_tokens else out


def check_words(
    layout: str, prefix_tokens: int, grid: GridOf | None, extra: Sequence[str] = ()
) -> None:
    """Check what was said about a feature map, before any is seen.

    Raises:
        ValueError: for an unknown layout (``extra`` are known, too), a number of tokens below 0, a
            grid that is none, or tokens and grid with a layout that has no tokens.
    """
    known = (*get_args(Layout), *extra)
    if layout not in known:
        raise ValueError(f"layout={layout!r} is unknown; choose from: {', '.join(known)}.")
    if not isinstance(prefix_tokens, int) or isinstance(prefix_tokens, bool) or prefix_tokens < 0:
        raise ValueError(
            f"prefix_tokens={prefix_tokens!r} is no number of tokens: give a whole number of at "
            "least 0."
        )
    if grid is not None and not callable(grid):
        _sizes_of(grid)
    if layout in ("channels_first", "channels_last"):
        given = [f"prefix_tokens={prefix_tokens}"] if prefix_tokens else []
        given += [f"grid={grid!r}"] if grid is not None else []
        if given:
            raise ValueError(
                f"{' and '.join(given)} with layout={layout!r}, whose feature maps have a grid of "
                "their own and no tokens: leave out, or give layout='tokens' or 'tokens_first'."
            )


def _sizes_of(grid: Grid) -> tuple[int, ...]:
    """Return the sizes of a grid, in its order.

    Raises:
        ValueError: it has other than 1 to 3 axes, other names, or sizes that are none.
    """
    fault = ValueError(
        f"grid={grid!r}: give 1 to 3 sizes of at least 1 as (T, H, W), (H, W) or (N,), or a "
        "mapping of T, H and W."
    )
    if isinstance(grid, str):
        raise fault
    names = list(grid) if isinstance(grid, Mapping) else []
    try:
        given = tuple(grid.values() if isinstance(grid, Mapping) else grid)
        sizes = tuple(int(size) for size in given)
    except (TypeError, ValueError) as error:
        raise fault from error
    if not 1 <= len(sizes) <= 3 or any(name not in tuple(_AXES) for name in names):
        raise fault
    if any(size < 1 or size != own for size, own in zip(sizes, given, strict=True)):
        raise fault
    return sizes


def element_of(value: Any, pathway: Pathway | None, name: str) -> Pathway | None:
    """Return the index or key of the feature map among the values that a module takes or returns.

    It is None for a tensor alone, which is the feature map.

    Args:
        value: a tensor, tuple, list or mapping.
        pathway: the one that was asked for; None for the only one that can be a feature map.
        name: name of the module, for the message.

    Raises:
        ValueError: there is none, or several and no ``pathway``, or a ``pathway`` of one alone.
    """
    if isinstance(value, Tensor):
        if pathway is not None:
            raise ValueError(
                f"pathway={pathway!r}: {name} takes or returns one feature map "
                f"{tuple(value.shape)} here, not several; leave pathway out."
            )
        return None
    if isinstance(value, Mapping):
        items: dict[Any, Any] = dict(value)
    elif isinstance(value, (tuple, list)):
        items = dict(enumerate(value))
    else:
        raise ValueError(
            f"{name} takes or returns a {type(value).__name__}, no feature map: insert the block "
            "at another module."
        )
    maps = [k for k, v in items.items() if isinstance(v, Tensor) and v.ndim >= 3]
    if pathway is None and len(maps) == 1:
        return maps[0]
    wanted = len(items) + pathway if isinstance(pathway, int) and pathway < 0 else pathway
    if wanted in maps:
        return wanted  # type: ignore[return-value]
    shapes = ", ".join(f"{key!r}: {tuple(items[key].shape)}" for key in maps) or "none"
    given = "give pathway=" if pathway is None else f"pathway={pathway!r} is none of them"
    raise ValueError(
        f"{name} takes or returns a {type(value).__name__} with the feature maps {shapes}: {given}."
    )


def resized_mask(mask: Tensor | Sequence[Tensor], grid: Sequence[int]) -> Tensor:
    """Return a mask of the grid of a feature map that was made of a larger one.

    A position exists where any position exists in its share of the larger grid: along an axis from
    n to m positions, position i has the share floor(i n / m) to ceil((i + 1) n / m) - 1. These are
    not always those that the network made it of: kernels wider than their stride look beyond the
    share, and strides that do not divide n take other positions. Shapes: (B, *larger grid), or
    (B, T) of the frames alone -> (B, *grid), or (B, T).

    Args:
        mask: a mask; or several, of which the one of just this grid is returned.
        grid: sizes of the grid of the feature map.

    Raises:
        ValueError: the mask has other axes than the feature map, or fewer positions along one; none
            of several has its sizes.
    """
    if not isinstance(mask, Tensor):
        for each in mask:
            if tuple(each.shape[1:]) in (tuple(grid), tuple(grid[:1]) if len(grid) == 3 else None):
                return each
        given = ", ".join(str(tuple(each.shape)) for each in mask)
        raise ValueError(
            f"none of the masks {given} has the grid {tuple(grid)} of a block: give one mask for "
            "each size, or a single one of a larger grid."
        )
    of_frames = mask.ndim == 2 and len(grid) == 3
    sizes = tuple(grid[:1]) if of_frames else tuple(grid)
    if mask.ndim != 1 + len(sizes):
        raise ValueError(
            f"a mask {tuple(mask.shape)} does not fit feature maps of a grid {tuple(grid)}: give "
            f"(B, {', '.join('THW'[-len(grid) :])}), or (B, T) for clips."
        )
    if tuple(mask.shape[1:]) == sizes:
        return mask
    if any(has < size for has, size in zip(mask.shape[1:], sizes, strict=True)):
        raise ValueError(
            f"a mask {tuple(mask.shape)} has fewer positions than the feature maps of a grid "
            f"{tuple(grid)} at a block: give the mask of the network's input, or of a map that is "
            "made before."
        )
    pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[len(sizes) - 1]
    return pool(mask[:, None].float(), sizes)[:, 0] > 0  # type: ignore[operator]


def grid_sizes(
    shape: Sequence[int], prefix: int, grid: Grid | None
) -> tuple[tuple[int, ...], list[int]]:
    """Return the sizes of the tokens' grid in their order, and the axes in the order T, H, W.

    Raises:
        ValueError: the shape is not (B, P + N, C), or has other tokens than the grid.
    """
    if len(shape) != 3:
        raise ValueError(f"tokens are (batch, tokens, channels), got {tuple(shape)}.")
    if shape[1] <= prefix:
        raise ValueError(f"prefix_tokens={prefix} of {shape[1]} tokens leave none for the block.")
    count = shape[1] - prefix
    if grid is None:
        return (count,), [0]
    names, sizes = list(grid) if isinstance(grid, Mapping) else [], _sizes_of(grid)
    if math.prod(sizes) != count:
        raise ValueError(
            f"grid={grid!r} has {math.prod(sizes)} positions, and there are {count} tokens after "
            f"the first {prefix}: give prefix_tokens= and grid= of this network."
        )
    order = sorted(range(len(names)), key=lambda axis: _AXES.index(names[axis]))
    return sizes, order or list(range(len(sizes)))


def _changes_nothing(_: nn.Module, __: tuple[Any, ...]) -> None:
    """Stand as a hook of a wrapper; copies and pickles hold it by its name."""


def _returned(value: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return what a module returned as arguments of a function of the grid."""
    if isinstance(value, Mapping):
        return (), value
    return (value if isinstance(value, (tuple, list)) else (value,)), {}


def replaced(value: Any, key: Any, new: Tensor) -> Any:
    """Return a tuple, list or mapping of the same type, with one value in the place of another."""
    if isinstance(value, MutableMapping):
        changed = copy.copy(value)
        changed[key] = new
        return changed
    values = list(value)
    values[key] = new
    if isinstance(value, list):
        return values
    return type(value)(*values) if hasattr(value, "_fields") else tuple(values)
