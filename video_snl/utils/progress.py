"""Progress of a long command: a bar on a terminal, now and then a line elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["counted"]

T = TypeVar("T")
EVERY = 10.0  # seconds between lines


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass the items on and show how many of ``total`` there were."""
    return _bar(items, total, what) if sys.stderr.isatty() else _lines(items, total, what)


def _bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    shown = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if number == total or time.monotonic() - shown >= EVERY:
            shown = time.monotonic()
            print(f"{what}: {number:,} of {total:,}", file=sys.stderr, flush=True)
