"""From a video file to uint8 clips at the short side wanted.

Nothing is opened, and decord is not even imported, before the process that decodes asks for a
video: a reader neither survives a fork nor crosses a process boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from video_snl.data.clips import ShortVideoError
from video_snl.data.containers import check_container
from video_snl.data.sequential import SequentialReader
from video_snl.errors import OptionsError, UserError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["DecordReader", "Reader", "open_video", "read_clips", "shrink"]

# Frames decoded before they are shrunk: bounds the memory of full-size frames.
CHUNK = 32
# By default decord hands out copies of the nearest good frame for any number of frames that it
# cannot decode. Sound files of UCF-101 may count one frame more than they hold (one in a hundred
# does: v_Kayaking_g12_c03), so that one must pass; the second is a margin, the third an error.
COPIED_FRAMES = 2


class Reader(Protocol):
    """A video as a sequence of frames."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def frames(self, indices: Sequence[int]) -> Tensor:
        """The frames of these indices, RGB, uint8 (T, H, W, 3), as the file holds them."""
        ...


class DecordReader:
    """A video read by decord, in one thread: workers are what runs side by side.

    Raises:
        UserError: The file cannot be opened, or breaks while it is decoded.
    """

    def __init__(self, path: str) -> None:
        decord = _decord()
        codec = check_container(path)
        self.path = path
        self._broken = (RuntimeError, decord.DECORDError, decord.DECORDLimitReachedError)
        try:
            self._video = decord.VideoReader(path, num_threads=1, fault_tol=COPIED_FRAMES)
        except self._broken as error:
            raise UserError(
                f"{path} cannot be opened: its video ({codec}) is damaged, cut off, or of a kind "
                "that decord does not read: fetch it again, re-encode it (ffmpeg -i FILE -c:v "
                "libx264 NEW.mp4), or take it off the list"
            ) from error

        self._sequential: SequentialReader | None = None
        if self._seeks_astray(codec):
            self._sequential = SequentialReader(path, len(self), missing=COPIED_FRAMES)

    def __len__(self) -> int:
        return len(self._video)

    def _seeks_astray(self, codec: str) -> bool:
        """Whether decord would return other frames than those asked for.

        It seeks by time stamps. Where the packets of a file with several key frames have none
        (H.264 in AVI), or where key frames are not clean entries (HEVC), it lands frames beside
        the one meant, without saying so.
        """
        if len(self._video.get_key_indices()) <= 1:
            return False
        starts = self._video.get_frame_timestamp(range(len(self)))[:, 0]
        return codec == "hevc" or not bool((starts[1:] > starts[:-1]).all())

    def frames(self, indices: Sequence[int]) -> Tensor:
        """The frames of these indices, RGB, uint8 (T, H, W, 3)."""
        if self._sequential is not None:
            return self._sequential.frames(indices)
        try:
            batch = torch.from_numpy(self._video.get_batch(list(indices)).asnumpy())
        except self._broken as error:
            if "DECORDArrayCopyFromTo" in str(error):
                raise UserError(
                    f"{self.path} cannot be read: decord takes no frames as narrow as these (16, "
                    "24, 48 and 72 pixels): re-encode it (ffmpeg -i FILE -vf scale=-2:128 NEW.mp4)"
                ) from error
            raise self._breaks(indices) from error
        if len(batch) != len(indices):  # a file that ends before its index says so
            raise self._breaks(indices)
        return batch

    def _breaks(self, indices: Sequence[int]) -> UserError:
        return UserError(
            f"{self.path} breaks while frames {min(indices)}-{max(indices)} of {len(self)} are "
            "decoded: fetch the file again, re-encode it, or take it off the list"
        )


def open_video(path: str) -> Reader:
    """Open a video file in the calling process.

    Raises:
        UserError: The file is missing, empty, cut off or no video that can be read.
    """
    return DecordReader(path)


def read_clips(path: str, choose: Callable[[int], list[list[int]]], short_side: int) -> Tensor:
    """Decode clips of one video, every frame once, shrunk as soon as it is decoded.

    Args:
        path: The video file.
        choose: From the number of frames of the video to the frame indices of K clips, of the same
            length T each.
        short_side: Pixels of the shorter side of the frames returned.

    Returns:
        uint8 (K, T, H, W, 3) with min(H, W) = ``short_side``.

    Raises:
        UserError: The file cannot be read.
        OptionsError: It is too short for a clip.
    """
    reader = open_video(path)
    try:
        clips = choose(len(reader))
    except ShortVideoError as error:
        if error.length < 1:
            raise UserError(
                f"{path} holds no frame: fetch the file again, or take it off the list"
            ) from error
        raise OptionsError(
            f"{path} has {error.length} frames, a clip spans {error.span}: set "
            "--data.short_videos repeat_last or wrap, or shorten the clip (--data.clip_frames, "
            "--data.frame_stride)"
        ) from error
    wanted = torch.tensor(clips, dtype=torch.long)
    unique, place = torch.unique(wanted, return_inverse=True)
    parts = [shrink(reader.frames(part.tolist()), short_side) for part in unique.split(CHUNK)]
    return torch.cat(parts)[place]


def shrink(frames: Tensor, short_side: int) -> Tensor:
    """Resize frames so that the shorter side has ``short_side`` pixels (also where it had less).

    The longer side is long * short_side / short, rounded to the nearest pixel. Bilinear with
    antialiasing, computed in uint8.

    Args:
        frames: uint8 (T, H, W, 3).

    Returns:
        uint8 (T, H', W', 3); the same tensor where nothing is to be done.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    if short == short_side:
        return frames
    size = [(2 * side * short_side + short) // (2 * short) for side in (height, width)]
    resized = functional.interpolate(
        frames.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True
    )
    return resized.permute(0, 2, 3, 1)


def _decord() -> ModuleType:
    import decord

    # One line for the person at the keyboard, not the decoder's own remarks before it.
    decord.logging.set_level(decord.logging.QUIET)
    return decord
