"""Samples of videos and their batches.

A sample's key is (epoch, index); all that is random about it is drawn from a generator seeded with
(seed, epoch, index), whatever process decodes it. A run that is killed and resumed, or spread over
other workers, sees the same data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from video_snl.config.video import DataConfig
from video_snl.data.decoding.readers import check_reader, open_video, read_clips
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.data.loading.collate import Sample, collate
from video_snl.data.loading.loader import ClipLoader
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.loading.samplers import (
    EpochSampler,
    Key,
    fallback_generator,
    sample_generator,
)
from video_snl.data.transforms.augment import check_augmentation, draw_augmentation
from video_snl.data.video.clip_sampling import ClipRule
from video_snl.data.video.records import PackedVideos, Video
from video_snl.errors import OptionsError, UserError

__all__ = [
    "ClipDataset",
    "ClipLoader",
    "EpochSampler",
    "EvaluationDataset",
    "Key",
    "Sample",
    "clip_rule",
    "clip_rule_at",
    "collate",
    "make_loader",
]


class _Drawn(NamedTuple):
    """What is random about a training sample."""

    rule: ClipRule
    numbers: list[float]
    offset: np.ndarray
    flip: bool
    augmentation: dict[str, Tensor]


class ClipDataset(Dataset[Sample]):
    """Training: one random clip of a video, with a random crop and flip that are not yet applied.

    ``dataset[epoch, index]`` holds ``video`` uint8 (T, H, W, 3), ``size`` (2,) = (H, W), ``offset``
    float32 (2,) in [0, 1), ``flip`` bool, ``label`` and ``index``; see
    :func:`~video_snl.data.transforms.geometry.crop_clips`. With augmentations, also what
    :mod:`~video_snl.data.transforms.augment` says.

    Raises:
        UserError: The crop is larger than the short side, or an option out of its range; a video
            cannot be read or is too short.
    """

    what = "training"

    def __init__(self, videos: Sequence[Video], config: DataConfig, seed: int) -> None:
        _check_options(config)
        self.items, self.config, self.seed = videos, config, seed
        self._members: dict[int, list[int]] = {}  # indices by label, once they are needed

    def __len__(self) -> int:
        return len(self.items)

    def __getstate__(self) -> dict[str, Any]:
        # For the processes that decode.
        return {**self.__dict__, "items": PackedVideos(self.items), "_members": {}}

    def __getitem__(self, key: Key) -> Sample:
        return self.sample(key, key[1])

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of a key, with its random numbers, cut from video ``index_read``."""
        path = self.items[index_read].path
        drawn = self._drawn(key, path)
        [video] = read_clips(
            path,
            lambda length: [drawn.rule.random(length, drawn.numbers)],
            self.config.resize,
            self.config.reader,
            self.config.decode_device,
            self.config.max_pixels,
        )
        return {
            "video": video,
            "size": torch.tensor(video.shape[1:3]),
            "offset": torch.from_numpy(drawn.offset),
            "flip": torch.tensor(drawn.flip),
            "label": torch.tensor(self.items[index_read].label),
            "index": torch.tensor(index_read),
            **drawn.augmentation,
        }

    def frames_of(self, key: Key, index_read: int) -> tuple[list[int], float | None]:
        """Return the frames of a key's clip, and the frames per second of its video.

        A folder of frames has no rate: None.

        Raises:
            UserError: The video cannot be read, or is too short.
        """
        path, data = self.items[index_read].path, self.config
        drawn = self._drawn(key, path)
        with closing(open_video(path, data.reader, data.decode_device, data.max_pixels)) as video:
            frames = drawn.rule.random(len(video), drawn.numbers)
        if _is_frames(path, data):
            return frames, None
        return frames, float(find_stream_info(path, data.max_pixels).rate)

    def _drawn(self, key: Key, path: str) -> _Drawn:
        epoch, index = key[:2]
        random = sample_generator(self.seed, epoch, index)
        u = random.random()
        offset = random.random(2, dtype=np.float32)
        flip = self.config.flip and random.random() < 0.5
        augmentation = draw_augmentation(self.config, random)
        rule = clip_rule(self.config, path)
        # The first number is drawn before all others, the rest of a uniform clip's after them.
        numbers = [u, *random.random(rule.draws - 1)]
        return _Drawn(rule, numbers, offset, flip, augmentation)

    def fallback_index(self, key: Key, avoided: Quarantine) -> int:
        """Return the index of a video of the class to read instead of that of the key.

        It is the first that is not avoided in an order that depends on (seed, epoch, index) alone,
        and so the same in the end, in whatever order bad files are found.

        Raises:
            UserError: No video of the class is left.
        """
        epoch, index = key[:2]
        label = self.items[index].label
        if not self._members:  # found once: looking at all items for each fault is quadratic
            for i, video in enumerate(self.items):
                self._members.setdefault(video.label, []).append(i)
        members = self._members[label]
        for i in fallback_generator(self.seed, epoch, index).permutation(members).tolist():
            if self.items[i].path not in avoided:
                return i
        raise UserError(
            f"none of the {len(members)} training videos of the class of "
            f"{self.items[index].path} can be read{avoided.listed_in()}: fetch or copy them "
            "again (video-snl check names what is wrong with each)"
        )


class EvaluationDataset(Dataset[Sample]):
    """Evaluation: the centre clip of a video and ``clips`` clips evenly spaced over it.

    ``dataset[epoch, index]``, of which the epoch does not matter, holds ``centre`` uint8
    (T, H, W, 3), ``views`` uint8 (clips, T, H, W, 3), ``size`` (2,), ``label`` and ``index``.
    The frames that clips share are decoded once.

    Raises:
        UserError: As for :class:`ClipDataset`.
    """

    what = "test"

    def __init__(self, videos: Sequence[Video], config: DataConfig, clips: int) -> None:
        _check_options(config)
        self.items, self.config, self.clips = videos, config, clips

    def __len__(self) -> int:
        return len(self.items)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "items": PackedVideos(self.items)}

    def __getitem__(self, key: Key) -> Sample:
        return self.sample(key, key[1])

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of the video ``index_read``."""
        c = self.config
        path = self.items[index_read].path
        rule = clip_rule(c, path)
        video = read_clips(
            path,
            lambda length: [rule.centre(length), *rule.several(length, self.clips)],
            c.resize,
            c.reader,
            c.decode_device,
            c.max_pixels,
        )
        return {
            "centre": video[0],
            "views": video[1:],
            "size": torch.tensor(video.shape[2:4]),
            "label": torch.tensor(self.items[index_read].label),
            "index": torch.tensor(index_read),
        }

    def fallback_index(self, key: Key, avoided: Quarantine) -> None:
        """Return None: no other video can stand for one that is to be scored."""


def clip_rule(config: DataConfig, path: str) -> ClipRule:
    """Return how clips are cut from a video, by the options of a dataset.

    Raises:
        UserError: The stride is in seconds, and the file cannot be read.
    """
    rate = None
    if config.stride_seconds is not None and not _is_frames(path, config):
        rate = float(find_stream_info(path, config.max_pixels).rate)
    return clip_rule_at(config, rate)


def clip_rule_at(config: DataConfig, rate: float | None) -> ClipRule:
    """Return how clips are cut from a video of this many frames a second; None: unknown."""
    stride = config.frame_stride
    if config.stride_seconds is not None and rate is not None:
        stride = max(1, round(config.stride_seconds * rate))
    return ClipRule(config.clip_frames, stride, config.sampling, config.short_videos)


def _is_frames(path: str, config: DataConfig) -> bool:
    return config.reader == "frames" or (config.reader == "auto" and os.path.isdir(path))


def _check_options(config: DataConfig) -> None:
    check_augmentation(config)
    config.check_frames()
    if config.max_pixels < 1:
        raise OptionsError(
            f"data.max_pixels={config.max_pixels}: give a number of pixels, 1 or more"
        )
    check_reader(config.reader, config.decode_device)


def make_loader(
    dataset: ClipDataset | EvaluationDataset,
    sampler: EpochSampler,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    quarantine: Quarantine | None = None,
) -> ClipLoader:
    """Make batches of a dataset in a sampler's order, decoded by ``num_workers`` processes.

    With workers the processes stay for the next epoch, and a file that takes longer than
    ``data.deadline`` is given up; with 0 the calling process decodes, without a deadline. A file
    that cannot be read goes to the quarantine: in training another video of its class is read
    (:meth:`ClipDataset.fallback_index`), in evaluation its index is listed under ``unreadable`` of
    its batch. Without a quarantine iterating raises :class:`UserError`.

    Raises:
        OptionsError: The number of workers, the deadline or the share of failures is out of its
            range.
    """
    config = dataset.config
    if num_workers < 0 or not config.deadline > 0 or not 0 <= config.max_failures <= 1:
        raise OptionsError(
            f"data.num_workers={num_workers} must be 0 or more, data.deadline={config.deadline:g} "
            f"above 0 seconds, and data.max_failures={config.max_failures:g} from 0 to 1"
        )
    return ClipLoader(
        dataset,
        sampler,
        batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        deadline=config.deadline,
        quarantine=quarantine,
        what=dataset.what,
    )
