"""Class scores: of the views of a video, of windows over it, and of an image."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from video_snl.data.video.inference import (
    SHORT_VIDEOS,
    read_many_views,
    read_windows,
    value_of,
)
from video_snl.data.video.windows import Length
from video_snl.errors import UserError
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.images import ImageTask, Segmentation
from video_snl.tasks.metrics import top_classes
from video_snl.utils.finite import not_finite_error

__all__ = ["best_classes", "score_image", "score_videos", "score_views", "score_windows"]

T = TypeVar("T")

# Clips of several windows that go through the network together: twice as many take twice the
# memory, and hardly less time.
_CLIPS_AT_ONCE = 16


def best_classes(scores: Tensor, names: list[str], top: int) -> list[dict[str, Any]]:
    """Return :func:`top_classes` as the entries of JSON."""
    return [
        {"class": name, "score": round(score, 6)} for name, score in top_classes(scores, names, top)
    ]


def score_videos(
    task: ActionRecognition, paths: Iterable[str], clips: int, *, if_short: str = SHORT_VIDEOS
) -> Generator[tuple[str, Tensor | UserError], None, None]:
    """Read clips evenly spaced over each of many videos, and score them.

    The next videos are decoded while one is scored. Each goes through the network by itself, so
    that its scores do not depend on the others. Close the iterator, or run it to its end, to end
    the process that decodes.

    Args:
        if_short: Advice for a video that is too short.

    Yields:
        A video with its class scores (classes,), or with what was wrong with it (it cannot be read,
        is too short, or its scores are not finite); in the order of the paths.
    """
    data = task.experiment.data
    with closing(read_many_views(paths, data, clips, if_short=if_short)) as results:
        for result in results:
            found: Tensor | UserError
            try:
                views = value_of(result, result.item, data.deadline)
                found = score_views(task, views[None], result.item)[0]
            except UserError as error:
                found = error
            yield result.item, found


@torch.inference_mode()
def score_image(task: ImageTask, image: Tensor, name: str) -> tuple[Tensor, np.ndarray | None]:
    """Return the class scores (classes,) of an image uint8 (H, W, 3), and the label of each pixel.

    The scores of a segmentation are the shares of the pixels, and its labels are int (H, W); other
    networks have no labels of pixels: None.

    Args:
        name: Name of the image, for the message.

    Raises:
        UserError: Scores are not finite.
    """
    images = image[None].to(task.device)
    if isinstance(task, Segmentation):
        logits = task.logits(images)
    else:
        logits = task.model(task.evaluation_input(images))
    if not logits.isfinite().all():
        raise not_finite_error(name)
    if not isinstance(task, Segmentation):
        return logits[0].float().softmax(-1).cpu(), None
    labels = logits[0].argmax(0)
    counted = torch.bincount(labels.flatten(), minlength=len(task.class_names))
    return (counted / labels.numel()).cpu(), labels.cpu().numpy()


def score_windows(
    task: ActionRecognition, path: str, window: Length, hop: Length, *, clips: int
) -> Iterator[tuple[float, float, Tensor]]:
    """Yield start and end, in seconds from the first frame, and class scores of every window.

    The file is read once, from its start to its end; memory depends on the length of a window, not
    on that of the video.

    Args:
        clips: Clips of a window, evenly spaced over it.

    Raises:
        UserError: The file cannot be read, a window is shorter than a clip, or its scores are not
            finite.
    """
    windows = read_windows(path, task.experiment.data, window, hop, clips)
    for group in _grouped(windows, max(1, _CLIPS_AT_ONCE // clips)):
        scores = score_views(task, np.stack([found.views for found in group]), path)
        for found, row in zip(group, scores, strict=True):
            yield found.start, found.end, row


@torch.inference_mode()
def score_views(task: ActionRecognition, views: np.ndarray, path: str) -> Tensor:
    """Return mean scores over the clips and crops of videos of one size, on the CPU.

    Shapes: uint8 (B, clips, T, H, W, 3) -> (B, classes).

    Args:
        path: File that the views are taken from, for the message.

    Raises:
        UserError: Scores are not finite.
    """
    size = torch.tensor(views.shape[3:5]).expand(len(views), 2)
    batch = {"views": torch.from_numpy(views).to(task.device), "size": size.to(task.device)}
    scores = task.view_scores(batch).cpu()
    if not scores.isfinite().all():
        raise not_finite_error(path)
    return scores


def _grouped(found: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield groups of ``size``; before an error, what came ahead of it."""
    group: list[T] = []
    try:
        for item in found:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
    except UserError:
        if group:
            yield group
        raise
    if group:
        yield group
