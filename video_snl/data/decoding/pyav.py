"""A video read by PyAV: from the last entry before the frames wanted, and these alone made RGB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import av
import numpy as np
import torch
from torch import Tensor

from video_snl.data.decoding.conversion import RgbConverter
from video_snl.data.decoding.instead import note_head
from video_snl.data.decoding.opening import check_pixels, is_refused_size, too_large
from video_snl.data.decoding.scan import Matrix
from video_snl.data.decoding.stream_info import distrust, open_with_stream_info
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import stage

__all__ = ["STAND_INS", "PyAVReader", "breaks", "turn"]

# Sound files of UCF-101 may hold a packet without a picture (one in a hundred does:
# v_Kayaking_g12_c03); the frame before stands for it. The second is a margin, the third an error.
STAND_INS = 2

Numbered = tuple[int, av.VideoFrame]


class _AstrayError(Exception):
    """The frames found are not those that the time stamps promise."""


def breaks(path: str, indices: Sequence[int], length: int) -> UserError:
    """The error of a file of which these frames, of ``length``, cannot be decoded."""
    return UserError(
        f"{path} breaks while frames {min(indices)}-{max(indices)} of {length} are decoded: fetch "
        "the file again, re-encode it, or take it off the list"
    )


class PyAVReader:
    """A video read by PyAV, in one thread: workers are what runs side by side.

    Frames in ascending order, of one call or several, are decoded in one pass. A frame without a
    picture of its own is the one before it, for at most :data:`STAND_INS` in a row, and of those
    that one call asks for. All frames have the size that the header says; the rotation and
    mirroring it asks for are applied. Without :meth:`close`, the file stays open until the garbage
    collector comes.

    Args:
        max_pixels: Most pixels of a frame.

    Raises:
        UserError: The file cannot be opened, a frame is too large, or the file breaks while it is
            decoded.
    """

    def __init__(self, path: str, max_pixels: int = MAX_PIXELS) -> None:
        self.path, self.max_pixels = path, max_pixels
        self._rgb = RgbConverter()
        self._missing: set[int] = set()
        self._wanted = 0  # the next frame asked for
        with stage("open"):
            self._container, self._stream, self.info = open_with_stream_info(path, max_pixels)
        if self.info.undecodable:
            note_head(path, self.info.undecodable)
        self._trusted = self.info.stamps is not None
        # Frames that no other one refers to need not be decoded if they are not asked for.
        self._skips = self._trusted and self.info.reordered and not self.info.uneven
        self._current: av.VideoFrame | None
        self._following: Numbered | None
        self._numbered: Iterator[Numbered]
        self._begin(0)

    def __len__(self) -> int:
        return self.info.length

    def close(self) -> None:
        """Close the file, now: the generator of frames and the reader refer to one another."""
        self._numbered, self._current, self._following = iter(()), None, None
        self._container.close()

    def frames(self, indices: Sequence[int]) -> Tensor:
        """The frames of these indices, RGB, uint8 (T, H, W, 3)."""
        wanted = sorted(set(indices))
        self._missing.clear()
        try:
            shown = self._show(wanted)
        except (av.FFmpegError, EOFError) as error:
            self._check_refused(error)
            raise breaks(self.path, indices, len(self)) from error
        if wanted == list(indices):
            return shown
        rows = {index: row for row, index in enumerate(wanted)}
        return shown[[rows[index] for index in indices]]

    def decode_all(self) -> tuple[int, int]:
        """Decode the whole file and keep nothing: (frames it holds, damaged ones among them).

        Raises:
            UserError: The file breaks; says after how many frames.
        """
        self._restart()
        held = damaged = 0
        try:
            for frame in self._frames(self._container.demux(self._stream)):
                check_pixels(self.path, frame.width, frame.height, self.max_pixels)
                held += 1
                damaged += frame.is_corrupt
        except (av.FFmpegError, EOFError) as error:
            self._check_refused(error)
            raise UserError(
                f"{self.path} breaks after {held} of {len(self)} frames: fetch the file again, "
                "re-encode it, or take it off the list"
            ) from error
        self._restart()
        return held, damaged

    def _check_refused(self, error: Exception) -> None:
        """Raise the error of a frame that is too large, where that made the decoder fail."""
        if isinstance(error, av.ArgumentError) and is_refused_size(self._stream, self.max_pixels):
            raise too_large(self.path, self.max_pixels) from error

    def _show(self, wanted: list[int]) -> Tensor:
        """The frames, trusting time stamps less whenever they turn out to be wrong."""
        while True:
            try:
                self._go_to(wanted[0])
                with stage("decode"):
                    return self._decode(wanted)
            except _AstrayError:
                if self._skips:
                    self._skips = False
                else:
                    self._trusted, self.info = False, distrust(self.path, self.info)
                self._restart()

    def _decode(self, wanted: list[int]) -> Tensor:
        height, width = self.info.height, self.info.width
        pictures = np.empty((len(wanted), height, width, 3), np.uint8)
        for row, index in enumerate(wanted):
            self._wanted = index
            frame = self._find(index)
            check_pixels(self.path, frame.width, frame.height, self.max_pixels)
            pictures[row] = self._rgb.convert(frame, width, height)
        return turn(torch.from_numpy(pictures), self.info.matrix)

    def _restart(self) -> None:
        self._container.close()  # rather than trust a seek to the start
        self._container, self._stream, _ = open_with_stream_info(self.path, self.max_pixels)
        self._begin(0)

    def _go_to(self, index: int) -> None:
        """Be at or before a frame: at its entry, unless going on from here costs no more."""
        entry = self.info.entry(index) if self._trusted else 0
        if entry > max(self._number, 0) or (entry and index < self._number):
            with stage("seek"):
                assert self.info.stamps is not None
                self._container.seek(self.info.stamps[entry], stream=self._stream)
                self._begin(entry)
        elif index < self._number:
            with stage("seek"):
                self._restart()

    def _begin(self, entry: int) -> None:
        self._number = -1
        self._current = self._following = None
        self._numbered = self._number_by_stamp(entry) if self._trusted else self._number_by_count()

    def _find(self, index: int) -> av.VideoFrame:
        """The frame, or the one that stands for it."""
        while self._number < index:
            self._following = self._following or next(self._numbered, None)
            if self._following is None or self._following[0] > index:
                break
            (self._number, self._current), self._following = self._following, None
        if self._number != index:
            if self._skips:  # the frame before may have been left out
                raise _AstrayError
            self._missing.add(index)
        in_a_row = index - self._number
        if self._current is None or max(in_a_row, len(self._missing)) > STAND_INS:
            raise EOFError
        return self._current

    def _number_by_count(self) -> Iterator[Numbered]:
        return enumerate(self._frames(self._container.demux(self._stream)))

    def _number_by_stamp(self, entry: int) -> Iterator[Numbered]:
        """Frames with the places of their time stamps.

        Raises:
            _AstrayError: A frame has a stamp that the packets did not have, or comes too early, or
                the first is not the key frame that was sought.
        """
        stamps = self.info.stamps
        assert stamps is not None
        packets = self._container.demux(self._stream)
        if entry:
            first = next(packets)
            packets = chain((first,), packets)
            entry = self._landed(first, entry)
        number = entry - 1
        for frame in self._frames(packets):
            stamp = frame.pts
            if stamp is None:
                raise _AstrayError
            if number < entry and entry:
                if stamp < stamps[entry]:
                    continue  # shown before the key frame, though stored behind it
                if stamp != stamps[entry] or not frame.key_frame:
                    raise _AstrayError
            number += 1
            while number < len(stamps) and stamps[number] < stamp:
                number += 1
            if number == len(stamps) or stamps[number] != stamp:
                raise _AstrayError
            yield number, frame

    def _landed(self, packet: av.Packet, entry: int) -> int:
        """The entry that a seek led to: the one meant or, in files with an edit list, before it."""
        stamps = self.info.stamps
        assert stamps is not None
        for found in reversed(self.info.entries[: self.info.entries.index(entry) + 1]):
            if packet.pts == stamps[found] and packet.is_keyframe:
                return found
        raise _AstrayError

    def _frames(self, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
        context, stamps = self._stream.codec_context, self.info.stamps
        head = self.info.undecodable > 0
        for packet in packets:
            if self._skips and stamps is not None and packet.pts is not None:
                early = packet.pts < stamps[self._wanted]
                context.skip_frame = "NONREF" if early else "DEFAULT"
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                if not head:
                    raise
                continue  # it refers to what was before the file's start
            head = head and not frames
            yield from frames


def turn(frames: Tensor, matrix: Matrix) -> Tensor:
    """Rotate by quarters and mirror frames as a display matrix of the signs (a, b, c, d) asks.

    Args:
        frames: (T, H, W, 3).

    Returns:
        (T, H, W, 3) or, turned by 90 or 270 degrees, (T, W, H, 3); the same where nothing is done.
    """
    a, b, c, d = matrix
    if a == 0:
        frames, a, d = frames.transpose(1, 2), c, b
    mirrored = [axis for axis, sign in ((1, d), (2, a)) if sign < 0]
    return frames.flip(mirrored) if mirrored else frames
