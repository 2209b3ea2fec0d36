"""Places of a network: its modules by path, and the residual units of its stages by name.

A position is ``before:PLACE`` or ``after:PLACE``. A place is a residual unit of a stage
(``res4.5``, ``layer2.1``) or a dotted module path of the bare network (``blocks.3.res_blocks.5``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import nn

from video_snl.blocks.layouts import Where, WithBlock

__all__ = [
    "Site",
    "bare_children",
    "block_places",
    "check_network",
    "in_stages",
    "inserted_blocks",
    "parents_of",
    "places_line",
    "own_layers",
    "resolve",
    "sites_of",
]


def check_network(model: Any, function: str) -> None:
    """Check that a function was given a network.

    Args:
        function: Name of the function, for the message.

    Raises:
        ValueError: ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        kind = f"class {model.__qualname__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"{function}: expected a network, a torch.nn.Module, got a {kind}.")


def inserted_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the inserted blocks by position, ``{"before:res4.5": block}``.

    Raises:
        ValueError: ``model`` is no module.
    """
    check_network(model, "inserted_blocks")
    names = {site.bare: place for place, site in _units(model).items()}
    return {
        f"{where}:{names.get(site.bare, site.bare)}": block
        for site in sites_of(model)
        for where, block in site.blocks.items()
    }


def block_places(model: nn.Module) -> dict[str, str]:
    """Return the module paths of the residual units of the network's stages, by name.

    Stages are the lists of residual units: ``res2`` ... ``res5`` in pytorchvideo's ResNets and X3D,
    ``slow.res2`` ... ``fast.res5`` in its SlowFast, ``layer1`` ... ``layer4`` in torchvision's and
    timm's ResNets, ``features.N`` in Swin and ``blocks`` in MViT; in S3D they are the layers of
    ``features``.

    Raises:
        ValueError: ``model`` is no module.
    """
    check_network(model, "block_places")
    return {place: site.path for place, site in _units(model).items()}


class Site(NamedTuple):
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


def sites_of(parent: nn.Module, bare: str = "", path: str = "") -> Iterator[Site]:
    """Yield the bare network's modules below ``parent``, without inserted blocks and wrappers."""
    for name, module in parent.named_children():
        here, inside = f"{bare}.{name}".lstrip("."), f"{path}.{name}".lstrip(".")
        site = Site(module, parent, name, here, inside, {})
        while isinstance(module, WithBlock):
            site.blocks[module.where] = module.block
            module, inside = module.module, f"{inside}.module"
        yield site._replace(module=module)
        yield from sites_of(module, here, inside)


def own_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and those in it, without inserted blocks and their wrappers."""
    while isinstance(module, WithBlock):
        module = module.module
    yield module
    yield from (site.module for site in sites_of(module))


def _units(model: nn.Module) -> dict[str, Site]:
    stages: dict[str, str] = {}
    units: dict[str, Site] = {}
    for site in sites_of(model):
        parent, _, name = site.bare.rpartition(".")
        if parent in stages:
            units[f"{stages[parent]}.{name}"] = site
        else:
            stage = _stage(site, list(stages.values()))
            stages |= {} if stage is None else {site.bare: stage}
    return units


def _stage(site: Site, known: Sequence[str]) -> str | None:
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


def resolve(model: nn.Module, positions: Sequence[str]) -> list[tuple[Site, Where]]:
    """Return the sites of positions.

    Raises:
        ValueError: a position is malformed, names no module, or a module that has, or would have,
            a block there already.
    """
    units = _units(model)
    sites = units | {site.bare: site for site in sites_of(model)}
    stages = {name.rpartition(".")[0] for name in sites}
    # By the module, which may have several paths: its block is in all of its places.
    found: dict[tuple[int, str], tuple[Site, Where]] = {}
    for position in positions:
        where, place = _parse(position)
        if "res4" not in stages:  # torchvision calls it layer3
            place = re.sub(r"^res([2-5])(?=\.|$)", lambda m: f"layer{int(m[1]) - 1}", place)
        site = sites.get(_from_start(place, sites))
        if site is None:
            near = difflib.get_close_matches(place, sites, 3, 0.5)
            advice = f" Nearest are: {', '.join(near)}." if near else ""
            raise ValueError(
                f"positions=[{position!r}] names no module. {places_line(model)}{advice}"
            )
        key = (id(site.module), where)
        if key in found or where in site.blocks:
            first = found[key][0].bare if key in found else site.bare
            same = f", which is {first}" if first != site.bare else ""
            raise ValueError(
                f"positions={list(positions)}: there would be two blocks {position}{same}; "
                "name each position once."
            )
        found[key] = (site, where)
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
    """Turn ``res4.-1`` into ``res4.5``, and the like below any module."""
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


def places_line(model: nn.Module) -> str:
    places = block_places(model)
    if not places:
        children = ", ".join(name for name, _ in model.named_children())
        return f"This network has no stages that we know; its modules are: {children}."
    return f"This network has: {in_stages(places)}."


def parents_of(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Return the parents of every module of the bare network, with its names there, by its id."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for parent, name, module in bare_children(model):
        found.setdefault(id(module), []).append((parent, name))
    return found


def bare_children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield every parent, the name of a child, and that child without wrappers.

    A module that stands in several places comes with each.
    """
    for parent in model.modules():
        if isinstance(parent, WithBlock):
            continue
        for name, module in parent._modules.items():
            while isinstance(module, WithBlock):
                module = module.module
            if module is not None:
                yield parent, name, module
