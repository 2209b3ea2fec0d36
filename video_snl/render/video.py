"""A video written again with the predictions drawn on its frames: H.264, without sound.

A frame shows the predictions of the windows that cover it, with their times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType
from PIL import Image

from video_snl.data.decoding.opening import decoder_path
from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.stream_info import open_with_stream_info
from video_snl.data.video.streaming import frame_times
from video_snl.data.video.windows import FrameTimes
from video_snl.errors import UserError
from video_snl.render.fonts import Line, draw_lines
from video_snl.utils.files import replace_file, storage_error
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.progress import counted
from video_snl.utils.text import printable

__all__ = ["FORMATS", "Caption", "caption_at", "captions_of", "draw_video", "render_video"]

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Formats that can be written, by suffix."""

Draw = Callable[[Image.Image, int, float], Image.Image]

_CLOCK = 90_000  # ticks a second: of every usual frame rate, a frame is a whole number of them
_WINDOWS_AT_ONCE = 3  # whose predictions one frame shows
_FRAMES_AT_ONCE = 8  # in memory, at their full size
_CODEC, _OPTIONS = "libx264", {"crf": "20", "preset": "veryfast"}


def render_video(
    source: str, target: Path, captions: Sequence[Caption], max_pixels: int = MAX_PIXELS
) -> None:
    """Write ``target``: every frame of ``source`` at its time, with its :func:`caption_at`.

    Sizes are even: the last row or column of odd ones stands twice. Frames are turned as the
    source asks for.

    Args:
        max_pixels: Most pixels of a frame of the source.

    Raises:
        UserError: The source breaks while it is decoded, or the target cannot be written.
    """
    draw_video(
        source,
        target,
        lambda image, _, seconds: draw_lines(image, caption_at(captions, seconds)),
        max_pixels,
    )


def draw_video(source: str, target: Path, draw: Draw, max_pixels: int = MAX_PIXELS) -> None:
    """Write ``target``: every frame of ``source`` at its time, as ``draw`` returns it.

    Args:
        draw: From a frame, its number from 0 and its time in seconds to an image of its size.
        max_pixels: Most pixels of a frame of the source.

    Raises:
        UserError: As of :func:`render_video`.
    """
    times = frame_times(source, max_pixels)
    try:
        replace_file(target, lambda temporary: _write(source, temporary, draw, times, max_pixels))
    except OSError as error:
        foreign = isinstance(error, av.FFmpegError) or error.errno is None
        if foreign and storage_error(error) is None:
            raise UserError(f"{source}: its frames cannot be encoded ({error})") from error
        reason = error.strerror or error
        raise UserError(f"--render {target} cannot be written ({reason})") from error


class Caption(NamedTuple):
    """Predictions for the seconds from ``start`` to before ``end``; both None for all of them."""

    start: float | None
    end: float | None
    lines: list[Line]


def captions_of(result: Mapping[str, Any]) -> list[Caption]:
    """Turn what ``predict`` found in a video, or in its windows, into captions."""
    return [
        Caption(
            part.get("start"),
            part.get("end"),
            [
                Line(printable(best["class"]), f"{best['score']:.1%}")
                for best in part["predictions"]
            ],
        )
        for part in result.get("windows", [result])
    ]


def caption_at(captions: Sequence[Caption], seconds: float) -> list[Line]:
    """Return the lines for the frame at a time; the last of them is the time.

    Where several windows cover it, those whose middles are nearest, in their order, share the
    lines of one.
    """
    covering = [c for c in captions if _covers(c, seconds)]
    nearest = sorted(covering, key=lambda caption: _distance(caption, seconds))[:_WINDOWS_AT_ONCE]
    lines: list[Line] = []
    for caption in (c for c in covering if c in nearest):
        if caption.start is not None and caption.end is not None:
            lines.append(Line(f"{caption.start:.2f} s – {caption.end:.2f} s"))
        lines += caption.lines[: max(1, len(caption.lines) // len(nearest))]
    return [*lines, Line(_clock(seconds))]


def _write(
    source: str,
    target: Path,
    draw: Draw,
    times: FrameTimes,
    max_pixels: int,
) -> None:
    with av.open(decoder_path(str(target)), "w", format=FORMATS[target.suffix.lower()]) as writer:
        stream: av.VideoStream | None = None
        what, count = f"rendering {Path(source).name}", len(times.starts)
        with closing(counted(_frames(source, max_pixels), count, what)) as frames:  # type: ignore[type-var]
            for number, pixels in enumerate(frames):
                start, end = times.of(range(number, number + 1))
                image = draw(Image.fromarray(pixels), number, start)
                stream = stream or _add_stream(writer, source, image, max_pixels)
                frame = _frame(image, start)
                frame.duration = max(1, round(end * _CLOCK) - round(start * _CLOCK))
                _mux(writer, stream, frame)
        if stream is not None:
            _mux(writer, stream, None)


def _frames(source: str, max_pixels: int) -> Iterator[np.ndarray]:
    """Yield the frames, uint8 (H, W, 3) with even sides."""
    with closing(PyAVReader(source, max_pixels)) as reader:
        for start in range(0, len(reader), _FRAMES_AT_ONCE):
            frames = reader.frames(range(start, min(start + _FRAMES_AT_ONCE, len(reader))))
            odd = [(0, side % 2) for side in frames.shape[1:3]]
            for frame in frames.numpy():
                yield np.ascontiguousarray(np.pad(frame, (*odd, (0, 0)), mode="edge"))


def _add_stream(
    writer: OutputContainer, source: str, image: Image.Image, max_pixels: int
) -> av.VideoStream:
    container, original, facts = open_with_stream_info(source, max_pixels)
    with container:
        shape = original.sample_aspect_ratio
    stream = writer.add_stream(_CODEC, rate=facts.rate, options=_OPTIONS)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = image.width, image.height, "yuv420p"
    stream.codec_context.time_base = stream.time_base = Fraction(1, _CLOCK)
    if shape:  # of a pixel; turned by a quarter where the frames are
        turned = facts.matrix[0] == 0
        stream.codec_context.sample_aspect_ratio = 1 / shape if turned else shape
    return stream


def _frame(image: Image.Image, start: float) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.asarray(image), "rgb24")
    frame.pts, frame.time_base = round(start * _CLOCK), Fraction(1, _CLOCK)
    frame.pict_type = PictureType.NONE
    return frame


def _mux(writer: OutputContainer, stream: av.VideoStream, frame: av.VideoFrame | None) -> None:
    writer.mux(stream.encode(frame))


def _covers(caption: Caption, seconds: float) -> bool:
    if caption.start is None or caption.end is None:
        return True
    return caption.start <= seconds < caption.end


def _distance(caption: Caption, seconds: float) -> float:
    if caption.start is None or caption.end is None:
        return 0
    return abs((caption.start + caption.end) / 2 - seconds)


def _clock(seconds: float) -> str:
    """Format seconds as ``1:02:03.45``, the hours only where there are any."""
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes}:{rest / 100:05.2f}"
    return f"{hours}:{int(minutes):02}:{rest / 100:05.2f}" if hours else clock
