"""A worker process as the one that uses it sees it."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import suppress
from typing import Any

from video_snl.data.workers.channel import Channel, Shelf, channels
from video_snl.data.workers.forkserver import ForkServer, start_forkserver
from video_snl.data.workers.worker import main_module

__all__ = ["WorkerProcess", "ending"]


class WorkerProcess:
    """A worker that was started, its tasks, and the places for their results.

    Args:
        pickled: The function that it calls.
        places: Of its shelf; so many tasks it may hold.

    Raises:
        UserError: The system lets no further process begin.
        RuntimeError: No process can be started for another reason.
    """

    def __init__(self, pickled: bytes, places: int) -> None:
        self.channel, theirs = channels()
        self.shelf, file = Shelf.create(places)
        try:
            self.forkserver, self.pid = _fork(theirs)
            start = (pickled, places, os.getcwd(), main_module(pickled))
            with suppress(BrokenPipeError, ConnectionResetError):  # killed: its channel will say so
                self.channel.send(start, [file])
        finally:
            theirs.close()
            os.close(file)
        self.ready = False
        self.began = time.monotonic()  # of the task at hand, or of the process
        self.tasks: deque[tuple[int, int, Any]] = deque()  # (ticket, place, item), oldest first
        self.places = list(range(places))

    def kill(self) -> None:
        """End it at once, whatever it is stuck in; its channel closes when it is gone."""
        self.forkserver.kill(self.pid)


def _fork(end: Channel) -> tuple[ForkServer, int]:
    for _ in range(2):  # the forkserver may have been killed a moment ago
        chosen = start_forkserver()
        try:
            return chosen, chosen.start(end)
        except (OSError, EOFError):
            chosen.forget()
    raise RuntimeError("the process that starts workers ends as it starts; see its output above")


def ending(code: int | None) -> str:
    """How a process ended, from what reaping it gave."""
    if code is None:
        return "for a reason unknown"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
