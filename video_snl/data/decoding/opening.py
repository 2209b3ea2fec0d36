"""Open video files: the one place that looks at a file's header and names it to a decoder.

A decoder takes an AVI or Matroska file that was cut off for a shorter video and says nothing.
Their headers hold the size the file should have, so that a cut is found without decoding.
(MP4 and MOV keep a table of all frames; the decoder itself refuses a file cut after it.) The size
of frames is bounded here, too.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "PLAYLISTS",
    "CutOffError",
    "check_file",
    "check_pixels",
    "declared_size",
    "decoder_options",
    "decoder_path",
    "is_open_ended",
    "is_refused_size",
    "limit_decoder",
    "open_container",
    "too_large",
]

# Decoders allocate whole macroblocks: what they may allocate is a little more than what is allowed.
_PADDING = 1 << 20
PLAYLISTS = frozenset({"hls", "concat", "dash", "image2", "imf", "sdp", "rtsp"})
"""Lists of other files, which may be anywhere: of files, only the one that was named is opened."""
_HEAD = 4096  # bytes; far more than an EBML header and the start of its segment take
_UNKNOWN = frozenset({0, 0xFFFFFFFF})  # sizes of a RIFF file that was written to a pipe
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class CutOffError(UserError):
    """A file that ends before its header says."""


def check_file(path: str) -> None:
    """Look at a video file's size and at what its first bytes say of it.

    Raises:
        UserError: The file is missing, not a regular file, empty, cannot be read or is cut off.
    """
    file = Path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        found = "does not exist" if gone else f"cannot be reached ({error.strerror})"
        raise UserError(f"{path} {found}: correct the path") from error
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for whoever writes to it
        raise UserError(f"{path} is {_kind(status.st_mode)}, not a video file: correct the path")
    size = status.st_size
    if size == 0:
        raise UserError(f"{path} is empty (0 bytes): fetch or copy the file again")
    try:
        with file.open("rb") as opened:
            declared = declared_size(opened.read(_HEAD))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check its permissions"
        ) from error
    if declared is not None and declared > size:
        raise CutOffError(
            f"{path} is cut off: it has {size:,} bytes of the {declared:,} its header promises: "
            "fetch or copy the file again"
        )


def is_open_ended(path: str) -> bool:
    """Tell whether an AVI file was written to a pipe, where its header could not be mended.

    Its size and its number of frames are placeholders then.
    """
    with open(path, "rb") as opened:
        return _riff_size(opened.read(12)) in _UNKNOWN


def declared_size(head: bytes) -> int | None:
    """Return the bytes that an AVI or Matroska/WebM file should have at least, from its first.

    AVI: ``RIFF``, a little-endian 32-bit size of what follows. Matroska: an EBML header element,
    then a Segment element whose size (EBML variable-length integer) may be unknown.

    Returns:
        None where the file is of another kind or does not say.
    """
    riff_size = _riff_size(head)
    if riff_size is not None:
        return None if riff_size in _UNKNOWN else 8 + riff_size
    if head[:4] != _EBML:
        return None
    header_size, position = _ebml_size(head, 4)
    segment = position + (header_size or 0)
    if head[segment : segment + 4] != _SEGMENT:
        return None
    segment_size, position = _ebml_size(head, segment + 4)
    return None if segment_size is None else position + segment_size


def decoder_path(path: str) -> str:
    """Return the path in a form that no decoder takes for a protocol.

    ``12:30:0.mp4``, ``pipe:0`` and ``concat:a|b`` are names of files: an absolute path says so.
    """
    return os.path.abspath(path)


def open_container(path: str, max_pixels: int = MAX_PIXELS) -> InputContainer:
    """Open a file with PyAV.

    :func:`check_file` looks at it before.

    Args:
        path: Video file.
        max_pixels: Largest number of pixels of a frame, also of those decoded to learn what is in
            the file.

    Raises:
        UserError: The file is a list of others.
        av.FFmpegError: The file is not a video.
        OSError: It cannot be opened.
    """
    container = av.open(
        decoder_path(path),
        options=decoder_options(max_pixels),
        container_options={"protocol_whitelist": "file"},
        metadata_errors="replace",  # nobody reads them here, and any encoding is met
    )
    name = container.format.name.split(",")[0]
    if name in PLAYLISTS:
        container.close()
        raise UserError(
            f"{path} holds no video but a list of other files ({name}): name those instead"
        )
    return container


def limit_decoder(stream: VideoStream, max_pixels: int) -> None:
    """Let the decoder of a stream run in one thread, and refuse larger frames itself."""
    context = stream.codec_context
    context.thread_count = 1  # workers are what runs in parallel
    context.options = decoder_options(max_pixels)


def decoder_options(max_pixels: int) -> dict[str, str]:
    """Return FFmpeg's options by which decoders refuse larger frames."""
    return {"max_pixels": str(max_pixels + _PADDING)}


def check_pixels(path: str, width: int, height: int, max_pixels: int) -> None:
    """Check the size of a frame.

    Raises:
        UserError: It has more than ``max_pixels`` pixels.
    """
    if width * height > max_pixels:
        raise UserError(
            f"{path} has frames of {width} x {height}, more than the {max_pixels:,} pixels that "
            "are read: raise --max_pixels (--data.max_pixels of a training)"
        )


def is_refused_size(stream: VideoStream, max_pixels: int) -> bool:
    """Tell whether a decoder has failed because of :func:`limit_decoder`.

    It then knows the size of the frame that it refused, or none.
    """
    pixels: int = stream.width * stream.height
    return pixels == 0 or pixels > max_pixels


def too_large(path: str, max_pixels: int) -> UserError:
    """Return the error of a file with a frame that the decoder refused."""
    return UserError(
        f"{path} has a frame of no size, or of more than the {max_pixels:,} pixels that are read: "
        "fetch the file again, or raise --max_pixels (--data.max_pixels of a training)"
    )


def _riff_size(head: bytes) -> int | None:
    if head[:4] != b"RIFF" or head[8:12] != b"AVI ":
        return None
    return int.from_bytes(head[4:8], "little")


def _ebml_size(head: bytes, position: int) -> tuple[int | None, int]:
    """Return an EBML size and the position after it; its leading zero bits count its bytes."""
    if position >= len(head) or head[position] == 0:
        return None, position
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (None if unknown else value), position + length


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
