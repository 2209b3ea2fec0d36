"""The clips of windows over a long video, decoded in one forward pass in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor

from video_snl.data.decoding.readers import Reader, decode_in_chunks, shrink
from video_snl.data.decoding.stream_info import STAMPED, open_with_stream_info, rate_in_header
from video_snl.data.video.clip_sampling import ShortVideoError
from video_snl.data.video.windows import FrameTimes
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = ["frame_times", "window_clips"]


class _Plan(NamedTuple):
    """A window and the frames of its clips, or why it has none."""

    window: range
    clips: list[list[int]]
    error: ShortVideoError | None = None


def frame_times(path: str, max_pixels: int = MAX_PIXELS) -> FrameTimes:
    """Find when the frames of a video begin, by their time stamps, without decoding anything.

    Where a container stores none (AVI without gaps), or they do not tell the frames apart, frame i
    begins at i / rate.

    Raises:
        UserError: The file cannot be read, or has neither time stamps nor a frame rate.
    """
    container, stream, facts = open_with_stream_info(path, max_pixels)
    with container:
        rated, unit = rate_in_header(stream), stream.time_base
    # Elsewhere stamps may number the frames, and leave out numbers where nothing is shown.
    plain = isinstance(facts.stamps, range) and facts.stamps.step == 1
    stored = facts.container in STAMPED or not plain
    if facts.stamps is not None and stored and unit:
        starts = [float((stamp - facts.stamps[0]) * unit) for stamp in facts.stamps]
        # The last frame is taken to be as long as frames are on the average.
        if len(starts) > 1:
            return FrameTimes(starts, starts[-1] * len(starts) / (len(starts) - 1))
    if not rated:
        raise UserError(
            f"{path} has neither time stamps nor a frame rate: write it again with "
            "one (ffmpeg -r 25 -i FILE NEW.mp4)"
        )
    starts = [float(i / facts.rate) for i in range(facts.length)]
    return FrameTimes(starts, float(facts.length / facts.rate))


def window_clips(
    reader: Reader,
    windows: Iterable[range],
    choose: Callable[[int], list[list[int]]],
    size: int | tuple[int, int],
) -> Iterator[tuple[range, Tensor]]:
    """Return every window with its clips, uint8 (K, T, H, W, 3).

    Every frame that some clip needs is decoded once, in ascending order. Only frames that clips of
    the current window and of those overlapping it need are kept, at the short side.

    Args:
        reader: A video, of which nothing has been read.
        windows: Their frames, half-open, with ascending starts.
        choose: From a window's number of frames to the frames of its K clips, counted from its
            start.
        size: Pixels of the shorter side of the frames returned, or their height and width.

    Raises:
        UserError: The file breaks while it is decoded.
        ShortVideoError: A window is too short for a clip; those before it have been returned.
    """
    plans = _planned(windows, choose)
    overlapping = deque(islice(plans, 1))
    kept: dict[int, Tensor] = {}
    decoded = -1  # the last frame decoded so far
    while overlapping:
        window, clips, error = overlapping[0]
        if error is not None:
            raise error
        last = max(map(max, clips))
        _extend(overlapping, plans, last)
        new = sorted(i for i in _frames_of(overlapping) if decoded < i <= last)
        kept |= _decoded(reader, new, size)
        decoded = max(decoded, last)
        yield window, torch.stack([torch.stack([kept[i] for i in clip]) for clip in clips])
        overlapping.popleft()
        needed = _frames_of(overlapping)
        kept = {i: frame for i, frame in kept.items() if i in needed}


def _planned(windows: Iterable[range], choose: Callable[[int], list[list[int]]]) -> Iterator[_Plan]:
    """Plan windows, up to the first that is too short.

    Windows are planned ahead of time, and its error must not come before the clips of those ahead.
    """
    for window in windows:
        try:
            clips = choose(len(window))
        except ShortVideoError as error:
            yield _Plan(window, [], error)
            return
        yield _Plan(window, [[window.start + index for index in clip] for clip in clips])


def _extend(overlapping: deque[_Plan], plans: Iterator[_Plan], last: int) -> None:
    """Add all windows that begin up to the frame ``last`` of the first, and one more.

    Their frames up to there must be read now, since a reader does not go back.
    """
    while overlapping[-1].window.start <= last and (following := next(plans, None)):
        overlapping.append(following)


def _frames_of(plans: Iterable[_Plan]) -> set[int]:
    return {index for plan in plans for clip in plan.clips for index in clip}


def _decoded(reader: Reader, indices: list[int], size: int | tuple[int, int]) -> dict[int, Tensor]:
    shrunk = (shrink(piece, size) for piece in decode_in_chunks(reader, indices))
    return dict(zip(indices, chain.from_iterable(shrunk), strict=True))
