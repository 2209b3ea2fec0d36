"""What a video file holds, found once without decoding it: how many frames, and where to start.

A frame's number is the place of its packet in the order of presentation. Where the time stamps of
the packets say that order, frames are known by their stamps, and decoding may start at any *entry*:
a key frame behind which nothing refers to what came before it. Elsewhere (H.264 in AVI that was not
written plainly, B-frames in AVI) frames are counted from the first one.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from video_snl.data.containers import CutOffError, check_file
from video_snl.data.scan import PICTURE_BYTES, UPRIGHT, Matrix, presentation, scan_packets
from video_snl.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Facts", "distrust", "find_facts", "open_with_facts"]

REMEMBERED = 16384  # files of which a process keeps the facts; about 1 KB each
# Containers that store the time of presentation of every packet.
STAMPED = frozenset({"mov", "matroska", "webm", "mpegts", "flv", "asf", "ogg", "nut"})
RATE = Fraction(25)  # of a file that does not say


@dataclass(frozen=True)
class Facts:
    """Of one video file.

    Args:
        codec: FFmpeg's name of the decoder, such as ``mpeg4``.
        container: The first of FFmpeg's names of the container, such as ``avi``.
        height, width: Of the frames as the header says, before any rotation.
        rate: Frames a second; 25 where it does not say.
        length: Frames: the packets of its video.
        declared: Frames that its header promises; 0 where it says nothing.
        stamps: Time stamps of the frames in ascending order, in units of the stream; ``None``
            where they do not tell the frames apart.
        entries: Numbers of frames at which decoding may start; the first is 0.
        clean: Every key frame of the file is one of the entries.
        pictureless: Some packets hold no picture; the frame before stands for theirs. (DivX packs
            two frames of a reordered video into one packet and follows it with an empty one.)
        reordered: Packets are not in the order of presentation (B-frames).
        changes: Its frames may change their size (H.264 with several parameter sets).
        trimmed: An edit list hides some of its frames, which do not count.
        streams: Videos in the file, cover pictures apart.
        matrix: Signs of the linear part of its display matrix, x' = a x + c y, y' = b x + d y: how
            frames are to be rotated by quarters and mirrored.
    """

    codec: str
    container: str
    height: int
    width: int
    rate: Fraction
    length: int
    declared: int
    stamps: Sequence[int] | None
    entries: tuple[int, ...]
    clean: bool
    pictureless: bool
    reordered: bool
    changes: bool = False
    trimmed: bool = False
    streams: int = 1
    matrix: Matrix = UPRIGHT

    def entry(self, frame: int) -> int:
        """The last entry at or before ``frame``."""
        return self.entries[bisect_right(self.entries, frame) - 1]


_remembered: dict[tuple[str, int, int], Facts] = {}


def find_facts(path: str) -> Facts:
    """The facts of a file; remembered until its time of modification or its size changes.

    Raises:
        UserError: As for :func:`open_with_facts`.
    """
    facts = _remembered.get(_identity(path))
    if facts is None:
        container, _, facts = open_with_facts(path)
        container.close()
    return facts


def open_with_facts(path: str) -> tuple[InputContainer, VideoStream, Facts]:
    """A file opened at its first frame, its video and the facts about it.

    The video is the largest stream, the first of equals, that is no cover picture.

    Raises:
        UserError: The file is missing, a folder, empty, cut off, no video or without a video
            stream.
    """
    identity = _identity(path)
    facts = _remembered.get(identity)
    if facts is None:
        check_file(path)
    container = _open(path)
    try:
        stream = _best_stream(container, path)
        facts = facts or _from_index(container, stream)
        if facts is None:
            facts = _from_packets(container, stream, path)
            container.close()  # rather than trust a seek to the start
            container = _open(path)
            stream = _best_stream(container, path)
    except av.FFmpegError as error:
        container.close()
        raise _unreadable(path, error) from error
    except UserError:
        container.close()
        raise
    if len(_remembered) >= REMEMBERED:
        del _remembered[next(iter(_remembered))]  # the oldest
    _remembered[identity] = facts
    return container, stream, facts


def distrust(path: str) -> Facts:
    """The facts of a file whose frames are not where its time stamps say; remembered."""
    facts = replace(find_facts(path), stamps=None, entries=(0,))
    _remembered[_identity(path)] = facts
    return facts


def _identity(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return path, 0, 0  # check_file says what is wrong with it
    return path, status.st_mtime_ns, status.st_size


def _open(path: str) -> InputContainer:
    try:
        return av.open(path)
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _videos(container: InputContainer) -> list[VideoStream]:
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def _best_stream(container: InputContainer, path: str) -> VideoStream:
    streams = _videos(container)
    if not streams:
        raise UserError(f"{path} holds no video stream: list video files only")
    return max(streams, key=lambda stream: stream.height * stream.width)


def _from_index(container: InputContainer, stream: VideoStream) -> Facts | None:
    """The facts of a plain MPEG-4 AVI file from its index alone: nothing else is read.

    ``None`` where the index is not all there, or does not tell the order of presentation.
    """
    context = stream.codec_context
    if container.format.name != "avi" or context.name != "mpeg4" or context.has_b_frames:
        return None
    index = [(entry.timestamp, entry.size, entry.is_keyframe) for entry in stream.index_entries]
    if not index or len(index) != stream.frames or not index[0][2]:
        return None
    if any(time != place or not size for place, (time, size, _) in enumerate(index)):
        return None
    return Facts(
        codec=context.name,
        container="avi",
        height=stream.height,
        width=stream.width,
        rate=stream.average_rate or RATE,
        length=len(index),
        declared=stream.frames,
        stamps=range(len(index)),
        entries=tuple(place for place, (_, _, key) in enumerate(index) if key),
        clean=True,
        pictureless=any(size < PICTURE_BYTES for _, size, _ in index),
        reordered=False,
        streams=len(_videos(container)),
    )


def _from_packets(container: InputContainer, stream: VideoStream, path: str) -> Facts:
    """The facts of any file, from all its packets."""
    scan = scan_packets(container, stream)
    length, declared = len(scan.stamps), max(stream.frames - scan.discarded, 0)
    name = container.format.name.split(",")[0]
    _check_length(path, name, declared, length)
    order = presentation(scan.stamps)
    reordered = (
        bool(stream.codec_context.has_b_frames) or order is None or (list(order) != scan.stamps)
    )
    if reordered and name not in STAMPED:
        order = None
    places = {stamp: place for place, stamp in enumerate(order or ())}
    entries = {places[stamp] for stamp in scan.entries if stamp in places}
    return Facts(
        codec=stream.codec_context.name,
        container=name,
        height=stream.height,
        width=stream.width,
        rate=stream.average_rate or RATE,
        length=length,
        declared=declared,
        stamps=order,
        entries=tuple(sorted({0, *entries})),
        clean=scan.keys <= 1 or len(entries) == scan.keys,
        pictureless=scan.tiny and not reordered,
        reordered=reordered,
        changes=len(scan.parameters) > 1,
        trimmed=scan.discarded > 0,
        streams=len(_videos(container)),
        matrix=scan.matrix or UPRIGHT,
    )


def _check_length(path: str, container: str, declared: int, held: int) -> None:
    if held == 0:
        raise UserError(f"{path} holds no frame: fetch or copy the file again")
    if container == "mov" and held < declared:  # its table lists every frame
        raise CutOffError(
            f"{path} is cut off: it has {held:,} of the {declared:,} frames its table lists: "
            "fetch or copy the file again"
        )


def _unreadable(path: str, error: Exception) -> UserError:
    return UserError(
        f"{path} is no readable video ({getattr(error, 'strerror', None) or error}): fetch or "
        "copy the file again, or take it off the list"
    )
