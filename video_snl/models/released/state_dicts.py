"""State dicts of the code that the paper's authors released (SNL_ICCV2021): names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from video_snl.config.backbones import WeightsLayout
from video_snl.errors import UserError

__all__ = [
    "KINDS",
    "FileBlocks",
    "Kind",
    "StateDictError",
    "Tensors",
    "block_kind",
    "block_layout",
    "block_shapes",
    "check_block",
    "released_blocks",
    "without_blocks",
]

Kind = Literal["snl", "nl", "ns", "dnl", "a2", "cayley", "cgnl", "cc"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Shapes = dict[str, tuple[int, ...]]

# Parts of names that distinguish the kinds, the most specific ones first.
_MARKS: dict[str, Kind] = {
    "query_conv": "cc",
    "gn": "cgnl",
    "w_h": "cayley",
    "w_m": "dnl",
    "w_1": "snl",
}
# PyTorch wrote no batch counters before version 0.4.1, and nothing here reads them.
_OPTIONAL = "num_batches_tracked"
_SHOWN = 8


class StateDictError(UserError, ValueError):
    """A state dict that does not fit: bad input to a command, a bad argument to a function."""


@dataclass(frozen=True)
class Tensors:
    """Tensors by name; ``where`` precedes their names in the file, for messages."""

    named: dict[str, Tensor]
    where: str = ""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Tensors:
        """Take the tensors of a state dict, or of a checkpoint's ``state_dict``.

        DataParallel's prefix goes.

        Raises:
            StateDictError: for a value that is not a tensor.
        """
        state = checkpoint.get("state_dict", checkpoint)
        if not isinstance(state, Mapping):
            raise StateDictError(f"'state_dict' is a {type(state).__name__}, not a mapping.")
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise StateDictError(f"{name!r} is a {type(value).__name__}, not a tensor.")
        return cls({str(name).removeprefix("module."): value for name, value in state.items()})

    def below(self, prefix: str) -> Tensors:
        """Return the tensors whose names begin with ``prefix``, under the rest of their names."""
        inside = {n.removeprefix(prefix): t for n, t in self.named.items() if n.startswith(prefix)}
        return Tensors(inside, self.where + prefix)

    def numbered(self, prefix: str = "") -> int:
        """Count the numbers that follow ``prefix`` in the names."""
        matches = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in self.named)
        return len({match[1] for match in matches if match})

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.named:
            raise StateDictError(f"missing key {self.where}{name}.")
        return self.named[name]

    def convolution(self, name: str) -> tuple[int, int]:
        """Return output and input channels of the 1x1 convolution ``name``.

        Raises:
            StateDictError: if it is not there, or no such convolution.
        """
        shape = tuple(self[name].shape)
        if len(shape) != 4 or shape[2:] != (1, 1) or 0 in shape:
            raise StateDictError(f"{self.where}{name} is {shape}, not (outputs, inputs, 1, 1).")
        return shape[0], shape[1]

    def check(self, expected: Shapes, what: str) -> None:
        """Compare names and shapes with those that ``what`` has.

        Raises:
            StateDictError: naming keys that are missing, unknown or of another shape.
        """
        missing = [n for n in expected if n not in self.named and not n.endswith(_OPTIONAL)]
        unknown = [n for n in self.named if n not in expected]
        found = {n: tuple(self.named[n].shape) for n in expected if n in self.named}
        other = [
            f"{self.where}{n} is {shape}, not {expected[n]}"
            for n, shape in found.items()
            if shape != expected[n]
        ]
        problems = [f"missing keys: {self._listed(missing)}"] if missing else []
        problems += [f"unknown keys: {self._listed(unknown)}"] if unknown else []
        problems += [f"other shapes: {_some(other)}"] if other else []
        if problems:
            raise StateDictError(f"the tensors are not those of {what}; {'; '.join(problems)}.")

    def _listed(self, names: Iterable[str]) -> str:
        return _some([self.where + name for name in names])


FileBlocks = dict[str, Tensors]
"""Released blocks of a file, by their positions in our network."""


def block_kind(block: Tensors, kind: str | None = None) -> Kind:
    """Return the kind of a block.

    Args:
        kind: Kind of the block, where it is known; needed for nl, ns and a2.

    Raises:
        StateDictError: for an unknown kind, keys that are not a block's, or those of nl, ns and a2,
            which are the same, without a kind.
    """
    if kind is not None:
        if kind not in KINDS:
            raise StateDictError(f"kind={kind!r} is unknown; choose from: {', '.join(KINDS)}.")
        return kind
    parts = {part for name in block.named for part in name.split(".")}
    telling = [kind for mark, kind in _MARKS.items() if mark in parts]
    if "layer1" in parts or not (telling or {"stages", "w_2"} <= parts):
        raise StateDictError(
            f"no released block has these keys: {_some([block.where + n for n in block.named])}. "
            "One has t.weight, p.weight and stages.0.g.weight, or query_conv.weight; networks "
            "are for video_snl.models.released.networks.load_reference_network."
        )
    if not telling:
        raise StateDictError("kind=None: nl, ns and a2 have the same keys; give kind='nl', ...")
    return telling[0]


def block_layout(tensors: Tensors, kind: Kind) -> tuple[int, int, int]:
    """Return channels, embedded channels and units of a block in a file.

    Raises:
        StateDictError: for a tensor that is missing or no 1x1 convolution.
    """
    if kind == "cc":
        units = max(1, tensors.numbered())
        first = "0." if tensors.numbered() else ""
        width, channels = tensors.convolution(f"{first}query_conv.weight")
        return channels, width, units
    width, channels = tensors.convolution("t.weight")
    return channels, width, max(1, tensors.numbered("stages."))


def check_block(block: Tensors, kind: Kind) -> None:
    """Compare a block's names and shapes with its kind's, for the sizes that its tensors tell.

    Raises:
        StateDictError: naming keys that are missing, unknown or of another shape.
    """
    shapes = block_shapes(block, kind)
    name, shape = next(iter(shapes.items()))
    block.check(shapes, f"a released {kind} block with {block.where}{name} of shape {shape}")


def block_shapes(block: Tensors, kind: Kind) -> Shapes:
    """Return names and shapes of a block's tensors; the one that tells the sizes comes first."""
    if kind == "cc":
        return _criss_cross(block)
    if kind == "cgnl":
        return _generalized(block)
    width, channels = block.convolution("t.weight")
    shapes: Shapes = {f"{name}.weight": (width, channels, 1, 1) for name in "tp"}
    unit = _unit(kind, channels, width // 2 if kind == "cayley" else width)
    for number in range(max(1, block.numbered("stages."))):
        shapes |= {f"stages.{number}.{name}": shape for name, shape in unit.items()}
    return shapes


def released_blocks(tensors: dict[str, Tensor], layout: WeightsLayout) -> FileBlocks:
    """Find the blocks in a file of the released code.

    They have a name of their own, or are in layers with one module more than there are units.
    """
    whole = Tensors(tensors)
    parts = {position: whole.below(prefix) for prefix, position in layout.named.items()}
    return {position: part for position, part in parts.items() if part.named} | {
        place.position: whole.below(f"{place.layer}.{place.index}.")
        for place in layout.places
        if whole.numbered(f"{place.layer}.") == place.units + 1
    }


def without_blocks(
    tensors: dict[str, Tensor], layout: WeightsLayout, blocks: FileBlocks
) -> dict[str, Tensor]:
    """Return a file's tensors without its blocks, the units after them numbered as without them."""
    whole, named = Tensors(tensors), tuple(layout.named)
    bare = {n: t for n, t in tensors.items() if not (named and n.startswith(named))}
    for place in layout.places:
        if place.position not in blocks:
            continue
        for number in range(place.index, place.units + 1):
            unit = f"{place.layer}.{number}."
            moved = whole.below(unit).named
            for name in moved:
                del bare[unit + name]
            if number > place.index:
                bare |= {f"{place.layer}.{number - 1}.{name}": t for name, t in moved.items()}
    return bare


def _unit(kind: Kind, channels: int, width: int) -> Shapes:
    outwards = (channels, width, 1, 1)
    shapes: Shapes = {"g.weight": (width, channels, 1, 1), "w_2.weight": outwards}
    for name in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"bn.{name}"] = (channels,)
    shapes[f"bn.{_OPTIONAL}"] = ()
    if kind in ("snl", "cayley"):
        shapes["w_1.weight"] = outwards
    if kind == "cayley":
        shapes["w_h.weight"] = (width, width, 1, 1)
    if kind == "dnl":
        shapes["w_m.weight"] = (1, channels, 1, 1)
    return shapes


def _generalized(block: Tensors) -> Shapes:
    width, channels = block.convolution("t.weight")
    _, per_group = block.convolution("z.weight")
    if width % per_group or channels % (width // per_group):
        per_group = width
    shapes: Shapes = {f"{name}.weight": (width, channels, 1, 1) for name in "tpg"}
    shapes["z.weight"] = (channels, per_group, 1, 1)
    return {**shapes, "gn.weight": (channels,), "gn.bias": (channels,)}


def _criss_cross(block: Tensors) -> Shapes:
    count = block.numbered()
    prefixes = [f"{number}." for number in range(count)] or [""]
    width, channels = block.convolution(f"{prefixes[0]}query_conv.weight")
    shapes: Shapes = {}
    for prefix in prefixes:
        for name, outputs in (("query", width), ("key", width), ("value", channels)):
            shapes[f"{prefix}{name}_conv.weight"] = (outputs, channels, 1, 1)
            shapes[f"{prefix}{name}_conv.bias"] = (outputs,)
        shapes[f"{prefix}gamma"] = (1,)
    return shapes


def _some(items: list[str]) -> str:
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return (", ".join(items[:_SHOWN]) or "none") + rest
