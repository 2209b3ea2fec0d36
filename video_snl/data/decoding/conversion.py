"""The one conversion of decoded frames to 8-bit RGB.

It is swscale's, bicubic where colours are stored at a lower resolution and with the matrix and the
range that the frame names. Two things that newer versions of swscale do are left out, so that all
readers, and FFmpeg's own program, give the same pixels: the place of the colour samples does not
shift them, and an interlaced frame is converted as the frame it is, not field by field. (Up to 29
decibels lie between the two.)
"""

from __future__ import annotations

from functools import cache

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

__all__ = ["SAME_EVERYWHERE", "RgbConverter"]

# Where the size stays, any choice but ACCURATE_RND gives the very pixels that decord gives.
SCALING = Interpolation.BICUBIC
# Formats that swscale converts straight to RGB, heedless of where the colour samples lie, where the
# size stays and the number of rows is even.
_DIRECT = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
# The matrices that swscale knows, by their numbers in ITU-T H.273; 2 is none that is named. In the
# place of others FFmpeg's program takes that of BT.601, where the library refuses the frame.
_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9, 10})
_UNNAMED = 2
SAME_EVERYWHERE = _DIRECT | {"yuv444p", "yuvj444p", "gray", "gbrp", "rgb24", "bgr24"}
"""Formats of frames of which every version of swscale makes the same RGB."""


class RgbConverter:
    """Makes decoded frames RGB of one size; frames of another size are scaled (bicubic)."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        """Convert a frame to uint8 (H, W, 3); valid until the next call."""
        direct = (
            not frame.interlaced_frame
            and _is_direct(frame.format.name)
            and frame.height % 2 == 0
            and (frame.width, frame.height) == (width, height)
            and frame.colorspace in _MATRICES
        )
        if not direct:
            frame = _bare(frame)
        rgb = self._reformatter.reformat(
            frame, width, height, "rgb24", None, None, SCALING, threads=1
        )
        plane = rgb.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        return lines[:, : 3 * width].reshape(height, width, 3)


@cache
def _is_direct(name: str) -> bool:
    pixels = av.VideoFormat(name, 64, 64)
    whole = pixels.is_rgb or (pixels.chroma_width(), pixels.chroma_height()) == (64, 64)
    return whole or name in _DIRECT


def _bare(frame: av.VideoFrame) -> av.VideoFrame:
    """A copy that keeps pixels, matrix and range and nothing else that is known of a frame."""
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
