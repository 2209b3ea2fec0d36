"""From the keys of an epoch to its batches, in order, whatever happens to single files."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch

from video_snl.data.loading.batches import Batch, BatchBuilder, Sample
from video_snl.data.loading.quarantine import Quarantine, named
from video_snl.data.loading.samplers import Key
from video_snl.data.workers.outcome import DecodeResult, InProcess
from video_snl.data.workers.pool import Pool
from video_snl.errors import OptionsError, UserError
from video_snl.utils.timing import STAGES, collect_stages

__all__ = [
    "Answer",
    "Assembly",
    "ClipSource",
    "LoaderProfile",
    "ReadSample",
    "Request",
    "Stored",
]

# The fault may be another's and the file sound: a network disk may fail for a moment, a machine be
# loaded, a worker be killed for the memory that others took. So a sample is tried again, and given
# up with an attempt of this number that fails.
_ATTEMPTS = {"error": 2, "timeout": 2, "died": 3}


class Stored(Protocol):
    """Something that can be unreadable: a video, a tracklet."""

    @property
    def path(self) -> str:
        """What it is called in messages and in the quarantine."""
        ...


class ClipSource(Protocol):
    """A data set as a loader sees it."""

    @property
    def videos(self) -> Sequence[Stored]: ...

    def sample(self, key: Key, index_read: int) -> Sample:
        """The sample of a key, cut from the video ``index_read``."""
        ...

    def fallback_index(self, key: Key, avoided: Quarantine) -> int | None:
        """The video to show instead of that of the key; None leaves the sample out."""
        ...


class Request(NamedTuple):
    """One row of the epoch's batches."""

    key: Key
    index_read: int
    position: int
    failures: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why no file will do; a value, since an error would count as the file's."""

    message: str


Answer = tuple[dict[str, np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class ReadSample:
    """What a worker does: the arrays of a sample, and the seconds of its stages."""

    source: ClipSource

    def __call__(self, request: Request) -> Answer | Refusal:
        try:
            sample = self.source.sample(request.key, request.index_read)
        except OptionsError as error:
            return Refusal(str(error))
        return {name: value.numpy() for name, value in sample.items()}, collect_stages()


@dataclass
class LoaderProfile:
    """One epoch of a loader, so far.

    Args:
        clips: Samples handed out.
        seconds: From the first request to the last batch handed out.
        waited: Of these, how long the consumer waited for batches.
        stages: Seconds of all workers in each of :data:`~video_snl.utils.timing.STAGES`.
        replaced: Worker processes that were killed or died.
    """

    clips: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    replaced: int = 0


class _Pending:
    """A batch that is being put together."""

    def __init__(self, rows: int, pin: bool) -> None:
        self.builder = BatchBuilder(rows, pin=pin)
        self.unreadable: list[int] = []
        self.errors: dict[int, str] = {}  # by row


class Assembly:
    """The batches of one epoch; driven by :meth:`step`.

    A file that cannot be read goes to the quarantine, and its row to the video that the data set
    names instead, or to nobody: then ``unreadable`` of the batch holds its index. Without a
    quarantine it is an error.

    Raises:
        UserError: From :meth:`step`, when the batch with such an error is due; at once when there
            are too many of them.
    """

    def __init__(
        self,
        source: ClipSource,
        keys: Sequence[Key],
        batch_size: int,
        pool: Pool[Request, Answer | Refusal] | InProcess[Request, Answer | Refusal],
        *,
        pin: bool = False,
        quarantine: Quarantine | None = None,
        deadline: float = float("inf"),
        what: str = "listed",
        profile: LoaderProfile | None = None,
    ) -> None:
        self._source, self._keys, self._size = source, keys, batch_size
        self._pool, self._pin, self._quarantine = pool, pin, quarantine
        self._deadline, self._what = deadline, what
        self._profile = profile or LoaderProfile()
        self._replaced_before = pool.replaced
        self._pending: deque[_Pending] = deque()  # the oldest batch first
        self._handed_out = 0  # batches before it
        self._requested = 0  # batches
        self.length = -(-len(keys) // batch_size)
        self._check()

    @property
    def done(self) -> bool:
        return self._handed_out == self.length

    def step(self, limit: int) -> list[Batch]:
        """Request the samples of all batches below ``limit``; return batches that are complete.

        Waits for a sample, for a second at most.
        """
        while self._requested < min(limit, self.length):
            self._request_batch()
        for outcome in self._pool.finished():
            self._settle(outcome)
        self._profile.replaced = self._pool.replaced - self._replaced_before
        return self._complete()

    def _request_batch(self) -> None:
        first = self._requested * self._size
        keys = self._keys[first : first + self._size]
        self._pending.append(_Pending(len(keys), self._pin))
        self._requested += 1
        for row, key in enumerate(keys):
            self._request(Request(key, key[1], first + row))

    def _request(self, request: Request) -> None:
        if self._quarantine is None or self._path(request) not in self._quarantine:
            self._pool.submit(request)
            return
        index_read = self._source.fallback_index(request.key, self._quarantine)
        if index_read is None:
            self._omit(request)
        else:
            self._pool.submit(request._replace(index_read=index_read, failures=0))

    def _settle(self, outcome: DecodeResult[Request, Answer | Refusal]) -> None:
        request = outcome.item
        pending, row = self._place(request)
        if outcome.value is None:
            self._fail(outcome)
        elif isinstance(outcome.value, Refusal):
            self._error(request, outcome.value.message)
        else:
            arrays, stages = outcome.value
            sample = {name: torch.from_numpy(array) for name, array in arrays.items()}
            began = time.perf_counter()
            pending.builder.add(row, sample)
            self._profile.stages["copy"] += time.perf_counter() - began
            for name, seconds in stages.items():
                self._profile.stages[name] += seconds

    def _fail(self, outcome: DecodeResult[Request, Answer | Refusal]) -> None:
        request, reason = outcome.item, str(outcome.failure)
        if request.failures + 1 < _ATTEMPTS[outcome.kind]:
            self._request(request._replace(failures=request.failures + 1))
            return
        if outcome.kind == "timeout":
            reason = f"took longer than data.deadline={self._deadline:g} s"
        if self._quarantine is None:
            self._error(request, named(self._path(request), reason))
            return
        self._quarantine.add(self._path(request), outcome.kind, reason, outcome.seconds)
        self._check()
        self._request(request)

    def _check(self) -> None:
        if self._quarantine is not None:
            self._quarantine.check((video.path for video in self._source.videos), self._what)

    def _error(self, request: Request, message: str) -> None:
        pending, row = self._place(request)
        pending.errors[row] = message
        pending.builder.omit(row)

    def _omit(self, request: Request) -> None:
        pending, row = self._place(request)
        pending.unreadable.append(request.index_read)
        pending.builder.omit(row)

    def _place(self, request: Request) -> tuple[_Pending, int]:
        number, row = divmod(request.position, self._size)
        return self._pending[number - self._handed_out], row

    def _path(self, request: Request) -> str:
        return self._source.videos[request.index_read].path

    def _complete(self) -> list[Batch]:
        batches: list[Batch] = []
        while self._pending and self._pending[0].builder.complete:
            pending = self._pending[0]
            if pending.errors:
                if batches:
                    break  # those before it first
                raise UserError(pending.errors[min(pending.errors)])
            batches.append(self._finish(self._pending.popleft()))
            self._handed_out += 1
        return batches

    def _finish(self, pending: _Pending) -> Batch:
        batch = pending.builder.batch()
        if self._quarantine is not None:
            for name in ("index", "label"):
                batch.setdefault(name, torch.empty(0, dtype=torch.int64))
            batch["unreadable"] = torch.tensor(sorted(pending.unreadable), dtype=torch.int64)
        return batch
