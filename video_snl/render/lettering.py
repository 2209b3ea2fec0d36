"""Lines of text on pictures of any size and content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from PIL import Image, ImageDraw

from video_snl.render.fonts import letters_for, spelled

__all__ = ["Line", "draw_lines", "line_height", "shortened", "text_size"]

_SMALLEST, _SHARE = 10, 24  # text is a 24th of a picture's height
_DARKNESS = 150  # of 255, of the box behind the text
_CUT = "…"
_BARE = (0, 0, 0, 0)
_TABULATOR = 1 / 2  # between name and number, in sizes of the text
_LEAST = 4  # sizes of the text that a name needs; where there is less, numbers are left out


class Measured(Protocol):
    """What tells the width of a text in pixels: a font, or several."""

    def getlength(self, text: str, /) -> float: ...


class Line(NamedTuple):
    """A name, which is shortened where there is no room, and a number behind it."""

    name: str
    number: str = ""


def text_size(height: int) -> int:
    """Of the letters on pictures of a height, in pixels."""
    return max(_SMALLEST, round(height / _SHARE))


def line_height(size: int) -> int:
    return round(1.3 * size)


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
    fitting = [Line(spelled(name), number) for name, number in fitting]
    font = letters_for([_CUT, *(name + number for name, number in fitting)], size)
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
            font.draw(
                drawing,
                (left, top),
                text,
                fill="white",
                stroke_width=1,
                stroke_fill=(0, 0, 0, 200),
            )
    drawn = picture.convert("RGB")
    drawn.paste(box, (margin, margin), box)
    return drawn


def shortened(text: str, font: Measured, room: float) -> str:
    """The text, or as much of its start as fits before an ellipsis."""
    if font.getlength(text) <= room:
        return text
    kept = text
    while kept and font.getlength(kept + _CUT) > room:
        kept = kept[:-1]
    return kept.rstrip() + _CUT
