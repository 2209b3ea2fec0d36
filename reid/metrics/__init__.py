"""Ranking metrics: protocols, distances, re-ranking.

The names that the module of this name had are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = "reid.report.evaluation"


def __getattr__(name: str) -> Any:
    home = importlib.import_module(_HOME)
    if name.startswith("__") or not hasattr(home, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
