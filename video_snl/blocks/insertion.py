"""Insertion of blocks into any network, at named places.

A position is ``before:PLACE`` or ``after:PLACE``. A place is a residual unit of a stage
(``res4.5``, ``layer2.1``) or a dotted module path of the bare network (``blocks.3.res_blocks.5``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Unpack

from torch import nn

from video_snl.blocks.block import BATCH_NORM, CONV
from video_snl.blocks.zoo import BlockOptions, make_block

__all__ = [
    "BlockFactory",
    "Where",
    "WithBlock",
    "Wrapper",
    "block_places",
    "insert_blocks",
    "inserted_blocks",
]

BlockFactory = Callable[..., nn.Module]
Where = Literal["before", "after"]
Wrapper = Callable[[nn.Module, nn.Module, Where], "WithBlock"]


class WithBlock(nn.Module):
    """Wrapper of a module with a block before or after it.

    A subclass may apply the block in another way, see ``wrapper`` of :func:`insert_blocks`.
    """

    def __init__(self, module: nn.Module, block: nn.Module, where: Where) -> None:
        super().__init__()
        self.module, self.block, self.where = module, block, where

    def forward(self, x: Any) -> Any:
        if self.where == "before":
            return self.module(self.apply_block(x))
        return self.apply_block(self.module(x))

    def apply_block(self, x: Any) -> Any:
        """Return the block's output for the feature map at its position."""
        return self.block(x)


def insert_blocks(
    model: nn.Module,
    block: str | BlockFactory = "snl",
    positions: Sequence[str] = ("before:res4.-1",),
    *,
    inter_channels: int | None = None,
    num_units: int = 1,
    zero_init: bool = True,
    activation: Literal["relu"] | None = None,
    wrapper: Wrapper = WithBlock,
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
        wrapper: function that makes the :class:`WithBlock` of a module, its block and the side.

    Raises:
        ValueError: for no position, a malformed one, one that already has a block, or one that
            names no module of this network (the message lists the places of the network).
    """
    if not positions:
        raise ValueError(f"positions is empty, no block would be inserted. {_places_line(model)}")
    build = functools.partial(make_block, block) if isinstance(block, str) else block
    sites = _resolve(model, positions)
    blocks = []
    for site, where in sites:
        channels, ndim = _feature_map(site, where)
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

    Stages are the lists of residual units: ``res2`` ... ``res5`` in pytorchvideo's ResNets,
    ``layer1`` ... ``layer4`` in torchvision's and timm's.
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
        elif re.fullmatch(r"blocks\.\d+\.res_blocks", site.bare):
            # Counted, since some networks have a pooling layer between two stages.
            stages[site.bare] = f"res{len(stages) + 2}"
        elif re.fullmatch(r"layer\d+", site.bare) and isinstance(site.module, nn.Sequential):
            stages[site.bare] = site.bare
    return units


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


def _places_line(model: nn.Module) -> str:
    stages: dict[str, list[str]] = {}
    for place in block_places(model):
        stage, _, unit = place.rpartition(".")
        stages.setdefault(stage, []).append(unit)
    if not stages:
        children = ", ".join(name for name, _ in model.named_children())
        return f"This network has no stages that we know; its modules are: {children}."
    ranges = [
        f"{stage}.{units[0]}-{units[-1]}" if len(units) > 1 else f"{stage}.{units[0]}"
        for stage, units in stages.items()
    ]
    return f"This network has: {', '.join(ranges)}."


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
    layer = layers[0] if where == "before" else layers[-1]
    if isinstance(layer, BATCH_NORM[ndim]):
        return layer.num_features, ndim
    return (layer.in_channels if where == "before" else layer.out_channels), ndim
