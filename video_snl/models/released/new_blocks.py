"""Blocks in the form of the code that the paper's authors released, new or from a checkpoint.

Where :mod:`video_snl.models.released.networks` makes a network of a file alone, here a
configuration says what is in it, so that it can be trained, stored and rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from video_snl.models.released.blocks import AffinityName, Sign, reference_block
from video_snl.models.released.state_dicts import (
    KINDS,
    Kind,
    StateDictError,
    Tensors,
    block_shapes,
    recognized,
)

__all__ = ["ReleasedBlock", "block_kind", "block_layout"]

_WITHOUT_RELU = ("cgnl", "cc")


@dataclass(frozen=True)
class ReleasedBlock:
    """Which released block, as :func:`~video_snl.models.released.blocks.load_reference_block` has
    them.

    Args:
        kind: ``snl``, ``nl``, ``ns``, ``dnl``, ``a2``, ``cayley``, ``cgnl`` or ``cc``.
        affinity: ``softmax``, ``relu`` or ``relu_sym``; None for the kind's own.
        sign: of A Z W_2 in ``snl``.
        groups: of ``cgnl``.

    Raises:
        ValueError: for an unknown kind or groups below 1.
    """

    kind: Kind = "snl"
    affinity: AffinityName | None = None
    sign: Sign = "+"
    groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is unknown; choose from: {', '.join(KINDS)}.")
        if self.groups < 1 or (self.groups > 1 and self.kind != "cgnl"):
            raise ValueError(f"groups={self.groups}: cgnl has groups, at least 1 of them.")

    @classmethod
    def of(
        cls, options: dict[str, Any], affinity: AffinityName | None = None, sign: Sign = "+"
    ) -> ReleasedBlock:
        """From the options of a block, and what is usual in a network.

        Raises:
            ValueError: for options that a released block does not have.
        """
        unknown = sorted(options.keys() - {"kind", "affinity", "sign", "groups"})
        if unknown:
            raise ValueError(
                f"block='released' has no option {', '.join(unknown)}; it has: kind, affinity, "
                "sign, groups."
            )
        kind = options.get("kind", "snl")
        usual: dict[str, Any] = {} if kind in _WITHOUT_RELU else {"affinity": affinity}
        usual |= {"sign": sign} if kind == "snl" else {}
        return cls(**{**usual, **options})

    def build(
        self,
        in_channels: int,
        *,
        ndim: int,
        inter_channels: int | None = None,
        num_units: int = 1,
        zero_init: bool = False,
        activation: Literal["relu"] | None = "relu",
    ) -> nn.Module:
        """A new block; convolutions start as in arXiv:1502.01852, norms as the identity.

        ``inter_channels`` is the number of embedded channels, by default half of ``in_channels``,
        an eighth for ``cc``, which starts as the identity. ``num_units`` of ``cc`` are applied one
        after the other, of the other kinds they share an affinity.

        Raises:
            ValueError: for another start or activation than the released one, or sizes below 1.
        """
        wanted = None if self.kind in _WITHOUT_RELU else "relu"
        if zero_init or activation != wanted:
            raise ValueError(
                f"block='released' of kind {self.kind!r} has zero_init=False and "
                f"activation={wanted!r}; found {zero_init} and {activation!r}: give those, or "
                f"choose block {self.kind!r}."
            )
        part = 8 if self.kind == "cc" else 2
        width = in_channels // part if inter_channels is None else inter_channels
        least = 2 if self.kind == "cayley" else 1
        if width < least or num_units < 1 or width % self.groups or in_channels % self.groups:
            raise ValueError(
                f"inter_channels={width}, num_units={num_units} and groups={self.groups} with "
                f"{in_channels} channels: sizes are at least {least}, and groups divide both."
            )
        tensors = _started(self._shapes(in_channels, width, num_units))
        return self.filled(tensors, ndim).train()

    def filled(self, tensors: Tensors, ndim: int = 2) -> nn.Module:
        """The block of a part of a released file.

        Raises:
            StateDictError, ValueError: as for ``load_reference_block``.
        """
        return reference_block(tensors, self.kind, ndim, self.affinity, self.sign)

    def _shapes(self, channels: int, width: int, units: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes, from the few tensors that tell the sizes."""
        one = torch.empty(1)
        if self.kind == "cc":
            queries = {f"{i}.query_conv.weight": (width, channels, 1, 1) for i in range(units)}
            return block_shapes(Tensors({n: torch.empty(s) for n, s in queries.items()}), "cc")
        telling = {"t.weight": torch.empty(width, channels, 1, 1)}
        if self.kind == "cgnl":
            if units > 1:
                raise ValueError(f"num_units={units}: a released cgnl block has one.")
            telling["z.weight"] = torch.empty(channels, width // self.groups, 1, 1)
        telling |= {f"stages.{i}.g.weight": one for i in range(units)}
        return block_shapes(Tensors(telling), self.kind)


def _started(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    return Tensors({name: _start(name, shape) for name, shape in shapes.items()})


def _start(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if len(shape) == 4:
        weight = torch.empty(shape)
        if not weight.is_meta:
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        return weight
    one = name.endswith("running_var") or name.endswith((".bn.weight", "gn.weight"))
    return torch.ones(shape) if one else torch.zeros(shape)


def block_kind(tensors: Tensors, kind: str | None) -> Kind:
    """The kind of a block in a file.

    Raises:
        StateDictError: for keys that are no block's, or of nl, ns and a2, if ``kind`` does not say
            which of them it is.
    """
    if kind is not None:
        if kind not in get_args(Kind):
            raise StateDictError(f"kind={kind!r} is unknown; choose from: {', '.join(KINDS)}.")
        return cast(Kind, kind)
    try:
        return recognized(tensors)
    except StateDictError:
        raise
    except ValueError as error:
        raise StateDictError(str(error)) from error


def block_layout(tensors: Tensors, kind: Kind) -> tuple[int, int, int]:
    """Channels, embedded channels and units of a block in a file.

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
