"""What readers share whose library finds frames by their numbers itself."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from video_snl.data.facts import Facts
from video_snl.data.pyav_reader import breaks
from video_snl.data.timing import stage

__all__ = ["LibraryReader", "library_refuses"]


class LibraryReader(abc.ABC):
    """A video of which a library's reader, ``_video``, is asked for batches of frames.

    ``_broken`` are the exceptions by which that one says that it cannot decode.
    """

    path: str
    _video: Any
    _broken: tuple[type[Exception], ...]

    def __len__(self) -> int:
        return len(self._video)

    def frames(self, indices: Sequence[int]) -> Tensor:
        """The frames of these indices, RGB, uint8 (T, H, W, 3)."""
        try:
            with stage("decode"):
                frames = self._batch(list(indices))
        except self._broken as error:
            raise breaks(self.path, indices, len(self)) from error
        if len(frames) != len(indices):  # a file that ends before its index says so
            raise breaks(self.path, indices, len(self))
        return frames

    def close(self) -> None:
        """Let go of the file: the libraries close it with the last reference."""
        self._video = None

    @abc.abstractmethod
    def _batch(self, indices: list[int]) -> Tensor:
        """The library's frames of these indices, RGB, uint8 (T, H, W, 3)."""


def library_refuses(library: str, facts: Facts) -> str | None:
    """Why no such library would give the right frames of this file; ``None`` if it may."""
    a, b, c, d = facts.matrix
    if facts.streams > 1:
        return f"{library} may choose another one of several videos"
    if a * d < b * c:
        return f"{library} does not mirror frames"
    if facts.trimmed:
        return f"{library} may show frames that an edit list hides"
    if facts.changes:
        return f"{library} does not scale frames that change their size as the others do"
    if facts.stamps is None:
        return f"{library} loses frames where time stamps do not tell them apart"
    if facts.pictureless:
        return f"{library} moves the frames behind a packet without a picture"
    if not facts.clean:
        return f"{library} seeks to key frames that are no clean starts"
    return None
