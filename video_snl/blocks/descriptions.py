"""Descriptions of blocks, which their state dicts keep: what two of them have in common.

A description holds the arguments of :func:`~video_snl.blocks.zoo.make_block` that decide what a
block computes, see :class:`~video_snl.blocks.sub_block.Described`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from video_snl.blocks.zoo import NAMES, make_block

__all__ = ["check_same_block", "completed"]


def completed(description: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return a description with all options of its block, which equal blocks have in common.

    Those of earlier versions have only the options that were given, and may name a bias of a
    projection that the block does not have, which then did nothing. Those of users' own blocks are
    what they are.

    Raises:
        ValueError: no block can be made by it; the message says why, and that it is of ``origin``.
    """

    if description["name"] not in NAMES:
        return dict(description)

    foreign = {"device", "dtype"} & description.keys()
    if foreign:
        raise ValueError(f"{origin}: {foreign.pop()} is no part of the description of a block.")

    def made(**changed: Any) -> dict[str, Any]:
        with torch.device("meta"):  # without weights, and no random number is drawn
            block = make_block(**{**description, **changed})
        return dict(getattr(block, "description", None) or description)

    bias = description.get("bias")
    try:
        if not isinstance(bias, str) or bias == "all":
            return made()
        able = made(bias="all")["bias"].split(",")
        names = [name.strip() for name in bias.split(",")]
        return made(bias=",".join(n for n in names if n in able or n not in ("theta", "phi", "g")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{origin}: no block can be made by its description, {_said(description)}: {error}"
        ) from error


def check_same_block(described: Mapping[str, Any] | None, into: nn.Module, origin: str) -> None:
    """Check that tensors of a block that is described so can be those of another.

    Raises:
        ValueError: the block has another description, or one of them is damaged.
    """
    own = getattr(into, "description", None)
    if described is None or own is None:
        return
    theirs, ours = completed(described, origin), completed(own, "the block")
    differing = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    if differing:
        raise ValueError(
            f"the tensors of {origin} are of {_said(theirs)}, and the block is {_said(ours)}: "
            f"they differ in {', '.join(differing)}."
        )


def _said(description: Mapping[str, Any]) -> str:
    words = [f"{name}={value!r}" for name, value in description.items() if name != "name"]
    return f"{description['name']}({', '.join(words)})"
