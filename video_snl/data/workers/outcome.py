"""What became of a task, and the plain way to do one: in the calling process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from video_snl.data.workers.worker import attempt

__all__ = ["InProcess", "DecodeResult", "call"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class DecodeResult(Generic[T, R]):
    """What became of an item: its value, or a failure in one line.

    ``kind``: ``error`` (an exception; a UserError's message is the failure as it is), ``timeout``
    (over the deadline, its process was killed) or ``died`` (its process ended). ``seconds`` is the
    time the task ran.
    """

    item: T
    value: R | None
    failure: str | None
    kind: Literal["ok", "error", "timeout", "died"]
    seconds: float


def call(function: Callable[[T], R], item: T) -> DecodeResult[T, R]:
    """Call a function on an item, here and now."""
    began = time.perf_counter()
    kind, value = attempt(function, item)
    seconds = time.perf_counter() - began
    if kind == "ok":
        return DecodeResult(item, value, None, "ok", seconds)
    return DecodeResult(item, None, value, "error", seconds)


class InProcess(Generic[T, R]):
    """Has the interface of a :class:`Pool`; the calling process does the work, without deadline."""

    replaced = 0
    pids: Sequence[int] = ()

    def __init__(self, function: Callable[[T], R]) -> None:
        self._function = function
        self._waiting: deque[T] = deque()

    @property
    def unfinished(self) -> int:
        return len(self._waiting)

    def submit(self, item: T) -> None:
        self._waiting.append(item)

    def cancel(self) -> None:
        self._waiting.clear()

    def finished(self, timeout: float | None = None) -> Iterator[DecodeResult[T, R]]:
        if self._waiting:
            yield call(self._function, self._waiting.popleft())

    def close(self) -> None:
        self.cancel()
