"""The part of H.264's syntax that tells fields from frames, and where decoding may start.

FFmpeg hands out the two fields of an interlaced frame as two packets; PyAV tells neither that nor
which pictures are IDR. Names and numbers are those of ITU-T H.264, 7.3.2.1 and 7.3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "IDR",
    "PARAMETERS",
    "Field",
    "Sequence",
    "find_field",
    "parameter_units",
    "parse_sequence",
    "split_units",
]

SLICE, IDR, PARAMETERS = 1, 5, 7  # nal_unit_type
_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_HEADER = 64  # bytes of a slice that hold its first values, with room to spare


@dataclass(frozen=True)
class Sequence:
    """Values of a sequence parameter set.

    Attributes:
        number_bits: Bits of ``frame_num`` in a slice.
        frames_only: No coded picture is a field.
        separate_planes: Slices name their colour plane.
    """

    number_bits: int
    frames_only: bool
    separate_planes: bool


class Field(NamedTuple):
    """Coded picture that is half of a frame: the frame's number, and which half."""

    number: int
    bottom: bool


def split_units(data: bytes, extradata: bytes) -> list[bytes]:
    """Return the units of a packet: after start codes, or after their lengths (avcC)."""
    if extradata[:1] != b"\x01":
        return [unit.rstrip(b"\0") for unit in data.split(b"\x00\x00\x01")[1:]]
    units, position, width = [], 0, (extradata[4] & 3) + 1
    while position + width < len(data):
        start = position + width
        position = start + int.from_bytes(data[position:start], "big")
        units.append(data[start:position])
    return units


def parameter_units(extradata: bytes) -> list[bytes]:
    """Return the sequence parameter sets in a stream's extradata."""
    if extradata[:1] != b"\x01":
        units = split_units(extradata, b"")
    else:
        units, position = [], 6
        for _ in range(extradata[5] & 31 if len(extradata) > 5 else 0):
            start = position + 2
            position = start + int.from_bytes(extradata[position:start], "big")
            units.append(extradata[start:position])
    return [unit for unit in units if unit and unit[0] & 31 == PARAMETERS]


def parse_sequence(unit: bytes) -> Sequence | None:
    """Parse a sequence parameter set; None where it is damaged."""
    bits = _Bits(unit[1:])
    try:
        profile = bits.take(8)
        bits.take(16)  # constraints, level
        bits.count()
        separate = False
        if profile in _WITH_CHROMA:
            chroma = bits.count()
            separate = chroma == 3 and bits.take(1) == 1
            bits.count()
            bits.count()
            bits.take(1)
            if bits.take(1):
                for place in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _skip_scaling(bits, 16 if place < 6 else 64)
        number_bits = bits.count() + 4
        order = bits.count()
        if order == 0:
            bits.count()
        elif order == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(bits.count()):
                bits.signed()
        bits.count()  # reference frames
        bits.take(1)
        bits.count()  # width and height
        bits.count()
        return Sequence(number_bits, bits.take(1) == 1, separate)
    except EOFError:
        return None


def find_field(units: list[bytes], sequence: Sequence) -> Field | None:
    """Return the field that the units of a packet hold; None where they hold a frame."""
    for unit in units:
        if unit[:1] and unit[0] & 31 in (SLICE, IDR):
            bits = _Bits(unit[1:_HEADER])
            try:
                for _ in range(3):  # first macroblock, type, picture parameter set
                    bits.count()
                if sequence.separate_planes:
                    bits.take(2)
                number = bits.take(sequence.number_bits)
                return Field(number, bits.take(1) == 1) if bits.take(1) else None
            except EOFError:
                return None
    return None


class _Bits:
    """Reader of the bits of a unit, without the bytes that keep start codes out of it."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, number: int) -> int:
        if number > self._left:
            raise EOFError
        self._left -= number
        return (self._value >> self._left) & ((1 << number) - 1)

    def count(self) -> int:
        """Read ue(v): as many leading zeros as bits follow the first one."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise EOFError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.count()
        return (value + 1) // 2 if value % 2 else -(value // 2)


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
