"""Works that take turns in one process, so that what else the machine does slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Times:
    """Times of a work by turn: wall seconds, seconds of processor time; what it returned last."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    value: Any = None


def in_turns(
    works: Mapping[str, Callable[[], Any]], turns: int, *, warm: int = 0
) -> dict[str, Times]:
    """Time works one after the other, in every second turn in reverse order.

    Args:
        works: Functions by name.
        turns: Turns that are counted.
        warm: Turns before them that are not.
    """
    times = {name: Times() for name in works}
    for turn in range(warm + turns):
        for name in list(works) if turn % 2 == 0 else list(works)[::-1]:
            mine = times[name]
            began, cpu_began = time.perf_counter(), time.process_time()
            mine.value = works[name]()
            cpu, seconds = time.process_time() - cpu_began, time.perf_counter() - began
            if turn >= warm:
                mine.seconds.append(seconds)
                mine.cpu.append(cpu)
    return times


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return the median of the ratios of the same turn."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))
