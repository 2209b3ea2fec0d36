"""What a video file's container says about itself, read before a decoder sees the file.

A decoder takes an AVI or Matroska file that was cut off for a shorter video and says nothing.
Their headers hold the size the file should have, so that a cut is found without decoding.
(MP4 and MOV keep a table of all frames; the decoder itself refuses a file cut behind it.)
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from video_snl.errors import UserError

__all__ = ["CutOffError", "check_file", "declared_size", "is_open_ended"]

_HEAD = 4096  # bytes; far more than an EBML header and the start of its segment take
_UNKNOWN = frozenset({0, 0xFFFFFFFF})  # sizes of a RIFF file that was written to a pipe
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class CutOffError(UserError):
    """A file that ends before its header says."""


def check_file(path: str) -> None:
    """Look at a video file's size and at what its first bytes say of it.

    Raises:
        UserError: The file is missing, not a regular file, empty, cannot be read or is cut off.
    """
    file = Path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"{path} {_unreachable(error)}: correct the path") from error
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for whoever writes to it
        raise UserError(f"{path} is {_kind(status.st_mode)}, not a video file: correct the path")
    size = status.st_size
    if size == 0:
        raise UserError(f"{path} is empty (0 bytes): fetch or copy the file again")
    try:
        with file.open("rb") as opened:
            declared = declared_size(opened.read(_HEAD))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check its permissions"
        ) from error
    if declared is not None and declared > size:
        raise CutOffError(
            f"{path} is cut off: it has {size:,} bytes of the {declared:,} its header promises: "
            "fetch or copy the file again"
        )


def is_open_ended(path: str) -> bool:
    """Tell whether an AVI file was written to where its header could not be mended at the end.

    Its size and its number of frames are place-holders then.
    """
    with open(path, "rb") as opened:
        return _riff_size(opened.read(12)) in _UNKNOWN


def _unreachable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be reached ({error.strerror})"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _riff_size(head: bytes) -> int | None:
    if head[:4] != b"RIFF" or head[8:12] != b"AVI ":
        return None
    return int.from_bytes(head[4:8], "little")


def declared_size(head: bytes) -> int | None:
    """The bytes that an AVI or Matroska/WebM file should have at least, from its first ones.

    AVI: ``RIFF``, a little-endian 32-bit size of what follows. Matroska: an EBML header element,
    then a Segment element whose size (EBML variable-length integer) may be unknown.

    Returns:
        None where the file is of another kind or does not say.
    """
    riff_size = _riff_size(head)
    if riff_size is not None:
        return None if riff_size in _UNKNOWN else 8 + riff_size
    if head[:4] != _EBML:
        return None
    header_size, position = _ebml_size(head, 4)
    segment = position + (header_size or 0)
    if head[segment : segment + 4] != _SEGMENT:
        return None
    segment_size, position = _ebml_size(head, segment + 4)
    return None if segment_size is None else position + segment_size


def _ebml_size(head: bytes, position: int) -> tuple[int | None, int]:
    """An EBML size and the position behind it: the leading zero bits count its further bytes."""
    if position >= len(head) or head[position] == 0:
        return None, position
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (None if unknown else value), position + length
