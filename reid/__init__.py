"""Video person re-identification with nonlocal blocks.

The public names are loaded on first use, so that the help of the command does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import video_snl  # noqa: F401  (it lets old import paths be found, those of reid too)
from video_snl.utils.extras import import_public

if TYPE_CHECKING:
    from reid.data.datasets.catalog import load_dataset
    from reid.data.tracklet import ReidData, Tracklet
    from reid.metrics.ranking import evaluate_ranking
    from reid.metrics.streaming import evaluate_features
    from reid.retrieval.extractor import Extractor, load
    from reid.retrieval.gallery import Gallery, Match

__all__ = [
    "Extractor",
    "Gallery",
    "Match",
    "ReidData",
    "Tracklet",
    "evaluate_features",
    "evaluate_ranking",
    "load",
    "load_dataset",
]

_HOME = {
    "Extractor": "reid.retrieval.extractor",
    "Gallery": "reid.retrieval.gallery",
    "Match": "reid.retrieval.gallery",
    "ReidData": "reid.data.tracklet",
    "Tracklet": "reid.data.tracklet",
    "evaluate_features": "reid.metrics.streaming",
    "evaluate_ranking": "reid.metrics.ranking",
    "load": "reid.retrieval.extractor",
    "load_dataset": "reid.data.datasets.catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = import_public(__name__, name, _HOME[name], "reid")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
