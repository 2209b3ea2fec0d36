"""Read still images: the one function by which both packages turn a file into 8-bit RGB.

What is accepted, and what becomes of the pixels, is decided here and nowhere else. Only Pillow and
NumPy are loaded, since the processes that inspect a million files start from this module.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO

import numpy as np
from PIL import Image, ImageFile

from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = [
    "ACCEPTED_FORMATS",
    "UnreadableImage",
    "check_max_pixels",
    "open_image",
    "read_image",
    "read_label_map",
]

# Those of the accepted suffixes (video_snl.utils.media), and GIF under any of these names. Pillow
# knows more, among them formats for which it starts other programs (EPS: Ghostscript).
ACCEPTED_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP")
"""Formats of still images that are read, by the names that Pillow has for them."""

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC = 0x0106
_PLANES, _SEPARATE = 0x011C, 2
_WHITE_IS_ZERO = 0
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that shows an image upright, by the value of its EXIF orientation; 1 is upright."""

# Pillow keeps the high bytes of colours of 16 bits. Unpacked by the second raw mode, the same file
# gives the low bytes; a grey and its alpha give high, low, high, low.
_OTHER_ORDER = "B" if sys.byteorder == "little" else "L"
_LOW_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", _OTHER_ORDER))
} | {"LA;16B": "RGBA"}

# What Pillow raises for damaged files of all formats.
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
)

# Pillow warns of damaged notes beside sound pixels, and of sizes that are checked here; an error
# is to be one line.
for _kind in (UserWarning, RuntimeWarning):
    warnings.filterwarnings("ignore", category=_kind, module=r"PIL\.")


class UnreadableImage(UserError):
    """Error of a single file, which the message names; others may be readable."""


def read_image(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = MAX_PIXELS,
    draft: tuple[int, int] | None = None,
) -> Image.Image:
    """Read an image as 8-bit RGB, upright.

    The EXIF orientation is applied. Values v of 16 bits become round(v / 257), those of 12 bits
    round(255 v / 4095). Grey, one bit, palettes and CMYK are converted, transparency is dropped,
    and of several frames or pages the first is read.

    Args:
        path: File of one of the :data:`ACCEPTED_FORMATS`; its content counts, not its name.
        max_pixels: Most pixels of an image; checked in its header, before memory is taken.
        draft: Height and width in pixels that are enough. A JPEG may then be decoded at a half, a
            quarter or an eighth of its size, never below this one.

    Raises:
        UnreadableImage: The file is damaged, absent, not a regular file, of no accepted format, of
            more pixels, or has values for which no conversion to 8 bits is defined.
    """
    with _readable(path, max_pixels), open_image(path, max_pixels=max_pixels) as image:
        stored = _stored_mode(image)
        if draft is not None and image.format in ("JPEG", "MPO"):
            height, width = draft if _orientation(image) < 5 else draft[::-1]
            image.draft("RGB", (width, height))
        pixels = _rgb(image, path, stored)
        # Only now, as Pillow itself turns TIFF files when it decodes them, and then forgets it.
        turn = _TRANSPOSED.get(_orientation(image))
        return pixels if turn is None else pixels.transpose(turn)


def read_label_map(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read the numbers that a label map stores, uint8 (H, W).

    Those of the file: no palette, no scaling and no orientation is applied to them.

    Raises:
        UnreadableImage: As for :func:`read_image`; or it is neither grey nor has a palette.
    """
    with _readable(path, max_pixels), open_image(path, max_pixels=max_pixels) as image:
        if image.mode not in ("1", "L", "P"):
            raise UnreadableImage(
                f"{path} has the mode {image.mode}: expected a label map of at most 8 bits, grey "
                "or with a palette"
            )
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            raise UnreadableImage(
                f"{path} is a TIFF file in which 0 is white, so that its numbers can be meant in "
                "two ways: save the label map as PNG"
            )
        if _is_scaled(image):
            raise UnreadableImage(
                f"{path} is a PNM file whose largest value is not 255, so that its numbers are "
                "shares of it: save the label map as PNG"
            )
        # Pillow spreads greys of 2 and 4 bits over 0 to 255.
        step = {"L;2": 85, "L;4": 17}.get(_stored_mode(image), 1)
        orientation = _orientation(image) if image.format == "TIFF" else 1
        numbers = np.asarray(image).astype(np.uint8)
        if orientation > 1 and _orientation(image) == 1:  # Pillow turned it when it decoded it
            back = _TRANSPOSED[{6: 8, 8: 6}.get(orientation, orientation)]
            numbers = np.asarray(image.transpose(back)).astype(np.uint8)
        return numbers // np.uint8(step)


@contextmanager
def open_image(
    source: str | os.PathLike[str] | IO[bytes], *, max_pixels: int = MAX_PIXELS
) -> Iterator[ImageFile.ImageFile]:
    """Open an image of an accepted format without decoding it.

    Args:
        source: Path of a regular file, or an open file.
        max_pixels: Most pixels of the image, by its header.

    Raises:
        UnreadableImage: It has more pixels, is of no accepted format or not a regular file.
        OSError, ValueError, SyntaxError: What Pillow raises for damaged files.
    """
    # Pillow has a limit of its own, which a greater one of the user's is not to meet.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    # From an open file, since Pillow maps grey TIFF files that it opens by name into memory, in the
    # size they have after they are turned: their rows are then torn.
    opening: AbstractContextManager[IO[bytes]]
    if isinstance(source, str | os.PathLike):
        name, opening = os.fspath(source), _opened(source)
    else:
        name, opening = "the image", nullcontext(source)
    with opening as file:
        try:
            opened = Image.open(file, formats=ACCEPTED_FORMATS)
        except Image.UnidentifiedImageError as error:
            raise UnreadableImage(
                f"{name} cannot be read (it is not an image of an accepted format: "
                f"{', '.join(ACCEPTED_FORMATS)})"
            ) from error
        with opened:
            if opened.width * opened.height > max_pixels:
                raise UnreadableImage(
                    f"{name} has {opened.width} x {opened.height} pixels, more than max_pixels="
                    f"{max_pixels} allows: raise max_pixels to read it"
                )
            yield opened


def check_max_pixels(name: str, value: int) -> None:
    """Refuse a limit below one pixel.

    Args:
        name: Start of the message, before the value, such as "data.max_pixels=".

    Raises:
        UserError: ``value`` is below 1.
    """
    if value < 1:
        raise UserError(f"{name}{value}: give a number of pixels, 1 or more")


@contextmanager
def _readable(path: str | os.PathLike[str], max_pixels: int) -> Iterator[None]:
    """Turn what Pillow raises for damaged files into one line that names the file."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UnreadableImage(
            f"{path} has more pixels than max_pixels={max_pixels} allows: raise max_pixels to read "
            "it"
        ) from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise UnreadableImage(f"{path} cannot be read ({reason})") from error


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file; to open a pipe would wait for a writer, perhaps for ever."""
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise UnreadableImage(f"{path} cannot be read (it is {found}, not an image file)")
    return open(descriptor, "rb")


def _orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or its notes are damaged."""
    if image.format == "JPEG" and "exif" not in image.info and "xmp" not in image.info:
        return 1  # which takes a tenth of the time of a small image to find otherwise
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:  # The pixels may be sound; if they are not, decoding says so.
        return 1
    return value if value in _TRANSPOSED else 1


def _stored_mode(image: ImageFile.ImageFile) -> str:
    """Return how the file stores its pixels, as Pillow's decoder is told; "" once decoded."""
    if not image.tile:
        return ""
    arguments = image.tile[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _is_scaled(image: ImageFile.ImageFile) -> bool:
    """Tell whether Pillow scales the values of a PNM file, whose largest is not 255."""
    if image.format != "PPM" or not image.tile or image.mode == "1":
        return False
    arguments = image.tile[0][3]  # of the largest value beside the mode, where it is not 255
    return isinstance(arguments, tuple) and len(arguments) == 2 and arguments[1] != 255


def _rgb(image: ImageFile.ImageFile, path: str | os.PathLike[str], stored: str) -> Image.Image:
    mode = image.mode
    tags = getattr(image, "tag_v2", {})
    if max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8 and (
        tags.get(_PLANES) == _SEPARATE or stored.startswith("RGBa")
    ):
        how = "in separate planes" if tags.get(_PLANES) == _SEPARATE else "multiplied by alpha"
        raise UnreadableImage(
            f"{path} has colours of 16 bits {how}, which are not read: convert it to 8 bits or to "
            "PNG"
        )
    # PNM files of more than 8 bits have the mode I, with values that Pillow scaled to 16 bits.
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PPM", "PNG")):
        largest, inverted = _grey_range(image)
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(
            _eight_bits(largest - values if inverted else values, largest)
        ).convert("RGB")
    if mode.startswith(("I", "F")):
        raise UnreadableImage(
            f"{path} has values of 32 bits (mode {mode}), whose range is not known: convert it to "
            "8 or 16 bits"
        )
    if stored in _LOW_BYTES:
        low = _low_bytes(path, _LOW_BYTES[stored])
        high = np.asarray(image)[..., :3]
        low = low[..., 1:2] if stored.startswith("LA") else low[..., :3]
        return Image.fromarray(_eight_bits(high.astype(np.uint16) * 256 + low, 65535))
    if mode == "RGBa":  # colours that were multiplied by their alpha
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, largest: int) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + largest // 2) // largest).astype(np.uint8)


def _grey_range(image: ImageFile.ImageFile) -> tuple[int, bool]:
    """Return the greatest value that a grey image can have, and whether it stands for black."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))
    return (1 << bits[0]) - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _low_bytes(path: str | os.PathLike[str], stored: str) -> np.ndarray:
    with _opened(path) as file, Image.open(file, formats=ACCEPTED_FORMATS) as image:
        image.tile = [
            tile._replace(args=(stored, *tile.args[1:]) if isinstance(tile.args, tuple) else stored)
            for tile in image.tile
        ]
        return np.asarray(image)
