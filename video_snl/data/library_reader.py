"""What readers share whose library finds frames by their numbers itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from video_snl.data.pyav_reader import breaks
from video_snl.data.timing import stage

__all__ = ["LibraryReader"]


class LibraryReader:
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

    def _batch(self, indices: list[int]) -> Tensor:
        raise NotImplementedError
