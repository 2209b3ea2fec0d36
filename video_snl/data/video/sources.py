"""Streams that a user names: a camera, an address, the standard input. Without torch."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from video_snl.errors import UserError
from video_snl.utils.text import printable, without_password

__all__ = ["PROTOCOLS", "Patience", "Source", "find_source", "only_source"]

PROTOCOLS = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtp,udp,tcp,tls",
    "http": "http,https,tcp,tls,crypto,httpproxy",
    "https": "http,https,tcp,tls,crypto,httpproxy",
    "tcp": "tcp",
}
"""Kinds of addresses, and what FFmpeg may open for each: nothing on this machine's disk."""


@dataclass(frozen=True)
class Source:
    """Where a stream comes from.

    Attributes:
        address: The address, for FFmpeg; it may hold a password.
        kind: Standard input, a camera of this machine, or an address in a network.
        shown: The address for people and records, without a password.
    """

    address: str
    kind: Literal["pipe", "device", "network"]
    shown: str

    @property
    def called(self) -> str:
        """Name in messages."""
        return "standard input" if self.kind == "pipe" else self.shown


@dataclass(frozen=True)
class Patience:
    """What becomes of a stream that stops, or that is faster than the network.

    Attributes:
        timeout: Seconds without a frame after which a stream has stopped. Frames that come later
            than that are left out.
        reconnect: Seconds for which a lost connection is tried again; 0: not at all.
        behind: ``drop``: a window that is still waiting when the next one is ready is left out;
            ``wait``: reading waits. None: ``wait`` for the standard input and for recordings by
            HTTP, else ``drop``.

    Raises:
        UserError: A value is out of its range.
    """

    timeout: float = 10.0
    reconnect: float = 300.0
    behind: Literal["drop", "wait"] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise UserError(f"--timeout {self.timeout}: give seconds, more than 0.")
        if not self.reconnect >= 0:
            raise UserError(f"--reconnect {self.reconnect}: give seconds, 0 or more.")

    def drops(self, source: Source, *, recorded: bool) -> bool:
        """Tell whether windows of a stream are left out, rather than that reading waits.

        Args:
            recorded: It has an end.
        """
        # An RTSP server sends a recording at its own pace, whether it is read or not.
        at_leisure = recorded and source.address.startswith("http")
        return (
            self.behind or ("wait" if source.kind == "pipe" or at_leisure else "drop")
        ) == "drop"


def only_source(paths: Sequence[str]) -> Source | None:
    """Return the stream that the arguments of a command name; None for files and folders.

    Raises:
        UserError: There are several, or files too, or an address is of a kind that is not read.
    """
    found = [source for source in map(find_source, paths) if source is not None]
    if found and len(paths) > 1:
        raise UserError(
            f"{found[0].called} is a stream, of which there is one in a command: {len(paths)} are "
            "named"
        )
    return found[0] if found else None


def find_source(text: str) -> Source | None:
    """Return the stream that an argument of a command names; None for a file or a folder.

    Streams are ``-``, ``/dev/video`` with a number, and addresses such as ``rtsp://camera/1``.

    Raises:
        UserError: An address is of a kind that is not read.
    """
    if text == "-":
        return Source(text, "pipe", text)
    if re.fullmatch(r"/dev/video\d+", text):
        return Source(text, "device", text)
    scheme, mark, rest = text.partition("://")
    if not mark or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*", scheme) or os.path.exists(text):
        return None
    shown, scheme = printable(without_password(text)), scheme.lower()  # as FFmpeg knows it
    if scheme not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise UserError(
            f"{shown} is no kind of stream that is read: give {known}, /dev/video0, or - with "
            "FFmpeg before it (ffmpeg -i ADDRESS -c copy -f matroska - | video-snl predict -)"
        )
    return Source(f"{scheme}://{rest}", "network", shown)
