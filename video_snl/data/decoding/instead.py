"""What readers leave out, and what PyAV reads instead of them: said, counted, remembered."""

from __future__ import annotations

import logging

from video_snl.utils.counts import counts
from video_snl.utils.text import printable

__all__ = ["count_instead", "is_instead", "note_head", "note_instead"]

# On stderr, unless a handler of this log takes it elsewhere.
logger = logging.getLogger("video_snl.readers")

_said: set[tuple[str, str]] = set()
_files: dict[str, set[str]] = {}
_heads: set[str] = set()


def note_instead(reader: str, path: str, reason: str) -> None:
    """Note that PyAV reads a file in the place of ``reader``; every reason is said once."""
    _files.setdefault(reader, set()).add(path)
    if (reader, reason) not in _said:
        _said.add((reader, reason))
        logger.warning(
            "reader %s: pyav reads %s and its like: %s", reader, printable(path), printable(reason)
        )


def note_head(path: str, packets: int) -> None:
    """Note, once, that a file starts in the middle and these packets cannot be decoded."""
    if path not in _heads:
        _heads.add(path)
        logger.warning(
            "%s starts in the middle of a group of pictures: its first %s cannot be decoded and "
            "are not counted",
            printable(path),
            counts(packets, "frame"),
        )


def is_instead(reader: str, path: str) -> bool:
    """Tell whether PyAV has read a file in the place of ``reader`` before, in this process."""
    return path in _files.get(reader, ())


def count_instead(reader: str) -> int:
    """Count the files that PyAV has read in the place of ``reader``, in this process."""
    return len(_files.get(reader, ()))
