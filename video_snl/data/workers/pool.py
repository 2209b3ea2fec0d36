"""Worker processes with a deadline for every task, and a function mapped over items by them.

The worker of a task that takes too long is killed with SIGKILL, whatever it is stuck in, so a
worker may end at any instruction. Hence workers share nothing: each has a channel and a shared
buffer of its own (:mod:`video_snl.data.workers.channel`), and its end, however it came, is the end
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
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Literal, TypeVar

from video_snl.data.workers.channel import Channel, SharedBuffer, channel_pair
from video_snl.data.workers.forkserver import ForkServer, start_forkserver
from video_snl.data.workers.worker import attempt, main_module

__all__ = ["DecodeResult", "InProcess", "Pool", "map_with_timeout"]

T = TypeVar("T")
R = TypeVar("R")

_START_TIMEOUT = 600.0  # seconds from the fork of a worker to its first message
_FAILED_STARTS = 3  # in a row; more are not an accident
# Seconds; a look at the workers that comes so much too late means that this process stood still, or
# was busy with results.
_STOPPED = 1.0
_TURN = 1.0  # seconds; the longest uninterrupted wait
_NEVER = float("inf")


@dataclass(frozen=True)
class DecodeResult(Generic[T, R]):
    """Result of a task: a value, or a failure in one line.

    Attributes:
        item: Item of the task.
        value: Value of the function; None after a failure.
        failure: Reason in one line (the message of a UserError as it is); None without a failure.
        kind: ``ok``, ``error`` (an exception), ``timeout`` (over the deadline, its process was
            killed) or ``died`` (its process ended).
        seconds: Time that the task ran.
    """

    item: T
    value: R | None
    failure: str | None
    kind: Literal["ok", "error", "timeout", "died"]
    seconds: float


def map_with_timeout(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    num_workers: int,
    deadline: float,
    ahead: int = 1,
) -> Generator[DecodeResult[T, R], None, None]:
    """Call a function on every item in worker processes, and yield the results as they complete.

    A worker that is killed or dies is replaced. Close the generator, or run it to its end, to end
    the workers.

    Args:
        function: Function that can be pickled, as its items and values can.
        items: Items, read as they are needed: ``ahead + 1`` for each worker.
        num_workers: Number of processes; with 0 the calling process does the work, without a
            deadline.
        deadline: Time limit of one item, in seconds.
        ahead: Number of items handed to a worker at once; with 2 or more, it works on the next ones
            while the caller uses a result.
    """
    if num_workers == 0:
        for item in items:
            yield _call(function, item)
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


class InProcess(Generic[T, R]):
    """Stand-in for a :class:`Pool` that works in the calling process, without a deadline."""

    replaced = 0

    def __init__(self, function: Callable[[T], R]) -> None:
        self._function = function
        self._waiting: deque[T] = deque()

    def submit(self, item: T) -> None:
        self._waiting.append(item)

    def finished(self) -> Iterator[DecodeResult[T, R]]:
        if self._waiting:
            yield _call(self._function, self._waiting.popleft())


class Pool(Generic[T, R]):
    """Worker processes that call one function; used by one thread.

    Args:
        function: Function that can be pickled.
        num_workers: Number of processes, at least 1; they are started when there is work for them.
        deadline: Time limit of one task in seconds, from the moment its worker begins it.
        ahead: Number of tasks handed to a worker at once, so that it need not wait for this
            process.
        copy_values: Copy the arrays of a value. Otherwise they lie in memory shared with the
            worker, which is written to again once :meth:`finished` goes on.
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
        self._workers: list[_WorkerHandle] = []
        self._killed: list[_WorkerHandle] = []  # until their channels close
        self._last_ticket = self._cancelled = self._failed_starts = 0
        self._looked = time.monotonic()  # at the workers, last
        self._selector = selectors.DefaultSelector()
        self._wake_event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_event, selectors.EVENT_READ, None)
        start_forkserver()

    @property
    def unfinished(self) -> int:
        """Number of tasks whose result is still to come."""
        begun = sum(ticket > self._cancelled for w in self._workers for ticket, _, _ in w.tasks)
        return len(self._waiting) + begun

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that run."""
        return [worker.pid for worker in self._workers]

    def submit(self, item: T) -> None:
        """Add a task."""
        self._last_ticket += 1
        self._waiting.append((self._last_ticket, item))

    def cancel(self) -> None:
        """Forget all tasks; those that workers have begun run to their end or deadline."""
        self._waiting.clear()
        self._cancelled = self._last_ticket

    def wake(self) -> None:
        """Let :meth:`finished` return at once; any thread may call this, also after closing."""
        if self._wake_event >= 0:
            os.eventfd_write(self._wake_event, 1)

    def finished(self) -> Iterator[DecodeResult[T, R]]:
        """Yield the results that are there; wait for one or for :meth:`wake`, at most a second.

        There may be none: call it again while there are tasks unfinished.

        Raises:
            UserError: The system lets no further process begin.
            RuntimeError: Workers cannot be started for another reason.
        """
        self._hand_out()
        ready = self._wait()
        # The late ones are settled before anything is yielded: the caller may take long over a
        # result, and others answer meanwhile.
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
        if self._wake_event >= 0:
            self._selector.close()
            event, self._wake_event = self._wake_event, -1
            os.close(event)

    def _hand_out(self) -> None:
        """Start the workers that are needed, and give each what it can hold, evenly."""
        wanted = min(self.num_workers, self.unfinished)
        while len(self._workers) < wanted:
            worker = _WorkerHandle(self._pickled, self._ahead)
            self._workers.append(worker)
            self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        while self._waiting:
            free = [worker for worker in self._workers if worker.ready and worker.slots]
            if not free:
                return
            ticket, item = self._waiting.popleft()
            min(free, key=lambda worker: len(worker.tasks)).hand(ticket, item)

    def _wait(self) -> list[_WorkerHandle | None]:
        """Return the workers that have sent something; None stands for :meth:`wake`."""
        before = time.monotonic()
        end = min((self._end(worker) for worker in self._workers), default=before + _TURN)
        patience = max(0.0, min(end - before, _TURN))
        events = self._selector.select(patience)
        now = time.monotonic()
        late = before - self._looked + max(0.0, now - before - patience)
        self._looked = now
        if late > _STOPPED:  # by Ctrl-Z, say, and the workers with this process
            for worker in self._workers:
                worker.began = min(now, worker.began + late)
        ready = [key.data for key, _ in events]
        if None in ready:
            os.eventfd_read(self._wake_event)
        return ready

    def _end(self, worker: _WorkerHandle) -> float:
        """Return the time at which a worker is to be killed."""
        if not worker.ready:
            return worker.began + _START_TIMEOUT
        return worker.began + self.deadline if worker.tasks else _NEVER

    def _receive(self, worker: _WorkerHandle) -> Iterator[DecodeResult[T, R]]:
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
        expected, slot, item = worker.tasks.popleft()
        assert ticket == expected, (ticket, expected)
        try:
            if ticket <= self._cancelled:
                return
            if kind == "error":
                yield DecodeResult(item, None, answer, "error", seconds)
            else:
                value = self._value(worker, slot, answer, lengths)
                yield DecodeResult(item, value, None, "ok", seconds)
        finally:
            worker.buffer.clear(slot, lengths)
            worker.slots.append(slot)
            self._hand_out()

    def _value(self, worker: _WorkerHandle, slot: int, body: Any, lengths: list[int]) -> R:
        views: list[Any] = list(worker.buffer.views(slot, lengths))
        if self._copy:
            views = [bytearray(view) for view in views]
        if body is None:
            body, *views = views
        return pickle.loads(body, buffers=views)

    def _expire(self, worker: _WorkerHandle) -> Iterator[DecodeResult[T, R]]:
        """Kill a worker over its deadline, and yield the result of its task."""
        worker.kill()
        self._workers.remove(worker)
        self._killed.append(worker)
        self.replaced += 1
        if not worker.ready:
            raise RuntimeError(f"a worker did not start within {_START_TIMEOUT:.0f} seconds")
        ticket, _, item = worker.tasks.popleft()
        self._take_back(worker)
        if ticket > self._cancelled:
            seconds = time.monotonic() - worker.began
            reason = f"took longer than {self.deadline:g} s"
            yield DecodeResult(item, None, reason, "timeout", seconds)

    def _bury(self, worker: _WorkerHandle) -> Iterator[DecodeResult[T, R]]:
        """Reap a worker that has ended, and yield the result of the task that it had begun."""
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
                raise RuntimeError(f"workers end as they start ({_how_it_ended(code)})")
        begun = None
        if worker.tasks and worker.tasks[0][0] == worker.buffer.current_ticket:
            begun = worker.tasks.popleft()
        self._take_back(worker)
        if begun is not None and begun[0] > self._cancelled:
            seconds = time.monotonic() - worker.began
            reason = f"its process died: {_how_it_ended(code)}"
            yield DecodeResult(begun[2], None, reason, "died", seconds)

    def _take_back(self, worker: _WorkerHandle) -> None:
        """Let others do the tasks that a worker had not begun."""
        for ticket, _, item in reversed(worker.tasks):
            if ticket > self._cancelled:
                self._waiting.appendleft((ticket, item))
        worker.tasks.clear()


class _WorkerHandle:
    """Handle of a worker process: its channel, its tasks, and the slots for their results.

    Args:
        pickled: Pickled function that the worker calls.
        slots: Number of slots of its shared buffer; so many tasks it may hold.

    Raises:
        UserError: The system lets no further process begin.
        RuntimeError: No process can be started for another reason.
    """

    def __init__(self, pickled: bytes, slots: int) -> None:
        self.channel, theirs = channel_pair()
        self.buffer, file = SharedBuffer.create(slots)
        try:
            self.forkserver, self.pid = self._fork(theirs)
            start = (pickled, slots, os.getcwd(), main_module(pickled))
            with suppress(BrokenPipeError, ConnectionResetError):  # killed: its channel will say so
                self.channel.send(start, [file])
        finally:
            theirs.close()
            os.close(file)
        self.ready = False
        self.began = time.monotonic()  # of the current task, or of the process
        self.tasks: deque[tuple[int, int, Any]] = deque()  # (ticket, slot, item), oldest first
        self.slots = list(range(slots))  # the free ones

    @staticmethod
    def _fork(end: Channel) -> tuple[ForkServer, int]:
        for _ in range(2):  # the forkserver may have been killed a moment ago
            forkserver = start_forkserver()
            try:
                return forkserver, forkserver.start_worker(end)
            except (OSError, EOFError):
                forkserver.forget()
        raise RuntimeError("the forkserver ends as it starts; see its output above")

    def hand(self, ticket: int, item: Any) -> None:
        """Send a task to the worker."""
        slot = self.slots.pop()
        if not self.tasks:
            self.began = time.monotonic()
        self.tasks.append((ticket, slot, item))
        try:
            self.channel.send((ticket, slot, item))
        except (BrokenPipeError, ConnectionResetError):
            self.ready = False  # its channel is about to say so; it never began this task

    def kill(self) -> None:
        """End the worker at once, whatever it is stuck in; its channel closes when it is gone."""
        self.forkserver.kill(self.pid)


def _call(function: Callable[[T], R], item: T) -> DecodeResult[T, R]:
    began = time.perf_counter()
    kind, value = attempt(function, item)
    seconds = time.perf_counter() - began
    if kind == "ok":
        return DecodeResult(item, value, None, "ok", seconds)
    return DecodeResult(item, None, value, "error", seconds)


def _how_it_ended(code: int | None) -> str:
    """Name the exit code or signal that reaping a process gave."""
    if code is None:
        return "for a reason unknown"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
