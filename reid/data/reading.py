"""Images of a tracklet, or a video, read as uint8 frames of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reid.config import ResizeName
from reid.data.tracklet import Tracklet
from video_snl.data.decoding.readers import decode_in_chunks, open_video, resize
from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.data.loading.quarantine import named
from video_snl.data.workers.pool import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS, VIDEO_SUFFIXES
from video_snl.utils.timing import stage

__all__ = [
    "Nearest",
    "first_fault",
    "length_of",
    "lengths_of",
    "read_nearest",
    "read_readable",
    "resized",
]


Size = tuple[int, int]
"""Height and width."""


class Nearest(NamedTuple):
    """Frames of a tracklet, some of which may be repeated.

    Attributes:
        video: Frames, uint8 (T, H, W, 3).
        used: Number of different frames of the tracklet among them.
        skipped: Number of frames that were found unreadable.
    """

    video: Tensor
    used: int
    skipped: int


def is_video(tracklet: Tracklet) -> bool:
    """Tell whether a tracklet is a video, whose file is then its only "frame"."""
    suffix = PurePath(tracklet.path).suffix.lower()
    return len(tracklet.frames) == 1 and suffix in VIDEO_SUFFIXES


def length_of(tracklet: Tracklet, max_pixels: int = MAX_PIXELS) -> int:
    """Count the frames of a tracklet.

    Args:
        tracklet: Images, or a video.
        max_pixels: Most pixels of a frame of a video; a larger one is refused.

    Raises:
        UserError: It is a video that cannot be opened.
    """
    if not is_video(tracklet):
        return len(tracklet.frames)
    with closing(open_video(tracklet.path, max_pixels=max_pixels)) as reader:
        return len(reader)


def lengths_of(
    tracklets: Sequence[Tracklet],
    *,
    num_workers: int,
    deadline: float,
    max_pixels: int = MAX_PIXELS,
) -> list[int]:
    """Count the frames of all tracklets; videos are opened in a process that can be killed.

    Args:
        tracklets: Images, or videos.
        num_workers: Number of processes; 0 opens videos in this one, without a deadline.
        deadline: Seconds for one video.
        max_pixels: Most pixels of a frame of a video; a larger one is refused.

    Raises:
        UserError: One is a video that cannot be opened.
    """
    videos = [tracklet for tracklet in tracklets if is_video(tracklet)]
    found: dict[str, int] = {}
    count = partial(length_of, max_pixels=max_pixels)
    results = map_with_timeout(count, videos, num_workers=min(1, num_workers), deadline=deadline)
    with closing(results):
        for result in results:
            if result.value is None:
                raise UserError(named(result.item.path, str(result.failure)))
            found[result.item.path] = result.value
    return [found.get(tracklet.path, len(tracklet.frames)) for tracklet in tracklets]


def read_readable(
    tracklet: Tracklet,
    indices: Sequence[int],
    size: Size,
    max_pixels: int = MAX_PIXELS,
    resize: ResizeName = "torch",
) -> dict[int, Tensor]:
    """Read those of the frames that can be read, each uint8 (H, W, 3).

    Args:
        tracklet: Images, or a video.
        indices: Numbers of the frames, ascending.
        size: Height and width of the result, in pixels.
        max_pixels: Most pixels of an image or frame; a larger one cannot be read.
        resize: What resizes the frames, see ``data.resize``.

    Raises:
        UserError: The tracklet is a video that cannot be decoded.
    """
    if is_video(tracklet):
        return _video_frames(tracklet.path, indices, size, max_pixels, resize)
    frames = {i: _image(tracklet.frames[i], size, max_pixels, resize) for i in indices}
    return {index: frame for index, frame in frames.items() if frame is not None}


def read_nearest(
    tracklet: Tracklet,
    wanted: Sequence[int],
    size: Size,
    max_pixels: int = MAX_PIXELS,
    resize: ResizeName = "torch",
) -> Nearest:
    """Read frames; for one that cannot be read, the nearest one that can, the earlier first.

    Args:
        tracklet: Images, or a video.
        wanted: Numbers of the frames; one may be there several times.
        size: Height and width of the result, in pixels.
        max_pixels: Most pixels of an image or frame; a larger one cannot be read.
        resize: What resizes the frames, see ``data.resize``.

    Raises:
        UserError: No frame can be read.
    """
    if is_video(tracklet):
        frames = _video_frames(tracklet.path, sorted(set(wanted)), size, max_pixels, resize)
        return Nearest(torch.stack([frames[index] for index in wanted]), len(frames), 0)
    found: dict[int, Tensor | None] = {}
    chosen: list[int] = []
    shown: list[Tensor] = []
    for index in wanted:
        for near in _outwards(index, len(tracklet.frames)):
            if near not in found:
                found[near] = _image(tracklet.frames[near], size, max_pixels, resize)
            frame = found[near]
            if frame is not None:
                chosen.append(near)
                shown.append(frame)
                break
        else:
            raise UserError(
                f"{tracklet.path}: none of the {len(tracklet.frames)} frames of this tracklet can "
                f"be read{first_fault(tracklet, max_pixels)}"
            )
    skipped = sum(frame is None for frame in found.values())
    return Nearest(torch.stack(shown), len(set(chosen)), skipped)


def first_fault(tracklet: Tracklet, max_pixels: int = MAX_PIXELS) -> str:
    """Say in brackets why the first image of a tracklet cannot be read; "" where it can."""
    if is_video(tracklet):
        return ""
    try:
        read_image(tracklet.frames[0], max_pixels=max_pixels)
    except UnreadableImage as error:
        return f" (the first: {error})"
    return ""


def _outwards(index: int, length: int) -> Iterator[int]:
    """Yield 0 <= i < length by the distance to ``index``, the smaller of two first."""
    yield index
    for distance in range(1, length):
        yield from (i for i in (index - distance, index + distance) if 0 <= i < length)


def _image(path: str, size: Size, max_pixels: int, how: ResizeName) -> Tensor | None:
    height, width = size
    try:
        with stage("decode"):
            # A JPEG may be decoded at a fraction of its size; twice ours leaves the antialiasing
            # to the resize below.
            draft = (2 * height, 2 * width) if how == "torch" else None
            image = read_image(path, max_pixels=max_pixels, draft=draft)
            pixels = torch.from_numpy(np.array(image))
    except UnreadableImage:
        return None
    with stage("resize"):
        return resized(pixels[None], size, how)[0]


def resized(frames: Tensor, size: Size, how: ResizeName) -> Tensor:
    """Resize uint8 frames (T, H, W, 3) to a height and width."""
    height, width = size
    if how == "torch":
        return resize(frames, height, width)
    images = (Image.fromarray(frame.numpy()) for frame in frames)
    smaller = [
        np.array(image.resize((width, height), Image.Resampling.BILINEAR)) for image in images
    ]
    return torch.from_numpy(np.stack(smaller))


def _video_frames(
    path: str, indices: Sequence[int], size: Size, max_pixels: int, how: ResizeName
) -> dict[int, Tensor]:
    frames: dict[int, Tensor] = {}
    with closing(open_video(path, max_pixels=max_pixels)) as reader:
        left = indices
        for decoded in decode_in_chunks(reader, indices):
            with stage("resize"):
                frames |= dict(zip(left, resized(decoded, size, how), strict=False))
            left = left[len(decoded) :]
    return frames
