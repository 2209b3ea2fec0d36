"""Open video files: the one place that names a file to a decoder, and bounds the size of frames."""

from __future__ import annotations

import os

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "check_pixels",
    "decoder_path",
    "is_refused_size",
    "limit_decoder",
    "open_container",
    "too_large",
]

# Decoders allocate whole macroblocks: what they may allocate is a little more than what is allowed.
_PADDING = 1 << 20
# Lists of other files, which may be anywhere: only the file that was named is ever opened.
_PLAYLISTS = frozenset({"hls", "concat", "dash", "image2", "imf", "sdp", "rtsp"})


def decoder_path(path: str) -> str:
    """Return the path in a form that no decoder takes for a protocol.

    ``12:30:0.mp4``, ``pipe:0`` and ``concat:a|b`` are names of files: an absolute path says so.
    """
    return os.path.abspath(path)


def open_container(path: str, max_pixels: int = MAX_PIXELS) -> InputContainer:
    """Open a file with PyAV.

    :func:`~video_snl.data.decoding.containers.check_file` looks at it before.

    Args:
        max_pixels: Most pixels of a frame, also of those decoded to learn what is in the file.

    Raises:
        UserError: The file is a list of others.
        av.FFmpegError: The file is no video.
        OSError: It cannot be opened.
    """
    container = av.open(
        decoder_path(path),
        options={"max_pixels": str(max_pixels + _PADDING)},
        container_options={"protocol_whitelist": "file"},
        metadata_errors="replace",  # nobody reads them here, and any encoding is met
    )
    name = container.format.name.split(",")[0]
    if name in _PLAYLISTS:
        container.close()
        raise UserError(
            f"{path} holds no video but a list of other files ({name}): name those instead"
        )
    return container


def limit_decoder(stream: VideoStream, max_pixels: int) -> None:
    """Let the decoder of a stream run in one thread, and refuse larger frames itself."""
    context = stream.codec_context
    context.thread_count = 1  # workers are what runs side by side
    context.options = {"max_pixels": str(max_pixels + _PADDING)}


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
