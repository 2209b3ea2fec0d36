"""Samples and their batches.

A sample's key is (epoch, index); all that is random about it is drawn from a generator seeded with
(seed, epoch, index), whatever process decodes it. A run that is killed and resumed, or spread over
other workers, sees the same data.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from video_snl.config import DataConfig
from video_snl.data.clips import centre_clip, random_clip, uniform_clips
from video_snl.data.readers import read_clips
from video_snl.data.samplers import EpochSampler, Key, sample_generator
from video_snl.data.videos import Video
from video_snl.errors import UserError

__all__ = [
    "ClipDataset",
    "ClipLoader",
    "EpochSampler",
    "EvaluationDataset",
    "Key",
    "Sample",
    "collate",
    "make_loader",
]

Sample = dict[str, Tensor]


class ClipDataset(Dataset[Sample]):
    """Training: one random clip of a video, with a random crop and flip that are not yet applied.

    ``dataset[epoch, index]`` holds ``video`` uint8 (T, H, W, 3), ``size`` (2,) = (H, W), ``offset``
    float32 (2,) in [0, 1), ``flip`` bool, ``label`` and ``index``; see
    :func:`~video_snl.data.transforms.crop_clips`.

    Raises:
        UserError: The crop is larger than the short side; a video cannot be read or is too short.
    """

    def __init__(self, videos: Sequence[Video], config: DataConfig, seed: int) -> None:
        _check_sizes(config)
        self.videos, self.config, self.seed = videos, config, seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        random = sample_generator(self.seed, epoch, index)
        u = random.random()
        offset = random.random(2, dtype=np.float32)
        flip = self.config.flip and random.random() < 0.5
        c = self.config
        [video] = read_clips(
            self.videos[index].path,
            lambda n: [random_clip(n, c.clip_frames, c.frame_stride, u, c.short_videos)],
            c.short_side,
            c.reader,
            c.decode_device,
        )
        return {
            "video": video,
            "size": torch.tensor(video.shape[1:3]),
            "offset": torch.from_numpy(offset),
            "flip": torch.tensor(flip),
            "label": torch.tensor(self.videos[index].label),
            "index": torch.tensor(index),
        }


class EvaluationDataset(Dataset[Sample]):
    """Evaluation: the centre clip of a video and ``clips`` clips evenly spaced over it.

    ``dataset[epoch, index]``, of which the epoch does not matter, holds ``centre`` uint8
    (T, H, W, 3), ``views`` uint8 (clips, T, H, W, 3), ``size`` (2,), ``label`` and ``index``.
    The frames that clips share are decoded once.

    Raises:
        UserError: As for :class:`ClipDataset`.
    """

    def __init__(self, videos: Sequence[Video], config: DataConfig, clips: int) -> None:
        _check_sizes(config)
        self.videos, self.config, self.clips = videos, config, clips

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: Key) -> Sample:
        _, index = key
        c = self.config
        video = read_clips(
            self.videos[index].path, self._choose, c.short_side, c.reader, c.decode_device
        )
        return {
            "centre": video[0],
            "views": video[1:],
            "size": torch.tensor(video.shape[2:4]),
            "label": torch.tensor(self.videos[index].label),
            "index": torch.tensor(index),
        }

    def _choose(self, length: int) -> list[list[int]]:
        c = self.config
        centre = centre_clip(length, c.clip_frames, c.frame_stride, c.short_videos)
        views = uniform_clips(length, c.clip_frames, c.frame_stride, self.clips, c.short_videos)
        return [centre, *views]


def _check_sizes(config: DataConfig) -> None:
    if config.crop > config.short_side:
        raise UserError(
            f"data.crop={config.crop} does not fit data.short_side={config.short_side}: lower the "
            "crop or raise the short side"
        )


@dataclass(frozen=True)
class Failure:
    """A sample, or batch, that cannot be had; its message travels from a worker as a value.

    An exception would arrive with the worker's traceback as its message.
    """

    message: str


class _Catching(Dataset[Any]):
    """A data set whose :class:`UserError` is a value."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample | Failure:
        try:
            return self.dataset[key]
        except UserError as error:
            return Failure(str(error))

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples; clips are padded with black, below and right, to the largest frame.

    ``size`` keeps the height and width of every sample within the padding.
    """
    return {name: _stack([sample[name] for sample in samples]) for name in samples[0]}


def _stack(tensors: list[Tensor]) -> Tensor:
    if tensors[0].ndim < 4:  # no clip
        return torch.stack(tensors)
    height, width = (max(tensor.shape[axis] for tensor in tensors) for axis in (-3, -2))
    return torch.stack(
        [
            functional.pad(t, (0, 0, 0, width - t.shape[-2], 0, height - t.shape[-3]))
            for t in tensors
        ]
    )


def _collate(samples: list[Sample | Failure]) -> Sample | Failure:
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
    return collate(samples)  # type: ignore[arg-type]


class ClipLoader(DataLoader[Any]):
    """A DataLoader that raises the UserError of a worker as it was, without the traceback.

    Its workers end when this process says so, and at no other SIGTERM or SIGINT: SLURM, timeout
    and shells signal the whole process group, and a worker that ended at once would fail the batch
    the main process waits for, before that can stop in order.
    """

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        with _sigterm_blocked():  # which the workers inherit, with every thread they ever start
            batches = super().__iter__()
        for batch in batches:
            if isinstance(batch, Failure):
                raise UserError(batch.message)
            yield batch


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_the_parent_alone(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_when_the_parent_asks, daemon=True).start()


def _exit_when_the_parent_asks() -> None:
    # To ignore SIGTERM altogether would let an interpreter that ends wait for its workers forever.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def make_loader(
    dataset: ClipDataset | EvaluationDataset,
    sampler: EpochSampler,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
) -> ClipLoader:
    """Batches of a data set in a sampler's order, decoded by ``num_workers`` processes.

    With workers the processes stay for the next epoch; with 0 the calling process decodes.
    Iterating raises :class:`UserError` where a video cannot be read.
    """
    return ClipLoader(
        _Catching(dataset),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        collate_fn=_collate,
        worker_init_fn=_obey_the_parent_alone,
        # torch seeds its workers from this one; nothing uses it, and the global one stays as it is.
        generator=torch.Generator(),
    )
