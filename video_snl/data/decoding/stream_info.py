"""What a video file holds, found once without decoding it: how many frames, and where to start.

A frame's number is the place of its packet in the order of presentation. Where the time stamps of
the packets say that order, frames are known by their stamps, and decoding may start at any *entry*:
a key frame behind which nothing refers to what came before it. Elsewhere (H.264 in AVI that was not
written plainly, B-frames in AVI) frames are counted from the first one.

Frames that are presented count, not packets: two fields are one frame, packets that only serve as
references and those an edit list hides are none. Where a file starts in the middle of a group of
pictures, its head is decoded to find what comes out of it; where its time stamps are missing or
stand twice, all of it is.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from video_snl.data.decoding.containers import CutOffError, check_file, is_open_ended
from video_snl.data.decoding.opening import (
    check_pixels,
    is_refused_size,
    limit_decoder,
    open_container,
    too_large,
)
from video_snl.data.decoding.scan import (
    PICTURE_BYTES,
    UPRIGHT,
    Matrix,
    Scan,
    decoded_stamps,
    presentation,
    scan_packets,
)
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["StreamInfo", "distrust", "find_stream_info", "open_with_stream_info"]

REMEMBERED = 16384  # files of which a process keeps the facts; about 1 KB each
# Containers that store the time of presentation of every packet.
STAMPED = frozenset({"mov", "matroska", "webm", "mpegts", "flv", "asf", "ogg", "nut"})
RATE = Fraction(25)  # of a file that does not say
# Key frames up to which the head of a file is decoded that starts in the middle: behind the second
# one at the latest, nothing refers to what the file lacks.
_HEAD_KEYS = 3


@dataclass(frozen=True)
class StreamInfo:
    """Of one video file.

    Args:
        codec: FFmpeg's name of the decoder, such as ``mpeg4``.
        container: The first of FFmpeg's names of the container, such as ``avi``.
        height, width: Of the frames as the header says, before any rotation.
        rate: Frames a second; 25 where it does not say.
        length: Frames that are presented.
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
        stream: Index of the video among all streams of the file.
        pixels: FFmpeg's name of the format of its frames, such as ``yuv420p``.
        uneven: Packets and frames are not the same: two fields are a frame, some only serve as
            references, or the head cannot be decoded.
        undecodable: Packets at its head that cannot be decoded, since the file starts in the middle
            of a group of pictures; they do not count.
        unit: Seconds of a unit of its time stamps.
        interlaced: Its frames may be made of two fields.
        oversold: Its header promises far more frames than there are.
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
    stream: int = 0
    pixels: str = "yuv420p"
    uneven: bool = False
    undecodable: int = 0
    unit: Fraction | None = None
    interlaced: bool = False
    oversold: bool = False

    def entry(self, frame: int) -> int:
        """The last entry at or before ``frame``."""
        return self.entries[bisect_right(self.entries, frame) - 1]


_remembered: dict[tuple[str, int, int], StreamInfo] = {}


def find_stream_info(path: str, max_pixels: int = MAX_PIXELS) -> StreamInfo:
    """The facts of a file; remembered until its time of modification or its size changes.

    Raises:
        UserError: As for :func:`open_with_stream_info`.
    """
    facts = _remembered.get(_identity(path))
    if facts is None:
        container, _, facts = open_with_stream_info(path, max_pixels)
        container.close()
    check_pixels(path, facts.width, facts.height, max_pixels)
    return facts


def open_with_stream_info(
    path: str, max_pixels: int = MAX_PIXELS
) -> tuple[InputContainer, VideoStream, StreamInfo]:
    """A file opened at its first frame, its video and the facts about it.

    The video is the largest stream, the first of equals, that is no cover picture and, where others
    have several frames, no single image.

    Args:
        max_pixels: Most pixels of a frame: a larger one is refused before memory is taken for it.

    Raises:
        UserError: The file is missing, not a regular one, empty, cut off, no video or without a
            video stream, or its frames are too large.
    """
    identity = _identity(path)
    facts = _remembered.get(identity)
    if facts is None:
        check_file(path)
    container = _open(path, max_pixels)
    stream: VideoStream | None = None
    try:
        if facts is None:
            container, stream = _find_stream(container, path, max_pixels)
            facts = _from_index(container, stream)
        else:
            stream = container.streams[facts.stream]  # type: ignore[assignment]
        assert stream is not None
        _check_size(container, stream, path, max_pixels)
        limit_decoder(stream, max_pixels)
        if facts is None:
            facts = _from_packets(container, stream, path, max_pixels)
            container.close()  # rather than trust a seek to the start
            container = _open(path, max_pixels)
            stream = container.streams[facts.stream]  # type: ignore[assignment]
            assert stream is not None
            limit_decoder(stream, max_pixels)
    except av.FFmpegError as error:
        refused = (
            isinstance(error, av.ArgumentError)
            and stream is not None
            and is_refused_size(stream, max_pixels)
        )
        container.close()
        if refused:
            raise too_large(path, max_pixels) from error
        raise _unreadable(path, error) from error
    except UserError:
        container.close()
        raise
    if len(_remembered) >= REMEMBERED:
        del _remembered[next(iter(_remembered))]  # the oldest
    _remembered[identity] = facts
    assert stream is not None
    return container, stream, facts


def distrust(path: str, facts: StreamInfo) -> StreamInfo:
    """The facts of a file whose frames are not where its time stamps say; remembered."""
    facts = replace(facts, stamps=None, entries=(0,))
    _remembered[_identity(path)] = facts
    return facts


def _identity(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return path, 0, 0  # check_file says what is wrong with it
    return path, status.st_mtime_ns, status.st_size


def _open(path: str, max_pixels: int) -> InputContainer:
    try:
        return open_container(path, max_pixels)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _videos(container: InputContainer) -> list[VideoStream]:
    """The video streams but for cover pictures, and those that no decoder is there for."""
    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None
    ]


def _find_stream(
    container: InputContainer, path: str, max_pixels: int
) -> tuple[InputContainer, VideoStream]:
    """The stream to read, of a file that is open at its start."""
    streams = _videos(container)
    if not streams:
        found = "no video stream that can be decoded" if container.streams.video else None
        raise UserError(f"{path} holds {found or 'no video stream'}: list video files only")
    if len(streams) > 1:
        moving = _with_several_frames(container, streams)
        container.close()
        container = _open(path, max_pixels)
        streams = [stream for stream in _videos(container) if stream.index in moving]
    return container, max(streams, key=lambda stream: stream.height * stream.width)


def _with_several_frames(container: InputContainer, streams: list[VideoStream]) -> set[int]:
    """Indices of the streams with more than one frame, or of all where none has."""
    packets: Counter[int] = Counter()
    for packet in container.demux(streams):
        packets[packet.stream.index] += packet.size > 0
        if all(packets[stream.index] > 1 for stream in streams):
            break
    moving = {stream.index for stream in streams if packets[stream.index] > 1}
    return moving or {stream.index for stream in streams}


def _check_size(container: InputContainer, stream: VideoStream, path: str, max_pixels: int) -> None:
    if not stream.width or not stream.height:
        if not any(packet.is_keyframe for packet in container.demux(stream)):
            raise UserError(
                f"{path} has no key frame, so that none of its frames can be decoded: fetch the "
                "file again, or take it off the list"
            )
        raise too_large(path, max_pixels)  # the limit kept FFmpeg from finding out
    check_pixels(path, stream.width, stream.height, max_pixels)


def _from_index(container: InputContainer, stream: VideoStream) -> StreamInfo | None:
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
    return StreamInfo(
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
        stream=stream.index,
        pixels=context.pix_fmt or "",
        unit=stream.time_base,
    )


def _from_packets(
    container: InputContainer, stream: VideoStream, path: str, max_pixels: int
) -> StreamInfo:
    """The facts of any file, from all its packets and, where they do not tell, from decoding."""
    scan = scan_packets(container, stream)
    name = container.format.name.split(",")[0]
    declared = _declared(container, stream, path)
    packets = len(scan.stamps)
    _check_length(path, name, declared, packets + scan.dropped)
    declared = max(declared - scan.dropped, 0)
    order = presentation(scan.stamps)
    reordered = (
        bool(stream.codec_context.has_b_frames) or order is None or (list(order) != scan.stamps)
    )
    length, uneven, undecodable = packets, scan.fields, 0
    if not scan.starts_clean or scan.unpaired or (order is None and name in STAMPED):
        decoded = _decoded(path, stream.index, scan, order, max_pixels)
        if decoded:
            length, order = len(decoded), presentation(decoded)
            uneven = uneven or length != packets
        if decoded and not scan.starts_clean and not scan.unpaired:
            undecodable = max(packets - length, 0)
            declared = max(declared - undecodable, 0)
    if name == "avi" and order is not None and order[-1] - order[0] + 1 >= declared:
        declared = min(declared, length)  # it promises places in time, some of which are empty
    if reordered and name not in STAMPED:
        order = None
    places = {stamp: place for place, stamp in enumerate(order or ())}
    entries = {places[stamp] for stamp in scan.entries if stamp in places}
    return StreamInfo(
        codec=stream.codec_context.name,
        container=name,
        height=stream.height,
        width=stream.width,
        rate=stream.average_rate or RATE,
        length=length,
        declared=declared,
        stamps=order,
        entries=tuple(sorted({0, *entries})),
        clean=len(scan.keys) <= 1 or len(entries) == len(scan.keys),
        pictureless=scan.tiny and not reordered,
        reordered=reordered,
        changes=len(scan.parameters) > 1,
        trimmed=scan.discarded > 0,
        streams=len(_videos(container)),
        matrix=scan.matrix or UPRIGHT,
        stream=stream.index,
        pixels=stream.codec_context.pix_fmt or "",
        uneven=uneven,
        undecodable=undecodable,
        unit=stream.time_base,
        interlaced=scan.interlaced,
        oversold=stream.frames > 2 * packets + 1000,
    )


def _decoded(
    path: str, index: int, scan: Scan, order: Sequence[int] | None, max_pixels: int
) -> list[int | None] | None:
    """The time stamps of the frames that come out of a file; None where it breaks in the middle.

    With time stamps that tell frames apart only the head is decoded: behind a key frame or two,
    every packet is a frame again.
    """
    keys = sorted(key for key in scan.keys if key is not None)[:_HEAD_KEYS]
    until = None
    if order is not None and not scan.unpaired and len(keys) == _HEAD_KEYS:
        until = keys[-1]
    with _open(path, max_pixels) as container:
        stream = container.streams[index]
        assert isinstance(stream, av.VideoStream)
        limit_decoder(stream, max_pixels)
        stamps = decoded_stamps(container, stream, until)
    if stamps is None or until is None or order is None:
        return stamps
    head: list[int | None] = [stamp for stamp in stamps if stamp is not None and stamp < until]
    return head + [stamp for stamp in order if stamp >= until]


def _declared(container: InputContainer, stream: VideoStream, path: str) -> int:
    """The frames that the header promises; 0 where it promises nothing.

    Raises:
        CutOffError: The file ends before frames that its table lists.
    """
    declared: int = stream.frames
    name = container.format.name.split(",")[0]
    if name == "avi":
        return 0 if is_open_ended(path) else declared
    if name == "ivf":  # a length of time, in units of its own
        return 0
    if name == "mov" and declared:
        # The table without what an edit list hides.
        index, size = list(stream.index_entries), os.path.getsize(path)
        within = sum(entry.pos + entry.size <= size for entry in index)
        if within < len(index):
            _check_length(path, name, len(index), within)
        return sum(not entry.is_discard for entry in index)
    return declared


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
