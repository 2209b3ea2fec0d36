"""Stream info: what a video file holds, found once without decoding it.

A frame's number is the place of its packet in the order of presentation. Where the time stamps of
the packets say that order, frames are known by their stamps, and decoding may start at any *entry*:
a key frame after which nothing refers to what came before it. Elsewhere (H.264 in AVI that was not
written plainly, B-frames in AVI) frames are counted from the first one.

Frames that are presented count, not packets: two fields are one frame, packets that only serve as
references and those an edit list hides are not frames. Where a file starts in the middle of a group
of pictures, its head is decoded to find what comes out of it; where its time stamps are missing or
repeated, all of it is.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from video_snl.data.decoding.opening import (
    CutOffError,
    check_file,
    check_pixels,
    is_open_ended,
    is_refused_size,
    limit_decoder,
    open_container,
    too_large,
)
from video_snl.data.decoding.packet_index import (
    IMAGE_BYTES,
    UPRIGHT,
    Matrix,
    PacketIndex,
    decoded_stamps,
    index_packets,
    presentation,
)
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = [
    "StreamInfo",
    "distrust",
    "find_stream_info",
    "open_with_stream_info",
    "rate_in_header",
    "video_streams",
]

CACHED = 16384  # files whose stream info a process keeps; about 1 KB each
# Containers that store the time of presentation of every packet.
STAMPED = frozenset({"mov", "matroska", "webm", "mpegts", "flv", "asf", "ogg", "nut"})
# Those with an index by which a seek leads to the very key frame.
INDEXED = frozenset({"mov", "matroska"})
RATE = Fraction(25)  # of a file that does not say
# Share by which the rate of the header may differ from that of the time stamps, which some
# containers round to milliseconds.
_RATES_DIFFER = 0.1
_PAUSE = 10  # seconds; frames further apart do not count for the rate: the clock was set anew
# Key frames up to which the head of a file is decoded that starts in the middle: after the second
# one at the latest, nothing refers to what the file lacks.
_HEAD_KEYS = 3


@dataclass(frozen=True)
class StreamInfo:
    """Description of the video stream of a file.

    Args:
        codec: FFmpeg's name of the decoder, such as ``mpeg4``.
        container: First of FFmpeg's names of the container, such as ``avi``.
        height, width: Size of the frames in pixels as the header says, before any rotation.
        rate: Frames per second: as the header says, unless its time stamps say another rate; 25
            where neither does.
        length: Number of frames that are presented.
        declared: Number of frames that its header promises; 0 where it says nothing.
        stamps: Time stamps of the frames in ascending order, in units of the stream; None where
            they do not tell the frames apart.
        entries: Numbers of the frames at which decoding may start; the first is 0.
        clean: Every key frame of the file is one of the entries, for every decoder: of HEVC, they
            disagree.
        pictureless: Some packets hold no image; the frame before stands for theirs. (DivX packs
            two frames of a reordered video into one packet and follows it with an empty one.)
        reordered: Packets are not in the order of presentation (B-frames).
        changes: Frames may change their size (H.264 with several parameter sets).
        trimmed: An edit list hides some of the frames, which do not count.
        streams: Number of videos in the file, cover images apart.
        matrix: Signs of the linear part of the display matrix, x' = a x + c y, y' = b x + d y: how
            frames are to be rotated by quarters and mirrored.
        stream: Index of the video among all streams of the file.
        pixels: FFmpeg's name of the pixel format, such as ``yuv420p``.
        uneven: Packets and frames are not the same: two fields are a frame, some only serve as
            references, or the head cannot be decoded.
        undecodable: Number of packets at the head that cannot be decoded, since the file starts in
            the middle of a group of pictures; they do not count.
        unit: Unit of the time stamps in seconds.
        interlaced: Frames may be made of two fields.
        oversold: The header promises far more frames than there are.
        misrated: The header says another rate than the time stamps.
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
    misrated: bool = False

    def entry(self, frame: int) -> int:
        """Return the last entry at or before ``frame``."""
        return self.entries[bisect_right(self.entries, frame) - 1]


_cache: dict[tuple[str, int, int], StreamInfo] = {}


def find_stream_info(path: str, max_pixels: int = MAX_PIXELS) -> StreamInfo:
    """Return the stream info of a file; cached until its modification time or size changes.

    Raises:
        UserError: As for :func:`open_with_stream_info`.
    """
    info = _cache.get(_identity(path))
    if info is None:
        container, _, info = open_with_stream_info(path, max_pixels)
        container.close()
    check_pixels(path, info.width, info.height, max_pixels)
    return info


def open_with_stream_info(
    path: str, max_pixels: int = MAX_PIXELS
) -> tuple[InputContainer, VideoStream, StreamInfo]:
    """Open a file at its first frame, and return it with its video stream and the info about it.

    The video is the largest stream, the first of equals, that is not a cover image and, where
    others have several frames, not a single image.

    Args:
        path: Video file.
        max_pixels: Largest number of pixels of a frame: a larger one is refused before memory is
            taken for it.

    Raises:
        UserError: The file is missing, not a regular one, empty, cut off, not a video or without a
            video stream, or its frames are too large.
    """
    identity = _identity(path)
    info = _cache.get(identity)
    if info is None:
        check_file(path)
    container = _open(path, max_pixels)
    stream: VideoStream | None = None
    try:
        if info is None:
            container, stream = _find_stream(container, path, max_pixels)
            info = _from_index(container, stream)
        else:
            stream = container.streams[info.stream]  # type: ignore[assignment]
        assert stream is not None
        _check_size(container, stream, path, max_pixels)
        limit_decoder(stream, max_pixels)
        if info is None:
            info = _from_packets(container, stream, path, max_pixels)
            container.close()  # rather than trust a seek to the start
            container = _open(path, max_pixels)
            stream = container.streams[info.stream]  # type: ignore[assignment]
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
    if len(_cache) >= CACHED:
        del _cache[next(iter(_cache))]  # the oldest
    _cache[identity] = info
    assert stream is not None
    return container, stream, info


def distrust(path: str, info: StreamInfo) -> StreamInfo:
    """Return, and cache, the info of a file whose frames are not where its time stamps say."""
    info = replace(info, stamps=None, entries=(0,))
    _cache[_identity(path)] = info
    return info


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


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams, without cover images and those that no decoder can read."""
    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None
    ]


def _find_stream(
    container: InputContainer, path: str, max_pixels: int
) -> tuple[InputContainer, VideoStream]:
    """Return the stream to read, of a file that is open at its start."""
    streams = video_streams(container)
    if not streams:
        found = "no video stream that can be decoded" if container.streams.video else None
        raise UserError(f"{path} holds {found or 'no video stream'}: list video files only")
    if len(streams) > 1:
        moving = _with_several_frames(container, streams)
        container.close()
        container = _open(path, max_pixels)
        streams = [stream for stream in video_streams(container) if stream.index in moving]
    return container, max(streams, key=lambda stream: stream.height * stream.width)


def _with_several_frames(container: InputContainer, streams: list[VideoStream]) -> set[int]:
    """Return the indices of the streams with more than one frame, or of all where none has."""
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
    """Return the info of a plain MPEG-4 AVI file from its index alone: nothing else is read.

    Returns:
        None where the index is incomplete, or does not tell the order of presentation.
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
        rate=rate_in_header(stream) or RATE,
        length=len(index),
        declared=stream.frames,
        stamps=range(len(index)),
        entries=tuple(place for place, (_, _, key) in enumerate(index) if key),
        clean=True,
        pictureless=any(size < IMAGE_BYTES for _, size, _ in index),
        reordered=False,
        streams=len(video_streams(container)),
        stream=stream.index,
        pixels=context.pix_fmt or "",
        unit=stream.time_base,
    )


def _from_packets(
    container: InputContainer, stream: VideoStream, path: str, max_pixels: int
) -> StreamInfo:
    """Return the info of any file, from its packets and, where they do not tell, by decoding."""
    index = index_packets(container, stream)
    name = container.format.name.split(",")[0]
    declared = _declared(container, stream, path)
    packets = len(index.stamps)
    _check_length(path, name, declared, packets + index.dropped)
    declared = max(declared - index.dropped, 0)
    order = presentation(index.stamps)
    reordered = (
        bool(stream.codec_context.has_b_frames) or order is None or (list(order) != index.stamps)
    )
    length, uneven, undecodable = packets, index.fields, 0
    if not index.starts_clean or index.unpaired or (order is None and name in STAMPED):
        decoded = _decoded(path, stream.index, index, order, max_pixels)
        if decoded:
            length, order = len(decoded), presentation(decoded)
            uneven = uneven or length != packets
        if decoded and not index.starts_clean and not index.unpaired:
            undecodable = max(packets - length, 0)
            declared = max(declared - undecodable, 0)
    if name == "avi" and order is not None and order[-1] - order[0] + 1 >= declared:
        declared = min(declared, length)  # it promises places in time, some of which are empty
    said = rate_in_header(stream)
    rate = _rate(said, order, stream.time_base)
    if reordered and name not in STAMPED:
        order = None
    places = {stamp: place for place, stamp in enumerate(order or ())}
    entries = {places[stamp] for stamp in index.entries if stamp in places}
    hevc = stream.codec_context.name == "hevc"
    if hevc and name not in INDEXED:
        entries = set()  # a seek leads to frames that cannot be decoded as often as not
    return StreamInfo(
        codec=stream.codec_context.name,
        container=name,
        height=stream.height,
        width=stream.width,
        rate=rate,
        length=length,
        declared=declared,
        stamps=order,
        entries=tuple(sorted({0, *entries})),
        clean=len(index.keys) <= 1 or (len(entries) == len(index.keys) and not hevc),
        pictureless=index.tiny and not reordered,
        reordered=reordered,
        changes=len(index.parameters) > 1,
        trimmed=index.discarded > 0,
        streams=len(video_streams(container)),
        matrix=index.matrix or UPRIGHT,
        stream=stream.index,
        pixels=stream.codec_context.pix_fmt or "",
        uneven=uneven,
        undecodable=undecodable,
        unit=stream.time_base,
        interlaced=index.interlaced,
        oversold=stream.frames > 2 * packets + 1000,
        misrated=rate != said,
    )


def rate_in_header(stream: VideoStream) -> Fraction | None:
    """Return the frames per second that a header says; None where it says nothing."""
    return stream.average_rate or stream.guessed_rate


def _rate(said: Fraction | None, order: Sequence[int] | None, unit: Fraction | None) -> Fraction:
    """Return the frames per second of a header, or of the time stamps where those say otherwise.

    Headers of many kinds (AVI, Matroska, FLV) say a rate that the frames need not keep to: the most
    that there may be, twice that of H.264 with two ticks a frame, or the unit of the clock.
    """
    if order is None or not unit:
        return said or RATE
    longest = int(_PAUSE / unit)
    gaps = (after - before for before, after in pairwise(order))
    counted = [gap for gap in gaps if gap <= longest]
    if not counted:
        return said or RATE
    seen = len(counted) / (sum(counted) * unit)
    return said if said and abs(said / seen - 1) <= _RATES_DIFFER else seen


def _decoded(
    path: str, number: int, index: PacketIndex, order: Sequence[int] | None, max_pixels: int
) -> list[int | None] | None:
    """Return the time stamps of the frames that come out of a file; None where it breaks midway.

    With time stamps that tell frames apart only the head is decoded: after a key frame or two,
    every packet is a frame again.
    """
    keys = sorted(key for key in index.keys if key is not None)[:_HEAD_KEYS]
    until = None
    if order is not None and not index.unpaired and len(keys) == _HEAD_KEYS:
        until = keys[-1]
    with _open(path, max_pixels) as container:
        stream = container.streams[number]
        assert isinstance(stream, av.VideoStream)
        limit_decoder(stream, max_pixels)
        stamps = decoded_stamps(container, stream, until)
    if stamps is None or until is None or order is None:
        return stamps
    head: list[int | None] = [stamp for stamp in stamps if stamp is not None and stamp < until]
    return head + [stamp for stamp in order if stamp >= until]


def _declared(container: InputContainer, stream: VideoStream, path: str) -> int:
    """Return the number of frames that the header promises; 0 where it promises nothing.

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
        f"{path} is not a readable video ({getattr(error, 'strerror', None) or error}): fetch or "
        "copy the file again, or take it off the list"
    )
