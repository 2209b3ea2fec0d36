"""Blocks that take a mask of the frames that exist, and those of a user's own that take none."""

from __future__ import annotations

import functools

import torch
from torch import nn

from reid.config import ReidModelConfig
from video_snl.blocks.gates import GATES
from video_snl.blocks.insertion import WithBlock, mask_blocks
from video_snl.blocks.user_blocks import import_named, is_block
from video_snl.errors import UserError

__all__ = ["takes_mask", "why_no_mask"]


def takes_mask(block: nn.Module) -> bool:
    """Tell whether a block takes a mask, as :func:`~video_snl.blocks.insertion.mask_blocks` does.

    The block stays as it was.
    """
    alone = WithBlock(nn.Identity(), block, "after")
    try:
        with mask_blocks(alone, torch.ones(1, 1, dtype=torch.bool)):
            return True
    except ValueError:
        return False


def why_no_mask(model: ReidModelConfig) -> str | None:
    """Say why the block of a user's own that a network names takes no mask; None where it does.

    The class is imported, but not made: its number of channels is that of a place in the network.

    Raises:
        UserError: There is no such class.
    """
    path = model.block
    try:
        kind = import_named(path, "block", "a class of torch.nn.Module", is_block)
    except ValueError as error:
        raise UserError(f"model: {error}") from error
    if issubclass(kind, GATES["ge"]) and model.block_options.get("extent"):
        return f"the gates of block {path} with an extent are of boxes of all positions of a clip"
    stand_in = nn.Identity()
    stand_in.forward = functools.partial(kind.forward, stand_in)  # type: ignore[method-assign]
    if takes_mask(stand_in):
        return None
    return f"{path}.forward takes no mask=, so that it looks at all frames of a clip"
