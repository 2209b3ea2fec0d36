"""Nonlocal blocks as graph filters: kernel -> affinity -> filter."""

from video_snl.blocks.affinity import Affinity, Dense, LowRank, SymmetricLowRank, normalize
from video_snl.blocks.block import NonlocalBlock
from video_snl.blocks.filters import Polynomial
from video_snl.blocks.zoo import BLOCKS, SNL1d, SNL2d, SNL3d, make_block

__all__ = [
    "BLOCKS",
    "Affinity",
    "Dense",
    "LowRank",
    "NonlocalBlock",
    "Polynomial",
    "SNL1d",
    "SNL2d",
    "SNL3d",
    "SymmetricLowRank",
    "make_block",
    "normalize",
]
