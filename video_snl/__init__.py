"""Nonlocal blocks as graph filters, and video networks with them (arXiv:2108.02451).

The public names are loaded on first use, so that importing this package, and the help of its
commands, does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from video_snl._version import __version__ as __version__
from video_snl.utils.extras import import_public
from video_snl.utils.moved import install
from video_snl.utils.owners import say_other_owner

if TYPE_CHECKING:
    from video_snl.blocks import (
        A21d,
        A22d,
        A23d,
        CayleySNL1d,
        CayleySNL2d,
        CayleySNL3d,
        CC1d,
        CC2d,
        CC3d,
        CGNL1d,
        CGNL2d,
        CGNL3d,
        DNL1d,
        DNL2d,
        DNL3d,
        GraphAffinity,
        GraphFilterLayer,
        GSNL1d,
        GSNL2d,
        GSNL3d,
        NL1d,
        NL2d,
        NL3d,
        NS1d,
        NS2d,
        NS3d,
        SNL1d,
        SNL2d,
        SNL3d,
        SpectralAttention,
        make_block,
    )
    from video_snl.blocks.insertion import insert_blocks, mask_blocks, remove_blocks
    from video_snl.cli.python import train
    from video_snl.commands.predictor import Prediction, Predictor, load
    from video_snl.commands.run_results import Run
    from video_snl.data.video.map_dataset import VideoDataset
    from video_snl.errors import UserError
    from video_snl.models.released.other_code import load_block

install()
say_other_owner()

__all__ = [
    "A21d",
    "A22d",
    "A23d",
    "CC1d",
    "CC2d",
    "CC3d",
    "CGNL1d",
    "CGNL2d",
    "CGNL3d",
    "CayleySNL1d",
    "CayleySNL2d",
    "CayleySNL3d",
    "DNL1d",
    "DNL2d",
    "DNL3d",
    "GSNL1d",
    "GSNL2d",
    "GSNL3d",
    "GraphAffinity",
    "GraphFilterLayer",
    "NL1d",
    "NL2d",
    "NL3d",
    "NS1d",
    "NS2d",
    "NS3d",
    "Prediction",
    "Predictor",
    "Run",
    "SNL1d",
    "SNL2d",
    "SNL3d",
    "SpectralAttention",
    "UserError",
    "VideoDataset",
    "insert_blocks",
    "load",
    "load_block",
    "make_block",
    "mask_blocks",
    "remove_blocks",
    "train",
]

_HOME = dict.fromkeys(__all__, "video_snl.blocks") | {
    "Prediction": "video_snl.commands.predictor",
    "Predictor": "video_snl.commands.predictor",
    "Run": "video_snl.commands.run_results",
    "UserError": "video_snl.errors",
    "VideoDataset": "video_snl.data.video.map_dataset",
    "insert_blocks": "video_snl.blocks.insertion",
    "load": "video_snl.commands.predictor",
    "load_block": "video_snl.models.released.other_code",
    "mask_blocks": "video_snl.blocks.insertion",
    "remove_blocks": "video_snl.blocks.insertion",
    "train": "video_snl.cli.python",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    extra = "video" if name == "VideoDataset" else "train"
    value = import_public(__name__, name, _HOME[name], extra)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
