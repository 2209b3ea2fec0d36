"""Blocks over the positions of a whole tracklet, inside a network that sees single frames."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from video_snl.blocks.insertion import Where, WithBlock

__all__ = ["Frames", "WithTrackletBlock"]


@dataclass
class Frames:
    """How many frames stand together: the T of the tracklets now in a network of frames.

    The network sets it before its trunk runs, and all blocks in the trunk look it up.
    """

    count: int = 1

    def split(self, clips: Tensor) -> Tensor:
        """Frames one after another, none copied that lie so. (B, C, T, h, w) -> (B T, C, h, w)."""
        return clips.transpose(1, 2).flatten(0, 1)

    def join(self, frames: Tensor) -> Tensor:
        """The inverse of :meth:`split`, a view. (B T, C, h, w) -> (B, C, T, h, w)."""
        return frames.unflatten(0, (-1, self.count)).transpose(1, 2)


class WithTrackletBlock(WithBlock):
    """A module of a network of frames, and a 3d block over the T x h x w positions of tracklets."""

    def __init__(self, module: nn.Module, block: nn.Module, where: Where, frames: Frames) -> None:
        super().__init__(module, block, where)
        self.frames = frames

    def apply_block(self, x: Tensor) -> Tensor:
        return self.frames.split(self.block(self.frames.join(x)))
