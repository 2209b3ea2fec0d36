"""Import paths of earlier versions, each with a warning; the one table of what has moved.

It holds the modules that README, the documentation and the changelog have named.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "install", "names_of"]

MOVED = {
    "reid.features": "reid.retrieval.features",
    "reid.index": "reid.retrieval.index",
    "reid.metrics.rank_lists": "reid.evaluate",
    "reid.protocols": "reid.metrics.ranking",
    "reid.rerank": "reid.metrics.rerank",
    "reid.tracklet": "reid.data.tracklet",
    "video_snl.blocks.affinity": "video_snl.blocks.operators",
    "video_snl.blocks.family": "video_snl.blocks.zoo",
    "video_snl.blocks.spectral": "video_snl.analysis.spectrum.filters",
    "video_snl.checkpoints": "video_snl.models.weights.loading",
    "video_snl.config_image_data": "video_snl.config.image",
    "video_snl.config_images": "video_snl.config.image",
    "video_snl.engine.describe_images": "video_snl.commands.describe",
    "video_snl.explain": "video_snl.analysis.explain",
    "video_snl.models.images": "video_snl.models.image",
    "video_snl.models.released_files": "video_snl.models.released.networks",
}
"""Old path of a module: its path now."""


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(
            f"{spec.name} has moved: import {new} (the old path goes with version 0.3)",
            DeprecationWarning,
            stacklevel=2,
        )
        module = importlib.import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # which the import of the old path has replaced


def install() -> None:
    """Let the old paths be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def names_of(home: str, package: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that was a module whose names are in another one.

    Args:
        home: Module that has the names; it is imported when the first one is asked for.
        package: Name of the package, for messages.
    """

    def find(name: str) -> Any:
        module = importlib.import_module(home)
        if name.startswith("__") or not hasattr(module, name):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(module, name)

    return find
