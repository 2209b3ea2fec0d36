"""Batches on their way to a GPU while it is still busy with the one before.

On CUDA the next batch is copied from pinned memory on a stream of its own, beside the kernels of
the current one; the stream that computes waits for an event, the host for nothing. Elsewhere there
is nothing to do, and the loader itself is handed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["HOST_FIELDS", "Copies", "CudaCopies", "DevicePrefetcher", "prefetched", "to_device"]

Batch = dict[str, Tensor]
Handle = TypeVar("Handle")
AHEAD = 1
"""Batches copied ahead. One hides the copy; more would only hold more of the GPU's memory."""
HOST_FIELDS = ("jitter", "mask", "operations")
"""Fields that stay on the host: they decide what is launched, and to look at them on a GPU would
wait for all work queued on it."""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a device, but for :data:`HOST_FIELDS`; waits for no copy."""
    return {
        name: value if name in HOST_FIELDS else value.to(device, non_blocking=True)
        for name, value in batch.items()
    }


class Copies(Protocol[Handle]):
    """Copies of batches to a device in the background."""

    def start(self, batch: Batch) -> Handle:
        """Begin to copy a batch."""
        ...

    def finish(self, handle: Handle) -> Batch:
        """Return the batch, safe to use by whatever is queued on the device from now on."""
        ...


class CudaCopies:
    """Copies on a CUDA stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def start(self, batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        # A pinned source may be freed at once: its allocator waits for the copy before it gives
        # the memory away again.
        with torch.cuda.stream(self.stream):
            return to_device(batch, self.device), self.stream.record_event()

    def finish(self, handle: tuple[Batch, torch.cuda.Event]) -> Batch:
        batch, copied = handle
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for name, value in batch.items():
            if name not in HOST_FIELDS:
                # Or its memory, freed, would serve the next copy while kernels still read it.
                value.record_stream(current)
        return batch


class DevicePrefetcher(Generic[Handle]):
    """Loader whose batches are copied to a device :data:`AHEAD` of their use.

    Its ``sampler``, its ``profile`` and its length are those of the loader it wraps.
    """

    batch_sampler = None  # Lightning looks for one beside the sampler

    def __init__(self, loader: Any, copies: Copies[Handle]) -> None:
        self.loader, self.copies = loader, copies

    @property
    def sampler(self) -> Any:
        """The sampler, which Lightning tells the epoch."""
        return self.loader.sampler

    @property
    def profile(self) -> Any:
        return self.loader.profile

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return prefetch(self.loader, self.copies)


def prefetch(batches: Iterable[Batch], copies: Copies[Handle]) -> Iterator[Batch]:
    """Yield every batch in order, copied while the :data:`AHEAD` batches before it are used."""
    started: deque[Handle] = deque()
    for batch in batches:
        started.append(copies.start(batch))
        if len(started) > AHEAD:
            yield copies.finish(started.popleft())
    while started:
        yield copies.finish(started.popleft())


Loader = TypeVar("Loader", bound=Sized)


def prefetched(loader: Loader, device: torch.device) -> Loader | DevicePrefetcher:
    """Return the loader, with its batches copied ahead if the device is a CUDA one."""
    if device.type != "cuda":
        return loader
    return DevicePrefetcher(loader, CudaCopies(device))
