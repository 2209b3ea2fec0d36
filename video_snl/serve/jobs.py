"""Queue of uploads, which are answered one at a time; it has a limit.

The jobs are done in the main thread, which signals interrupt, and the web server runs in another.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue

from video_snl.errors import UserError
from video_snl.serve.service import Answer

__all__ = ["Busy", "Job", "Jobs"]


class Busy(UserError):
    """The queue is full."""


@dataclass(frozen=True, eq=False)
class Job:
    """Some work.

    Attributes:
        work: Function that does the job; its errors become those of the future.
        done: Function called before the result is seen, also where the job never began.
        future: Result: an answer, or a ``UserError``.
    """

    work: Callable[[], Answer]
    done: Callable[[], None]
    future: Future[Answer] = field(default_factory=Future)


class Jobs:
    """A queue with a number of places.

    Args:
        places: Uploads that may be here at once, in whole.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._unfinished: list[Job] = []

    def check(self) -> None:
        """Refuse early when the queue is full.

        Raises:
            Busy: There is none.
        """
        with self._lock:
            if not self._places:
                raise _busy()

    def enter(self) -> None:
        """Take a place.

        Raises:
            Busy: There is none.
        """
        with self._lock:
            if not self._places:
                raise _busy()
            self._places -= 1

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._places += 1

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue."""
        with self._lock:
            self._unfinished.append(job)
        self._queue.put(job)

    def ahead(self, job: Job) -> int:
        """Return how many jobs come before this one; 0 if it is being done."""
        with self._lock:
            return self._unfinished.index(job) if job in self._unfinished else 0

    def cancel(self, job: Job) -> None:
        """Give a job up, unless it has begun: then nothing happens."""
        if not job.future.cancelled() and job.future.cancel():
            self._finish(job)

    def run(self) -> None:
        """Do the jobs, until :meth:`end` is called."""
        while (job := self._queue.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._do(job)

    def end(self) -> None:
        """Give up all that has not begun, and let :meth:`run` return; any thread may call this."""
        with self._lock:
            waiting = list(self._unfinished)
        for job in waiting:
            self.cancel(job)
        self._queue.put(None)

    def _do(self, job: Job) -> None:
        try:
            answer = job.work()
        except BaseException as error:
            self._finish(job)
            job.future.set_exception(_to_user_error(error))
            if not isinstance(error, Exception):
                raise  # a signal
        else:
            self._finish(job)
            job.future.set_result(answer)

    def _finish(self, job: Job) -> None:
        with self._lock:
            if job not in self._unfinished:
                return  # two threads gave it up at once
            self._unfinished.remove(job)
        job.done()


def _busy() -> Busy:
    return Busy("too many uploads are waiting already: try again in a minute")


def _to_user_error(error: BaseException) -> UserError:
    """Convert an error; what the upload is not to blame for goes to stderr, too."""
    if isinstance(error, UserError):
        return error
    if not isinstance(error, Exception):
        return UserError("the page has been stopped")
    traceback.print_exception(error, file=sys.stderr)
    kind = type(error).__name__
    return UserError(f"this upload could not be worked on ({kind}); the terminal says more")
