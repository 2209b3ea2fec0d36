"""Insertion of blocks into any network, at named places.

A position is ``before:PLACE`` or ``after:PLACE``. A place is a residual unit of a stage
(``res4.5``, ``layer2.1``) or a dotted module path of the bare network (``blocks.3.res_blocks.5``).

Feature maps are (B, C, ...) in convolutional networks, (B, ..., C) in Swin and (B, 1 + T H W, C) in
MViT, whose first token stands for the class: a block leaves it as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Unpack

import torch
from torch import Tensor, nn

from video_snl.blocks.block import BATCH_NORM, CONV
from video_snl.blocks.zoo import BlockOptions, make_block

__all__ = [
    "BlockFactory",
    "Layout",
    "Where",
    "WithBlock",
    "Wrapper",
    "block_places",
    "in_stages",
    "insert_blocks",
    "inserted_blocks",
]

BlockFactory = Callable[..., nn.Module]
Where = Literal["before", "after"]
Layout = Literal["channels_first", "channels_last", "tokens"]
Wrapper = Callable[[nn.Module, nn.Module, Where], "WithBlock"]


class WithBlock(nn.Module):
    """Wrapper of a module with a block before or after it.

    A subclass may apply the block in another way, see ``wrapper`` of :func:`insert_blocks`.
    """

    def __init__(self, module: nn.Module, block: nn.Module, where: Where) -> None:
        super().__init__()
        self.module, self.block, self.where = module, block, where

    def forward(self, x: Any, *others: Any) -> Any:
        if self.where == "before":
            return self.module(self.apply_block(x), *others)
        return self.apply_block(self.module(x, *others))

    def apply_block(self, x: Any) -> Any:
        """Return the block's output for the feature map at its position."""
        return self.block(x)


class _ChannelsLast(WithBlock):
    """Wrapper of a module whose input and output are (B, ..., C)."""

    def apply_block(self, x: Tensor) -> Tensor:
        return self.block(x.movedim(-1, 1)).movedim(1, -1)


class _Tokens(WithBlock):
    """Wrapper of a module (x, grid) -> (x, grid) with x (B, 1 + T H W, C) and grid = (T, H, W)."""

    def forward(self, x: Tensor, *others: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        [grid] = others
        if self.where == "before":
            x = self._applied(x, grid)
        x, grid = self.module(x, grid)
        return (self._applied(x, grid) if self.where == "after" else x), grid

    def _applied(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        first, rest = x[:, :1], x[:, 1:].transpose(1, 2)
        rest = self.apply_block(rest.unflatten(2, tuple(grid)))
        return torch.cat([first, rest.flatten(2).transpose(1, 2)], 1)


_WRAPPERS: dict[Layout, type[WithBlock]] = {
    "channels_first": WithBlock,
    "channels_last": _ChannelsLast,
    "tokens": _Tokens,
}


def insert_blocks(
    model: nn.Module,
    block: str | BlockFactory = "snl",
    positions: Sequence[str] = ("before:res4.-1",),
    *,
    inter_channels: int | None = None,
    num_units: int = 1,
    zero_init: bool = True,
    activation: Literal["relu"] | None = None,
    layout: Layout = "channels_first",
    wrapper: Wrapper | None = None,
    **options: Unpack[BlockOptions],
) -> list[nn.Module]:
    """Insert a block at each position of ``model``, in place, and return the blocks.

    The numbers of channels and of axes are read from the convolutions at the position; device,
    dtype and training mode are those of the module there. A negative number counts the units of a
    stage from its end: the default is ``before:res4.5`` in a ResNet-50. Load weights of the bare
    network before the insertion; afterwards the parameters of a wrapped module have ``.module`` in
    their names. When an error is raised, ``model`` is unchanged.

    Args:
        model: network to change.
        block: name of a block of the zoo, or a callable ``(in_channels, *, ndim, inter_channels,
            num_units, zero_init, activation, **options) -> nn.Module``.
        positions: positions as in the module's docstring, each at most once.
        inter_channels, num_units, zero_init, activation, options: arguments of the block.
        layout: order of the axes of the feature maps; see above.
        wrapper: function that makes the :class:`WithBlock` of a module, its block and the side;
            default that of the layout.

    Raises:
        ValueError: for no position, a malformed one, one that already has a block, or one that
            names no module of this network (the message lists the places of the network).
    """
    if not positions:
        raise ValueError(f"positions is empty, no block would be inserted. {_places_line(model)}")
    build = functools.partial(make_block, block) if isinstance(block, str) else block
    wrapper = wrapper or _WRAPPERS[layout]
    sites = _resolve(model, positions)
    blocks = []
    for site, where in sites:
        if layout == "channels_first":
            channels, ndim = _feature_map(site, where)
        else:
            channels, ndim = _width(site, where), _axes(model)
        new = build(
            channels,
            ndim=ndim,
            inter_channels=inter_channels,
            num_units=num_units,
            zero_init=zero_init,
            activation=activation,
            **options,
        )
        like = next(site.module.parameters())
        blocks.append(new.to(like.device, like.dtype).train(site.module.training))
    for (site, where), new in zip(sites, blocks, strict=True):
        present = getattr(site.parent, site.name)
        setattr(site.parent, site.name, wrapper(present, new, where))
    return blocks


def inserted_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the inserted blocks by position, ``{"before:res4.5": block}``."""
    names = {site.bare: place for place, site in _units(model).items()}
    return {
        f"{where}:{names.get(site.bare, site.bare)}": block
        for site in _sites(model)
        for where, block in site.blocks.items()
    }


def block_places(model: nn.Module) -> dict[str, str]:
    """Return the module paths of the residual units of the network's stages, by name.

    Stages are the lists of residual units: ``res2`` ... ``res5`` in pytorchvideo's ResNets and X3D,
    ``slow.res2`` ... ``fast.res5`` in its SlowFast, ``layer1`` ... ``layer4`` in torchvision's and
    timm's ResNets, ``features.N`` in Swin and ``blocks`` in MViT; in S3D they are the layers of
    ``features``.
    """
    return {place: site.path for place, site in _units(model).items()}


class _Site(NamedTuple):
    """A module of the bare network and its place.

    Attributes:
        module: the module, without a wrapper.
        parent, name: the parent module and the name of its child, the module or its wrapper.
        bare: path in the network without inserted blocks.
        path: present path, through wrappers of modules above.
        blocks: blocks inserted here, by "before" and "after".
    """

    module: nn.Module
    parent: nn.Module
    name: str
    bare: str
    path: str
    blocks: dict[str, nn.Module]


def _sites(parent: nn.Module, bare: str = "", path: str = "") -> Iterator[_Site]:
    """Yield the bare network's modules below ``parent``, without inserted blocks and wrappers."""
    for name, module in parent.named_children():
        here, inside = f"{bare}.{name}".lstrip("."), f"{path}.{name}".lstrip(".")
        site = _Site(module, parent, name, here, inside, {})
        while isinstance(module, WithBlock):
            site.blocks[module.where] = module.block
            module, inside = module.module, f"{inside}.module"
        yield site._replace(module=module)
        yield from _sites(module, here, inside)


def _units(model: nn.Module) -> dict[str, _Site]:
    stages: dict[str, str] = {}
    units: dict[str, _Site] = {}
    for site in _sites(model):
        parent, _, name = site.bare.rpartition(".")
        if parent in stages:
            units[f"{stages[parent]}.{name}"] = site
        else:
            stage = _stage(site, list(stages.values()))
            stages |= {} if stage is None else {site.bare: stage}
    return units


def _stage(site: _Site, known: Sequence[str]) -> str | None:
    """Return the name of the stage that a module is; None of one that is not a stage.

    Args:
        known: Names of the stages before it.
    """
    # Counted, since some networks have a pooling layer between two stages.
    if re.fullmatch(r"blocks\.\d+\.res_blocks", site.bare):
        return f"res{len(known) + 2}"
    two = re.fullmatch(r"blocks\.\d+\.multipathway_blocks\.([01])\.res_blocks", site.bare)
    if two:
        path = ("slow", "fast")[int(two[1])]
        return f"{path}.res{sum(name.startswith(path) for name in known) + 2}"
    if not isinstance(site.module, nn.Sequential | nn.ModuleList):
        return None
    if re.fullmatch(r"layer\d+", site.bare) and isinstance(site.module, nn.Sequential):
        return site.bare
    units = [unit.module if isinstance(unit, WithBlock) else unit for unit in site.module]
    attend = bool(units) and all(hasattr(unit, "attn") for unit in units)
    if attend and re.fullmatch(r"blocks|features\.\d+", site.bare):
        return site.bare
    # S3D; torchvision's networks of images have other layers of this name.
    if site.bare == "features" and any(hasattr(unit, "branch0") for unit in units):
        return site.bare
    return None


def _resolve(model: nn.Module, positions: Sequence[str]) -> list[tuple[_Site, Where]]:
    units = _units(model)
    sites = units | {site.bare: site for site in _sites(model)}
    found: dict[tuple[str, str], tuple[_Site, Where]] = {}
    for position in positions:
        where, place = _parse(position)
        site = sites.get(_from_start(place, units))
        if site is None:
            raise ValueError(f"positions=[{position!r}] names no module. {_places_line(model)}")
        if (site.bare, where) in found or where in site.blocks:
            raise ValueError(
                f"positions={list(positions)}: there would be two blocks {position}; "
                "name each position once."
            )
        found[site.bare, where] = (site, where)
    return list(found.values())


def _parse(position: str) -> tuple[Where, str]:
    where, _, place = position.partition(":")
    if place and where == "before":
        return "before", place
    if place and where == "after":
        return "after", place
    raise ValueError(
        f"positions=[{position!r}] is malformed: write before:PLACE or after:PLACE, "
        "for example before:res4.5."
    )


def _from_start(place: str, places: Iterable[str]) -> str:
    """Turn ``res4.-1`` into ``res4.5``."""
    stage, _, unit = place.rpartition(".")
    units = [name for name in places if name.rpartition(".")[0] == stage]
    if re.fullmatch(r"-[1-9]\d*", unit) and int(unit[1:]) <= len(units):
        return units[int(unit)]
    return place


def in_stages(places: Iterable[str]) -> str:
    """Return places as a short list, ``res2.0-2, res3.0-3``."""
    stages: dict[str, list[str]] = {}
    for place in places:
        stage, _, unit = place.rpartition(".")
        stages.setdefault(stage, []).append(unit)
    ranges = [
        f"{stage}.{units[0]}-{units[-1]}" if len(units) > 1 else f"{stage}.{units[0]}"
        for stage, units in stages.items()
    ]
    return ", ".join(ranges)


def _places_line(model: nn.Module) -> str:
    places = block_places(model)
    if not places:
        children = ", ".join(name for name, _ in model.named_children())
        return f"This network has no stages that we know; its modules are: {children}."
    return f"This network has: {in_stages(places)}."


def _width(site: _Site, where: Where) -> int:
    """Return the width of the tokens before or after a transformer's unit, from its layers."""
    own = [site.module, *(inner.module for inner in _sites(site.module))]
    norms = [layer for layer in own if isinstance(layer, nn.LayerNorm)]
    linear = [layer for layer in own if isinstance(layer, nn.Linear)]
    if not norms or not linear:
        raise ValueError(
            f"positions=['{where}:{site.bare}']: {type(site.module).__name__} holds no LayerNorm "
            "and Linear to read the number of channels from; choose a unit of a stage."
        )
    return norms[0].normalized_shape[0] if where == "before" else linear[-1].out_features


def _axes(model: nn.Module) -> int:
    """Return the number of axes of a network's feature maps: that of its convolutions."""
    return max(
        (
            len(layer.kernel_size)
            for layer in model.modules()
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        ),
        default=1,
    )


def _feature_map(site: _Site, where: Where) -> tuple[int, int]:
    """Return channels and axes of the feature map before or after a module, from its layers."""
    own = [site.module, *(inner.module for inner in _sites(site.module))]
    convolutions = [m for m in own if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    ndim = max((len(convolution.kernel_size) for convolution in convolutions), default=0)
    if ndim == 0:
        raise ValueError(
            f"positions=['{where}:{site.bare}']: {type(site.module).__name__} holds no convolution "
            "to read the number of channels from; choose a module that does."
        )
    layers = [m for m in own if isinstance(m, (CONV[ndim], BATCH_NORM[ndim]))]
    if where == "before":
        norm = isinstance(layers[0], BATCH_NORM[ndim])
        return int(layers[0].num_features if norm else layers[0].in_channels), ndim  # type: ignore[arg-type]
    # The branches of an Inception block stand beside each other in its output.
    names = [name for name, _ in site.module.named_children() if name.startswith("branch")]
    if not hasattr(site.module, "branch0"):
        return _outputs(layers[-1], ndim), ndim
    branches = [list(site.module.get_submodule(name).modules()) for name in names]
    return sum(_outputs([m for m in b if m in layers][-1], ndim) for b in branches), ndim


def _outputs(layer: nn.Module, ndim: int) -> int:
    norm = isinstance(layer, BATCH_NORM[ndim])
    return int(layer.num_features if norm else layer.out_channels)  # type: ignore[arg-type]
