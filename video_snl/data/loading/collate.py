"""Collate the keys of an epoch into its batches, in order, whatever happens to single files."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from video_snl.data.loading.quarantine import Quarantine, named
from video_snl.data.loading.samplers import Key
from video_snl.data.workers.pool import DecodeResult, InProcess, Pool
from video_snl.errors import OptionsError, UserError
from video_snl.utils.large_pages import empty_in_large_pages
from video_snl.utils.timing import STAGES, collect_stages

__all__ = [
    "Arrays",
    "Batch",
    "ClipSource",
    "Collator",
    "LoaderProfile",
    "ReadSample",
    "Refusal",
    "Request",
    "Sample",
    "collate",
]

Sample = dict[str, Tensor]
Batch = dict[str, Tensor]
Arrays = tuple[dict[str, np.ndarray], dict[str, float]]
"""The arrays of a sample, and the seconds of the stages of reading it."""

# The fault may be another's and the file intact: a network disk may fail for a moment, a machine be
# loaded, a worker be killed for the memory that others took. So a sample is tried again, and given
# up with an attempt of this number that fails.
_ATTEMPTS = {"error": 2, "timeout": 2, "died": 3}


class _Item(Protocol):
    """Item of a dataset that may be unreadable: a video, a tracklet."""

    @property
    def path(self) -> str:
        """Name in messages and in the quarantine."""
        ...


class ClipSource(Protocol):
    """Dataset as a loader sees it."""

    @property
    def items(self) -> Sequence[_Item]: ...

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of a key, read from the item ``index_read``."""
        ...

    def fallback_index(self, key: Key, avoided: Quarantine) -> int | None:
        """Return the item to read instead of that of the key; None leaves the sample out."""
        ...


class Request(NamedTuple):
    """Request for one row of the epoch's batches.

    Attributes:
        key: Key of the sample.
        index_read: Item that it is read from.
        position: Number of the row within the epoch.
        failures: Number of attempts that have failed.
    """

    key: Key
    index_read: int
    position: int
    failures: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why no item will do; a value, since an error would count as the item's."""

    message: str


@dataclass(frozen=True)
class ReadSample:
    """The function that workers call."""

    source: ClipSource

    def __call__(self, request: Request) -> Arrays | Refusal:
        try:
            sample = self.source.sample(request.key, request.index_read)
        except OptionsError as error:
            return Refusal(str(error))
        return {name: value.numpy() for name, value in sample.items()}, collect_stages()


@dataclass
class LoaderProfile:
    """Times of one epoch of a loader, so far.

    Args:
        clips: Number of samples handed out.
        seconds: Time from the first request to the last batch handed out.
        waited: Part of it that the consumer waited for batches.
        stages: Seconds of all workers in each of :data:`~video_snl.utils.timing.STAGES`.
        replaced: Number of worker processes that were killed or died.
    """

    clips: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    replaced: int = 0


class Collator:
    """The batches of one epoch, in order; driven by :meth:`step`.

    An item that cannot be read goes to the quarantine, and its row to the item that the dataset
    names instead, or to none: then ``unreadable`` of the batch holds its index. Without a
    quarantine it is an error.

    Args:
        keys: Keys of the epoch, ``count`` of them.

    Raises:
        UserError: From :meth:`step`, when the batch with such an error is due; at once when there
            are too many of them.
    """

    def __init__(
        self,
        source: ClipSource,
        keys: Iterable[Key],
        count: int,
        batch_size: int,
        pool: Pool[Request, Arrays | Refusal] | InProcess[Request, Arrays | Refusal],
        *,
        pin: bool = False,
        quarantine: Quarantine | None = None,
        deadline: float = float("inf"),
        what: str = "listed",
        profile: LoaderProfile | None = None,
    ) -> None:
        # Read as they are needed: the keys of ten million samples would take a gigabyte.
        self._source, self._keys, self._size = source, iter(keys), batch_size
        self._pool, self._pin, self._quarantine = pool, pin, quarantine
        self._deadline, self._what = deadline, what
        self._profile = profile or LoaderProfile()
        self._replaced_before = pool.replaced
        self._pending: deque[_Rows] = deque()  # the oldest batch first
        self._handed_out = 0  # batches before it
        self._requested = 0  # batches
        self._checked = -1  # so many bad files are not too many
        self.length = -(-count // batch_size)
        self._check()

    @property
    def done(self) -> bool:
        return self._handed_out == self.length

    def step(self, limit: int) -> list[Batch]:
        """Request the samples of all batches below ``limit``; return batches that are complete.

        Waits for a sample, for a second at most.
        """
        while self._requested < min(limit, self.length):
            first = self._requested * self._size
            keys = list(islice(self._keys, self._size))
            self._pending.append(_Rows(len(keys), pin=self._pin))
            self._requested += 1
            for row, key in enumerate(keys):
                self._request(Request(key, key[1], first + row))
        for result in self._pool.finished():
            self._settle(result)
        self._profile.replaced = self._pool.replaced - self._replaced_before
        return self._complete()

    def _request(self, request: Request) -> None:
        if self._quarantine is None or self._path(request) not in self._quarantine:
            self._pool.submit(request)
            return
        fallback = self._source.fallback_index(request.key, self._quarantine)
        if fallback is None:
            rows, row = self._place(request)
            rows.unreadable.append(request.index_read)
            rows.omit(row)
        else:
            self._pool.submit(request._replace(index_read=fallback, failures=0))

    def _settle(self, result: DecodeResult[Request, Arrays | Refusal]) -> None:
        request = result.item
        if result.value is None:
            self._fail(result)
        elif isinstance(result.value, Refusal):
            self._error(request, result.value.message)
        else:
            arrays, stages = result.value
            rows, row = self._place(request)
            began = time.perf_counter()
            rows.add(row, {name: torch.from_numpy(array) for name, array in arrays.items()})
            self._profile.stages["copy"] += time.perf_counter() - began
            for name, seconds in stages.items():
                self._profile.stages[name] += seconds

    def _fail(self, result: DecodeResult[Request, Arrays | Refusal]) -> None:
        request, reason = result.item, str(result.failure)
        if request.failures + 1 < _ATTEMPTS[result.kind]:
            self._request(request._replace(failures=request.failures + 1))
            return
        if result.kind == "timeout":
            reason = f"took longer than data.deadline={self._deadline:g} s"
        if self._quarantine is None:
            self._error(request, named(self._path(request), reason))
            return
        self._quarantine.add(self._path(request), result.kind, reason, result.seconds)
        self._check()
        self._request(request)

    def _check(self) -> None:
        quarantine = self._quarantine
        if quarantine is not None and len(quarantine.bad) > self._checked:
            more = quarantine.check((item.path for item in self._source.items), self._what)
            self._checked = len(quarantine.bad) + more

    def _error(self, request: Request, message: str) -> None:
        rows, row = self._place(request)
        rows.errors[row] = message
        rows.omit(row)

    def _place(self, request: Request) -> tuple[_Rows, int]:
        number, row = divmod(request.position, self._size)
        return self._pending[number - self._handed_out], row

    def _path(self, request: Request) -> str:
        return self._source.items[request.index_read].path

    def _complete(self) -> list[Batch]:
        batches: list[Batch] = []
        while self._pending and self._pending[0].complete:
            rows = self._pending[0]
            if rows.errors:
                if batches:
                    break  # those before it first
                raise UserError(rows.errors[min(rows.errors)])
            batches.append(self._finish(self._pending.popleft()))
            self._handed_out += 1
        return batches

    def _finish(self, rows: _Rows) -> Batch:
        batch = rows.batch()
        if self._quarantine is not None:
            for name in ("index", "label"):
                batch.setdefault(name, torch.empty(0, dtype=torch.int64))
            batch["unreadable"] = torch.tensor(sorted(rows.unreadable), dtype=torch.int64)
        return batch


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; pad clips with black, below and right, to the largest frame.

    ``size`` keeps the height and width of every sample within the padding.
    """
    rows = _Rows(len(samples))
    for row, sample in enumerate(samples):
        rows.add(row, sample)
    return rows.batch()


class _Rows:
    """A batch whose rows are filled in any order, each sample copied once, to where it stays.

    Clips (tensors with H, W as their last axes but one) are padded with black, below and right, to
    the largest frame. A row may be left out.

    Args:
        rows: Number of samples of the batch.
        pin: Put the batch into page-locked memory, from which a GPU copies in the background.

    Attributes:
        unreadable: Indices of the items left out.
        errors: Messages by row.
    """

    def __init__(self, rows: int, *, pin: bool = False) -> None:
        self.unreadable: list[int] = []
        self.errors: dict[int, str] = {}
        self._missing = set(range(rows))
        self._rows, self._pin = rows, pin
        self._omitted: set[int] = set()
        self._tensors: dict[str, Tensor] = {}

    @property
    def complete(self) -> bool:
        """True once every row is filled or left out."""
        return not self._missing

    def add(self, row: int, sample: Mapping[str, Tensor]) -> None:
        """Copy a sample into its row.

        Raises:
            RuntimeError: A tensor that is not a clip has another shape than in the samples before.
        """
        for name, value in sample.items():
            target = self._room(name, value)[row]
            if value.ndim >= 4:
                height, width = value.shape[-3:-1]
                if target.shape != value.shape:
                    target.zero_()
                target = target[..., :height, :width, :]
            target.copy_(value)
        self._missing.discard(row)

    def omit(self, row: int) -> None:
        """Leave a row out."""
        self._missing.discard(row)
        self._omitted.add(row)

    def batch(self) -> Batch:
        """Return the batch, once it is complete; empty where all rows were left out."""
        if not self._omitted:
            return self._tensors
        kept = torch.tensor([r for r in range(self._rows) if r not in self._omitted])
        if len(kept) == 0:
            return {}
        chosen = {name: value[kept] for name, value in self._tensors.items()}
        return {name: v.pin_memory() for name, v in chosen.items()} if self._pin else chosen

    def _room(self, name: str, value: Tensor) -> Tensor:
        """Return the tensor for all rows, large enough for this value."""
        present = self._tensors.get(name)
        shape = list(value.shape)
        if present is None:
            shape = [self._rows, *shape]
            self._tensors[name] = (
                torch.empty(shape, dtype=value.dtype, pin_memory=True)
                if self._pin
                else empty_in_large_pages(shape, value.dtype)
            )
        elif value.ndim >= 4:
            for axis in (-3, -2):
                shape[axis] = max(shape[axis], present.shape[axis])
            if shape != list(present.shape[1:]):
                grown = torch.zeros(self._rows, *shape, dtype=value.dtype, pin_memory=self._pin)
                grown[..., : present.shape[-3], : present.shape[-2], :] = present
                self._tensors[name] = grown
        return self._tensors[name]
