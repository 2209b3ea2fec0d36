"""Check the archives in which weights are stored before their bytes are used. Without torch.

``torch.save`` and ``torch.export.save`` write ZIP archives. Every entry has a CRC-32, which torch
does not compare when it reads: a flipped bit would become another weight.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from pathlib import Path

from video_snl.errors import UserError

__all__ = ["DamagedArchive", "check_archive", "unreadable_error"]

_ARCHIVE = b"PK\x03\x04"
# Pickles of protocol 2 and later, as torch wrote before version 1.6. They have no checksum.
_PICKLE = b"\x80"
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257  # torch before version 0.1.10
_END, _END_SIZE = b"PK\x05\x06", 22
_LARGEST_COMMENT = 2**16 - 1
_UNZIPPING_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,  # offsets outside the file, names that are not UTF-8
    RuntimeError,  # damaged flags: encrypted, or compressed in an unknown way
)
_DOS_FOLDER = 0x10


class DamagedArchive(UserError):
    """A file of weights whose bytes are not those that were written.

    Attributes:
        path: The file.
        reason: Fault of the file, without advice.
    """

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"{path} cannot be read: {reason}; {advice}.")
        self.path, self.reason = path, reason


def check_archive(path: Path) -> None:
    """Compare every entry of a file of weights with its CRC-32, reading 1 MiB at a time.

    Files of torch before version 1.6 are not archives and have no checksum; they pass.

    Args:
        path: Path of a checkpoint, or of a network exported as ``.pt2``.

    Raises:
        DamagedArchive: An entry differs from its checksum, the directory of the archive is
            damaged, bytes stand before or after the archive, or the file is not a checkpoint. The
            message names another checkpoint of the same run that is whole, if there is one.
        UserError: The file is not there or may not be read.
    """
    try:
        reason = _fault(path)
    except OSError as error:
        raise unreadable_error(path, error) from error
    if reason is not None:
        raise DamagedArchive(path, reason, _advice(path))


def unreadable_error(path: Path, error: OSError) -> UserError:
    """Return the error of a file that the system does not let us read."""
    if isinstance(error, PermissionError):
        return UserError(f"{path} may not be read; give yourself the permission.")
    return UserError(f"{path} cannot be read: {error.strerror or error}.")


def _fault(path: Path) -> str | None:
    """Return what is wrong with the file, or None."""
    with path.open("rb") as file:
        head = file.read(_TAR_OFFSET + len(_TAR_MAGIC))
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_SIZE - _LARGEST_COMMENT))
        tail = file.read()
    if not head.startswith(_ARCHIVE):
        old = head.startswith(_PICKLE) or head[_TAR_OFFSET:] == _TAR_MAGIC
        return None if old else _not_an_archive(path, size, tail)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            entries = archive.infolist()
            count = len(entries)
    except _UNZIPPING_ERRORS as error:
        line = " ".join(str(error).split()) or type(error).__name__
        return f"it is damaged or cut short ({size} bytes; {line[:120]})"
    if damaged is not None:
        return f"it is damaged: its entry {damaged!r} differs from its checksum"
    for entry in entries:
        # What this bit of MS-DOS calls a folder PyTorch does not read, and leaves its memory as is.
        if entry.external_attr & _DOS_FOLDER and not entry.is_dir():
            return f"it is damaged: its entry {entry.filename!r} is marked as a folder"
    return _fault_of_end(tail, count)


def _not_an_archive(path: Path, size: int, tail: bytes) -> str:
    if _END in tail and zipfile.is_zipfile(path):
        return f"it is damaged: an archive is in it, but other bytes stand before it ({size} bytes)"
    return f"it is damaged, cut short, or no file of weights ({size} bytes)"


def _fault_of_end(tail: bytes, count: int) -> str | None:
    """Return what is wrong after the last entry; zipfile reads over both."""
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        return "it is damaged: its archive has no end"
    listed, comment = struct.unpack("<10xH8xH", tail[at : at + _END_SIZE])
    if len(tail) - at - _END_SIZE != comment:
        return "it is damaged: bytes stand after its archive that are not part of it"
    if listed not in (count, 0xFFFF):  # 0xFFFF: the number is in the ZIP64 record
        return f"it is damaged: its archive lists {count} entries and announces {listed}"
    return None


def _advice(path: Path) -> str:
    """Advise another checkpoint of the run that is whole, or another copy."""
    if path.suffix == ".ckpt":
        for name in ("best.ckpt", "last.ckpt"):
            other = path.with_name(name)
            if other.name != path.name and other.is_file() and _is_whole(other):
                return (
                    "the run's other checkpoint is whole: evaluate, predict and the like take it "
                    f"by --checkpoint {other}"
                )
    if path.suffix == ".pt2":
        return "export the checkpoint again, or take another copy of the file"
    return "fetch the file again, or take another copy of it"


def _is_whole(path: Path) -> bool:
    try:
        return _fault(path) is None
    except OSError:
        return False
