"""Read uint8 clips of a short side from a video file, by one of several decoders.

All readers return the same frames: files whose decoder would not are read by PyAV instead, which is
logged. Nothing is opened, and no decoder is even imported, before the process that
decodes asks for a video: a reader neither survives a fork nor crosses a process boundary.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from video_snl.config.video import DecodeDevice, ReaderName
from video_snl.data.decoding.frames import FramesReader
from video_snl.data.decoding.indexed import AstrayError
from video_snl.data.decoding.pyav import PyAVReader, is_fallback, note_fallback
from video_snl.data.decoding.stream_info import StreamInfo, find_stream_info
from video_snl.data.video.clip_sampling import ShortVideoError
from video_snl.errors import OptionsError, UserError
from video_snl.utils.counts import counts
from video_snl.utils.extras import is_installed
from video_snl.utils.media import MAX_PIXELS
from video_snl.utils.timing import stage

__all__ = [
    "ArrayReader",
    "Reader",
    "check_reader",
    "cut_clips",
    "decode_in_chunks",
    "open_by",
    "open_video",
    "read_clips",
    "refusal",
    "resize",
    "shrink",
]

# Frames over which faults of a file are counted, and bytes of those that are decoded before they
# are shrunk: bounds the memory of full-size frames. Frames of more bytes than that come one by one.
CHUNK, CHUNK_BYTES = 32, 8 << 20


class Reader(Protocol):
    """A video as a sequence of frames."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame, at least 1, as far as is known before one is read."""
        ...

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> Tensor:
        """Return the frames of these indices, RGB, uint8 (T, H, W, 3), upright, in stored size.

        ``group`` are the frames of which these are a piece, where they are asked for piece by
        piece: errors name the group, and what is tolerated is counted over it.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class ArrayReader:
    """A video that is in memory already.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
    """

    def __init__(self, frames: Tensor) -> None:
        self._frames = frames

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return max(1, self._frames[:1].numel())

    def __len__(self) -> int:
        return len(self._frames)

    def frames(self, indices: Sequence[int], group: Sequence[int] | None = None) -> Tensor:
        """Return the frames of these indices."""
        return self._frames[torch.tensor(indices)]

    def close(self) -> None:
        """Do nothing: there is no file."""


def check_reader(reader: ReaderName, device: DecodeDevice) -> None:
    """Check that this process can decode with ``reader`` on ``device``.

    Raises:
        OptionsError: It cannot: no GPU, a reader that does not use one, or one not installed.
    """
    if device == "cuda":
        if reader in ("pyav", "frames"):
            raise OptionsError(
                f"data.reader={reader} decodes on the CPU: choose torchcodec, decord or auto, or "
                "--data.decode_device cpu"
            )
        if not torch.cuda.is_available():
            raise OptionsError(
                "data.decode_device=cuda, and this machine has no CUDA GPU: choose "
                "--data.decode_device cpu"
            )
    if reader == "torchcodec":
        from video_snl.data.decoding.torchcodec import import_decoder

        import_decoder()
    if reader == "decord" and not is_installed("decord"):
        raise OptionsError(
            "data.reader=decord cannot be used, since decord is not installed (it has files for "
            "Linux on x86-64 alone): choose --data.reader auto or pyav"
        )


def open_video(
    path: str,
    reader: ReaderName = "auto",
    device: DecodeDevice = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> Reader:
    """Open a video file, or a folder of frames, in the calling process.

    ``auto`` reads a folder by ``frames`` and a file by PyAV; training and evaluation put what they
    measured to be faster in its place (:mod:`video_snl.data.decoding.auto`).

    Args:
        path: Video file, or folder of frames.
        reader: Name of the reader.
        device: Device that decodes.
        max_pixels: Largest number of pixels of a frame, checked before memory is taken for it.

    Raises:
        UserError: The file is missing, empty, cut off, not a video that can be read or one of
            larger frames; or as for :func:`check_reader`.
    """
    if reader == "frames" or (reader == "auto" and os.path.isdir(path)):
        return FramesReader(path, max_pixels)
    if reader != "pyav" or device != "cpu":
        check_reader(reader, device)
    if reader in ("auto", "pyav"):
        return PyAVReader(path, max_pixels)
    info = find_stream_info(path, max_pixels)
    if is_fallback(reader, path):
        return PyAVReader(path, max_pixels)
    refused = _unnameable(reader, path) or refusal(reader, info)
    if refused is not None:
        note_fallback(reader, path, refused)
        return PyAVReader(path, max_pixels)
    try:
        return open_by(reader, path, device, max_pixels)
    except UserError as error:
        if device == "cuda" and not isinstance(error, AstrayError):
            raise
        opened = PyAVReader(path, max_pixels)  # whose error is the better one if it fails as well
        note_fallback(reader, path, str(error))
        return opened


def open_by(
    reader: ReaderName, path: str, device: DecodeDevice, max_pixels: int = MAX_PIXELS
) -> Reader:
    """Open a file with one decoder, whatever its stream info says."""
    if reader == "decord":
        from video_snl.data.decoding.decord import DecordReader

        return DecordReader(path, device, max_pixels)
    if reader == "torchcodec":
        from video_snl.data.decoding.torchcodec import TorchCodecReader

        return TorchCodecReader(path, device, max_pixels)
    return PyAVReader(path, max_pixels)


def refusal(reader: ReaderName, info: StreamInfo) -> str | None:
    """Return why a decoder would not give the right frames of a file; None if it does."""
    if reader == "decord":
        from video_snl.data.decoding.decord import decord_refuses

        return decord_refuses(info)
    if reader == "torchcodec":
        from video_snl.data.decoding.torchcodec import torchcodec_refuses

        return torchcodec_refuses(info)
    return None


def _unnameable(reader: ReaderName, path: str) -> str | None:
    """Return why a library cannot be given a path; None if it can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"{reader} takes names in UTF-8 only"
    return None


def read_clips(
    path: str,
    choose: Callable[[int], list[list[int]]],
    size: int | tuple[int, int],
    reader: ReaderName = "auto",
    device: DecodeDevice = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Decode clips of one video, every frame once, shrunk as soon as it is decoded.

    Args:
        path: Video file, or folder of frames.
        choose: Function from the number of frames of the video to the frame indices of K clips, of
            the same length T each.
        size: Shorter side of the frames returned, in pixels, or their height and width.
        reader, device, max_pixels: As in :class:`~video_snl.config.video.DataConfig`.

    Returns:
        uint8 (K, T, H, W, 3) on the CPU.

    Raises:
        UserError: The file cannot be read.
        OptionsError: It is too short for a clip.
    """
    with closing(open_video(path, reader, device, max_pixels)) as opened:
        return cut_clips(opened, choose, size, path)


def cut_clips(
    opened: Reader,
    choose: Callable[[int], list[list[int]]],
    size: int | tuple[int, int],
    name: str,
) -> Tensor:
    """Cut clips out of a video that is open, as :func:`read_clips` does.

    Args:
        name: Name of the video in messages.

    Raises:
        OptionsError: It is too short for a clip.
    """
    try:
        clips = choose(len(opened))
    except ShortVideoError as error:
        raise _too_short(name, error) from error
    wanted = sorted({index for clip in clips for index in clip})
    parts = []
    for frames in decode_in_chunks(opened, wanted):
        with stage("resize"):
            parts.append(shrink(frames, size).cpu())
    decoded = parts[0] if len(parts) == 1 else torch.cat(parts)
    if clips == [wanted]:
        return decoded[None]
    rows = {index: row for row, index in enumerate(wanted)}
    return decoded[torch.tensor([[rows[index] for index in clip] for clip in clips])]


def decode_in_chunks(opened: Reader, wanted: Sequence[int]) -> Iterator[Tensor]:
    """Yield frames (T, H, W, 3) in pieces that take little memory, in the order of ``wanted``."""
    for first in range(0, len(wanted), CHUNK):
        group = left = wanted[first : first + CHUNK]
        while left:
            count = max(1, CHUNK_BYTES // opened.frame_bytes)
            yield opened.frames(left[:count], group)
            left = left[count:]


def _too_short(path: str, error: ShortVideoError) -> UserError:
    if error.length < 1:
        return UserError(f"{path} holds no frame: fetch the file again, or take it off the list")
    return OptionsError(
        f"{path} has {counts(error.length, 'frame')}, a clip spans {error.span}: set "
        "--data.short_videos repeat_last or wrap, or shorten the clip (--data.clip_frames, "
        "--data.frame_stride or --data.stride_seconds)"
    )


def shrink(frames: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize frames so that the shorter side has ``size`` pixels, also where it had fewer.

    The longer side is long * size / short, rounded to the nearest pixel. Bilinear with
    antialiasing, computed in uint8 on the CPU and in float32 on a GPU.

    Args:
        frames: uint8 (T, H, W, 3).
        size: Pixels of the shorter side, or height and width, whatever the shape was.

    Returns:
        uint8 (T, H', W', 3); the same tensor where the size stays.
    """
    if isinstance(size, tuple):
        return resize(frames, *size)
    height, width = frames.shape[1:3]
    short = min(height, width)
    height, width = ((2 * side * size + short) // (2 * short) for side in (height, width))
    return resize(frames, height, width)


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 frames (T, H, W, 3) as :func:`shrink` does, to a size of any shape."""
    if frames.shape[1:3] == (height, width):
        return frames
    images = frames.permute(0, 3, 1, 2)
    if not frames.is_cuda:
        return _interpolate(images, height, width).permute(0, 2, 3, 1)
    exact = _interpolate(images.float(), height, width)  # a GPU does not resize bytes
    return exact.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)


def _interpolate(images: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
