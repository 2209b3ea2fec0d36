"""Ranked lists as one picture, to be shown without the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from reid.report.film_strips import film_strip, strip_width
from reid.report.page import Shown
from reid.report.ranked_lists import Entry, RankedList
from video_snl.render.fonts import letters_for, shortened, spelled
from video_snl.utils.files import replace_file

__all__ = ["list_picture"]

_FRAME = (32, 64)
_CELL = (strip_width(4, _FRAME[0]), _FRAME[1])
_EDGE, _GAP, _TEXT = 3, 8, 17
_RANKS = 10
_LETTERS = 11  # pixels
_TITLE, _TITLE_LETTERS = 28, 15
_COLOURS = {"query": (11, 92, 173), "right": (26, 127, 55), "wrong": (196, 22, 42)}


def list_picture(
    lists: Sequence[RankedList], asked: Sequence[Shown], searched: Sequence[Shown], path: Path
) -> None:
    """A row per query: its film strip and those of its first ten ranks, right and wrong marked.

    Junk, which has no rank, is left out. Written atomically as PNG.
    """
    step = _CELL[0] + 2 * _EDGE + _GAP, _CELL[1] + 2 * _EDGE + _TEXT + _GAP
    size = _GAP + (1 + _RANKS) * step[0], _TITLE + _GAP + max(1, len(lists)) * step[1]
    picture = Image.new("RGB", size, "white")
    title = "Queries (left, blue) and the nearest tracklets: rank, right or wrong, distance"
    letters_for([title], _TITLE_LETTERS).draw(
        ImageDraw.Draw(picture), (_GAP, _GAP), title, fill="black"
    )
    for index, each in enumerate(lists):
        top = _TITLE + _GAP + index * step[1]
        query = asked[each.query]
        _draw(picture, (_GAP, top), query, "query", f"query, person {query.person}")
        ranked = [entry for entry in each.entries if entry.rank is not None][:_RANKS]
        for column, entry in enumerate(ranked, start=1):
            corner = _GAP + column * step[0], top
            _draw(picture, corner, searched[entry.row], entry.verdict, _caption(entry))
    replace_file(path, lambda temporary: picture.save(temporary, format="PNG", optimize=True))


def _caption(entry: Entry) -> str:
    return f"{entry.rank}  {entry.verdict}  {entry.distance:.3g}"


def _draw(
    picture: Image.Image, corner: tuple[int, int], shown: Shown, kind: str, text: str
) -> None:
    left, top = corner
    colour, draw = _COLOURS[kind], ImageDraw.Draw(picture)
    right, bottom = left + _CELL[0] + 2 * _EDGE - 1, top + _CELL[1] + 2 * _EDGE - 1
    draw.rectangle((left, top, right, bottom), outline=colour, width=_EDGE, fill=(235, 235, 235))
    strip = film_strip(shown.frames, width=_FRAME[0], height=_FRAME[1])
    picture.paste(strip, (left + _EDGE, top + _EDGE))
    said = spelled(text)
    letters = letters_for([said, "…"], _LETTERS)
    said = shortened(said, letters, _CELL[0] + 2 * _EDGE)
    letters.draw(draw, (left, bottom + 2), said, fill=colour)
