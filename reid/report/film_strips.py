"""Film strips: a few frames of a tracklet side by side, as images for reports."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from video_snl.data.image.reading import UnreadableImage, read_image

__all__ = ["chosen_frames", "data_uri", "film_strip", "read_frame", "strip_width"]

_GAP = 2
_EMPTY = (128, 128, 128)
_CROSS = (190, 190, 190)


def chosen_frames(count: int, shown: int = 4) -> list[int]:
    """Choose which of ``count`` frames a strip shows: ``shown`` evenly spaced, from first to last.

    All of them are chosen where there are at most ``shown``.
    """
    if count <= shown:
        return list(range(count))
    return [round(index * (count - 1) / (shown - 1)) for index in range(shown)]


def read_frame(path: str | Path) -> Image.Image | None:
    """Read an image as RGB; None where it cannot be read (the strip shows a crossed box)."""
    try:
        return read_image(path)
    except UnreadableImage:
        return None


def film_strip(
    frames: Sequence[str | Path | Image.Image],
    *,
    shown: int = 4,
    width: int = 64,
    height: int = 128,
) -> Image.Image:
    """Draw frames side by side, each fitted into a cell without distortion.

    A frame that does not open is a crossed grey box, and so is a tracklet without frames. The size
    of the strip depends on the number of frames and not on their sizes.

    Args:
        frames: Images, or paths to them.
        shown: Most frames in the strip, see :func:`chosen_frames`.
        width: Width of a cell, in pixels.
        height: Height of a cell, in pixels.
    """
    wanted = [frames[index] for index in chosen_frames(len(frames), shown)]
    cells = [_cell(_opened(frame), width, height) for frame in wanted]
    cells = cells or [_cell(None, width, height)]
    strip = Image.new("RGB", (strip_width(len(cells), width), height), _EMPTY)
    for index, cell in enumerate(cells):
        strip.paste(cell, (index * (width + _GAP), 0))
    return strip


def strip_width(cells: int, width: int) -> int:
    """Return the width of a strip of so many cells, in pixels."""
    return cells * (width + _GAP) - _GAP


def data_uri(image: Image.Image | bytes) -> str:
    """Return the data URI of an image (as JPEG) or of the bytes of a PNG file."""
    if isinstance(image, bytes):
        return _uri("png", image)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=82)
    return _uri("jpeg", buffer.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _opened(frame: str | Path | Image.Image) -> Image.Image | None:
    return frame if isinstance(frame, Image.Image) else read_frame(frame)


def _cell(image: Image.Image | None, width: int, height: int) -> Image.Image:
    if image is not None:
        return ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color=_EMPTY)
    cell = Image.new("RGB", (width, height), _EMPTY)
    draw = ImageDraw.Draw(cell)
    corners = (0, 0, width - 1, height - 1)
    draw.rectangle(corners, outline=_CROSS)
    draw.line(corners, fill=_CROSS)
    draw.line((0, height - 1, width - 1, 0), fill=_CROSS)
    return cell
