"""A video decoded from its first frame on, for files in which a seek goes astray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import av
import torch
from torch import Tensor

from video_snl.errors import UserError

__all__ = ["SequentialReader"]


class SequentialReader:
    """A video read by PyAV one frame after the other; only those asked for are made RGB.

    Frames in ascending order, of one call or several, are decoded in one pass.

    Args:
        path: The video file.
        length: The number of its frames.
        missing: How many of the last ones may be absent; the last one there is stands for them.
    """

    def __init__(self, path: str, length: int, *, missing: int) -> None:
        self.path, self._length, self._missing = path, length, missing
        self._restart()

    def __len__(self) -> int:
        return self._length

    def frames(self, indices: Sequence[int]) -> Tensor:
        """The frames of these indices, RGB, uint8 (T, H, W, 3).

        Raises:
            UserError: The file breaks while it is decoded, or ends before one of these frames.
        """
        wanted = sorted(set(indices))
        if wanted[0] < self._number:
            self._restart()
        try:
            kept = {index: self._frame(index) for index in wanted}
        except (av.FFmpegError, EOFError) as error:
            raise UserError(
                f"{self.path} breaks at frame {self._number + 1} of {len(self)}: fetch the file "
                "again, re-encode it, or take it off the list"
            ) from error
        return torch.stack([kept[index] for index in indices])

    def _restart(self) -> None:
        self._decoded = _decode(self.path)
        self._current: av.VideoFrame | None = None
        self._number = -1  # of the current frame

    def _frame(self, index: int) -> Tensor:
        while self._number < index:
            following = next(self._decoded, None)
            if following is None:
                break
            self._current, self._number = following, self._number + 1
        if self._current is None or self._number < min(index, len(self) - 1 - self._missing):
            raise EOFError
        return torch.from_numpy(self._current.to_ndarray(format="rgb24"))


def _decode(path: str) -> Iterator[av.VideoFrame]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # workers are what runs side by side
        yield from container.decode(stream)
