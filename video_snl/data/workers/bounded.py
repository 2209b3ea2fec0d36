"""A function called on many items by processes that may be killed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TypeVar

from video_snl.data.workers.outcome import DecodeResult, call
from video_snl.data.workers.pool import Pool

__all__ = ["map_with_timeout"]

T = TypeVar("T")
R = TypeVar("R")


def map_with_timeout(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    num_workers: int,
    deadline: float,
    ahead: int = 1,
) -> Generator[DecodeResult[T, R], None, None]:
    """Call a function on every item in worker processes, and yield what became of each.

    In the order of completion. A worker that is killed or dies is replaced. Close the iterator, or
    run it to its end, to end the workers.

    Args:
        function: Can be pickled, as must be its items and values.
        items: Read as they are needed, ``ahead + 1`` for each worker.
        num_workers: With 0 the calling process does the work, and there is no deadline.
        deadline: Seconds for one item.
        ahead: Items handed to a worker at once: with 2 or more, it works on the next ones while
            the caller uses an outcome.
    """
    if num_workers == 0:
        for item in items:
            yield call(function, item)
        return
    pool: Pool[T, R] = Pool(function, num_workers, deadline, ahead=ahead, copy_values=True)
    try:
        waiting = iter(items)
        while True:
            for item in islice(waiting, max(0, (ahead + 1) * num_workers - pool.unfinished)):
                pool.submit(item)
            if not pool.unfinished:
                return
            yield from pool.finished()
    finally:
        pool.close()
