"""Batches made ready in the background: the loader that training and evaluation iterate over."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import torch

from video_snl.data.loading.collate import (
    Arrays,
    Batch,
    ClipSource,
    Collator,
    LoaderProfile,
    ReadSample,
    Refusal,
    Request,
)
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.loading.samplers import KeySampler
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.data.workers.pool import InProcess, Pool

__all__ = ["ClipLoader"]

# Batches that are ready or being made, beyond those that keep all workers busy.
_AHEAD = 2
_TASKS_AHEAD = 3  # of a worker
_STOP_TIMEOUT = 10.0  # seconds
_LOOK = 5.0  # seconds between looks at whether the thread is alive

_Pool = Pool[Request, Arrays | Refusal]
_InProcess = InProcess[Request, Arrays | Refusal]


class ClipLoader:
    """Batches of a dataset in the order of a sampler, the same for any number of workers.

    Each iteration is one epoch of ``sampler`` (whose ``set_epoch`` is called by Lightning); an
    iteration that begins ends the one before. Files that cannot be read are dealt with as
    :class:`~video_snl.data.loading.collate.Collator` says. ``profile`` tells where the time of the
    last epoch went.

    Args:
        source: Dataset.
        sampler: Sampler of the keys of an epoch.
        batch_size: Number of samples of a batch; the last one may have fewer.
        num_workers: Number of processes that decode; they stay for the next epoch, until
            :meth:`close`. With 0 the calling process decodes, when it is asked for a batch: for
            debugging, since no deadline holds there.
        pin_memory: Put batches into page-locked memory.
        deadline: Time limit of one sample in seconds. A process that takes longer is killed and
            replaced.
        quarantine: List of the files that cannot be read; without it they are errors.
        what: Name of the dataset's part in messages, such as ``training``.

    Raises:
        UserError: When iterating; see :class:`~video_snl.data.loading.collate.Collator`.
    """

    batch_sampler = None  # Lightning looks for one beside the sampler

    def __init__(
        self,
        source: ClipSource,
        sampler: KeySampler,
        batch_size: int,
        *,
        num_workers: int,
        pin_memory: bool = False,
        deadline: float,
        quarantine: Quarantine | None = None,
        what: str = "listed",
    ) -> None:
        self.dataset, self.sampler, self.batch_size = source, sampler, batch_size
        self.num_workers, self.pin_memory, self.deadline = num_workers, pin_memory, deadline
        self.quarantine, self.what = quarantine, what
        self.profile = LoaderProfile()
        if num_workers:
            start_forkserver()  # loads its modules until the first batch is asked for
        self._processes = _Processes()
        # An abandoned loader leaves no process running. (At the end of this process, all die.)
        weakref.finalize(self, self._processes.close).atexit = False

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self._processes.stop()
        self.profile = profile = LoaderProfile()
        if self.quarantine is not None:
            self.quarantine.refresh()
        batches = self._in_background() if self.num_workers else self._here()
        began = asked = time.monotonic()
        for batch in batches:
            now = time.monotonic()
            profile.waited += now - asked
            profile.seconds = now - began
            profile.clips += len(batch["index"])
            yield batch
            asked = time.monotonic()

    def pids(self) -> list[int]:
        """Return the process numbers of the workers that run."""
        pool = self._processes.pool
        return [] if pool is None else list(pool.pids)

    def close(self) -> None:
        """End the workers; an iteration that is under way ends with RuntimeError."""
        self._processes.close()

    def _collator(self, pool: _Pool | _InProcess) -> Collator:
        return Collator(
            self.dataset,
            self.sampler,
            len(self.sampler),
            self.batch_size,
            pool,
            pin=self.pin_memory,
            quarantine=self.quarantine,
            deadline=self.deadline,
            what=self.what,
            profile=self.profile,
        )

    def _here(self) -> Iterator[Batch]:
        collator = self._collator(InProcess(ReadSample(self.dataset)))
        limit = 0
        while not collator.done:
            limit += 1
            made: list[Batch] = []
            while not made:
                made = collator.step(limit)
            yield from made

    def _in_background(self) -> Iterator[Batch]:
        pool = self._processes.start(ReadSample(self.dataset), self.num_workers, self.deadline)
        ahead = _AHEAD + -(-self.num_workers * _TASKS_AHEAD // self.batch_size)
        thread = _Thread(self._collator(pool), pool, ahead, _device(self.pin_memory))
        self._processes.thread = thread
        thread.start()
        try:
            while (batch := thread.next()) is not None:
                yield batch
        finally:
            thread.stop()


class _Processes:
    """The pool of a loader and the thread that drives it; apart from it, since they outlive it."""

    def __init__(self) -> None:
        self.pool: _Pool | None = None
        self.thread: _Thread | None = None

    def start(self, function: ReadSample, num_workers: int, deadline: float) -> _Pool:
        if self.pool is None:
            self.pool = Pool(function, num_workers, deadline, ahead=_TASKS_AHEAD)
        return self.pool

    def stop(self) -> None:
        """End the iteration under way; a thread that does not end keeps the pool, and closes it."""
        thread, self.thread = self.thread, None
        if thread is not None and not thread.stop():
            self.pool = None

    def close(self) -> None:
        self.stop()
        if self.pool is not None:
            self.pool.close()
        self.pool = None


class _Thread(threading.Thread):
    """Thread that drives a collator and keeps its batches until they are asked for."""

    def __init__(
        self, collator: Collator, pool: _Pool, ahead: int, prepare: Callable[[], None]
    ) -> None:
        super().__init__(name="video-snl loader", daemon=True)
        self._collator, self._pool, self._ahead, self._prepare = collator, pool, ahead, prepare
        self._changed = threading.Condition()
        self._ready: deque[Batch] = deque()
        self._taken = 0
        self._stopping = self._finished = self._owns_pool = False
        self._error: BaseException | None = None

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread's
        try:
            self._prepare()
            while not self._collator.done and not self._stopping:
                for batch in self._collator.step(self._taken + self._ahead):
                    with self._changed:
                        self._ready.append(batch)
                        self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            self._pool.cancel()
            with self._changed:
                self._finished = True
                self._changed.notify()
            if self._owns_pool:
                self._pool.close()

    def next(self) -> Batch | None:
        """Return the next batch, once it is there; None after the last.

        Raises:
            UserError: From the collator.
            RuntimeError: The iteration was ended by another one, or by closing the loader.
        """
        with self._changed:
            while not self._ready and not self._finished and self.is_alive():
                self._changed.wait(_LOOK)
            batch = self._ready.popleft() if self._ready else None
        if batch is not None:
            self._taken += 1
            if not self._finished:
                self._pool.wake()
            return batch
        if self._error is not None:
            raise self._error
        if not self._collator.done:
            raise RuntimeError("this iteration has ended: the loader was closed or begun anew")
        return None

    def stop(self) -> bool:
        """End the thread.

        Returns:
            False if it still uses the pool after a while, and will close it: where a process takes
            long to start, and where the thread itself calls this (it may be the one that collects
            an abandoned loader).
        """
        self._stopping = True
        if self.is_alive() and threading.current_thread() is not self:
            self._pool.wake()
            self.join(_STOP_TIMEOUT)
        with self._changed:
            self._owns_pool |= self.is_alive() and not self._finished
        return not self._owns_pool


def _device(pin_memory: bool) -> Callable[[], None]:
    """Return what sets the CUDA device of this thread in another: pinning memory calls it."""
    if not pin_memory:
        return lambda: None
    device = torch.cuda.current_device()
    return lambda: torch.cuda.set_device(device)
