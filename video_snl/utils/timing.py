"""Times of the stages of a sample: stages that add up within the process that decodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["STAGES", "collect_stages", "stage"]

STAGES = ("open", "seek", "decode", "resize", "copy", "transform")

_seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the wall time of the body to the stage ``name`` of this process.

    Raises:
        KeyError: ``name`` is none of :data:`STAGES`.
    """
    began = time.perf_counter()
    try:
        yield
    finally:
        _seconds[name] += time.perf_counter() - began


def collect_stages() -> dict[str, float]:
    """Return the seconds of every stage since the last call, which then starts from zero."""
    taken = dict(_seconds)
    _seconds.update(dict.fromkeys(STAGES, 0.0))
    return taken
