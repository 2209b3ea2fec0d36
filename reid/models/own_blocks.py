"""Blocks of a user's own that take no mask of the frames that exist."""

from __future__ import annotations

from reid.config import ReidModelConfig
from video_snl.blocks.gates import GATES
from video_snl.blocks.masks import takes_mask
from video_snl.blocks.user_blocks import import_named, is_block
from video_snl.errors import UserError

__all__ = ["why_no_mask"]


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
    if takes_mask(kind):
        return None
    return f"{path}.forward takes no mask=, so that it looks at all frames of a clip"
