"""Segmentation by overlapping windows, each of the size the network was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from video_snl.config.image import ImageDataConfig
from video_snl.errors import OptionsError

__all__ = ["slide", "window_places", "window_stride"]


def window_places(
    size: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> list[tuple[int, int]]:
    """Return top and left of the windows that cover an image, by rows.

    Every ``stride`` pixels one, and the last one ends with the image: along a side of L pixels
    there are ceil((L - window) / stride) + 1, or one where the window is as long as the side.
    """
    along = [_starts(*side) for side in zip(size, window, stride, strict=True)]
    return [(top, left) for top in along[0] for left in along[1]]


def window_stride(config: ImageDataConfig) -> tuple[int, int]:
    """Return the rows and columns between windows: as given, or two thirds of a window, rounded.

    Raises:
        OptionsError: They leave pixels out, or are not two numbers.
    """
    window = config.height, config.width
    if config.window_stride is None:
        rows, columns = (max(1, round(2 * side / 3)) for side in window)
        return rows, columns
    given = config.window_stride
    if len(given) != 2 or not all(0 < s <= w for s, w in zip(given, window, strict=True)):
        raise OptionsError(
            f"data.window_stride={given}: give two numbers, from 1 to data.height={window[0]} and "
            f"to data.width={window[1]}"
        )
    return given[0], given[1]


def slide(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    window: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    """Compute the mean of the windows' scores at every pixel.

    Args:
        predict: (B, 3, h, w) -> scores (B, classes, h, w).
        images: (B, 3, H, W). Where they are smaller than a window, the window is as small.

    Returns:
        (B, classes, H, W), of the type of the scores.
    """
    size = images.shape[2:]
    height, width = (min(pair) for pair in zip(size, window, strict=True))
    total: Tensor | None = None
    count = images.new_zeros(1, 1, *size)
    for top, left in window_places(size, (height, width), stride):
        rows, columns = slice(top, top + height), slice(left, left + width)
        scores = predict(images[:, :, rows, columns])
        if total is None:
            total = scores.new_zeros(*scores.shape[:2], *size)
        total[:, :, rows, columns] += scores
        count[:, :, rows, columns] += 1
    assert total is not None  # there is at least one window
    return total.div_(count)


def _starts(length: int, window: int, stride: int) -> list[int]:
    count = -(-max(0, length - window) // stride) + 1
    return [max(0, min(i * stride, length - window)) for i in range(count)]
