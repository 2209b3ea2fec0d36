"""Choice of the frames of a clip: index arithmetic without decoder and tensors.

A clip of ``frames`` frames taken every ``stride`` frames spans

    span = (frames - 1) * stride + 1

frames of its video; starting at ``s`` it holds the indices ``s, s + stride, ...``, all in the
half-open range [s, s + span). A video of ``length`` frames has ``length - span + 1`` starts,
[0, length - span + 1). Where there is none, the video is too short and a policy decides, with the
clip starting at 0:

=============== ====================================== ============================
short_videos    i-th index                             of 3 frames, clip of 5
=============== ====================================== ============================
``error``       raises :class:`ShortVideoError`
``repeat_last`` min(i * stride, length - 1)            0 1 2 2 2
``wrap``        (i * stride) mod length                0 1 2 0 1
=============== ====================================== ============================

A *uniform* clip spans the whole video instead (the sampling of temporal segment networks,
arXiv:1608.00859). The video is cut into ``frames`` segments, as equal as whole frames allow,

    segment i = [i * length // frames, (i + 1) * length // frames)

and the clip has one frame of each. A video with fewer frames than that is too short; it is treated
as in the table, with stride 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from video_snl.config.video import Sampling, ShortVideos

__all__ = [
    "ClipRule",
    "ShortVideoError",
    "ShortVideos",
    "centre_clip",
    "clip_span",
    "random_clip",
    "random_segment_clip",
    "segment_clips",
    "uniform_clips",
]


class ShortVideoError(ValueError):
    """A video of ``length`` frames is shorter than the ``span`` of a clip."""

    def __init__(self, span: int, length: int) -> None:
        super().__init__(f"a clip spans {span} frames, the video has {length}")
        self.span = span
        self.length = length


def clip_span(frames: int, stride: int) -> int:
    """Count the video's frames from a clip's first to its last one: (frames - 1) * stride + 1.

    Raises:
        ValueError: ``frames`` or ``stride`` is below 1.
    """
    if frames < 1 or stride < 1:
        raise ValueError(f"a clip has frames >= 1 and stride >= 1, not {frames=}, {stride=}")
    return (frames - 1) * stride + 1


def random_clip(
    length: int, frames: int, stride: int, u: float, short_videos: ShortVideos
) -> list[int]:
    """Return the clip starting at floor(u * (length - span + 1)): every start equally likely.

    Args:
        length: Frames of the video.
        u: Uniform random number in [0, 1).

    Raises:
        ShortVideoError: The video is too short and ``short_videos`` is ``error``, or it is empty.
    """
    if not 0 <= u < 1:
        raise ValueError(f"u must lie in [0, 1), not {u}")
    last = _last_start(length, frames, stride, short_videos)
    return _clip(int(u * (last + 1)), length, frames, stride, short_videos)


def centre_clip(length: int, frames: int, stride: int, short_videos: ShortVideos) -> list[int]:
    """Return the clip in the middle: it starts at floor((length - span) / 2).

    Raises:
        ShortVideoError: As for :func:`random_clip`.
    """
    last = _last_start(length, frames, stride, short_videos)
    return _clip(last // 2, length, frames, stride, short_videos)


def uniform_clips(
    length: int, frames: int, stride: int, count: int, short_videos: ShortVideos
) -> list[list[int]]:
    """Return ``count`` clips evenly spaced over the video, from its start to its end.

    Clip k starts at k * (length - span) / (count - 1), rounded to the nearest frame (halves up);
    a single clip is the centre one. Clips overlap, or repeat, where the video has fewer starts
    than that.

    Raises:
        ShortVideoError: As for :func:`random_clip`.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, not {count}")
    last = _last_start(length, frames, stride, short_videos)
    gaps = count - 1
    if gaps < 1:
        starts = [last // 2] * count
    else:
        starts = [(2 * k * last + gaps) // (2 * gaps) for k in range(count)]
    return [_clip(start, length, frames, stride, short_videos) for start in starts]


def random_segment_clip(
    length: int, frames: int, u: Sequence[float], short_videos: ShortVideos
) -> list[int]:
    """Take one frame of every segment: floor(u[i] * n) frames into segment i of n frames.

    Args:
        length: Frames of the video.
        u: Uniform random numbers in [0, 1), one for each segment.

    Raises:
        ShortVideoError: The video has fewer frames than segments and ``short_videos`` is
            ``error``, or it is empty.
    """
    if len(u) != frames or not all(0 <= x < 1 for x in u):
        raise ValueError(f"u must be {frames} numbers in [0, 1), not {list(u)}")
    if length < frames:
        return random_clip(length, frames, 1, 0.0, short_videos)
    return [
        part.start + int(x * len(part))
        for part, x in zip(_segments(length, frames), u, strict=True)
    ]


def segment_clips(
    length: int, frames: int, count: int, short_videos: ShortVideos
) -> list[list[int]]:
    """Return ``count`` uniform clips, shifted against each other by equal parts of a segment.

    Clip k takes the frame floor((k + 1/2) * n / count) of a segment of n frames: a single clip
    takes the centres. Clips repeat where segments have fewer frames than ``count``.

    Raises:
        ShortVideoError: As for :func:`random_segment_clip`.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, not {count}")
    if length < frames:
        return [centre_clip(length, frames, 1, short_videos)] * count
    parts = _segments(length, frames)
    return [
        [part.start + (2 * k + 1) * len(part) // (2 * count) for part in parts]
        for k in range(count)
    ]


@dataclass(frozen=True)
class ClipRule:
    """Rule by which clips are cut from videos: the options of a dataset as one value.

    Raises (all methods):
        ShortVideoError: The video is too short and ``short_videos`` is ``error``, or it is empty.
    """

    frames: int
    stride: int
    sampling: Sampling
    short_videos: ShortVideos

    @property
    def draws(self) -> int:
        """Number of random numbers that :meth:`random` takes."""
        return 1 if self.sampling == "dense" else self.frames

    def random(self, length: int, u: Sequence[float]) -> list[int]:
        """Return the training clip of ``draws`` uniform random numbers in [0, 1)."""
        if self.sampling == "uniform":
            return random_segment_clip(length, self.frames, u, self.short_videos)
        return random_clip(length, self.frames, self.stride, u[0], self.short_videos)

    def several(self, length: int, count: int) -> list[list[int]]:
        """Return ``count`` test clips; a single one is in the middle."""
        if self.sampling == "uniform":
            return segment_clips(length, self.frames, count, self.short_videos)
        return uniform_clips(length, self.frames, self.stride, count, self.short_videos)

    def centre(self, length: int) -> list[int]:
        """Return the test clip in the middle."""
        [clip] = self.several(length, 1)
        return clip


def _segments(length: int, frames: int) -> list[range]:
    return [range(i * length // frames, (i + 1) * length // frames) for i in range(frames)]


def _last_start(length: int, frames: int, stride: int, short_videos: ShortVideos) -> int:
    """Return the largest start of a clip; 0 for a video that is too short, if that is allowed."""
    span = clip_span(frames, stride)
    if length < 1 or (length < span and short_videos == "error"):
        raise ShortVideoError(span, length)
    return max(length - span, 0)


def _clip(
    start: int, length: int, frames: int, stride: int, short_videos: ShortVideos
) -> list[int]:
    indices = range(start, start + clip_span(frames, stride), stride)
    if short_videos == "wrap":
        return [index % length for index in indices]
    return [min(index, length - 1) for index in indices]
