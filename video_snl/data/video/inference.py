"""Inference reader: clips and windows of one video, read in a process that can be killed.

A file on which a decoder never returns costs its deadline; then the next file comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeVar

import numpy as np

from video_snl.config.video import DataConfig
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.loading.quarantine import named
from video_snl.data.video.clip_sampling import ShortVideoError
from video_snl.data.video.dataset import EvaluationDataset, clip_rule
from video_snl.data.video.records import Video
from video_snl.data.video.streaming import frame_times, window_clips
from video_snl.data.video.windows import Length, frame_windows
from video_snl.data.workers.pool import DecodeResult, map_with_timeout
from video_snl.errors import OptionsError, UserError
from video_snl.utils.counts import counts

__all__ = ["Window", "read_views", "read_windows"]

_SHORT_VIDEOS = "set --short_videos repeat_last or wrap"
_NOMINAL_RATE = 25.0  # frames a second, to turn frames into seconds of patience

T = TypeVar("T")


class Window(NamedTuple):
    """A window: start and end in seconds from the first frame, clips uint8 (K, T, H, W, 3)."""

    start: float
    end: float
    views: np.ndarray


def read_views(
    path: str, config: DataConfig, clips: int, *, if_short: str = _SHORT_VIDEOS
) -> np.ndarray:
    """Read clips evenly spaced over a video, uint8 (clips, T, H, W, 3).

    Args:
        if_short: Advice for a video that is too short, by the options of the command; those
            of a training are others.

    Raises:
        UserError: The file cannot be read, is too short, or takes longer than ``data.deadline``.
    """
    read = _Views(config, clips, if_short)
    [result] = map_with_timeout(read, [path], num_workers=1, deadline=config.deadline)
    return _value(result, path, config.deadline)


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
            found = _value(result, path, deadline)
            if found is None:
                return
            yield found


@dataclass(frozen=True)
class _Views:
    config: DataConfig
    clips: int
    if_short: str

    def __call__(self, path: str) -> np.ndarray:
        dataset = EvaluationDataset([Video(path, 0)], self.config, self.clips)
        try:
            return dataset[0, 0]["views"].numpy()
        except OptionsError as error:
            short = error.__cause__
            if not isinstance(short, ShortVideoError):
                raise
            raise UserError(
                f"{path} has {counts(short.length, 'frame')}, a clip spans {short.span}: "
                f"{self.if_short}"
            ) from error


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
            raise UserError(
                f"{path}: a window of {counts(error.length, 'frame')} is shorter than a clip, "
                f"which spans {error.span}: lengthen --window, or {_SHORT_VIDEOS}"
            ) from error


def _value(result: DecodeResult[Any, T], path: str, deadline: float) -> T:
    if result.kind == "timeout":
        raise UserError(
            f"{path}: decoding took longer than {deadline:g} s, and was given up: re-encode the "
            "file, or give it longer (--deadline)"
        )
    if result.kind != "ok":
        raise UserError(named(path, str(result.failure)))
    return result.value  # type: ignore[return-value]
