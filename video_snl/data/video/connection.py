"""Connections to streams: how they are opened, and when their frames begin."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import av
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import Tensor

from video_snl.data.decoding.opening import PLAYLISTS, decoder_options, limit_decoder
from video_snl.data.decoding.packet_index import UPRIGHT, Matrix, display_matrix
from video_snl.data.decoding.pyav import RgbConverter, turn
from video_snl.data.decoding.stream_info import RATE, rate_in_header, video_streams
from video_snl.data.video.sources import PROTOCOLS, Source
from video_snl.errors import UserError

__all__ = ["JUMP", "STEP_BACK", "Connection", "open_stream", "said_of"]

_LOOK_EVERY = 1.0  # seconds
_IDLE = 0.2  # of the time, spent waiting for packets: more than reading those that are there takes
JUMP, STEP_BACK = 60.0, 1.0  # seconds that time stamps may leave out, and go back
# Containers with time stamps in the order of decoding only, and a frame rate that is kept to.
_UNSTAMPED = frozenset({"avi"})


class Connection:
    """A stream that is open, and the times of its frames.

    Attributes:
        container, stream: What PyAV has opened.
        rate: Frames a second, as it says; 25 where it does not.
        skipping: Packets are left out, since decoding is too slow.
        began: Time of its first frame; None before that.
        duration: Seconds that a recording lasts, as it says; 0 where it does not, or is live.
        recorded: It has an end: a length in seconds or in bytes.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container, self.stream = container, stream
        self.rate = rate_in_header(stream) or RATE
        self.skipping = False
        # Of the video, where that is known: sound may go on after it.
        own = float((stream.duration or 0) * (stream.time_base or 0))
        self.duration = own or (container.duration or 0) / av.time_base
        self._size: tuple[int, int] | None = None
        self._matrix: Matrix = UPRIGHT
        in_bytes = container.format.name.split(",")[0] not in PLAYLISTS and container.size > 0
        self.recorded = self.duration > 0 or in_bytes
        self.began: float | None = None
        self._stamped = container.format.name not in _UNSTAMPED
        self._first: int | None = None  # time stamp of the frame that the times are counted from
        self._origin: float | None = None  # its time
        self._last = 0.0  # time of the last frame
        self._least = math.inf  # delay of a packet since this waited for the stream
        self._latest = 0.0  # time stamp of the last packet, in seconds
        self._looked, self._waited = time.monotonic(), 0.0  # for packets, since it was looked at

    def described(self) -> str:
        """Return what it is, for people."""
        stream = self.stream
        size = f"{stream.width} x {stream.height}, " if stream.width and stream.height else ""
        return f"{size}{float(self.rate):.4g} frames a second, {stream.codec_context.name}"

    def begin(self, frame: av.VideoFrame, start: float) -> None:
        """Count the times of the frames from this one, which begins at ``start``."""
        self._first, self._origin, self._last = self._stamp(frame), start, start
        self._least = math.inf
        self.began = start if self.began is None else self.began

    def start_of(self, frame: av.VideoFrame) -> float | None:
        """Return when a frame begins, by its time stamp; None before the first.

        One without a time stamp follows the one before by the frame rate.
        """
        if self._origin is None:
            return None
        stamp, following = self._stamp(frame), self._last + float(1 / self.rate)
        if stamp is None:
            self._last = following
        elif self._first is None:
            self._first, self._origin, self._last = stamp, following, following
        else:
            self._last = self._origin + self._seconds(stamp - self._first)
        return self._last

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the stream, and note how long they are waited for."""
        asked = time.monotonic()
        for packet in self.container.demux(self.stream):
            self._waited += time.monotonic() - asked
            yield packet
            asked = time.monotonic()

    def lateness(self, packet: av.Packet) -> float:
        """Return how far reading has fallen behind the stream, in seconds, by a packet's stamp.

        Whoever has to wait for packets is not behind, whatever their time stamps say: those of a
        camera may run slower than the clock, and a server may send a segment at once. Nor is one
        whose time stamps have jumped.
        """
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY:
            if self._waited > _IDLE * (now - self._looked):
                self._least = math.inf
            self._looked, self._waited = now, 0.0
        stamp = packet.pts if packet.dts is None else packet.dts  # the latter are in order
        if stamp is None or self._first is None:
            return 0.0
        before, self._latest = self._latest, self._seconds(stamp)
        if not -STEP_BACK < self._latest - before < JUMP:
            self._least = math.inf
        delay = now - self._latest
        self._least = min(delay, self._least)
        return delay - self._least

    def pixels(self, frame: av.VideoFrame, rgb: RgbConverter) -> Tensor:
        """Return a frame upright in RGB, uint8 (1, H, W, 3), in the size of the first one."""
        if self._size is None:
            self._size, self._matrix = (frame.width, frame.height), display_matrix(frame)
        return turn(torch.from_numpy(rgb.convert(frame, *self._size))[None], self._matrix)

    def lacks(self, reached: float) -> float:
        """Return the seconds that a recording lacks whose last frame ends there; 0: unknown."""
        if not self.duration:
            return 0.0
        return self.duration - (reached - (reached if self.began is None else self.began))

    def _stamp(self, frame: av.VideoFrame) -> int | None:
        return frame.pts if self._stamped and self.stream.time_base is not None else None

    def _seconds(self, stamps: int) -> float:
        return float(stamps * (self.stream.time_base or 0))


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
        if os.isatty(0):
            raise UserError(
                "standard input is a terminal: let another command write a video into it "
                "(ffmpeg -i ADDRESS -c copy -f matroska - | video-snl predict -)"
            )
        address = "pipe:0"
        options["protocol_whitelist"] = "pipe"
    elif source.kind == "network":
        scheme = address.partition("://")[0]
        options["protocol_whitelist"] = PROTOCOLS[scheme]
        patience = timeout
        options |= _trusted()
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
    vague = getattr(error, "errno", None) == errno.EIO  # FFmpeg's, where it says no more
    if vague and not _is_known(source.address):
        return "no such host: check the address"
    if vague and source.address.startswith(("https:", "rtsps:")):
        return (
            f"no video comes from there ({said}): check the address and its certificate, which "
            "the file that SSL_CERT_FILE names has to have where the system's has not"
        )
    if vague or isinstance(error, av.InvalidDataError):
        return f"no video comes from there ({said}): check the address"
    return f"{said}: check the address"


def _trusted() -> dict[str, str]:
    """Return FFmpeg's options by which passwords go to servers with a trusted certificate alone."""
    file = ssl.get_default_verify_paths().cafile
    return {"tls_verify": "1"} | ({"ca_file": file} if file else {})


def _is_known(address: str) -> bool:
    """Tell whether the host of an address has an address of its own."""
    try:
        socket.getaddrinfo(urlsplit(address).hostname, None)
    except (OSError, ValueError):
        return False
    return True
