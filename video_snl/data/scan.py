"""What all packets of a video tell together, without decoding more than the first frame."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
from av.sidedata.sidedata import Type

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["PICTURE_BYTES", "UPRIGHT", "Matrix", "Scan", "presentation", "scan_packets"]

Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)
# Codecs whose key frames are clean entries. HEVC's need not be, and decoders disagree about them.
CLEAN = frozenset({"mpeg4", "mjpeg", "vp8", "vp9", "av1", "libdav1d", "libaom-av1"})
# An MPEG-4 packet of fewer bytes says "not coded": it holds no picture of its own.
PICTURE_BYTES = 10
SLICE_IDR, PARAMETERS = 5, 7  # units of H.264: of a frame that nothing refers across; sizes


@dataclass
class Scan:
    """Of the packets that are shown: their time stamps, and those of clean key frames.

    ``keys`` counts all key frames, ``discarded`` the packets that are decoded and not shown.
    ``parameters`` are the different H.264 parameter sets within them. For ``tiny`` and ``matrix``
    see :class:`~video_snl.data.facts.Facts`.
    """

    stamps: list[int | None] = field(default_factory=list)
    entries: list[int | None] = field(default_factory=list)
    keys: int = 0
    discarded: int = 0
    tiny: bool = False
    parameters: set[bytes] = field(default_factory=set)
    matrix: Matrix | None = None


def scan_packets(container: InputContainer, stream: VideoStream) -> Scan:
    """Read all packets of a stream.

    Raises:
        av.FFmpegError: The container is damaged.
    """
    scan, context = Scan(), stream.codec_context
    context.thread_count = 1
    extradata = context.extradata or b""
    for packet in container.demux(stream):
        if not packet.size:
            continue
        scan.matrix = scan.matrix or _matrix(packet)
        if packet.is_discard:
            scan.discarded += 1
            continue
        scan.stamps.append(packet.pts)
        scan.tiny |= context.name == "mpeg4" and packet.size < PICTURE_BYTES
        if packet.is_keyframe:
            _add_key_frame(scan, packet, context.name, extradata)
    return scan


def _add_key_frame(scan: Scan, packet: av.Packet, codec: str, extradata: bytes) -> None:
    scan.keys += 1
    clean = codec in CLEAN
    if codec == "h264":
        units = {unit: unit[0] & 31 for unit in _units(bytes(packet), extradata) if unit}
        scan.parameters |= {unit for unit, kind in units.items() if kind == PARAMETERS}
        # A recovery point may be flagged as a key frame too; only an IDR picture surely is one.
        clean = SLICE_IDR in units.values()
    if clean:
        scan.entries.append(packet.pts)


def presentation(stamps: Sequence[int | None]) -> Sequence[int] | None:
    """The stamps in order, as a range where they are evenly spaced; ``None`` if they are no use."""
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if len(set(known)) != len(stamps):
        return None
    even = range(known[0], known[-1] + 1, (known[1] - known[0]) if len(known) > 1 else 1)
    return even if list(even) == known else tuple(known)


def _units(data: bytes, extradata: bytes) -> list[bytes]:
    """The units of an H.264 packet: behind start codes, or behind their lengths (avcC)."""
    if extradata[:1] != b"\x01":
        return [unit.rstrip(b"\0") for unit in data.split(b"\x00\x00\x01")[1:]]
    units, position, width = [], 0, (extradata[4] & 3) + 1
    while position + width < len(data):
        start = position + width
        position = start + int.from_bytes(data[position:start], "big")
        units.append(data[start:position])
    return units


def _matrix(packet: av.Packet) -> Matrix | None:
    """Of the first frame that comes out of the decoder; ``None`` if none does yet.

    The signs of the linear part of its display matrix: x' = a x + c y, y' = b x + d y.
    """
    try:
        frames = packet.decode()
    except av.InvalidDataError:
        return UPRIGHT  # whoever asks for this frame will hear of it
    if not frames:
        return None
    found = frames[0].side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if found is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("<5i", bytes(found)[:20])
    signs = [(value > 0) - (value < 0) for value in (a, b, c, d)]
    straight = (not b and not c and a and d) or (not a and not d and b and c)
    return (signs[0], signs[1], signs[2], signs[3]) if straight else UPRIGHT
