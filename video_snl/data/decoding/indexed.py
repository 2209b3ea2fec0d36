"""Base of the readers whose library finds frames by their numbers itself."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from video_snl.data.decoding.opening import check_pixels
from video_snl.data.decoding.packet_index import SIZED
from video_snl.data.decoding.pyav import SAME_EVERYWHERE, PyAVReader, breaks, note_fallback
from video_snl.data.decoding.stream_info import StreamInfo, find_stream_info
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import stage

__all__ = ["AstrayError", "LibraryReader", "library_refuses"]

# Seconds between two statements of the same time: libraries keep them in single precision.
_TOLERANCE, _PRECISION = 1e-3, 1e-6


class AstrayError(UserError):
    """A library has other frames, by their time stamps, than those that were asked for."""


class LibraryReader(abc.ABC):
    """Video of which a library's reader, ``_video``, is asked for batches of frames.

    ``_broken`` are the exceptions with which that reader reports that it cannot decode. Where the
    time stamps show other frames than those asked for, or where the library fails on the CPU, PyAV
    reads the file from then on.

    Args:
        path: Video file.
        device: ``cpu`` or ``cuda``.
        max_pixels: Largest number of pixels of a frame.

    Raises:
        UserError: The file cannot be read.
    """

    name: str
    _video: Any
    _broken: tuple[type[Exception], ...]

    def __init__(self, path: str, device: str = "cpu", max_pixels: int = MAX_PIXELS) -> None:
        self.path, self.device, self.max_pixels = path, device, max_pixels
        self.info = find_stream_info(path, max_pixels)
        self._fallback: PyAVReader | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return max(1, 3 * self.info.height * self.info.width)

    def __len__(self) -> int:
        return self.info.length

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> Tensor:
        """Return the frames of these indices, RGB, uint8 (T, H, W, 3)."""
        if self._fallback is not None:
            return self._fallback.frames(indices, group)
        broken: tuple[type[Exception], ...] = (*self._broken, EOFError)
        try:
            with stage("decode"):
                frames, times = self._batch(list(indices))
            if len(frames) != len(indices):  # a file that ends before its index says so
                raise EOFError
        except broken as error:
            if self.device != "cpu":
                raise breaks(self.path, group or indices, len(self)) from error
            return self._by_pyav(indices, group, f"{self.name} fails to decode")
        if times is not None and self._astray(times, indices):
            reason = f"{self.name} returns other frames than those asked for"
            return self._by_pyav(indices, group, reason)
        check_pixels(self.path, frames.shape[2], frames.shape[1], self.max_pixels)
        return frames

    def close(self) -> None:
        """Close the file: the libraries do so with the last reference."""
        self._video = None
        if self._fallback is not None:
            self._fallback.close()

    @abc.abstractmethod
    def _batch(self, indices: list[int]) -> tuple[Tensor, Sequence[float] | None]:
        """Return the library's frames of these indices, RGB, uint8 (T, H, W, 3), and their times in
        seconds where it tells them."""

    def _check_index(self, length: int, times: Sequence[float] | None = None) -> None:
        """Compare the library's index, its times from the first frame on, with the stream info.

        Raises:
            AstrayError: They differ.
        """
        if length != len(self) or (
            times is not None and self._astray(times, range(length), from_first=True)
        ):
            self._video = None
            raise AstrayError(f"{self.name} finds other frames than the packets tell")

    def _astray(
        self, times: Sequence[float], indices: Sequence[int], *, from_first: bool = False
    ) -> bool:
        stamps, unit = self.info.stamps, self.info.unit
        if stamps is None or not unit:
            return True
        start = stamps[0] if from_first else 0
        expected = [float((stamps[index] - start) * unit) for index in indices]
        return any(
            abs(time - right) > min(_TOLERANCE, float(unit)) + _PRECISION * abs(right)
            for time, right in zip(times, expected, strict=True)
        )

    def _by_pyav(self, indices: Sequence[int], group: Sequence[int] | None, reason: str) -> Tensor:
        reader = PyAVReader(self.path, self.max_pixels)
        try:
            frames = reader.frames(indices, group)
        except UserError:
            reader.close()  # the file is at fault, not the library
            raise
        note_fallback(self.name, self.path, reason)
        self._video, self._fallback = None, reader
        return frames


def library_refuses(library: str, info: StreamInfo) -> str | None:
    """Return why no such library would give the right frames of this file; None if it may."""
    a, b, c, d = info.matrix
    if info.streams > 1:
        return f"{library} may choose another one of several videos"
    if a * d < b * c:
        return f"{library} does not mirror frames"
    if info.trimmed:
        return f"{library} may show frames that an edit list hides"
    if info.changes:
        return f"{library} does not scale frames that change their size as the others do"
    if info.codec not in SIZED:
        return f"{library} cannot be kept from frames of another size in {info.codec}"
    if info.stamps is None:
        return f"{library} loses frames where time stamps do not tell them apart"
    if info.uneven:
        return f"{library} counts packets where frames are fewer"
    if info.oversold:
        return f"{library} takes memory for frames that only the header knows of"
    if info.pixels not in SAME_EVERYWHERE:
        return f"{library} makes other colours of {info.pixels}"
    if info.pictureless:
        return f"{library} moves the frames after a packet without an image"
    if not info.clean:
        return f"{library} seeks to key frames that are not clean starts"
    return None
