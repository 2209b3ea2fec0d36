"""A torch DataLoader that is rebuilt after a worker hangs or dies: measured, not used.

    export PYTHONPATH=.:scripts/benchmarks
    python -m pytest -p rebuilt_loader tests/data/test_loader_processes.py

What a sample is depends on (seed, epoch, index) alone, so that a DataLoader whose workers were
killed can be built anew for the batches that are still to come. :class:`RebuiltLoader` does that
behind the interface of :class:`~video_snl.data.loading.loader.ClipLoader`. As a plugin of pytest it
takes the place of that one, so that the tests of hangs and deaths run on it;
``pool_or_dataloader.py`` compares both.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from video_snl.data.loading.collate import Batch, ClipSource, LoaderProfile, Sample, collate
from video_snl.data.loading.quarantine import Quarantine, named
from video_snl.data.loading.samplers import Key, KeySampler
from video_snl.errors import UserError

__all__ = ["RebuiltLoader", "pytest_configure"]

_LOOK = 0.5  # seconds between looks at the workers
_ATTEMPTS = {"timeout": 2, "died": 3}


@dataclass
class _Read:
    """Batch as a worker made it, and the items that could not be read: path and reason."""

    batch: Batch
    failures: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)


class _Batches(Dataset[_Read]):
    """Dataset whose items are batches, so that a worker settles the failures of one itself.

    Args:
        current: (item that is read, time at which that began) of every worker, shared memory.
    """

    def __init__(self, source: ClipSource, quarantine: Quarantine | None, current: Any) -> None:
        self._source, self._quarantine, self._current = source, quarantine, current

    def __getitems__(self, keys: Sequence[Key]) -> _Read:
        read, samples = _Read({}), []
        for key in keys:
            sample = self._sample(key, read)
            if sample is not None:
                samples.append(sample)
        read.batch = collate(samples)
        return read

    def _sample(self, key: Key, read: _Read) -> Sample | None:
        index: int | None = key[1]
        assert index is not None
        while self._quarantine is not None and (
            self._source.items[index].path in self._quarantine.bad
        ):
            asked, index = index, self._source.fallback_index(key, self._quarantine)
            if index is None:
                read.unreadable.append(asked)
                return None
        path = self._source.items[index].path
        worker = get_worker_info()
        for attempt in (1, 2):
            try:
                if worker is not None:
                    self._current[2 * worker.id : 2 * worker.id + 2] = [index, time.monotonic()]
                return self._source.sample(key, index)
            except Exception as error:  # a decoder may raise anything
                if self._quarantine is None:
                    raise UserError(named(path, str(error))) from error
                if attempt == 2:
                    read.failures.append((path, str(error)))
                    # Without a file: the process that uses the batch writes it.
                    self._quarantine.add(path, "error", str(error), 0.0)
            finally:
                if worker is not None:
                    self._current[2 * worker.id + 1] = 0.0
        return self._sample(key, read)


class RebuiltLoader:
    """Batches of a dataset by a DataLoader, which is rebuilt at the batch at which a worker fails.

    Args: those of :class:`~video_snl.data.loading.loader.ClipLoader`.
    """

    batch_sampler = None
    context = "fork"

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
        self._workers: list[Any] = []

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers if worker.pid]

    def close(self) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        self._workers = []

    def __iter__(self) -> Iterator[Batch]:
        self.profile = profile = LoaderProfile()
        keys = list(self.sampler)
        batches = [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)]
        attempts = Counter[tuple[str, str]]()
        if self.quarantine is not None:
            self.quarantine.refresh()
        self._check()
        done, began = 0, time.monotonic()
        while done < len(batches):
            current = multiprocessing.RawArray("d", 2 * max(1, self.num_workers))
            running = self._start(batches[done:], current)
            fault = False
            while not fault and done < len(batches):
                asked = time.monotonic()
                read = self._next(running, current, attempts)
                profile.waited += time.monotonic() - asked
                if read is None:
                    fault = True
                    continue
                batch = self._settle(read)
                done += 1
                profile.seconds = time.monotonic() - began
                profile.clips += len(batch["index"])
                yield batch

    def _start(self, batches: Sequence[Sequence[Key]], current: Any) -> Any:
        self.close()
        quarantine = None
        if self.quarantine is not None:
            quarantine = Quarantine(None, 1.0)
            quarantine.bad = dict(self.quarantine.bad)
        loader = DataLoader(
            _Batches(self.dataset, quarantine, current),
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            pin_memory=self.pin_memory,
            timeout=_LOOK if self.num_workers else 0,
            multiprocessing_context=self.context if self.num_workers else None,
        )
        running = iter(loader)
        self._workers = list(getattr(running, "_workers", []))
        return running

    def _next(self, running: Any, current: Any, attempts: Counter[tuple[str, str]]) -> _Read | None:
        """Return the next batch; None where the workers have to be started anew."""
        while True:
            try:
                return next(running)
            except UserError:
                raise
            except RuntimeError:
                now = time.monotonic()
                dead = [i for i, worker in enumerate(self._workers) if not worker.is_alive()]
                late = [
                    i
                    for i in range(self.num_workers)
                    if current[2 * i + 1] and now - current[2 * i + 1] > self.deadline
                ]
                if dead or late:
                    self._blame(dead or late, "died" if dead else "timeout", current, attempts)
                    return None

    def _blame(
        self, workers: list[int], kind: str, current: Any, attempts: Counter[tuple[str, str]]
    ) -> None:
        for number in workers:
            began = current[2 * number + 1]
            self.profile.replaced += 1
            if not began:
                continue  # it was between two samples
            path = self.dataset.items[int(current[2 * number])].path
            attempts[path, kind] += 1
            if attempts[path, kind] < _ATTEMPTS[kind]:
                continue
            code = self._workers[number].exitcode
            reason = f"took longer than data.deadline={self.deadline:g} s"
            if kind == "died":
                reason = f"its process died: {signal.Signals(-code).name if code < 0 else code}"
            if self.quarantine is None:
                raise UserError(named(path, reason))
            self.quarantine.add(path, kind, reason, time.monotonic() - began)
            self._check()

    def _settle(self, read: _Read) -> Batch:
        batch = read.batch
        if self.quarantine is not None:
            for path, reason in read.failures:
                self.quarantine.add(path, "error", reason, 0.0)
            if read.failures:
                self._check()
            for name in ("index", "label"):
                batch.setdefault(name, torch.empty(0, dtype=torch.int64))
            batch["unreadable"] = torch.tensor(sorted(read.unreadable), dtype=torch.int64)
        return batch

    def _check(self) -> None:
        if self.quarantine is not None:
            self.quarantine.check((item.path for item in self.dataset.items), self.what)


def _as_it_is(read: Any) -> Any:
    return read


def pytest_configure() -> None:
    """Put :class:`RebuiltLoader` in the place of the product's loader."""
    from video_snl.data.video import dataset

    dataset.ClipLoader = RebuiltLoader  # type: ignore[assignment,misc]
