"""Text of any script, on images (Pillow) and in figures (matplotlib).

DejaVu Sans, which matplotlib brings along, is used for every character it has. Others come from the
fonts that are installed: of those, the one that has most of the characters still missing is taken,
until all are there. A character that no font has is written as its code, ``\\u6b63``, and one line
on stderr says so. Right-to-left and joined scripts are shaped where Pillow has libraqm, as its
wheels do.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import matplotlib
from matplotlib import font_manager, get_data_path
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "Letters",
    "Line",
    "draw_lines",
    "figure_fonts",
    "letters_for",
    "line_height",
    "shortened",
    "spelled",
    "text_size",
]

_USUAL = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
_PLACEHOLDERS = "LastResort"  # a font of boxes for whatever has no letter
_JOINERS = frozenset("\u200c\u200d")  # they have no glyph, and shape those beside them
_TRIAL = 20  # size at which a font must load; fonts of bitmaps have few sizes
_SMALLEST_TEXT, _TEXT_SHARE = 10, 24  # text is a 24th of an image's height
_DARKNESS = 150  # of 255, of the box below the text
_CUT = "…"
_BARE = (0, 0, 0, 0)
_TABULATOR = 1 / 2  # between name and number, in sizes of the text
_LEAST = 4  # sizes of the text that a name needs; where there is less, numbers are left out
_told: set[str] = set()


class Letters:
    """The fonts of a text in one size.

    Args:
        paths: Font files, the preferred one first.
        size: Size of the letters, in pixels.
    """

    def __init__(self, paths: tuple[str, ...], size: int) -> None:
        self._fonts = [(_characters(path), ImageFont.truetype(path, size)) for path in paths]
        self._baseline = self._fonts[0][1].getmetrics()[0]

    def getlength(self, text: str) -> float:
        """Return the width of a text in pixels."""
        return sum(font.getlength(part) for part, font in self._runs(text))

    def draw(
        self, drawing: ImageDraw.ImageDraw, place: tuple[float, float], text: str, **options: Any
    ) -> None:
        """Draw a text from its upper left corner on; ``options`` are those of Pillow's ``text``."""
        left, top = place
        for part, font in self._runs(text):
            drawing.text((left, top + self._baseline), part, font=font, anchor="ls", **options)
            left += font.getlength(part)

    def _runs(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        """Cut a text where the font changes; each character in the first font that has it."""
        begin, before = 0, self._fonts[0][1]
        for number, character in enumerate(text):
            # Spaces and marks stay with what they follow, so that words are shaped as a whole.
            stays = character in _JOINERS or character == " " or unicodedata.combining(character)
            font = before if stays and number else self._font(character)
            if font is not before:
                if number > begin:
                    yield text[begin:number], before
                begin, before = number, font
        if begin < len(text):
            yield text[begin:], before

    def _font(self, character: str) -> ImageFont.FreeTypeFont:
        for held, font in self._fonts:
            if ord(character) in held:
                return font
        return self._fonts[0][1]


def letters_for(texts: Iterable[str], size: int) -> Letters:
    """Return the fonts for texts as :func:`spelled` gives them."""
    return _letters(_fonts(_others(texts)), size)


def spelled(text: str) -> str:
    """Return a text with the code of every character that cannot be shown in its place.

    These are characters that no installed font has, which one line on stderr names, and characters
    that are none to be seen, such as a line break.
    """
    text = "".join(
        character if character.isprintable() or character in _JOINERS else _code(character)
        for character in unicodedata.normalize("NFC", text)
    )
    wanted = _others([text])
    missing = {c for c in wanted if not any(ord(c) in _characters(p) for p in _fonts(wanted))}
    if not missing:
        return text
    new = sorted(missing - _told)
    _told.update(new)
    if new:
        print(
            f"no installed font has {len(new)} of the characters to be drawn, such as "
            f"{_code(new[0])}: they are drawn as their codes; install a font of that script, such "
            "as one of Noto's",
            file=sys.stderr,
            flush=True,
        )
    return "".join(_code(character) if character in missing else character for character in text)


class Measured(Protocol):
    """A font, or several: what tells the width of a text in pixels."""

    def getlength(self, text: str, /) -> float: ...


class Line(NamedTuple):
    """A name, which is shortened where there is no room, and a number after it."""

    name: str
    number: str = ""


def text_size(height: int) -> int:
    """Return the size in pixels of the letters on images of a height."""
    return max(_SMALLEST_TEXT, round(height / _TEXT_SHARE))


def line_height(size: int) -> int:
    """Return the pixels from one line of text to the next."""
    return round(1.3 * size)


def draw_lines(image: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """Draw lines in the upper left corner, white on a darkened box that lets the image through.

    Of lines that do not fit below one another the last ones are left out, and on very narrow images
    the numbers.
    """
    size = text_size(image.height)
    height, margin = line_height(size), size // 2
    fitting = list(lines[: max(1, (image.height - 2 * margin) // height)])
    if not fitting:
        return image
    fitting = [Line(spelled(name), number) for name, number in fitting]
    font = letters_for([_CUT, *(name + number for name, number in fitting)], size)
    room = image.width - 4 * margin
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
    drawn = image.convert("RGB")
    drawn.paste(box, (margin, margin), box)
    return drawn


def shortened(text: str, font: Measured, room: float) -> str:
    """Return the text, or as much of its start as fits before an ellipsis."""
    if font.getlength(text) <= room:
        return text
    kept = text
    while kept and font.getlength(kept + _CUT) > room:
        kept = kept[:-1]
    return kept.rstrip() + _CUT


@contextmanager
def figure_fonts(texts: Iterable[str]) -> Iterator[None]:
    """Let matplotlib's figures that are made inside have fonts for ``texts``."""
    families = [font_manager.get_font(path).family_name for path in _fonts(_others(texts))]
    with matplotlib.rc_context({"font.family": list(dict.fromkeys(families))}):
        yield


def _code(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _others(texts: Iterable[str]) -> frozenset[str]:
    """Return the characters that need a glyph, ASCII apart, which every font that counts has."""
    # Digits that change must not make another search.
    return frozenset(
        character
        for text in texts
        for character in text
        if not character.isascii() and character not in _JOINERS and character.isprintable()
    )


@lru_cache(maxsize=64)
def _letters(paths: tuple[str, ...], size: int) -> Letters:
    return Letters(paths, size)


@lru_cache(maxsize=256)
def _fonts(characters: frozenset[str]) -> tuple[str, ...]:
    """Return as few font files as have all of the characters, or all that any font has."""
    chosen = [_USUAL]
    missing = {c for c in characters if ord(c) not in _characters(_USUAL)}
    while missing:
        counts = {path: sum(ord(c) in _characters(path) for c in missing) for path in _installed()}
        best = max(counts, key=lambda path: counts[path], default="")
        if not best or not counts[best]:
            break
        chosen.append(best)
        missing = {c for c in missing if ord(c) not in _characters(best)}
    return tuple(chosen)


@lru_cache(maxsize=1)
def _installed() -> list[str]:
    """Return the fonts that can be drawn with, plain upright sans faces first."""
    entries: dict[str, font_manager.FontEntry] = {}
    for entry in font_manager.fontManager.ttflist:
        entries.setdefault(entry.fname, entry)  # of a collection the first face is drawn with
    paths = [path for path in entries if _PLACEHOLDERS not in path and _loads(path)]

    def unusual(path: str) -> tuple[bool, bool, bool, str]:
        entry = entries[path]
        plain = entry.style == "normal" and entry.weight in (400, "normal", "regular")
        return not plain, "Mono" in entry.name, "Serif" in entry.name, path

    return sorted(paths, key=unusual)


def _loads(path: str) -> bool:
    try:
        ImageFont.truetype(path, _TRIAL)
    except OSError:
        return False
    return bool(_characters(path))


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the codes that a font has; none where it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
