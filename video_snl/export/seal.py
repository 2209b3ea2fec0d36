"""A SHA-256 in an ONNX file's own metadata: the format has no checksum.

The entry ``video_snl_sha256`` holds the hash of the file in which its 64 digits are zeros.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path

from video_snl.errors import UserError
from video_snl.utils.archives import unreadable_error

__all__ = ["check_seal", "seal", "sealed"]

_ENTRY = "video_snl_sha256"
_ZEROS = b"0" * 64
# An entry of the metadata as protocol buffers write it: field 1 the name, field 2 of 64 bytes.
_MARK = b"\x0a" + bytes([len(_ENTRY)]) + _ENTRY.encode() + b"\x12" + bytes([len(_ZEROS)])


def sealed(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata with an entry that :func:`seal` fills in the file they are written to."""
    return {**metadata, _ENTRY: _ZEROS.decode()}


def seal(path: Path) -> None:
    """Write the hash of a file into it.

    Raises:
        ValueError: The metadata are not those of :func:`sealed`.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        start = _start(content)
        if start is None or content[start : start + len(_ZEROS)] != _ZEROS:
            raise ValueError(f"{path} has no entry {_ENTRY} to be filled.")
        content[start : start + len(_ZEROS)] = _hash(content, start).encode()


def check_seal(path: Path) -> None:
    """Compare a file with the hash in it; files without one, as of earlier versions, pass.

    Raises:
        UserError: It is damaged, or cannot be read.
    """
    try:
        whole = _is_whole(path)
    except OSError as error:
        raise unreadable_error(path, error) from error
    if not whole:
        raise UserError(
            f"{path} cannot be read: it is damaged, its bytes differ from the SHA-256 in it; "
            "export the checkpoint again, or take another copy of the file."
        )


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.read(1):
            return True  # no network, as whoever reads it says; mmap takes no empty file
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = _start(content)
            if start is None:
                return True
            found = content[start : start + len(_ZEROS)]
            return found == _hash(content, start).encode()


def _start(content: mmap.mmap) -> int | None:
    """Find where the digits of the hash begin."""
    at = content.rfind(_MARK)
    end = at + len(_MARK) + len(_ZEROS)
    return None if at < 0 or end > len(content) else at + len(_MARK)


def _hash(content: mmap.mmap, start: int) -> str:
    digest = hashlib.sha256()
    with memoryview(content) as view:
        for part in (view[:start], _ZEROS, view[start + len(_ZEROS) :]):
            digest.update(part)
            if isinstance(part, memoryview):
                part.release()
    return digest.hexdigest()
