"""Datasets of tracklets for the loader of ``video_snl``: samples of a key, read by its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from reid.config import ReidDataConfig, ShortTracklets
from reid.data.reading import length_of, lengths_of, read_nearest, read_readable
from reid.data.tracklet import Tracklet
from reid.data.transforms import draw_erasing
from video_snl.data.loading.collate import Sample
from video_snl.data.loading.loader import ClipLoader
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.loading.samplers import (
    EpochSampler,
    Key,
    KeySampler,
    fallback_generator,
    sample_generator,
)
from video_snl.data.video.clip_sampling import random_segment_clip, segment_clips
from video_snl.errors import OptionsError, UserError

__all__ = [
    "PieceDataset",
    "SampledDataset",
    "TrackletDataset",
    "frames_that_count",
    "in_order",
    "make_loader",
]

# Chunks of a piece: bounds the memory that one sample of a long tracklet takes.
_CHUNKS = 16


def frames_that_count(length: int, frames: int, rule: ShortTracklets | None) -> Tensor:
    """Tell which of the T frames of a clip the network takes for existing, bool (T,).

    A tracklet of L < T frames is repeated in the clip whatever the rule, frame i being frame
    i mod L. ``mask``: the first L count. ``repeat``, or None for no rule: all do.
    """
    return torch.arange(frames) < (length if rule == "mask" else frames)


class TrackletDataset(Dataset[Sample]):
    """Training dataset: T random frames of a tracklet, with a crop, flip and erasing to be applied.

    Restricted random sampling (Li et al., CVPR 2018, arXiv:1803.09882): the tracklet is cut into T
    parts as equal as whole frames allow, and one random frame of each is taken, in the order of
    time. A tracklet of L < T frames is repeated: frame i of the sample is frame i mod L. A frame
    that cannot be read is replaced by the nearest one that can.

    ``dataset[epoch, index]`` holds ``video`` uint8 (T, H, W, 3), ``mask`` bool (T,)
    (:func:`frames_that_count`), ``offset`` float32 (2,) in [0, 1), ``flip`` bool, ``erase`` int64
    (4,) (see :mod:`reid.data.transforms`), ``label``, ``index`` and ``skipped``, the number of
    unreadable frames met.

    Args:
        tracklets: Training list.
        labels: Label of every identity.
        config: Section ``data`` of the configuration.
        seed: Seed of all random numbers, with epoch and index.
    """

    what = "training"

    def __init__(
        self,
        tracklets: Sequence[Tracklet],
        labels: Mapping[int, int],
        config: ReidDataConfig,
        seed: int,
    ) -> None:
        self.items, self.labels, self.config, self.seed = tracklets, labels, config, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> Sample:
        return self.sample(key, key[1])

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of a key, with its random numbers, of the tracklet ``index_read``.

        Raises:
            UserError: None of its frames can be read.
        """
        c, tracklet = self.config, self.items[index_read]
        random = sample_generator(self.seed, *key)
        places = random.random(c.frames).tolist()
        offset = torch.from_numpy(random.random(2, dtype=np.float32))
        flip = bool(random.random() < 0.5) and c.flip
        length = len(tracklet.frames)
        wanted = random_segment_clip(length, c.frames, places, "wrap")
        nearest = read_nearest(tracklet, wanted, (c.height, c.width), c.max_pixels, c.resize)
        return {
            "video": nearest.video,
            "mask": frames_that_count(length, c.frames, c.short_tracklets),
            "offset": offset,
            "flip": torch.tensor(flip),
            "erase": torch.tensor(draw_erasing(random, c.erasing, c.height, c.width)),
            "label": torch.tensor(self.labels[tracklet.person_id]),
            "index": torch.tensor(index_read),
            "skipped": torch.tensor(nearest.skipped),
        }

    def fallback_index(self, key: Key, avoided: Quarantine) -> int:
        """Choose the tracklet to show instead of that of the key: another of the same identity.

        It is the first that is not avoided in an order that depends on seed and key alone.

        Raises:
            UserError: The identity has none left.
        """
        person = self.items[key[1]].person_id
        members = [i for i, tracklet in enumerate(self.items) if tracklet.person_id == person]
        for i in fallback_generator(self.seed, *key).permutation(members).tolist():
            if self.items[i].path not in avoided:
                return i
        raise UserError(
            f"none of the {len(members)} training tracklets of person {person} can be read"
            f"{avoided.listed_in()}: fetch or copy them again"
        )


class SampledDataset(Dataset[Sample]):
    """Test dataset of N evenly spaced frames: the middle ones of N equal parts of a tracklet.

    ``dataset[epoch, index]``, of which the epoch does not matter, holds ``video`` uint8
    (N, H, W, 3), ``mask``, ``index``, ``skipped`` and ``frames``, the number of different frames
    among the N.
    Short tracklets and unreadable frames as in training.
    """

    what = "test"

    def __init__(
        self, tracklets: Sequence[Tracklet], config: ReidDataConfig, frames: int | None = None
    ) -> None:
        self.items, self.config = tracklets, config
        self.frames = config.frames if frames is None else frames

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of the tracklet ``index_read``.

        Raises:
            UserError: None of its frames can be read.
        """
        c, tracklet = self.config, self.items[index_read]
        length = length_of(tracklet, c.max_pixels)
        [wanted] = segment_clips(length, self.frames, 1, "wrap")
        nearest = read_nearest(tracklet, wanted, (c.height, c.width), c.max_pixels, c.resize)
        return {
            "video": nearest.video,
            "mask": frames_that_count(length, self.frames, c.short_tracklets),
            "index": torch.tensor(index_read),
            "skipped": torch.tensor(nearest.skipped),
            "frames": torch.tensor(nearest.used),
        }

    def fallback_index(self, key: Key, avoided: Quarantine) -> None:
        """Return None: no other tracklet can stand for one that is to be compared."""


@dataclass(frozen=True)
class Piece:
    """Frames [start, stop) of tracklet ``index``, of which those from ``fresh`` are in no other."""

    index: int
    path: str
    start: int
    stop: int
    fresh: int


class PieceDataset(Dataset[Sample]):
    """Test dataset of whole tracklets: all frames, in chunks of T.

    A tracklet is cut into chunks of T frames, the last of which are its last T frames; one of
    L < T frames is a chunk by itself, as in training. Long tracklets come in pieces of 16 chunks.

    ``dataset[epoch, index]`` holds ``video`` uint8 (n, H, W, 3), the frames of a piece that can be
    read (n may be 0), ``index`` (of the tracklet), ``skipped`` and ``frames``, how many of the
    piece's own frames cannot and can be read.

    Raises:
        UserError: A tracklet is a video that cannot be opened.
    """

    what = "test"

    def __init__(self, tracklets: Sequence[Tracklet], config: ReidDataConfig) -> None:
        self.tracklets, self.config = tracklets, config
        lengths = lengths_of(
            tracklets,
            num_workers=config.num_workers,
            deadline=config.deadline,
            max_pixels=config.max_pixels,
        )
        self.items = [
            piece
            for index, (tracklet, length) in enumerate(zip(tracklets, lengths, strict=True))
            for piece in _pieces(index, tracklet.path, length, config.frames)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, key: Key, index_read: int) -> Sample:
        """Return the sample of a piece."""
        c, piece = self.config, self.items[index_read]
        wanted = range(piece.start, piece.stop)
        size = c.height, c.width
        found = read_readable(self.tracklets[piece.index], wanted, size, c.max_pixels, c.resize)
        fresh = sum(index >= piece.fresh for index in found)
        frames = list(found.values())
        empty = torch.empty(0, c.height, c.width, 3, dtype=torch.uint8)
        return {
            "video": torch.stack(frames) if frames else empty,
            "index": torch.tensor(piece.index),
            "skipped": torch.tensor(piece.stop - piece.fresh - fresh),
            "frames": torch.tensor(fresh),
        }

    def fallback_index(self, key: Key, avoided: Quarantine) -> None:
        """Return None: no other tracklet can stand for one that is to be compared."""


def _pieces(index: int, path: str, length: int, frames: int) -> list[Piece]:
    size = _CHUNKS * frames
    pieces = []
    for fresh in range(0, length, size):
        stop = min(fresh + size, length)
        # So that the last chunk is the last T frames, wherever it begins.
        pieces.append(Piece(index, path, max(0, min(fresh, stop - frames)), stop, fresh))
    return pieces


def in_order(length: int, rank: int = 0, world_size: int = 1) -> EpochSampler:
    """Return a sampler of so many samples, each once and in order."""
    return EpochSampler(length, 0, rank=rank, world_size=world_size, shuffle=False)


def make_loader(
    dataset: TrackletDataset | SampledDataset | PieceDataset,
    sampler: KeySampler,
    batch_size: int,
    *,
    pin_memory: bool = False,
    quarantine: Quarantine | None = None,
) -> ClipLoader:
    """Make the loader of a dataset in a sampler's order, with ``data.num_workers`` processes.

    Raises:
        OptionsError: The number of workers, the deadline or the share of failures is out of its
            range.
    """
    config = dataset.config
    if config.num_workers < 0 or not config.deadline > 0 or not 0 <= config.max_failures <= 1:
        raise OptionsError(
            f"data.num_workers={config.num_workers} must be 0 or more, data.deadline="
            f"{config.deadline:g} above 0 seconds, and data.max_failures={config.max_failures:g} "
            "from 0 to 1"
        )
    return ClipLoader(
        dataset,
        sampler,
        batch_size,
        num_workers=config.num_workers,
        pin_memory=pin_memory,
        deadline=config.deadline,
        quarantine=quarantine,
        what=dataset.what,
    )
