"""Lines of text on pictures of any size and content."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from matplotlib import font_manager, get_data_path
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Line", "draw_lines", "font_for", "line_height", "text_size"]

_SMALLEST, _SHARE = 10, 24  # text is a 24th of a picture's height
_DARKNESS = 150  # of 255, of the box behind the text
_CUT = "…"
_PLACEHOLDERS = "LastResort"  # a font of boxes for whatever has no letter
_ASCII = string.ascii_letters + string.digits + string.punctuation
_BARE = (0, 0, 0, 0)
_TABULATOR = 1 / 2  # between name and number, in sizes of the text
_LEAST = 4  # sizes of the text that a name needs; where there is less, numbers are left out


class Line(NamedTuple):
    """A name, which is shortened where there is no room, and a number behind it."""

    name: str
    number: str = ""


def text_size(height: int) -> int:
    """Of the letters on pictures of a height, in pixels."""
    return max(_SMALLEST, round(height / _SHARE))


def line_height(size: int) -> int:
    return round(1.3 * size)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font for a text: DejaVu Sans, or an installed one that has more of its characters."""
    # Every font that counts has ASCII: digits that change must not make another search.
    return _font(frozenset(c for c in text if not c.isascii() and c.isprintable()), size)


def draw_lines(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """Lines in the upper left corner, white on a darkened box, the picture showing through.

    Of lines that do not fit below one another the last ones are left out, and on very narrow
    pictures the numbers.
    """
    size = text_size(picture.height)
    height, margin = line_height(size), size // 2
    fitting = list(lines[: max(1, (picture.height - 2 * margin) // height)])
    if not fitting:
        return picture
    font = font_for("".join(name + number for name, number in fitting) + _CUT, size)
    room = picture.width - 4 * margin
    if room - max(font.getlength(number) for _, number in fitting) < _LEAST * size:
        fitting = [Line(name) for name, _ in fitting]
    taken = [font.getlength(number) + size * _TABULATOR if number else 0 for _, number in fitting]
    names = [
        shortened(name, font, room - used) for (name, _), used in zip(fitting, taken, strict=True)
    ]
    width = max(font.getlength(name) + used for name, used in zip(names, taken, strict=True))
    box = Image.new("RGBA", (round(width) + 2 * margin, len(fitting) * height + margin), _BARE)
    drawing = ImageDraw.Draw(box)
    drawing.rounded_rectangle((0, 0, box.width - 1, box.height - 1), margin, (0, 0, 0, _DARKNESS))
    for row, (name, (_, number)) in enumerate(zip(names, fitting, strict=True)):
        top = margin // 2 + row * height
        right = margin + width - font.getlength(number)
        for left, text in ((margin, name), (right, number)):
            # The border keeps letters apart from whatever the box lets through.
            drawing.text(
                (left, top), text, "white", font, stroke_width=1, stroke_fill=(0, 0, 0, 200)
            )
    drawn = picture.convert("RGB")
    drawn.paste(box, (margin, margin), box)
    return drawn


def shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text, or as much of its start as fits before an ellipsis."""
    if font.getlength(text) <= room:
        return text
    kept = text
    while kept and font.getlength(kept + _CUT) > room:
        kept = kept[:-1]
    return kept.rstrip() + _CUT


@lru_cache(maxsize=64)
def _font(characters: frozenset[str], size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_best_font(characters | frozenset(_ASCII)), size)


@lru_cache(maxsize=64)
def _best_font(characters: frozenset[str]) -> str:
    usual = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    best, fewest = usual, _missing(usual, characters)
    if fewest:
        others = {entry.fname for entry in font_manager.fontManager.ttflist}
        for path in sorted(path for path in others if _PLACEHOLDERS not in path):
            missing = _missing(path, characters)
            if missing < fewest:
                best, fewest = path, missing
    return best


def _missing(path: str, characters: frozenset[str]) -> int:
    """How many of them a font lacks; all, where it cannot be read."""
    try:
        held = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return len(characters)
    return sum(ord(character) not in held for character in characters)
