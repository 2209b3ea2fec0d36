"""One upload at a time: the others wait in a queue, and there are not too many of them.

The jobs are done in the main thread, which signals interrupt, and the web server runs in another.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue

from video_snl.errors import UserError
from video_snl.serve.service import Answer

__all__ = ["Busy", "Job", "Jobs"]

Job = Future[Answer]


class Busy(UserError):
    """There is no place left in the queue."""


class Jobs:
    """A queue with a number of places.

    Args:
        places: Uploads that may be here at once, those still being received among them.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[Job, Callable[[], Answer]] | None] = SimpleQueue()
        self._unfinished: deque[Job] = deque()

    def enter(self) -> None:
        """Take a place.

        Raises:
            Busy: There is none.
        """
        with self._lock:
            if not self._places:
                raise Busy("too many uploads are waiting already: try again in a minute")
            self._places -= 1

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._places += 1

    def submit(self, work: Callable[[], Answer], done: Callable[[], None]) -> Job:
        """Queue some work; ``done`` is called before anybody hears what came of it."""
        job: Job = Future()
        with self._lock:
            self._unfinished.append(job)
        job.add_done_callback(lambda _: self._finish(job, done))
        self._queue.put((job, work))
        return job

    def ahead(self, job: Job) -> int:
        """How many are to be done before this one; 0 if it is being done."""
        with self._lock:
            return self._unfinished.index(job) if job in self._unfinished else 0

    def run(self) -> None:
        """Do the jobs, until :meth:`end` is called."""
        while (entry := self._queue.get()) is not None:
            job, work = entry
            if job.set_running_or_notify_cancel():
                with _settling(job):
                    job.set_result(work())

    def end(self) -> None:
        """Give up all that has not begun, and let :meth:`run` return; any thread may call this."""
        with self._lock:
            waiting = list(self._unfinished)
        for job in waiting:
            job.cancel()
        self._queue.put(None)

    def _finish(self, job: Job, done: Callable[[], None]) -> None:
        with self._lock:
            self._unfinished.remove(job)
        done()


@contextmanager
def _settling(job: Job) -> Iterator[None]:
    """Errors become those of the job; what is no fault of an upload is told on stderr, too."""
    try:
        yield
    except UserError as error:
        job.set_exception(error)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        kind = type(error).__name__
        job.set_exception(
            UserError(f"this upload could not be worked on ({kind}); the terminal says more")
        )
    except BaseException:  # a signal
        job.set_exception(UserError("the page has been stopped"))
        raise
