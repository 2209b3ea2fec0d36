"""The reader that defines what is right: frames by PyAV, and the one conversion of them to RGB.

It decodes from the last entry before the frames wanted, and converts these alone. Where another
reader would not return the same frames it reads the file in its place, which is logged and
remembered here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor

from video_snl.data.decoding.opening import check_pixels, is_refused_size, too_large
from video_snl.data.decoding.packet_index import Matrix
from video_snl.data.decoding.stream_info import distrust, open_with_stream_info
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.text import printable
from video_snl.utils.timing import stage

__all__ = [
    "SAME_EVERYWHERE",
    "STAND_INS",
    "PyAVReader",
    "RgbConverter",
    "breaks",
    "is_fallback",
    "note_fallback",
    "turn",
]

# On stderr, unless a handler of this log takes it elsewhere.
logger = logging.getLogger("video_snl.readers")

# Intact files of UCF-101 may hold a packet without an image (one in a hundred does:
# v_Kayaking_g12_c03); the frame before stands for it. The second is a margin, the third an error.
STAND_INS = 2

# Where the size stays, any choice but ACCURATE_RND gives the very pixels that decord gives.
_SCALING = Interpolation.BICUBIC
# Formats that swscale converts straight to RGB, ignoring the places of the colour samples, where
# the size stays and the number of rows is even.
_DIRECT = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
# The matrices that swscale knows, by their numbers in ITU-T H.273; 2 names none. In the place
# of others FFmpeg's program takes that of BT.601, where the library refuses the frame.
_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9, 10})
_UNNAMED = 2
SAME_EVERYWHERE = _DIRECT | {"yuv444p", "yuvj444p", "gray", "gbrp", "rgb24", "bgr24"}
"""Formats of frames of which every version of swscale makes the same RGB."""

Numbered = tuple[int, av.VideoFrame]


class _AstrayError(Exception):
    """The frames found are not those that the time stamps promise."""


def breaks(path: str, indices: Sequence[int], length: int) -> UserError:
    """Return the error of a file of which these frames, of ``length``, cannot be decoded."""
    return UserError(
        f"{path} breaks while frames {min(indices)}-{max(indices)} of {length} are decoded: fetch "
        "the file again, re-encode it, or take it off the list"
    )


class PyAVReader:
    """Video read by PyAV, in one thread: workers are what runs in parallel.

    Frames in ascending order, of one call or several, are decoded in one pass. A frame without an
    image of its own is the one before it, for at most :data:`STAND_INS` in a row, and of those
    that one call asks for, or the calls for the pieces of one group. All frames have the size that
    the header says; the rotation and mirroring it asks for are applied. Without :meth:`close`, the
    file stays open until the garbage collector closes it.

    Args:
        path: Video file.
        max_pixels: Largest number of pixels of a frame.

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
            _note_head(path, self.info.undecodable)
        self._trusted = self.info.stamps is not None
        # Frames that no other one refers to need not be decoded if they are not asked for.
        self._skips = self._trusted and self.info.reordered and not self.info.uneven
        self._current: av.VideoFrame | None
        self._following: Numbered | None
        self._numbered: Iterator[Numbered]
        self._begin(0)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return max(1, 3 * self.info.height * self.info.width)

    def __len__(self) -> int:
        return self.info.length

    def close(self) -> None:
        """Close the file, now: the generator of frames and the reader refer to one another."""
        self._numbered, self._current, self._following = iter(()), None, None
        self._container.close()

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> Tensor:
        """Return the frames of these indices, RGB, uint8 (T, H, W, 3)."""
        wanted = sorted(set(indices))
        self._missing.intersection_update(group or ())  # what earlier pieces of it lacked
        try:
            found = self._find_all(wanted)
        except (av.FFmpegError, EOFError) as error:
            self._check_refused(error)
            raise breaks(self.path, group or indices, len(self)) from error
        if wanted == list(indices):
            return found
        rows = {index: row for row, index in enumerate(wanted)}
        return found[[rows[index] for index in indices]]

    def decode_all(self) -> tuple[int, int]:
        """Decode the whole file and keep nothing.

        Returns:
            Number of frames it holds, and of damaged ones among them.

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

    def _find_all(self, wanted: list[int]) -> Tensor:
        """Return the frames, trusting time stamps less whenever they turn out to be wrong."""
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
        if len(wanted) == 1:  # large frames are asked for one by one: each copy would cost
            images = self._image(wanted[0])[None]
        else:
            images = np.empty((len(wanted), height, width, 3), np.uint8)
            for row, index in enumerate(wanted):
                images[row] = self._image(index)
        return turn(torch.from_numpy(images), self.info.matrix)

    def _image(self, index: int) -> np.ndarray:
        """Return a frame in RGB (H, W, 3)."""
        self._wanted = index
        frame = self._find(index)
        check_pixels(self.path, frame.width, frame.height, self.max_pixels)
        return self._rgb.convert(frame, self.info.width, self.info.height)

    def _restart(self) -> None:
        self._container.close()  # rather than trust a seek to the start
        self._container, self._stream, _ = open_with_stream_info(self.path, self.max_pixels)
        self._begin(0)

    def _go_to(self, index: int) -> None:
        """Seek to the entry of a frame, unless decoding on from here costs no more."""
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
        """Return the frame, or the one that stands for it."""
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
        """Yield the frames with the places of their time stamps.

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
                    continue  # presented before the key frame, though stored after it
                if stamp != stamps[entry] or not frame.key_frame:
                    raise _AstrayError
            number += 1
            while number < len(stamps) and stamps[number] < stamp:
                number += 1
            if number == len(stamps) or stamps[number] != stamp:
                raise _AstrayError
            yield number, frame

    def _landed(self, packet: av.Packet, entry: int) -> int:
        """Return the entry that a seek led to: the one meant or, with an edit list, one before."""
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


class RgbConverter:
    """Conversion of decoded frames to 8-bit RGB of one size; others are scaled (bicubic).

    It is swscale's, bicubic where colours are stored at a lower resolution and with the matrix and
    the range that the frame names. Two things that newer versions of swscale do are left out, so
    that all readers, and FFmpeg's own program, give the same pixels: the place of the colour
    samples does not shift them, and an interlaced frame is converted as the frame it is, not field
    by field. (Up to 29 decibels lie between the two.)
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """Convert a frame to uint8 (H, W, 3), in memory that no later call uses."""
        direct = (
            not frame.interlaced_frame
            and _converts_directly(frame.format.name)
            and frame.height % 2 == 0
            and (frame.width, frame.height) == (width, height)
            and frame.colorspace in _MATRICES
        )
        if not direct:
            frame = _stripped(frame)
        rgb = self._reformatter.reformat(
            frame, width, height, "rgb24", None, None, _SCALING, threads=1
        )
        plane = rgb.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        return lines[:, : 3 * width].reshape(height, width, 3)


@cache
def _converts_directly(name: str) -> bool:
    """Tell whether swscale ignores the places of the colour samples of a format."""
    pixels = av.VideoFormat(name, 64, 64)
    whole = pixels.is_rgb or (pixels.chroma_width(), pixels.chroma_height()) == (64, 64)
    return whole or name in _DIRECT


def _stripped(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a copy of a frame that keeps nothing but pixels, matrix and range."""
    if "pal8" in frame.format.name:
        return frame
    copied = av.VideoFrame(frame.width, frame.height, frame.format.name)
    copied.colorspace = frame.colorspace if frame.colorspace in _MATRICES else _UNNAMED
    copied.color_range = frame.color_range
    for target, source in zip(copied.planes, frame.planes, strict=True):
        to, of = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            for plane in (target, source)
        )
        width = min(to.shape[1], of.shape[1])
        to[:, :width] = of[: len(to), :width]
    return copied


_logged: set[tuple[str, str]] = set()
_files: dict[str, set[str]] = {}
_heads: set[str] = set()


def note_fallback(reader: str, path: str, reason: str) -> None:
    """Note that PyAV reads a file in the place of ``reader``; log every reason once."""
    _files.setdefault(reader, set()).add(path)
    if (reader, reason) not in _logged:
        _logged.add((reader, reason))
        logger.warning(
            "reader %s: pyav reads %s and its like: %s", reader, printable(path), printable(reason)
        )


def _note_head(path: str, packets: int) -> None:
    """Log, once, that a file starts in the middle and so many packets cannot be decoded."""
    if path not in _heads:
        _heads.add(path)
        logger.warning(
            "%s starts in the middle of a group of pictures: its first %s cannot be decoded and "
            "are not counted",
            printable(path),
            counts(packets, "frame"),
        )


def is_fallback(reader: str, path: str) -> bool:
    """Tell whether PyAV has read a file in the place of ``reader`` before, in this process."""
    return path in _files.get(reader, ())
