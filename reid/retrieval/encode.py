"""Features of tracklets, of all their frames or of some, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid.config import ReidDataConfig
from reid.data.loading import (
    PieceDataset,
    SampledDataset,
    frames_that_count,
    in_order,
    make_loader,
)
from reid.data.reading import first_fault, resized
from reid.data.tracklet import Tracklet
from reid.data.transforms import evaluation_clips
from reid.models.network import TrackletNet
from reid.retrieval.features import FeatureTable
from reid.trained import TrainedReid
from video_snl.data.loading.collate import Batch
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.clip_sampling import segment_clips
from video_snl.errors import UserError
from video_snl.utils.finite import not_finite_error
from video_snl.utils.progress import counted

__all__ = ["Encoded", "encode", "encode_arrays", "table_of"]

# Chunks that go through the network at once.
_AT_ONCE = 32


@dataclass(frozen=True)
class Encoded:
    """Features of N tracklets.

    Attributes:
        features: float32 (N, D); zeros for tracklets that cannot be read.
        num_frames: int64 (N,), number of frames that were read.
        skipped_frames: int64 (N,), number of frames that could not be read.
        read: bool (N,), False for tracklets of which no frame can be read.
    """

    features: Tensor
    num_frames: np.ndarray
    skipped_frames: np.ndarray
    read: np.ndarray


def encode(
    model: TrackletNet,
    tracklets: Sequence[Tracklet],
    config: ReidDataConfig,
    *,
    test_frames: int | None = None,
    device: torch.device | str = "cpu",
    channels_last: bool = True,
    quarantine: Quarantine | None = None,
    what: str = "tracklets",
) -> Encoded:
    """Compute the feature of every tracklet: the mean of the network's features of its chunks.

    A chunk has T = ``data.frames`` frames. Of n readable frames, chunk i begins at frame i T, and
    the last one is the last T frames; where n < T, frame i of the only chunk is frame i mod n, and
    by ``data.short_tracklets`` the first n alone count, or all T.

    Args:
        model: Network, which is moved to the device.
        tracklets: Tracklets to read.
        config: Section ``data`` of the configuration.
        test_frames: N evenly spaced frames of each tracklet, as one chunk; None for all frames.
        device: Device of the network.
        channels_last: Memory layout of the clips.
        quarantine: Takes the tracklets that cannot be read; without it they are errors.
        what: Words beside the progress.

    Raises:
        UserError: A tracklet cannot be read and there is no quarantine, or too many cannot; or a
            feature is not finite.
    """
    counts = _Counts(len(tracklets))
    device = torch.device(device)
    samples = _samples(tracklets, config, test_frames, device, quarantine, what)
    chunks = _chunks(samples, config, test_frames, counts)
    names = [tracklet.path for tracklet in tracklets]
    features = _mean_features(model, chunks, names, device, channels_last=channels_last)
    _refuse_unread(tracklets, counts, quarantine, config.max_pixels)
    read = (counts.frames > 0) & ~counts.given_up
    features[torch.from_numpy(~read)] = 0
    return Encoded(features, np.where(read, counts.frames, 0), counts.skipped, read)


def encode_arrays(
    model: TrackletNet,
    tracklets: Sequence[Tensor],
    config: ReidDataConfig,
    *,
    test_frames: int | None = None,
    device: torch.device | str = "cpu",
    channels_last: bool = True,
) -> Tensor:
    """Compute the features of tracklets in memory, float32 (N, D), as :func:`encode` does.

    Args:
        model: Network, which is moved to the device.
        tracklets: Frames of each, uint8 (T, H, W, 3) of any T, H, W above 0.
        config: Section ``data`` of the configuration.
        test_frames, device, channels_last: As for :func:`encode`.

    Raises:
        UserError: A feature is not finite.
    """

    def chunks() -> Iterator[_Chunk]:
        for index, frames in enumerate(tracklets):
            video = resized(frames, (config.height, config.width), config.resize)
            if test_frames is not None:
                [wanted] = segment_clips(len(video), test_frames, 1, "wrap")
                mask = frames_that_count(len(video), test_frames, config.short_tracklets)
                yield _Chunk(index, video[torch.tensor(wanted)], mask)
            else:
                yield from _cut(index, video, config)

    names = [f"array {index}" for index in range(len(tracklets))]
    return _mean_features(model, chunks(), names, torch.device(device), channels_last=channels_last)


class _Chunk(NamedTuple):
    """Number of a tracklet, T of its frames, uint8 (T, H, W, 3), and which count, bool (T,)."""

    tracklet: int
    video: Tensor
    mask: Tensor


def _mean_features(
    model: TrackletNet,
    chunks: Iterator[_Chunk],
    names: Sequence[str],
    device: torch.device,
    *,
    channels_last: bool,
) -> Tensor:
    """Return the mean of the features of the chunks of each tracklet, (N, D); zeros without any.

    Args:
        chunks: Chunks, of one length.
        names: Names of the tracklets, for messages.
    """
    model = model.to(device).eval()
    sums = torch.zeros(len(names), model.feature_dim, dtype=torch.float64)
    number = torch.zeros(len(names), dtype=torch.float64)
    with torch.inference_mode():
        for index, clips, mask in _batches(chunks):
            normalised = evaluation_clips(clips.to(device, non_blocking=True))
            laid_out = normalised if channels_last else normalised.contiguous()
            found = model(laid_out, mask).features.double().cpu()
            broken = (~found.isfinite().all(1)).nonzero()[:, 0]
            if len(broken):
                raise not_finite_error(names[int(index[broken[0]])])
            sums.index_add_(0, index, found)
            number.index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
    return (sums / number.clamp(min=1)[:, None]).float()


def table_of(encoded: Encoded, tracklets: Sequence[Tracklet], trained: TrainedReid) -> FeatureTable:
    """Return the features of the tracklets that were read, as ``reid extract`` stores them."""
    rows = np.flatnonzero(encoded.read)
    kept = [tracklets[int(row)] for row in rows]
    return FeatureTable(
        names=[tracklet.path for tracklet in kept],
        person_ids=np.array([tracklet.person_id for tracklet in kept], dtype=np.int64),
        camera_ids=np.array([tracklet.camera_id for tracklet in kept], dtype=np.int64),
        num_frames=encoded.num_frames[rows],
        skipped_frames=encoded.skipped_frames[rows],
        features=encoded.features[torch.from_numpy(rows)].numpy(),
        model=trained.digest,
        checkpoint=trained.said,
        persons=[tracklet.person_name for tracklet in kept],
        cameras=[tracklet.camera_name for tracklet in kept],
    )


class _Counts:
    """Numbers of frames of N tracklets that were read so far."""

    def __init__(self, tracklets: int) -> None:
        self.frames = np.zeros(tracklets, dtype=np.int64)
        self.skipped = np.zeros(tracklets, dtype=np.int64)
        # A tracklet of which a part cannot be had in time is given up as a whole.
        self.given_up = np.zeros(tracklets, dtype=bool)


def _samples(
    tracklets: Sequence[Tracklet],
    config: ReidDataConfig,
    test_frames: int | None,
    device: torch.device,
    quarantine: Quarantine | None,
    what: str,
) -> Iterator[Batch]:
    """Yield samples one by one, as batches of one; ``index`` and ``unreadable`` count tracklets."""
    dataset: PieceDataset | SampledDataset
    if test_frames is None:
        dataset = PieceDataset(tracklets, config)
        owner = [piece.index for piece in dataset.items]
    else:
        dataset = SampledDataset(tracklets, config, test_frames)
        owner = list(range(len(tracklets)))
    # Long tracklets are read in pieces, which are what is counted.
    what = what if len(owner) == len(tracklets) else f"pieces of {what}"
    pin = device.type == "cuda"
    loader = make_loader(dataset, in_order(len(owner)), 1, pin_memory=pin, quarantine=quarantine)
    try:
        for batch in counted(loader, len(owner), what):
            lost = batch.get("unreadable", torch.empty(0)).tolist()
            yield {**batch, "unreadable": torch.tensor([owner[int(i)] for i in lost]).long()}
    finally:
        loader.close()


def _chunks(
    samples: Iterator[Batch], config: ReidDataConfig, test_frames: int | None, counts: _Counts
) -> Iterator[_Chunk]:
    """Yield the chunks of all samples."""
    for sample in samples:
        counts.given_up[sample["unreadable"].numpy()] = True
        if len(sample["index"]) == 0:
            continue
        index, video = int(sample["index"]), sample["video"][0]
        counts.frames[index] += int(sample["frames"])
        counts.skipped[index] += int(sample["skipped"])
        if test_frames is not None:
            yield _Chunk(index, video, sample["mask"][0])
        elif len(video):
            yield from _cut(index, video, config)


def _cut(index: int, video: Tensor, config: ReidDataConfig) -> Iterator[_Chunk]:
    """Cut chunks of T frames out of frames (n, H, W, 3) of a tracklet, of which there are some."""
    frames = config.frames
    mask = frames_that_count(len(video), frames, config.short_tracklets)
    for start in _starts(len(video), frames):
        yield _Chunk(index, video[torch.arange(start, start + frames) % len(video)], mask)


def _starts(length: int, frames: int) -> list[int]:
    """Return where chunks begin: every ``frames`` frames; the last one ends with the last frame."""
    starts = list(range(0, length - frames, frames))
    return [*starts, max(0, length - frames)]


def _batches(chunks: Iterator[_Chunk]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of tracklets (B,), chunks (B, T, H, W, 3) and frames that count (B, T)."""
    while part := list(itertools.islice(chunks, _AT_ONCE)):
        indices, clips, masks = zip(*part, strict=True)
        yield torch.tensor(indices), torch.stack(clips), torch.stack(masks)


def _refuse_unread(
    tracklets: Sequence[Tracklet],
    counts: _Counts,
    quarantine: Quarantine | None,
    max_pixels: int,
) -> None:
    """Refuse, or put into quarantine, the tracklets of which every frame was skipped."""
    for row in np.flatnonzero((counts.frames == 0) & ~counts.given_up).tolist():
        path = tracklets[row].path
        reason = (
            f"none of the {len(tracklets[row].frames)} frames of this tracklet can be read"
            f"{first_fault(tracklets[row], max_pixels)}"
        )
        if quarantine is None:
            raise UserError(f"{path}: {reason}")
        quarantine.add(path, "error", reason, 0.0)
    if quarantine is not None:
        quarantine.check((tracklet.path for tracklet in tracklets), "test")
