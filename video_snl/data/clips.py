"""Which frames of a video make a clip: index arithmetic, knowing no decoder and no tensor.

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
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "ShortVideoError",
    "ShortVideos",
    "centre_clip",
    "clip_span",
    "random_clip",
    "uniform_clips",
]

ShortVideos = Literal["error", "repeat_last", "wrap"]


class ShortVideoError(ValueError):
    """A video of ``length`` frames is shorter than the ``span`` of a clip."""

    def __init__(self, span: int, length: int) -> None:
        super().__init__(f"a clip spans {span} frames, the video has {length}")
        self.span = span
        self.length = length


def clip_span(frames: int, stride: int) -> int:
    """Frames of the video from a clip's first to its last one: (frames - 1) * stride + 1.

    Raises:
        ValueError: ``frames`` or ``stride`` is below 1.
    """
    if frames < 1 or stride < 1:
        raise ValueError(f"a clip has frames >= 1 and stride >= 1, not {frames=}, {stride=}")
    return (frames - 1) * stride + 1


def random_clip(
    length: int, frames: int, stride: int, u: float, short_videos: ShortVideos
) -> list[int]:
    """The clip starting at floor(u * (length - span + 1)): every start equally likely.

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
    """The clip in the middle: it starts at floor((length - span) / 2).

    Raises:
        ShortVideoError: As for :func:`random_clip`.
    """
    last = _last_start(length, frames, stride, short_videos)
    return _clip(last // 2, length, frames, stride, short_videos)


def uniform_clips(
    length: int, frames: int, stride: int, count: int, short_videos: ShortVideos
) -> list[list[int]]:
    """``count`` clips evenly spaced over the video, the first at its start, the last at its end.

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


def _last_start(length: int, frames: int, stride: int, short_videos: ShortVideos) -> int:
    """The largest start of a clip; 0 for a video that is too short, if the policy allows one."""
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
