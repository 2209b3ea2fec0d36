"""The loaders that clip_loading.py compares: each gives batches of normalised crops, for ever.

All cut a random clip of consecutive frames from each video, shrink it to the short side (bilinear,
antialiased), take a random crop, mirror half of the clips and normalise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from pytorchvideo.data import LabeledVideoDataset
from pytorchvideo.data.clip_sampling import ClipInfo, ClipSampler
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from video_snl.config.statistics import STATISTICS
from video_snl.config.video import DataConfig
from video_snl.data.loading.samplers import Key, sample_generator
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.data.video.clip_sampling import random_clip
from video_snl.data.video.dataset import ClipDataset, EpochSampler, collate, make_loader
from video_snl.data.video.records import Video

__all__ = ["LOADERS", "Batches", "Setting", "Supply", "rates_of"]

MEAN, STD = STATISTICS["kinetics"]


@dataclass(frozen=True)
class Setting:
    """Settings that all loaders share."""

    files: tuple[Path, ...]
    rates: tuple[float, ...]  # frames per second of the files
    frames: int
    short_side: int
    crop: int
    batch: int
    num_workers: int
    clips: int  # at least as many are supplied
    seed: int

    @property
    def repeats(self) -> int:
        return -(-self.clips // len(self.files))


@dataclass
class Supply:
    """Batches, and what the loader says about its time (ours only)."""

    batches: Iterator[Tensor]
    stages: Callable[[], dict[str, float] | None] = lambda: None


Batches = Callable[[Setting], Any]  # a context manager of a Supply


def rates_of(files: list[Path]) -> tuple[float, ...]:
    """Read the frames per second of every file."""
    rates = []
    for file in files:
        with av.open(str(file)) as container:
            rate = container.streams.video[0].average_rate
        if rate is None:
            raise SystemExit(f"{file} has no frame rate: leave it out")
        rates.append(float(rate))
    return tuple(rates)


@contextmanager
def ours(setting: Setting) -> Iterator[Supply]:
    """Supply batches of video-snl, cropped, flipped and normalised where they are used."""
    dataset = ClipDataset(_videos(setting), _config(setting), setting.seed)
    sampler = EpochSampler(len(dataset), setting.seed)
    loader = make_loader(dataset, sampler, setting.batch, setting.num_workers, pin_memory=False)
    with closing(loader):
        yield Supply(
            (_finished(batch, setting.crop) for batch in loader),
            lambda: dict(loader.profile.stages),
        )


@contextmanager
def ours_in_process(setting: Setting) -> Iterator[Supply]:
    """Supply the batches of ours, decoded in this very process: no worker, and no deadline."""
    with ours(replace(setting, num_workers=0)) as supply:
        yield supply


@contextmanager
def bare_decord(setting: Setting) -> Iterator[Supply]:
    """Supply the clips that ours reads by decord's get_batch and a resize, and nothing else."""
    dataset = _BareDecord(setting)
    loader = DataLoader(
        dataset,
        batch_size=setting.batch,
        sampler=EpochSampler(len(dataset), setting.seed),
        num_workers=setting.num_workers,
        collate_fn=collate,
    )
    yield Supply(_finished(batch, setting.crop) for batch in loader)


@contextmanager
def plain_torchcodec(setting: Setting) -> Iterator[Supply]:
    """Supply the clips that ours reads by a plain loop of torchcodec in this very process."""
    yield Supply(_torchcodec_batches(setting))


def pytorchvideo(decoder: str) -> Batches:
    """Supply batches by pytorchvideo's LabeledVideoDataset with one of its decoders."""

    @contextmanager
    def supply(setting: Setting) -> Iterator[Supply]:
        listed = [
            (str(file), {"rate": rate})
            for file, rate in zip(setting.files, setting.rates, strict=True)
        ]
        dataset = LabeledVideoDataset(
            listed * setting.repeats,
            _RandomFrames(setting.frames),
            transform=_PlainTransform(setting.frames, setting.short_side, setting.crop),
            decode_audio=False,
            decoder=decoder,
        )
        loader = DataLoader(
            dataset,
            batch_size=setting.batch,
            num_workers=setting.num_workers,
            collate_fn=_stack_videos,
        )
        yield Supply(iter(loader))

    return supply


LOADERS: dict[str, Batches] = {
    "video-snl": ours,
    "video-snl, in process": ours_in_process,
    "torchcodec": plain_torchcodec,
    "decord": bare_decord,
    "pytorchvideo/decord": pytorchvideo("decord"),
    "pytorchvideo/pyav": pytorchvideo("pyav"),
}


def _videos(setting: Setting) -> list[Video]:
    return [Video(str(file), 0) for file in setting.files] * setting.repeats


def _config(setting: Setting) -> DataConfig:
    return DataConfig(
        dataset="folder",
        clip_frames=setting.frames,
        short_side=setting.short_side,
        crop=setting.crop,
        short_videos="repeat_last",
        num_workers=setting.num_workers,
    )


def _finished(batch: dict[str, Tensor], crop: int) -> Tensor:
    cropped = crop_clips(batch["video"], batch["size"], batch["offset"], batch["flip"], crop)
    return normalise(cropped, MEAN, STD)


def _torchcodec_batches(setting: Setting) -> Iterator[Tensor]:
    from torchcodec.decoders import VideoDecoder

    paths = [video.path for video in _videos(setting)]
    samples: list[dict[str, Tensor]] = []
    for epoch, index, *_ in EpochSampler(len(paths), setting.seed):
        drawn = sample_generator(setting.seed, epoch, index)
        u, offset, flip = drawn.random(), drawn.random(2, dtype=np.float32), drawn.random() < 0.5
        decoder = VideoDecoder(paths[index], num_ffmpeg_threads=1)
        wanted = random_clip(len(decoder), setting.frames, 1, u, "repeat_last")
        frames = _resized(decoder.get_frames_at(wanted).data, setting.short_side)
        samples.append(_sample(frames, offset, flip))
        if len(samples) == setting.batch:
            yield _finished(collate(samples), setting.crop)
            samples = []


def _sample(frames: Tensor, offset: np.ndarray, flip: bool) -> dict[str, Tensor]:
    """Return what our loader gives of a clip, from its frames (T, 3, H, W)."""
    return {
        "video": frames.permute(0, 2, 3, 1),
        "size": torch.tensor(frames.shape[2:]),
        "offset": torch.from_numpy(offset),
        "flip": torch.tensor(flip),
    }


class _BareDecord(Dataset[dict[str, Tensor]]):
    def __init__(self, setting: Setting) -> None:
        self.setting, self.paths = setting, [video.path for video in _videos(setting)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        import decord

        epoch, index = key[:2]
        drawn = sample_generator(self.setting.seed, epoch, index)
        u, offset, flip = drawn.random(), drawn.random(2, dtype=np.float32), drawn.random() < 0.5
        reader = decord.VideoReader(self.paths[index], num_threads=1)
        wanted = random_clip(len(reader), self.setting.frames, 1, u, "repeat_last")
        # pytorchvideo has decord hand out tensors, in every process that has imported it.
        batch = reader.get_batch(wanted)
        frames = batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())
        resized = _resized(frames.permute(0, 3, 1, 2), self.setting.short_side)
        return _sample(resized, offset, flip)


class _RandomFrames(ClipSampler):
    """A random clip of so many consecutive frames; from a quarter of a frame before the first."""

    def __init__(self, frames: int) -> None:
        super().__init__(Fraction(1))
        self.frames = frames

    def __call__(self, last_clip_time: Any, video_duration: Any, annotation: Any) -> ClipInfo:
        rate = annotation["rate"]
        length = round(float(video_duration) * rate)
        first = random.randint(0, max(0, length - self.frames))
        begin, end = (first - 0.25) / rate, (first + self.frames - 0.25) / rate
        return ClipInfo(max(0.0, begin), end, 0, 0, True)


@dataclass(frozen=True)
class _PlainTransform:
    frames: int
    short_side: int
    crop: int

    def __call__(self, sample: dict[str, Any]) -> Tensor:
        video = sample["video"]  # float (3, T, H, W), 0 to 255
        if video.shape[1] != self.frames:  # too short a video
            wanted = torch.linspace(0, video.shape[1] - 1, self.frames).long()
            video = video[:, wanted]
        video = _resized(video, self.short_side)
        height, width = video.shape[2:]
        top, left = (random.randint(0, side - self.crop) for side in (height, width))
        video = video[:, :, top : top + self.crop, left : left + self.crop]
        if random.random() < 0.5:
            video = video.flip(-1)
        mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (MEAN, STD))
        return (video / 255 - mean) / std


def _resized(frames: Tensor, short_side: int) -> Tensor:
    """Shrink (..., H, W) so that the shorter side has so many pixels."""
    height, width = frames.shape[-2:]
    short = min(height, width)
    if short == short_side:
        return frames
    size = [(2 * side * short_side + short) // (2 * short) for side in (height, width)]
    return interpolate(frames, size=size, mode="bilinear", antialias=True)


def _stack_videos(clips: list[Tensor]) -> Tensor:
    return torch.stack(clips)
