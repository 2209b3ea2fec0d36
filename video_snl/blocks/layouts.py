"""A module with a block before or after it, whatever the order of the axes of its feature map.

A feature map is (B, C, *grid) in convolutional networks, (B, *grid, C) in Swin, and tokens
(B, P + N, C) in vision transformers, whose first P stand for no position (class tokens).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal

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
    "element_of",
    "grid_sizes",
    "resized_mask",
]

Where = Literal["before", "after"]
Layout = Literal["channels_first", "channels_last", "tokens"]
Pathway = int | str
Grid = Mapping[str, int] | Sequence[int]
"""Sizes of a grid: (T, H, W), (H, W) or (N,); a mapping names axes in the order of the tokens."""
GridOf = Grid | Callable[..., Grid]

_AXES = "THW"


class WithBlock(nn.Module):
    """Wrapper of a module, with a block before or after it.

    All arguments pass through. The block gets the first argument of the module, or what the module
    returns; where that is a tuple, a list or a mapping, its element ``pathway``. Attributes that
    are plain values, such as the type of a layer that its network looks at, are the module's.

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
    """

    # Modules that earlier versions pickled have none of their own.
    layout: Layout = "channels_first"
    pathway: Pathway | None = None
    prefix_tokens: int = 0
    grid: GridOf | None = None
    mask: Tensor | None = None

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
        self.module, self.block, self.where = module, block, where
        self.layout, self.pathway = layout, pathway
        self.prefix_tokens, self.grid = prefix_tokens, grid

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
            value = getattr(wrapped, name, self)
            # Parts of the module, called by themselves, would pass the block by in silence.
            if callable(value) or isinstance(value, Tensor):
                raise
            return value

    def extra_repr(self) -> str:
        facts: list[str] = [self.where, self.layout]
        facts += [] if self.pathway is None else [f"pathway={self.pathway!r}"]
        facts += [f"prefix_tokens={self.prefix_tokens}"] if self.prefix_tokens else []
        return ", ".join(facts)

    def _applied(self, value: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Return a value with the block applied to the feature map in it."""
        if isinstance(value, Tensor):
            return self._in_layout(value, args, options)
        key = element_of(value, self.pathway, type(self.module).__name__)
        return _replaced(value, key, self._in_layout(value[key], args, options))

    def _in_layout(self, x: Tensor, args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
        if self.layout == "channels_first":
            return self.apply_block(x)
        if self.layout == "channels_last":
            return self.apply_block(x.movedim(-1, 1)).movedim(1, -1)
        grid = self.grid(*args, **options) if callable(self.grid) else self.grid
        return self._on_tokens(x, grid)

    def _on_tokens(self, x: Tensor, grid: Grid | None) -> Tensor:
        sizes, order = grid_sizes(x, self.prefix_tokens, grid)
        prefix, tokens = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        there = [0, 1, *(2 + axis for axis in order)]
        back = sorted(range(len(there)), key=there.__getitem__)
        out = self.apply_block(tokens.mT.unflatten(2, sizes).permute(there))
        out = out.permute(back).flatten(2).mT
        return torch.cat([prefix, out], 1) if self.prefix_tokens else out


def element_of(value: Any, pathway: Pathway | None, name: str) -> Pathway:
    """Return the index or key of the feature map among the values that a module takes or returns.

    Args:
        value: a tuple, list or mapping.
        pathway: the one that was asked for; None for the only one that can be a feature map.
        name: name of the module, for the message.

    Raises:
        ValueError: there is none, or several and no ``pathway``.
    """
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


def resized_mask(mask: Tensor, grid: Sequence[int]) -> Tensor:
    """Return a mask of the grid of a feature map that was made of a larger one.

    A position exists where any of those does that lie there. Shapes: (B, *larger grid), or (B, T)
    of the frames alone -> (B, *grid), or (B, T).

    Raises:
        ValueError: the mask has other axes than the feature map.
    """
    of_frames = mask.ndim == 2 and len(grid) == 3
    sizes = tuple(grid[:1]) if of_frames else tuple(grid)
    if mask.ndim != 1 + len(sizes):
        raise ValueError(
            f"a mask {tuple(mask.shape)} does not fit feature maps of a grid {tuple(grid)}: give "
            f"(B, {', '.join('THW'[-len(grid) :])}), or (B, T) for clips."
        )
    if tuple(mask.shape[1:]) == sizes:
        return mask
    pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[len(sizes) - 1]
    return pool(mask[:, None].float(), sizes)[:, 0] > 0  # type: ignore[operator]


def grid_sizes(x: Tensor, prefix: int, grid: Grid | None) -> tuple[tuple[int, ...], list[int]]:
    """Return the sizes of the tokens' grid in their order, and the axes in the order T, H, W.

    Raises:
        ValueError: ``x`` is not (B, P + N, C), or has other tokens than the grid.
    """
    if x.ndim != 3:
        raise ValueError(f"tokens are (batch, tokens, channels), got {tuple(x.shape)}.")
    if x.shape[1] <= prefix:
        raise ValueError(f"prefix_tokens={prefix} of {x.shape[1]} tokens leave none for the block.")
    count = x.shape[1] - prefix
    if grid is None:
        return (count,), [0]
    names = list(grid) if isinstance(grid, Mapping) else []
    sizes = tuple(int(size) for size in (grid.values() if isinstance(grid, Mapping) else grid))
    if not 1 <= len(sizes) <= 3 or any(name not in _AXES for name in names):
        raise ValueError(f"grid={grid!r}: give (T, H, W), (H, W), or a mapping of T, H and W.")
    if math.prod(sizes) != count:
        raise ValueError(
            f"grid={grid!r} has {math.prod(sizes)} positions, and there are {count} tokens after "
            f"the first {prefix}: give prefix_tokens= and grid= of this network."
        )
    order = sorted(range(len(names)), key=lambda axis: _AXES.index(names[axis]))
    return sizes, order or list(range(len(sizes)))


def _returned(value: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return what a module returned as arguments of a function of the grid."""
    if isinstance(value, Mapping):
        return (), value
    return (value if isinstance(value, (tuple, list)) else (value,)), {}


def _replaced(value: Any, key: Any, new: Tensor) -> Any:
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
