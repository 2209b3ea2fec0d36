"""Film strips: a few frames of a video or tracklet side by side, as images for pages.

Frames of videos are decoded in processes that can be ended: a file on which a decoder never returns
costs its deadline, and leaves a note where its strip would be.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from video_snl.data.image.reading import UnreadableImage, read_image
from video_snl.data.workers.pool import map_with_timeout
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.progress import counted

__all__ = [
    "DEADLINE",
    "Strip",
    "chosen_frames",
    "data_uri",
    "film_strip",
    "read_frame",
    "strip_width",
    "video_frames",
    "video_strips",
]

DEADLINE = 20.0
"""Seconds to decode the frames of one strip."""

_GAP = 2
_EMPTY = (128, 128, 128)
_CROSS = (190, 190, 190)
_VIDEO_CELL = (96, 72)
_QUALITY = 75  # of strips, of which a page has many


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


def data_uri(image: Image.Image | bytes, quality: int = 82) -> str:
    """Return the data URI of an image (as JPEG) or of the bytes of a PNG file."""
    if isinstance(image, bytes):
        return _uri("png", image)
    return _uri("jpeg", _jpeg(image, quality))


@dataclass(frozen=True)
class Strip:
    """What a page shows of a file: an image, or a note on why there is none.

    Attributes:
        uri: Data URI of the image; empty without one.
        width, height: Size of the image, in pixels.
        note: Reason why there is no image; empty with one.
    """

    uri: str = ""
    width: int = 0
    height: int = 0
    note: str = ""

    @classmethod
    def of(cls, image: Image.Image) -> Strip:
        """Return the strip that an image is."""
        return cls(data_uri(image, _QUALITY), image.width, image.height)

    def view(self, alt: str) -> dict[str, Any]:
        """Return the values of the templates' macro ``image``."""
        note = f"no image: {self.note}" if self.note else ""
        sized = {"uri": self.uri, "width": self.width, "height": self.height}
        return {**sized, "alt": alt, "note": note}


def video_frames(path: str, shown: int = 4, max_pixels: int = MAX_PIXELS) -> list[np.ndarray]:
    """Decode the frames of a strip of a video, uint8 (H, W, 3), in this process.

    Args:
        path: Video file, or folder of frames.
        shown: Most frames, see :func:`chosen_frames`.
        max_pixels: Most pixels of a frame.

    Raises:
        UserError: It cannot be read.
    """
    from video_snl.data.decoding.readers import open_video

    with closing(open_video(path, max_pixels=max_pixels)) as reader:
        return list(reader.frames(chosen_frames(len(reader), shown)).numpy())


def video_strips(
    paths: Sequence[str],
    *,
    num_workers: int = 1,
    deadline: float = DEADLINE,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Strip]:
    """Return the film strips of videos by their paths; a video that cannot be read leaves a note.

    Args:
        paths: Video files, or folders of frames.
        num_workers: Processes that decode, at least 1.
        deadline: Seconds for one video.
        max_pixels: Most pixels of a frame.
    """
    found: dict[str, Strip] = {}
    if not paths:
        return found
    results = map_with_timeout(
        _DrawStrip(max_pixels), paths, num_workers=max(1, num_workers), deadline=deadline
    )
    try:
        for result in counted(results, len(paths), "film strips"):
            if result.value is None:
                note = str(result.failure).removeprefix(f"{result.item}: ")
                found[result.item] = Strip(note=note)
            else:
                content, width, height = result.value
                found[result.item] = Strip(_uri("jpeg", content), width, height)
    except UserError as error:  # no process can be started: the page is worth having without
        found = {**{path: Strip(note=str(error)) for path in paths}, **found}
    return found


@dataclass(frozen=True)
class _DrawStrip:
    """Function of a path that draws its strip: the bytes of a JPEG file, its width and height."""

    max_pixels: int

    def __call__(self, path: str) -> tuple[bytes, int, int]:
        frames = [
            Image.fromarray(frame) for frame in video_frames(path, max_pixels=self.max_pixels)
        ]
        width, height = _VIDEO_CELL
        strip = film_strip(frames, width=width, height=height)
        return _jpeg(strip, _QUALITY), strip.width, strip.height


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


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
