"""Connections to streams: how they are opened, and when their frames begin."""

from __future__ import annotations

import errno
import math
import socket
import time
from fractions import Fraction
from urllib.parse import urlsplit

import av
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import Tensor

from video_snl.data.decoding.opening import decoder_options, limit_decoder
from video_snl.data.decoding.packet_index import UPRIGHT, Matrix, display_matrix
from video_snl.data.decoding.pyav import RgbConverter, turn
from video_snl.data.decoding.stream_info import RATE, video_streams
from video_snl.data.video.sources import PROTOCOLS, Source
from video_snl.errors import UserError

__all__ = ["Connection", "open_stream", "said_of"]

_DRIFT = 1e-3  # of the clock of a camera against that of this machine: more than any has


class Connection:
    """A stream that is open, and the times of its frames.

    Attributes:
        container, stream: What PyAV has opened.
        rate: Frames a second, as it says; 25 where it does not.
        skipping: Packets are left out, since decoding is too slow.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container, self.stream = container, stream
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or RATE)
        self.skipping = False  # since decoding is too slow
        self._size: tuple[int, int] | None = None
        self._matrix: Matrix = UPRIGHT
        self._first: int | None = None  # time stamp of the frame that the times are counted from
        self._origin: float | None = None  # its time
        self._count = 0  # frames since
        self._least = self._looked = 0.0  # the least delay of a packet so far, and when

    def described(self) -> str:
        """Return what it is, for people."""
        stream = self.stream
        size = f"{stream.width} x {stream.height}, " if stream.width and stream.height else ""
        return f"{size}{float(self.rate):.4g} frames a second, {stream.codec_context.name}"

    def begin(self, frame: av.VideoFrame, start: float) -> None:
        """Count the times of the frames from this one, which begins at ``start``."""
        self._first, self._origin, self._count = frame.pts, start, 0
        self._least, self._looked = math.inf, time.monotonic()

    def start_of(self, frame: av.VideoFrame) -> float | None:
        """Return when a frame begins, by its time stamp; None before the first."""
        self._count += 1
        if self._origin is None:
            return None
        if frame.pts is None or self._first is None or self.stream.time_base is None:
            return self._origin + float(self._count / self.rate)
        return self._origin + float((frame.pts - self._first) * self.stream.time_base)

    def lateness(self, packet: av.Packet) -> float:
        """Return how much later a packet comes than the most punctual one, in seconds."""
        if packet.pts is None or self._first is None or self.stream.time_base is None:
            return 0.0
        now = time.monotonic()
        delay = now - float((packet.pts - self._first) * self.stream.time_base)
        self._least = min(delay, self._least + _DRIFT * (now - self._looked))
        self._looked = now
        return delay - self._least

    def pixels(self, frame: av.VideoFrame, rgb: RgbConverter) -> Tensor:
        """Return a frame upright in RGB, uint8 (1, H, W, 3), in the size of the first one."""
        if self._size is None:
            self._size, self._matrix = (frame.width, frame.height), display_matrix(frame)
        return turn(torch.from_numpy(rgb.convert(frame, *self._size))[None], self._matrix)

    def is_over(self, reached: float) -> bool:
        """Tell whether this is a recording, which says how long it is, and is at its end."""
        duration = self.container.duration
        return duration is not None and reached - (self._origin or 0) >= duration / av.time_base - 1


def open_stream(source: Source, max_pixels: int, timeout: float) -> Connection:
    """Open a stream.

    Args:
        source: The stream.
        max_pixels: Largest number of pixels of a frame.
        timeout: Seconds that a server has to answer, and later from one packet to the next.

    Raises:
        UserError: There is no such stream, it cannot be opened, or holds no video.
    """
    options = decoder_options(max_pixels)
    address, patience = source.address, None
    if source.kind == "pipe":
        address = "pipe:0"
        options["protocol_whitelist"] = "pipe"
    elif source.kind == "network":
        scheme = address.partition("://")[0].lower()
        options["protocol_whitelist"] = PROTOCOLS[scheme]
        patience = timeout
        if scheme.startswith("rtsp"):
            options["rtsp_flags"] = "prefer_tcp"  # loses no packets, and passes firewalls
    began = time.monotonic()
    try:
        container = av.open(
            address,
            format="v4l2" if source.kind == "device" else None,
            timeout=patience,
            options=options,
            metadata_errors="replace",
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        said = said_of(source, error)
        if patience is not None and time.monotonic() - began > patience:
            said = f"no answer within {timeout:g} s: check the address, or raise --timeout"
        raise UserError(f"{source.called}: {said}") from error
    videos = video_streams(container)
    if not videos:
        container.close()
        raise UserError(f"{source.called} holds no video stream that can be decoded")
    stream = max(videos, key=lambda each: each.height * each.width)
    limit_decoder(stream, max_pixels)
    return Connection(container, stream)


def said_of(source: Source, error: Exception) -> str:
    """Return what is wrong with a stream, for a message: FFmpeg's own has the address in it."""
    said = getattr(error, "strerror", None) or type(error).__name__
    if source.kind == "pipe":
        return (
            "it is empty, or no video that can be read from a pipe (an MP4 file has to have "
            "its index first: ffmpeg -i FILE -c copy -f matroska - | video-snl predict -)"
        )
    if source.kind == "device":
        return f"{said}: name a camera of this machine"
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return f"{said}: check the user's name and the password in the address"
    if getattr(error, "errno", None) == errno.EIO and not _is_known(source.address):
        return "no such host: check the address"
    if isinstance(error, av.InvalidDataError) or getattr(error, "errno", None) == errno.EIO:
        return f"no video comes from there ({said}): check the address"
    return f"{said}: check the address"


def _is_known(address: str) -> bool:
    """Tell whether the host of an address has an address of its own."""
    try:
        socket.getaddrinfo(urlsplit(address).hostname, None)
    except (OSError, ValueError):
        return False
    return True
