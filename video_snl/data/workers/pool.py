"""Worker processes with a deadline for every task.

A task that takes too long is answered for by SIGKILL, whatever its process is stuck in, and so a
worker may end at any instruction. Hence nothing is shared between workers: each has a channel and a
shelf of its own (:mod:`video_snl.data.workers.channel`), and its end, however it came, is the end
of its channel. Workers are forked by a small process of their own
(:mod:`video_snl.data.workers.forkserver`) and die with the process that uses them.

Why not a library: torch's DataLoader raises when a worker is killed, and pebble's ProcessPool,
which has deadlines, shares two pipes and their locks between all workers. In a trial (pebble 5.2,
two workers) a ``kill -9`` of an idle worker ended the pool with BrokenProcessPool, and of 20,000
short tasks with kills every 60 ms the third kill left the others waiting for good.
"""

from __future__ import annotations

import os
import pickle
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from video_snl.data.workers.forkserver import start_forkserver
from video_snl.data.workers.handle import WorkerProcess, ending
from video_snl.data.workers.outcome import DecodeResult

__all__ = ["DecodeResult", "Pool"]

T = TypeVar("T")
R = TypeVar("R")

_START_TIMEOUT = 600.0  # seconds from the fork of a worker to its first word
_FAILED_STARTS = 3  # in a row; more is no accident
# Seconds; a look at the workers that comes so much too late means that the process stood still, or
# was busy with outcomes.
_STOPPED = 1.0
_TURN = 1.0  # seconds; the longest wait at a stretch
_NEVER = float("inf")


class Pool(Generic[T, R]):
    """Worker processes that call one function; used by one thread.

    Args:
        function: Can be pickled.
        num_workers: Processes, at least 1; they are started when there is work for them.
        deadline: Seconds for one task, from the moment its worker begins it.
        ahead: Tasks handed to a worker at once, so that it need not wait for this process.
        copy_values: Whether the arrays in a value are copies. Otherwise they lie in memory shared
            with the worker, which is written to again after :meth:`finished` goes on.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        num_workers: int,
        deadline: float,
        *,
        ahead: int = 3,
        copy_values: bool = False,
    ) -> None:
        if num_workers < 1 or ahead < 1 or not deadline > 0:
            raise ValueError(f"{num_workers=} and {ahead=} must be 1 or more, {deadline=} above 0")
        self.num_workers, self.deadline = num_workers, deadline
        self.replaced = 0
        self._pickled = pickle.dumps(function, protocol=5)
        self._ahead, self._copy = ahead, copy_values
        self._waiting: deque[tuple[int, T]] = deque()
        self._workers: list[WorkerProcess] = []
        self._killed: list[WorkerProcess] = []  # until their channels close
        self._last_ticket = self._cancelled = self._failed_starts = 0
        self._looked = time.monotonic()  # at the workers, last
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        start_forkserver()

    @property
    def unfinished(self) -> int:
        """Tasks whose outcome is still to come."""
        begun = sum(ticket > self._cancelled for w in self._workers for ticket, _, _ in w.tasks)
        return len(self._waiting) + begun

    @property
    def pids(self) -> list[int]:
        """The worker processes there are."""
        return [worker.pid for worker in self._workers]

    def submit(self, item: T) -> None:
        self._last_ticket += 1
        self._waiting.append((self._last_ticket, item))

    def cancel(self) -> None:
        """Forget all tasks; those that workers have begun run to their end or deadline."""
        self._waiting.clear()
        self._cancelled = self._last_ticket

    def ring(self) -> None:
        """Let :meth:`finished` return at once; any thread may call this, also after closing."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def finished(self, timeout: float | None = None) -> Iterator[DecodeResult[T, R]]:
        """Outcomes that are there; waits for one, a ring or a timeout, for a second at most.

        There may be none: ask again while there are tasks unfinished.

        Raises:
            UserError: The system lets no further process begin.
            RuntimeError: Workers cannot be started for another reason.
        """
        self._hand_out()
        ready = self._wait(timeout)
        # Settled before anything is handed out: the caller may take long over an outcome, and
        # others answer meanwhile.
        for late in [w for w in self._workers if w not in ready and self._looked > self._end(w)]:
            yield from self._expire(late)
        for worker in ready:
            if worker is not None:
                yield from self._receive(worker)

    def close(self) -> None:
        """End the workers."""
        workers = [*self._workers, *self._killed]
        for worker in workers:
            worker.kill()
            worker.channel.close()
        for worker in workers:
            worker.forkserver.reap(worker.pid)
        self._workers, self._killed = [], []
        self._waiting.clear()
        if self._bell >= 0:
            self._selector.close()
            bell, self._bell = self._bell, -1
            os.close(bell)

    def _hand_out(self) -> None:
        wanted = min(self.num_workers, self.unfinished)
        while len(self._workers) < wanted:
            worker = WorkerProcess(self._pickled, self._ahead)
            self._workers.append(worker)
            self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        while self._waiting:
            free = [worker for worker in self._workers if worker.ready and worker.places]
            if not free:
                return
            self._hand(min(free, key=lambda worker: len(worker.tasks)))

    def _hand(self, worker: WorkerProcess) -> None:
        ticket, item = self._waiting.popleft()
        place = worker.places.pop()
        if not worker.tasks:
            worker.began = time.monotonic()
        worker.tasks.append((ticket, place, item))
        try:
            worker.channel.send((ticket, place, item))
        except (BrokenPipeError, ConnectionResetError):
            worker.ready = False  # its channel is about to say so; it never began this task

    def _wait(self, timeout: float | None) -> list[WorkerProcess | None]:
        """Those who have something to say; None stands for the bell."""
        before = time.monotonic()
        end = min((self._end(worker) for worker in self._workers), default=before + _TURN)
        patience = min(end - before, _TURN, _TURN if timeout is None else timeout)
        events = self._selector.select(max(0.0, patience))
        now = time.monotonic()
        late = before - self._looked + max(0.0, now - before - max(0.0, patience))
        self._looked = now
        if late > _STOPPED:  # by Ctrl-Z, say, and the workers with this process
            for worker in self._workers:
                worker.began = min(now, worker.began + late)
        ready = [key.data for key, _ in events]
        if None in ready:
            os.eventfd_read(self._bell)
        return ready

    def _end(self, worker: WorkerProcess) -> float:
        if not worker.ready:
            return worker.began + _START_TIMEOUT
        return worker.began + self.deadline if worker.tasks else _NEVER

    def _receive(self, worker: WorkerProcess) -> Iterator[DecodeResult[T, R]]:
        try:
            message, _ = worker.channel.receive()
        except EOFError:
            yield from self._bury(worker)
            return
        if worker in self._killed:
            return  # its answer came too late
        worker.began = time.monotonic()
        if message[0] == "broken":
            raise RuntimeError(f"a worker cannot load its function:\n{message[1]}")
        if message[0] == "ready":
            worker.ready, self._failed_starts = True, 0
            return
        ticket, kind, seconds, answer, lengths = message
        expected, place, item = worker.tasks.popleft()
        assert ticket == expected, (ticket, expected)
        try:
            if ticket <= self._cancelled:
                return
            if kind == "error":
                yield DecodeResult(item, None, answer, "error", seconds)
            else:
                yield DecodeResult(
                    item, self._value(worker, place, answer, lengths), None, "ok", seconds
                )
        finally:
            worker.shelf.clear(place, lengths)
            worker.places.append(place)
            self._hand_out()

    def _value(self, worker: WorkerProcess, place: int, body: Any, lengths: list[int]) -> R:
        views: list[Any] = list(worker.shelf.views(place, lengths))
        if self._copy:
            views = [bytearray(view) for view in views]
        if body is None:
            body, *views = views
        return pickle.loads(body, buffers=views)

    def _expire(self, worker: WorkerProcess) -> Iterator[DecodeResult[T, R]]:
        """Kill a worker over its deadline and answer for its task."""
        worker.kill()
        self._workers.remove(worker)
        self._killed.append(worker)
        self.replaced += 1
        if not worker.ready:
            raise RuntimeError(f"a worker did not start within {_START_TIMEOUT:.0f} seconds")
        ticket, _, item = worker.tasks.popleft()
        self._hand_back(worker)
        if ticket > self._cancelled:
            seconds = time.monotonic() - worker.began
            yield DecodeResult(
                item, None, f"took longer than {self.deadline:g} s", "timeout", seconds
            )

    def _bury(self, worker: WorkerProcess) -> Iterator[DecodeResult[T, R]]:
        """Reap a worker that has ended; the task that it had begun is answered for."""
        self._selector.unregister(worker.channel)
        worker.channel.close()
        code = worker.forkserver.reap(worker.pid)
        if worker in self._killed:
            self._killed.remove(worker)
            return
        self._workers.remove(worker)
        self.replaced += 1
        if not worker.ready and not worker.tasks:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise RuntimeError(f"workers end as they start ({ending(code)})")
        begun = None
        if worker.tasks and worker.tasks[0][0] == worker.shelf.at_hand:
            begun = worker.tasks.popleft()
        self._hand_back(worker)
        if begun is not None and begun[0] > self._cancelled:
            seconds = time.monotonic() - worker.began
            yield DecodeResult(begun[2], None, f"its process died: {ending(code)}", "died", seconds)

    def _hand_back(self, worker: WorkerProcess) -> None:
        """Let others do the tasks that a worker had not begun."""
        for ticket, _, item in reversed(worker.tasks):
            if ticket > self._cancelled:
                self._waiting.appendleft((ticket, item))
        worker.tasks.clear()
