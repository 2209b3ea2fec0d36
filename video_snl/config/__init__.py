"""Typed configurations, without torch.

The names that the module of this name had are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_RENAMED = {"Sections": ("video_snl.config.base", "ExperimentBase")}


def __getattr__(name: str) -> Any:
    module, own_name = _RENAMED.get(name, ("video_snl.config.video", name))
    home = importlib.import_module(module)
    if name.startswith("__") or not hasattr(home, own_name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, own_name)
