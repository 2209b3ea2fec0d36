"""One video written again so that reaching any of its frames costs little.

MPEG-4 without B-frames: of the codecs that an .avi file may hold it is decoded fastest, and as its
packets lie in the order of presentation, the index of the file finds every frame exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import PictureType
from torch import Tensor

from video_snl.data.decoding.pyav import PyAVReader
from video_snl.data.decoding.readers import CHUNK, resize
from video_snl.data.decoding.stream_info import find_stream_info
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = ["Settings", "reencode"]

FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
}  # by suffix; elsewhere AVI, which every reader recognises whatever the name is
CLOCK = 65535  # the finest time base that MPEG-4 can write


@dataclass(frozen=True)
class Settings:
    """How videos are prepared.

    Args:
        short_side: Pixels of the shorter side, even; smaller videos keep their size.
        key_frame_every: Largest distance of key frames.
        codec, quantiser: Of MPEG-4, whose finest quantiser is 1; 2 keeps it below the size of
            UCF-101's originals.

    Raises:
        UserError: A value that cannot be.
    """

    short_side: int
    key_frame_every: int
    codec: str = "mpeg4"
    quantiser: int = 2

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise UserError(f"--short_side {self.short_side}: give an even number from 16 on")
        if not 1 <= self.key_frame_every <= 600:
            raise UserError(f"--key_frame_every {self.key_frame_every}: give 1 to 600")


def reencode(source: str, target: Path, settings: Settings, max_pixels: int = MAX_PIXELS) -> int:
    """Write ``source`` to ``target`` (its suffix says the container), and read it back.

    Returns:
        The number of frames: those of the source, in its order, also where they repeat.

    Raises:
        UserError: The source cannot be read; or the frames read back are not as many, or not where
            the index says.
        OSError: The target cannot be written.
    """
    with target.open("wb", buffering=0) as file:
        sink = _Sink(file)
        # FFmpeg names the container by the suffix, which data sets get wrong now and then.
        with av.open(sink, "w", format=FORMATS.get(target.suffix.lower(), "avi")) as writer:
            count = _write(source, writer, sink, settings, max_pixels)
    if sink.failure is not None:
        raise sink.failure
    _verify(source, str(target), count, settings)
    return count


class _Sink:
    """A file that keeps its first failure for the end: PyAV would bury it under others."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and self.failure is None:
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.failure = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _write(
    source: str, writer: OutputContainer, sink: _Sink, settings: Settings, max_pixels: int
) -> int:
    rate = _rate(find_stream_info(source, max_pixels).rate)
    stream: av.VideoStream | None = None
    count = 0
    for picture in _pictures(source, settings.short_side, max_pixels):
        if sink.failure is not None:
            break
        stream = stream or _add_stream(writer, rate, picture, settings)
        frame = av.VideoFrame.from_ndarray(picture.numpy(), "rgb24")
        frame.pts, frame.time_base = count, 1 / rate
        frame.pict_type = PictureType.NONE
        writer.mux(stream.encode(frame))
        count += 1
    if stream is not None:
        writer.mux(stream.encode())
    return count


def _pictures(source: str, short_side: int, max_pixels: int) -> Iterator[Tensor]:
    """The frames (H, W, 3) of a video, at most ``short_side``, with even sides."""
    with closing(PyAVReader(source, max_pixels)) as reader:
        for start in range(0, len(reader), CHUNK):
            frames = reader.frames(range(start, min(start + CHUNK, len(reader))))
            height, width = _even_size(frames.shape[1], frames.shape[2], short_side)
            yield from resize(frames, height, width).contiguous()


def _add_stream(
    writer: OutputContainer, rate: Fraction, picture: Tensor, settings: Settings
) -> av.VideoStream:
    # Key frames where they are wanted and nowhere else, such as at a change of the scene.
    options = {"sc_threshold": "1000000000"}
    stream = writer.add_stream(settings.codec, rate=rate, options=options)
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width, stream.pix_fmt = picture.shape[0], picture.shape[1], "yuv420p"
    context = stream.codec_context
    context.thread_count = 1  # processes are what runs side by side
    context.gop_size, context.max_b_frames = settings.key_frame_every, 0
    context.qmin = context.qmax = settings.quantiser
    return stream


def _verify(source: str, target: str, count: int, settings: Settings) -> None:
    facts = find_stream_info(target)
    with closing(PyAVReader(target)) as reader:
        held, damaged = reader.decode_all()
    gaps = [b - a for a, b in zip(facts.entries, (*facts.entries[1:], count), strict=True)]
    if held != count or facts.length != count or damaged:
        raise UserError(f"{source}: {count} frames were written, {held} read back: report this")
    if facts.stamps is None or max(gaps) > settings.key_frame_every:
        raise UserError(f"{source}: its frames cannot be reached as they should: report this")


def _rate(rate: Fraction) -> Fraction:
    """The rate, or the nearest that MPEG-4 can write."""
    near = rate.limit_denominator(1001)
    return near if near.numerator <= CLOCK else Fraction(round(rate))


def _even_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The nearest even sides of frames at most ``short_side``."""
    scale = min(short_side, height, width) / min(height, width)
    height, width = (max(2 * round(side * scale / 2), 2) for side in (height, width))
    return height, width
