"""Index of all packets of a video, read without decoding more than its first frames."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
from av.sidedata.sidedata import Type

from video_snl.data.decoding.h264 import (
    IDR,
    PARAMETERS,
    Field,
    find_field,
    parameter_units,
    parse_sequence,
    split_units,
)
from video_snl.data.decoding.h264 import Sequence as SequenceParameters

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = [
    "IMAGE_BYTES",
    "SIZED",
    "UPRIGHT",
    "Matrix",
    "PacketIndex",
    "decoded_stamps",
    "display_matrix",
    "presentation",
    "index_packets",
]

Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)
# Codecs whose key frames are clean entries. Those of H.264 and HEVC need not be.
CLEAN = frozenset({"mpeg4", "mjpeg", "vp8", "vp9", "av1", "libdav1d", "libaom-av1"})
# An MPEG-4 packet of fewer bytes says "not coded": it holds no image of its own.
IMAGE_BYTES = 10
# Codecs of which the size of frames is known from their packets, wherever it changes; MPEG-4's is
# at most 8191 x 8191.
SIZED = frozenset({"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9"})
_HEVC_SEQUENCE = 33  # nal_unit_type of a sequence parameter set
# Those of intra random access points. What follows one refers to nothing before it, except for
# frames that are presented ahead of it, which FFmpeg leaves out after a seek.
_HEVC_ACCESS = range(16, 22)
_VP8_SHOWN = 0x10  # in the first byte of a packet; others only serve as references


@dataclass
class PacketIndex:
    """Facts that the packets of a video give.

    Attributes:
        stamps: Time stamps of the packets that are presented.
        entries: Time stamps of the clean key frames among them.
        keys: Time stamps of all key frames among them.
        discarded: Number of packets that are decoded and not presented.
        dropped: Number of packets that are not a frame of their own.
        tiny: Some packets hold no image (see
            :attr:`~video_snl.data.decoding.stream_info.StreamInfo.pictureless`).
        parameters: Different parameter sets within the packets, or those values of their headers
            that hold the size.
        fields: Two packets may be one frame, which is then counted once.
        unpaired: A field stands alone.
        interlaced: Frames may be made of two fields.
        starts_clean: The first packet needs no other one and is presented first.
        matrix: Display matrix (see :class:`~video_snl.data.decoding.stream_info.StreamInfo`);
            None before the first packet.
    """

    stamps: list[int | None] = field(default_factory=list)
    entries: list[int | None] = field(default_factory=list)
    keys: list[int | None] = field(default_factory=list)
    discarded: int = 0
    dropped: int = 0
    tiny: bool = False
    parameters: set[bytes] = field(default_factory=set)
    fields: bool = False
    unpaired: bool = False
    interlaced: bool = False
    starts_clean: bool = True
    matrix: Matrix | None = None


def index_packets(container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Read all packets of a stream, and index them.

    Raises:
        av.FFmpegError: The container is damaged.
    """
    index, context = PacketIndex(), stream.codec_context
    extradata = context.extradata or b""
    halves = _Halves(index, extradata) if context.name == "h264" else None
    first: int | None = None
    started = False
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if index.matrix is None:
            _look_at_first_frame(index, packet)
        if not started:
            started, first = True, packet.pts
            index.starts_clean = _is_clean_start(packet, context.name, extradata)
        if (halves is not None and halves.completes(packet)) or (
            context.name == "vp8" and not bytes(packet)[0] & _VP8_SHOWN
        ):
            index.dropped += 1
            continue
        if packet.is_discard:
            index.discarded += 1
            continue
        index.stamps.append(packet.pts)
        index.tiny |= context.name == "mpeg4" and packet.size < IMAGE_BYTES
        if packet.is_keyframe:
            _add_key_frame(index, packet, context.name, extradata)
    if halves is not None:
        halves.end()
        index.interlaced |= halves.read
    known = [stamp for stamp in index.stamps if stamp is not None]
    if first is not None and known and min(known) < first:
        index.starts_clean = False  # frames are shown before it, and refer to what came before it
    return index


def decoded_stamps(
    container: InputContainer, stream: VideoStream, until: int | None = None
) -> list[int | None] | None:
    """Decode from the start, and return the time stamps of the frames that come out.

    Packets that cannot be decoded ahead of the first frame are passed over.

    Args:
        until: Time stamp of a frame that is surely decoded, at which to stop.

    Returns:
        None where a packet after the first frame cannot be decoded.
    """
    stamps: list[int | None] = []
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            if stamps:
                return None
            continue
        for frame in frames:
            stamps.append(frame.pts)
            if until is not None and frame.pts is not None and frame.pts >= until:
                return stamps
    return stamps


class _Halves:
    """Finder of the packets of H.264 that hold the second field of a frame."""

    def __init__(self, index: PacketIndex, extradata: bytes) -> None:
        self._index, self._extradata = index, extradata
        self._open: Field | None = None
        self._sequence: SequenceParameters | None = None
        self.read = False  # until a parameter set says that packets have to be parsed
        for unit in parameter_units(extradata):
            self._add(unit)

    def completes(self, packet: av.Packet) -> bool:
        """Tell whether a packet holds the second field of the frame that the one before began."""
        if not self.read and not packet.is_keyframe:
            return False
        units = split_units(bytes(packet), self._extradata)
        for unit in units:
            if unit and unit[0] & 31 == PARAMETERS:
                self._add(unit)
        if not self.read or self._sequence is None:
            return False
        found = find_field(units, self._sequence)
        before, self._open = self._open, found
        if before is not None:
            if found == Field(before.number, not before.bottom):
                self._open = None
                return True
            self._index.unpaired = True
        if found is not None:
            self._index.fields = True
            if sum(unit[0] & 31 in (1, IDR) for unit in units if unit) > 1 and _both(
                units, self._sequence
            ):
                self._open = None  # the packet holds both
        return False

    def end(self) -> None:
        """Note a field that nothing followed."""
        self._index.unpaired |= self._open is not None

    def _add(self, unit: bytes) -> None:
        parsed = parse_sequence(unit)
        if parsed is not None and not parsed.frames_only:
            self._sequence, self.read = parsed, True


def _both(units: list[bytes], sequence: SequenceParameters) -> bool:
    found = {find_field([unit], sequence) for unit in units if unit and unit[0] & 31 in (1, IDR)}
    return len({half.bottom for half in found if half is not None}) == 2


def _is_clean_start(packet: av.Packet, codec: str, extradata: bytes) -> bool:
    if not packet.is_keyframe:
        return False
    # A recovery point may be flagged as a key frame too: what comes out at first may be nothing.
    return codec != "h264" or _has_idr(split_units(bytes(packet), extradata))


def _has_idr(units: list[bytes]) -> bool:
    return any(unit[0] & 31 == IDR for unit in units if unit)


def _add_key_frame(index: PacketIndex, packet: av.Packet, codec: str, extradata: bytes) -> None:
    index.keys.append(packet.pts)
    clean = codec in CLEAN
    if codec == "h264":
        units = split_units(bytes(packet), extradata)
        index.parameters |= {unit for unit in units if unit and unit[0] & 31 == PARAMETERS}
        clean = _has_idr(units)  # a recovery point is not a clean entry
    elif codec == "hevc":
        units = _hevc_units(packet, extradata)
        index.parameters |= {unit for unit in units if unit[0] >> 1 & 63 == _HEVC_SEQUENCE}
        clean = any(unit[0] >> 1 & 63 in _HEVC_ACCESS for unit in units)
    else:
        index.parameters |= _size_in_header(packet, codec)
    if clean:
        index.entries.append(packet.pts)


def presentation(stamps: Sequence[int | None]) -> Sequence[int] | None:
    """Return the stamps in order, as a range if evenly spaced; None where one lacks or repeats."""
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if len(set(known)) != len(stamps):
        return None
    even = range(known[0], known[-1] + 1, (known[1] - known[0]) if len(known) > 1 else 1)
    # A gap between frames may be years long: the range is not written out.
    return even if len(even) == len(known) and list(even) == known else tuple(known)


def _hevc_units(packet: av.Packet, extradata: bytes) -> list[bytes]:
    # hvcC keeps the length of lengths elsewhere than avcC does.
    framing = b"\x01\0\0\0" + extradata[21:22] if extradata[:1] == b"\x01" else b""
    return [unit for unit in split_units(bytes(packet), framing) if unit]


def _size_in_header(packet: av.Packet, codec: str) -> set[bytes]:
    """Return the bytes of a key frame that say its size, and little else; none of other codecs."""
    if codec == "vp8":
        return {bytes(packet)[6:10]}
    if codec == "vp9":
        return {bytes(packet)[4:9]}
    if codec in ("mpeg1video", "mpeg2video"):
        start = bytes(packet).find(b"\x00\x00\x01\xb3")
        return set() if start < 0 else {bytes(packet)[start + 4 : start + 7]}
    return set()


def _look_at_first_frame(index: PacketIndex, packet: av.Packet) -> None:
    """Note what the first frame that comes out of the decoder says of all, if one does yet."""
    try:
        frames = packet.decode()
    except av.InvalidDataError:
        return  # of the head of a file that starts in the middle; or nothing can be decoded
    if frames:
        index.matrix, index.interlaced = display_matrix(frames[0]), frames[0].interlaced_frame


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """Return the signs of a frame's display matrix (a, b, c, d): x' = a x + c y, y' = b x + d y."""
    found = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if found is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("<5i", bytes(found)[:20])
    signs = [(value > 0) - (value < 0) for value in (a, b, c, d)]
    straight = (not b and not c and a and d) or (not a and not d and b and c)
    return (signs[0], signs[1], signs[2], signs[3]) if straight else UPRIGHT
