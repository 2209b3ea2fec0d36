"""Scores of sliding windows over a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from video_snl.data.clips import ShortVideoError
from video_snl.data.loader import clip_rule
from video_snl.data.pyav_reader import PyAVReader
from video_snl.data.streaming import frame_times, window_clips
from video_snl.data.windows import Length, frame_windows
from video_snl.errors import UserError
from video_snl.tasks.action import ActionRecognition

__all__ = ["score_windows"]

T = TypeVar("T")

# Clips of several windows that go through the network together.
_CLIPS_AT_ONCE = 32


def score_windows(
    task: ActionRecognition, path: str, window: Length, hop: Length, *, clips: int
) -> Iterator[tuple[float, float, Tensor]]:
    """Start and end, in seconds from the first frame, and class scores of every window.

    The file is read once, from its start to its end; memory depends on the length of a window, not
    on that of the video.

    Args:
        clips: Clips of a window, evenly spaced over it.

    Raises:
        UserError: The file cannot be read, or a window is shorter than a clip.
    """
    times = frame_times(path)
    windows = frame_windows(times, window, hop)
    data = task.experiment.data
    rule = clip_rule(data)
    # Of all readers, which return the same frames, the one that goes on where it stopped.
    reader = PyAVReader(path)
    decoded = window_clips(
        reader, windows, lambda length: rule.several(length, clips), data.short_side
    )
    try:
        for group in _grouped(decoded, max(1, _CLIPS_AT_ONCE // clips)):
            scores = _scores(task, (views for _, views in group))
            for (frames, _), row in zip(group, scores, strict=True):
                yield *times.of(frames), row
    except ShortVideoError as error:
        raise UserError(
            f"{path}: a window of {error.length} frames is shorter than a clip, which spans "
            f"{error.span}: lengthen --window, or set --short_videos repeat_last or wrap"
        ) from error


def _grouped(decoded: Iterator[T], size: int) -> Iterator[list[T]]:
    """Groups of ``size``; before an error, what came ahead of it."""
    group: list[T] = []
    try:
        for item in decoded:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
    except (UserError, ShortVideoError):
        if group:
            yield group
        raise
    if group:
        yield group


@torch.inference_mode()
def _scores(task: ActionRecognition, views: Iterable[Tensor]) -> Tensor:
    stacked = torch.stack(list(views))
    size = torch.tensor(stacked.shape[3:5]).expand(len(stacked), 2)
    batch = {"views": stacked.to(task.device), "size": size.to(task.device)}
    return task.view_scores(batch).cpu()
