"""Crop, flip and normalise batches of uint8 clips, on whichever device they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from video_snl.config.statistics import STATISTICS
from video_snl.utils.large_pages import empty_in_large_pages

__all__ = [
    "STATISTICS",
    "crop_clips",
    "crop_scaled_clips",
    "normalise",
    "three_crops",
]


def crop_clips(
    video: Tensor, sizes: Tensor, offset: Tensor, flip: Tensor, crop: int | tuple[int, int]
) -> Tensor:
    """Cut a rectangle out of every clip, the same for all of its frames, and flip some.

    The crop of a clip of size (h, w) starts at floor(offset * (size - crop + 1)), at most
    size - crop.

    Args:
        video: uint8 (B, T, H, W, 3); clip b fills its first ``sizes[b]`` rows and columns.
        sizes: Integers (B, 2), height and width within the padding.
        offset: Float (B, 2) in [0, 1), down and right.
        flip: Bool (B,): mirror left and right.
        crop: Height and width of the rectangle, or the side of a square.

    Returns:
        uint8 (B, T, height, width, 3) on the device of ``video``.

    Raises:
        ValueError: The crop is larger than a clip.
    """
    height, width = (crop, crop) if isinstance(crop, int) else crop
    extent = torch.stack([torch.full_like(sizes[:, 0], side) for side in (height, width)], 1)
    _check_crop(sizes, extent)
    start = _start(offset, sizes - extent)
    if video.device.type == "cpu":
        return torch.stack(list(_cut(video, start, extent, flip)))
    return _gather(video, start, flip, height, width)


def _cut(video: Tensor, start: Tensor, extent: Tensor, flip: Tensor) -> Iterator[Tensor]:
    """Cut the rectangle of every clip, (T, h, w, 3): on a CPU ten times as fast as a gather."""
    places = zip(start.tolist(), extent.tolist(), flip.tolist(), strict=True)
    for clip, ((top, left), (height, width), mirrored) in zip(video, places, strict=True):
        part = clip[:, top : top + height, left : left + width]
        yield part.flip(2) if mirrored else part


def _gather(video: Tensor, start: Tensor, flip: Tensor, height: int, width: int) -> Tensor:
    """Gather the rectangles of all clips at once."""
    steps = torch.arange(width, device=start.device)
    rows = start[:, :1] + torch.arange(height, device=start.device)
    columns = start[:, 1:] + torch.where(flip[:, None], steps.flip(0), steps)
    # A blocking copy would wait for the work queued on the device.
    rows, columns = (part.to(video.device, non_blocking=True) for part in (rows, columns))
    batch = torch.arange(len(video), device=video.device)[:, None, None, None]
    frames = torch.arange(video.shape[1], device=video.device)[:, None, None]
    return video[batch, frames, rows[:, None, :, None], columns[:, None, None, :]]


def crop_scaled_clips(
    video: Tensor, sizes: Tensor, offset: Tensor, flip: Tensor, scale: Tensor, crop: int
) -> Tensor:
    """Cut a rectangle out of every clip and resize it to a square, flipping some.

    The rectangle's sides are ``scale`` times the shorter side of the clip, rounded; it starts at
    floor(offset * (size - side + 1)). Bilinear with antialiasing, as of the rectangle alone: what
    is around it does not come in.

    Args:
        video, sizes, offset, flip, crop: As for :func:`crop_clips`.
        scale: Float (B, 2) in (0, 1], shares for the height and the width.

    Returns:
        uint8 (B, T, crop, crop, 3). CPU and GPU may differ by one: the former computes in integers.
    """
    short = sizes.min(1, keepdim=True).values
    extent = (scale * short).round().long().clamp(min=1)
    start = _start(offset, sizes - extent)
    if video.device.type == "cpu":
        cut = _cut(video, start, extent, flip)
        return torch.stack([_resized(part, crop) for part in cut])
    return _resize_by_products(video, start, extent, flip, crop)


def _resized(clip: Tensor, crop: int) -> Tensor:
    frames = clip.permute(0, 3, 1, 2)
    resized = interpolate(frames, size=(crop, crop), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)


def _resize_by_products(
    video: Tensor, start: Tensor, extent: Tensor, flip: Tensor, crop: int
) -> Tensor:
    """Resize by two batched matrix products: resizing is linear in rows and in columns."""
    height, width = video.shape[2:4]
    # A half-precision product would round the pixels.
    with torch.autocast(video.device.type, enabled=False):
        rows = _resizing(start[:, 0], extent[:, 0], height, crop)
        columns = _resizing(start[:, 1], extent[:, 1], width, crop)
        columns = torch.where(flip[:, None, None], columns.flip(1), columns)
        frames = video.permute(0, 1, 4, 2, 3).flatten(1, 2).float()  # (B, T 3, H, W)
        resized = rows[:, None] @ frames @ columns.mT[:, None]
    pixels = resized.round_().clamp_(0, 255).to(torch.uint8)
    return pixels.unflatten(1, (-1, 3)).permute(0, 1, 3, 4, 2).contiguous()


def _start(offset: Tensor, room: Tensor) -> Tensor:
    """Return where crops start, (B, 2): every one of the room + 1 places equally likely."""
    return torch.minimum((offset * (room + 1)).floor().long(), room)


def _resizing(start: Tensor, extent: Tensor, length: int, crop: int) -> Tensor:
    """Return the matrices (B, crop, length) that resize [start, start + extent) to ``crop`` pixels.

    Triangular weights as wide as a pixel of the wider grid, which sum to one over the interval:
    what ``interpolate(mode="bilinear", antialias=True)`` computes.
    """
    step = (extent / crop)[:, None, None]
    pixel = torch.arange(length, device=start.device)[None, None] - start[:, None, None]
    inside = (pixel >= 0) & (pixel < extent[:, None, None])
    centre = (torch.arange(crop, device=start.device)[None, :, None] + 0.5) * step
    distance = (pixel + 0.5 - centre).abs() / step.clamp(min=1.0)
    weights = (1 - distance).clamp(min=0) * inside
    return weights / weights.sum(2, keepdim=True)


def normalise(
    video: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Compute (video / 255 - mean) / std as one multiply-add: video * scale + shift.

    Args:
        video: uint8 (B, T, h, w, 3).
        mean, std: Statistics of red, green and blue in [0, 1], such as ``STATISTICS["kinetics"]``.
        dtype: Type of the result; computed in float32.

    Returns:
        (B, 3, T, h, w), laid out in memory as ``torch.channels_last_3d``: no channel is moved.
    """
    width = video.shape[3]
    # Of a whole line of pixels, so that the innermost loop is a long one: twice as fast.
    scale, shift = (
        torch.tensor(values, dtype=torch.float32).to(video.device, non_blocking=True).repeat(width)
        for values in (
            [1 / (255 * s) for s in std],
            [-m / s for m, s in zip(mean, std, strict=True)],
        )
    )
    lines = video.flatten(3)
    if torch.compiler.is_compiling():  # a graph that is recorded has no memory of its own
        lines = torch.addcmul(shift, lines.to(torch.float32), scale)
    elif video.device.type == "cpu":
        lines = _scaled(lines, scale, shift)
    else:
        lines = lines.to(torch.float32)
        torch.addcmul(shift, lines, scale, out=lines)
    return lines.unflatten(3, (width, 3)).permute(0, 4, 1, 2, 3).to(dtype)


def _scaled(lines: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Compute lines * scale + shift of uint8 (B, T, h, w) clip by clip, each within the caches."""
    scaled = empty_in_large_pages(lines.shape, torch.float32)
    for clip, target in zip(lines, scaled, strict=True):
        target.copy_(clip)
        torch.addcmul(shift, target, scale, out=target)
    return scaled


def three_crops(sizes: Tensor, crop: int) -> list[Tensor]:
    """Return offsets for :func:`crop_clips` at start, centre and end of the longer side.

    On the shorter side all three are centred; of equal sides, the width counts as the longer.
    A centred crop is that of the offset 0.5: it starts at floor((size - crop + 1) / 2).

    Args:
        sizes: Integers (B, 2).

    Returns:
        Three float (B, 2).

    Raises:
        ValueError: The crop is larger than a clip.
    """
    _check_crop(sizes, torch.full_like(sizes, crop))
    room = sizes - crop
    wide = sizes[:, 1:] >= sizes[:, :1]
    longer = torch.cat([~wide, wide], dim=1)
    centre = (room + 1) // 2
    starts = [torch.where(longer, along, centre) for along in (room * 0, centre, room)]
    # The middle of the interval of offsets that floor takes to this start: no rounding leaves it.
    return [(start + 0.5) / (room + 1) for start in starts]


def _check_crop(sizes: Tensor, extent: Tensor) -> None:
    # Only where it costs nothing: on a GPU, looking at a value would wait for all work queued.
    if sizes.device.type == "cpu" and bool((sizes < extent).any()):
        height, width = sizes[(sizes < extent).any(1)][0].tolist()
        sides = " x ".join(map(str, dict.fromkeys(extent[0].tolist())))
        raise ValueError(
            f"a crop of {sides} does not fit a frame of {height} x {width}: lower data.crop or "
            "raise data.short_side"
        )
