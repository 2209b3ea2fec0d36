"""Inference reader: clips and windows of one video, read in a process that can be killed.

A file on which a decoder never returns costs its deadline; then the next file comes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from video_snl.config.video import DataConfig
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import ArrayReader, cut_clips, read_clips
from video_snl.data.loading.quarantine import named
from video_snl.data.video.clip_sampling import ShortVideoError
from video_snl.data.video.dataset import EvaluationDataset, clip_rule, clip_rule_at
from video_snl.data.video.records import Video
from video_snl.data.video.streaming import frame_times, window_clips
from video_snl.data.video.windows import Length, frame_windows
from video_snl.data.workers.pool import DecodeResult, map_with_timeout
from video_snl.errors import OptionsError, UserError
from video_snl.utils.counts import counts

__all__ = [
    "SHORT_IN_PYTHON",
    "SHORT_VIDEOS",
    "TimedViews",
    "Window",
    "array_views",
    "read_many_views",
    "read_timed_views",
    "read_views",
    "read_windows",
    "short_window",
    "value_of",
]

SHORT_VIDEOS = "set --short_videos repeat_last or wrap"
"""Advice for a video that is too short, in commands."""
SHORT_IN_PYTHON = 'load the network with short_videos="repeat_last" or "wrap"'
"""Advice for a video that is too short, in Python."""
_NOMINAL_RATE = 25.0  # frames a second, to turn frames into seconds of patience

T = TypeVar("T")


class Window(NamedTuple):
    """A window: start and end in seconds from the first frame, clips uint8 (K, T, H, W, 3)."""

    start: float
    end: float
    views: np.ndarray


class TimedViews(NamedTuple):
    """Clips uint8 (K, T, H, W, 3), and start and end of each in seconds, (K, 2); NaN: unknown."""

    views: np.ndarray
    times: np.ndarray


def array_views(
    frames: np.ndarray, config: DataConfig, clips: int, *, rate: float | None, name: str
) -> np.ndarray:
    """Cut clips evenly spaced over frames in memory, as :func:`read_views` does of a file.

    Shapes: uint8 (T, H, W, 3) -> uint8 (clips, config.clip_frames, H', W', 3).

    Args:
        rate: Frames per second; needed where ``data.stride_seconds`` is set.
        name: Name of the array in messages.

    Raises:
        UserError: It is no such array, is too short for a clip, or its rate is missing.
    """
    shape, kind = tuple(np.shape(frames)), getattr(frames, "dtype", type(frames).__name__)
    if kind != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise UserError(
            f"{name}: expected frames as uint8 of shape (T, H, W, 3), found {kind} of shape {shape}"
        )
    if 0 in shape:
        raise UserError(f"{name} holds no pixel: its shape is {shape}")
    if config.stride_seconds is not None and not (rate is not None and 0 < rate < math.inf):
        said = "" if rate is None else f", found {rate}"
        raise UserError(
            f"{name}: the network takes a frame every {config.stride_seconds:.3g} s: give the "
            f"frames per second of the array, fps=25{said}"
        )
    rule = clip_rule_at(config, rate)
    reader = ArrayReader(torch.from_numpy(np.ascontiguousarray(frames)))
    with _advising(name, SHORT_IN_PYTHON):
        return cut_clips(
            reader, lambda length: rule.several(length, clips), config.resize, name
        ).numpy()


def read_timed_views(
    paths: Sequence[str],
    config: DataConfig,
    clips: int,
    num_workers: int,
    *,
    if_short: str = SHORT_VIDEOS,
) -> Generator[DecodeResult[str, TimedViews], None, None]:
    """Read clips evenly spaced over each of many videos, and yield them as they are ready.

    Close the iterator, or run it to its end, to end the processes. What went wrong with a video is
    in its result (:func:`value_of`), and stops no other.

    Args:
        num_workers: Processes that read; each has ``data.deadline`` seconds for a video.
        if_short: Advice for a video that is too short.
    """
    read = _TimedViews(config, clips, if_short)
    # Each has two, so that it reads one while the network is at another.
    return map_with_timeout(read, paths, num_workers=num_workers, deadline=config.deadline, ahead=2)


def read_many_views(
    paths: Iterable[str], config: DataConfig, clips: int, *, if_short: str = SHORT_VIDEOS
) -> Generator[DecodeResult[str, np.ndarray], None, None]:
    """Read videos as :func:`read_views` does, in their order, ahead of what is done with them.

    One process reads them all. Close the iterator, or run it to its end, to end the process. What
    went wrong with a video is in its result (:func:`value_of`), and stops no other.
    """
    read = _Views(config, clips, if_short)
    return map_with_timeout(read, paths, num_workers=1, deadline=config.deadline, ahead=2)


def read_views(
    path: str, config: DataConfig, clips: int, *, if_short: str = SHORT_VIDEOS
) -> np.ndarray:
    """Read clips evenly spaced over a video, uint8 (clips, T, H, W, 3).

    Args:
        if_short: Advice for a video that is too short, by the options of the command; those
            of a training are others.

    Raises:
        UserError: The file cannot be read, is too short, or takes longer than ``data.deadline``.
    """
    [result] = read_many_views([path], config, clips, if_short=if_short)
    return value_of(result, path, config.deadline)


def read_windows(
    path: str, config: DataConfig, window: Length, hop: Length, clips: int
) -> Iterator[Window]:
    """Read every window of a video, in one pass over the file.

    From one window to the next it may take ``data.deadline`` plus the seconds of both lengths:
    what cannot be decoded as fast as it plays is taken for stuck.

    Raises:
        UserError: The file cannot be read or takes too long, a window is shorter than a clip, or
            the process that decodes is killed.
    """
    lengths = [x.value if x.unit == "s" else x.value / _NOMINAL_RATE for x in (window, hop)]
    deadline = config.deadline + sum(lengths)
    # The process that decodes keeps its place in the file: the n-th task is the n-th window.
    turns = ((path, number) for number in count())
    read = _Windows(config, clips, window, hop)
    # Two are under way, so that one is decoded while others are scored.
    results = map_with_timeout(read, turns, num_workers=1, deadline=deadline, ahead=2)
    with closing(results):  # which ends the process
        for result in results:
            found = value_of(result, path, deadline)
            if found is None:
                return
            yield found


def short_window(name: str, error: ShortVideoError) -> UserError:
    """Return the error of a video with a window that is too short for a clip."""
    return UserError(
        f"{name}: a window of {counts(error.length, 'frame')} is shorter than a clip, which spans "
        f"{error.span}: lengthen --window, or {SHORT_VIDEOS}"
    )


def value_of(result: DecodeResult[Any, T], path: str, deadline: float) -> T:
    """Return what a process has read.

    Args:
        deadline: Seconds that it had, for the message.

    Raises:
        UserError: It could not be read, or not in time.
    """
    if result.kind == "timeout":
        raise UserError(
            f"{path}: decoding took longer than {deadline:g} s, and was given up: re-encode the "
            "file, or give it longer (--deadline)"
        )
    if result.kind != "ok":
        raise UserError(named(path, str(result.failure)))
    return result.value  # type: ignore[return-value]


@dataclass(frozen=True)
class _Views:
    config: DataConfig
    clips: int
    if_short: str

    def __call__(self, path: str) -> np.ndarray:
        dataset = EvaluationDataset([Video(path, 0)], self.config, self.clips)
        with _advising(path, self.if_short):
            return dataset[0, 0]["views"].numpy()


@dataclass(frozen=True)
class _TimedViews:
    config: DataConfig
    clips: int
    if_short: str

    def __call__(self, path: str) -> TimedViews:
        config, chosen = self.config, list[list[int]]()

        def choose(length: int) -> list[list[int]]:
            chosen.extend(clip_rule(config, path).several(length, self.clips))
            return chosen

        with _advising(path, self.if_short):
            views = read_clips(
                path,
                choose,
                config.resize,
                config.reader,
                config.decode_device,
                config.max_pixels,
            )
        return TimedViews(views.numpy(), _times_of(path, chosen, config.max_pixels))


@contextmanager
def _advising(path: str, if_short: str) -> Iterator[None]:
    """Turn the error of a video that is too short into one with the advice of the command."""
    try:
        yield
    except OptionsError as error:
        short = error.__cause__
        if not isinstance(short, ShortVideoError):
            raise
        raise UserError(
            f"{path} has {counts(short.length, 'frame')}, a clip spans {short.span}: {if_short}"
        ) from error


def _times_of(path: str, clips: list[list[int]], max_pixels: int) -> np.ndarray:
    """Return start and end of clips; NaN for a file, or a folder of frames, that has no times."""
    unknown = np.full((len(clips), 2), np.nan)
    if os.path.isdir(path):
        return unknown
    try:
        times = frame_times(path, max_pixels)
    except UserError:  # it was read: only its rate is missing
        return unknown
    return np.array([times.of(range(min(clip), max(clip) + 1)) for clip in clips])


_windows: Iterator[Window] = iter(())  # of the file that this process is reading
_place: tuple[str, int] | None = None  # that file, and the number of its next window


@dataclass(frozen=True)
class _Windows:
    config: DataConfig
    clips: int
    window: Length
    hop: Length

    def __call__(self, turn: tuple[str, int]) -> Window | None:
        """Return the window of this number; None after the last.

        Raises:
            UserError: Also where another process has read the windows before, which has ended.
        """
        global _windows, _place
        path, number = turn
        if number == 0:
            _windows = self._all(path)
        elif turn != _place:
            raise UserError(
                f"{path}: the process that decodes it was killed after "
                f"{counts(number, 'window')}: give the "
                "command again"
            )
        _place = path, number + 1
        return next(_windows, None)

    def _all(self, path: str) -> Iterator[Window]:
        times = frame_times(path, self.config.max_pixels)
        windows = frame_windows(times, self.window, self.hop)
        rule = clip_rule(self.config, path)
        # Of all readers, which return the same frames, the one that goes on where it stopped.
        try:
            with closing(PyAVReader(path, self.config.max_pixels)) as reader:
                for frames, views in window_clips(
                    reader,
                    windows,
                    lambda length: rule.several(length, self.clips),
                    self.config.resize,
                ):
                    yield Window(*times.of(frames), views.numpy())
        except ShortVideoError as error:
            raise short_window(path, error) from error
