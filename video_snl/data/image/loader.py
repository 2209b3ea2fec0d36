"""Batches of images: torch's DataLoader, with our keys, quarantine and figures.

Reading an image does not hang as decoding a video may, so torch's own worker processes serve. One
of them makes a whole batch of the keys it is given; the batches come in the order of the sampler,
and are the same for any number of processes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from video_snl.data.image.base import BatchResult, ImageDataset
from video_snl.data.loading.collate import Batch, LoaderProfile
from video_snl.data.loading.quarantine import Quarantine, named
from video_snl.data.loading.samplers import EpochSampler, Key, KeySampler, SpanSampler
from video_snl.errors import UserError

__all__ = ["ImageLoader", "make_image_loader"]


class ImageLoader:
    """Batches of images in the order of a sampler.

    Each iteration is one epoch of ``sampler``, whose ``set_epoch`` is called by Lightning. A batch
    holds ``image`` uint8 (B, h, w, 3), ``label`` (B,) or, for segmentation, uint8 (B, h, w),
    ``index`` (B,) and ``unreadable``: the indices of test images that are left out and count as
    wrong; in segmentation ``missed`` holds their labels. Where no row is left there is no
    ``image``.

    The ``num_workers`` processes stay for the next epoch until :meth:`close`; images in
    memory, and 0, are dealt with by the calling process. Unreadable files go to the quarantine;
    without one they are errors. ``profile`` tells how many images the last epoch had, and how
    long they were waited for.

    Raises:
        UserError: When iterating: a file cannot be read and there is no quarantine, too many cannot
            be read, no image of a class can be.
    """

    batch_sampler = None  # Lightning looks for one beside the sampler

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: KeySampler,
        batch_size: int,
        *,
        num_workers: int,
        pin_memory: bool = False,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self.num_workers = 0 if dataset.in_memory else num_workers
        self.pin_memory, self.quarantine = pin_memory, quarantine
        self.profile = LoaderProfile()
        self._checked = -1  # so many bad files are not too many
        self._loader: DataLoader[BatchResult] | None = None

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self.profile = profile = LoaderProfile()
        began = asked = time.monotonic()
        for result in self._started():
            self._settle(result)
            now = time.monotonic()
            profile.waited += now - asked
            profile.seconds = now - began
            profile.clips += len(result.batch["index"])
            yield result.batch
            asked = time.monotonic()

    def close(self) -> None:
        """End the processes; another iteration starts new ones."""
        self._loader = None

    def _started(self) -> DataLoader[BatchResult]:
        if self.quarantine is not None:
            self.quarantine.refresh()
            if self.quarantine.bad:
                self.quarantine.check(self.dataset.paths, self.dataset.what)
        if self._loader is None:
            if self.quarantine is not None:
                self.dataset.avoid(self.quarantine.bad)
            self._loader = self._made()
        return self._loader

    def _made(self) -> DataLoader[BatchResult]:
        return DataLoader(
            _Batches(self.dataset),
            batch_sampler=BatchSampler(
                self.sampler,  # type: ignore[arg-type]  # whose keys are tuples
                self.batch_size,
                drop_last=False,
            ),
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            pin_memory=self.pin_memory,
            worker_init_fn=_begin_worker,
            persistent_workers=self.num_workers > 0,
            # It seeds its processes, whose generators nothing here uses: the global one, which
            # the network draws from, stays as it is.
            generator=torch.Generator(),
        )

    def _settle(self, result: BatchResult) -> None:
        """Note what could not be read.

        Raises:
            UserError: There is no batch, no quarantine, or too much in it.
        """
        for path, reason in result.failures:
            if self.quarantine is None:
                raise UserError(named(path, reason))
            self.quarantine.add(path, "error", reason, 0.0)
        quarantine = self.quarantine
        if quarantine is not None and len(quarantine.bad) > self._checked:
            more = quarantine.check(self.dataset.paths, self.dataset.what)
            self._checked = len(quarantine.bad) + more
        if result.error is not None:
            raise UserError(result.error)


class _Batches(Dataset[BatchResult]):
    """A dataset that DataLoader asks for a list of keys, and that gives the whole batch."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[Key]) -> BatchResult:
        return self.dataset.gather(keys)


def _unchanged(result: Any) -> Any:
    return result


def _begin_worker(number: int) -> None:
    # Shells and SLURM send these to a whole group of processes; the command alone answers them.
    for number_of_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number_of_signal, signal.SIG_IGN)
    cv2.setNumThreads(0)


def make_image_loader(
    dataset: ImageDataset,
    batch_size: int,
    *,
    num_workers: int,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    quarantine: Quarantine | None = None,
    span: int | None = None,
) -> ImageLoader:
    """Make the loader of one of several processes: shuffled for training, else in order.

    Args:
        seed: Seed of the order of training.
        span: Samples of a training epoch, of all processes; default all of the dataset.
    """
    shuffle = dataset.what == "training"
    sampler: KeySampler = EpochSampler(len(dataset), seed, rank, world_size, shuffle)
    if span is not None:
        sampler = SpanSampler(len(dataset), span, seed, rank, world_size)
    return ImageLoader(
        dataset,
        sampler,
        batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        quarantine=quarantine,
    )
