"""Ranked lists: the nearest gallery tracklets of a query, which are right, and an image of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from reid.data.tracklet import JUNK
from reid.report.page import Shown
from video_snl.render.film_strips import chosen_frames, film_strip, strip_width
from video_snl.render.fonts import letters_for, shortened, spelled
from video_snl.utils.files import replace_file

if TYPE_CHECKING:
    from reid.report.evaluation import Evaluation

__all__ = [
    "Choice",
    "Entry",
    "RankedList",
    "Verdict",
    "choose_queries",
    "draw_lists",
    "ranked_list",
]

Verdict = Literal["right", "wrong", "junk"]

_SHOWN = 4  # queries of each kind whose film strips the report shows
_LISTED_JUNK = 5  # junk tracklets among the nearest that are listed, for each query

# Sizes of the image, in pixels, and its colours.
_FRAMES = {1: (64, 128), 2: (64, 128), 3: (32, 64), 4: (32, 64)}  # by the most in a strip
_CAPTION = 112  # least width of a column
_EDGE, _GAP, _TEXT = 3, 8, 17
_RANKS = 10
_LETTERS = 11
_TITLE, _TITLE_LETTERS = 28, 15
_COLOURS = {"query": (11, 92, 173), "right": (26, 127, 55), "wrong": (196, 22, 42)}


class Entry(NamedTuple):
    """One gallery tracklet in the list of a query.

    Attributes:
        row: Row of the tracklet in the gallery's table.
        rank: Rank from 1, counted without junk; None for junk.
        distance: Distance to the query.
        verdict: ``right`` (the query's identity under another camera, or under any where cameras
            are ignored), ``junk`` (the same identity under the same camera, the query itself, or
            identity -1: ignored) or ``wrong`` (all else, distractors too).
    """

    row: int
    rank: int | None
    distance: float
    verdict: Verdict


@dataclass(frozen=True)
class RankedList:
    """Nearest tracklets of one query, ascending by distance; ``query`` is its row."""

    query: int
    entries: list[Entry]


@dataclass(frozen=True)
class Choice:
    """Query that is shown with film strips, and why: ``worst``, ``random`` or ``best``."""

    query: int
    why: Literal["worst", "random", "best"]


def ranked_list(evaluation: Evaluation, query: int, top: int = 10) -> RankedList:
    """Return the list of one query up to rank ``top``; of equal distances the lower row is first.

    Up to five junk tracklets are kept in their places; the others are left out.
    """
    distances = evaluation.distances[query].cpu().numpy()
    return RankedList(query, list(_entries(evaluation, query, distances, top)))


def choose_queries(average_precision: Sequence[float] | np.ndarray) -> list[Choice]:
    """Choose the queries to show: four of the lowest average precision, four of the highest.

    Between them are four drawn at random, by a fixed seed, from the rest. Queries without a match
    (NaN) are none of them; equal precisions go by row. Where there are fewer than twelve, the worst
    come first, then the best.
    """
    values = np.asarray(average_precision, dtype=np.float64)
    valid = np.flatnonzero(~np.isnan(values))
    order = valid[np.argsort(values[valid], kind="stable")]
    worst, rest = order[:_SHOWN], order[_SHOWN:]
    best, middle = rest[::-1][:_SHOWN], rest[::-1][_SHOWN:]
    drawn = np.random.default_rng(0).permutation(np.sort(middle))[:_SHOWN]
    return [
        *(Choice(int(row), "worst") for row in worst),
        *(Choice(int(row), "random") for row in drawn),
        *(Choice(int(row), "best") for row in best),
    ]


def draw_lists(
    lists: Sequence[RankedList], asked: Sequence[Shown], searched: Sequence[Shown], path: Path
) -> None:
    """Draw a row per query: its film strip and those of its first ten ranks, marked right or wrong.

    Junk, which has no rank, is left out. All strips have room for the most frames that one of them
    shows. The image is written atomically, as PNG.

    Args:
        lists: Ranked lists to draw.
        asked: Tracklets of all queries, by row.
        searched: Tracklets of the whole gallery, by row.
        path: File to write.
    """
    ranks = [[entry for entry in each.entries if entry.rank is not None][:_RANKS] for each in lists]
    drawn = [asked[each.query] for each in lists]
    drawn += [searched[entry.row] for ranked in ranks for entry in ranked]
    most = max((len(chosen_frames(len(shown.frames))) for shown in drawn), default=1)
    width, height = _FRAMES[max(1, most)]
    cell = strip_width(max(1, most), width) + 2 * _EDGE, height + 2 * _EDGE
    step = max(cell[0], _CAPTION) + _GAP, cell[1] + _TEXT + _GAP
    size = _GAP + (1 + _RANKS) * step[0], _TITLE + _GAP + max(1, len(lists)) * step[1]
    image = Image.new("RGB", size, "white")
    title = "Queries (left, blue) and the nearest tracklets: rank, right or wrong, distance"
    letters_for([title], _TITLE_LETTERS).draw(
        ImageDraw.Draw(image), (_GAP, _GAP), title, fill="black"
    )

    def draw(corner: tuple[int, int], shown: Shown, kind: str, text: str) -> None:
        strip = film_strip(shown.frames, width=width, height=height)
        _draw(image, (*corner, *cell), strip, kind, text)

    for index, (each, ranked) in enumerate(zip(lists, ranks, strict=True)):
        top = _TITLE + _GAP + index * step[1]
        query = asked[each.query]
        draw((_GAP, top), query, "query", f"query, person {query.person}")
        for column, entry in enumerate(ranked, start=1):
            corner = _GAP + column * step[0], top
            draw(corner, searched[entry.row], entry.verdict, _caption(entry))
    replace_file(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))


def _entries(
    evaluation: Evaluation, query: int, distances: np.ndarray, top: int
) -> Iterator[Entry]:
    identities = np.asarray(evaluation.gallery.person_ids)
    same = identities == int(evaluation.query.person_ids[query])
    ignored = identities == JUNK
    if evaluation.cameras == "cross":
        camera = int(evaluation.query.camera_ids[query])
        ignored |= same & (np.asarray(evaluation.gallery.camera_ids) == camera)
    ignored[evaluation.own_rows.get(query, [])] = True
    rank = junk = 0
    for row in map(int, np.argsort(distances, kind="stable")):
        if ignored[row]:
            junk += 1
            if junk <= _LISTED_JUNK:
                yield Entry(row, None, float(distances[row]), "junk")
            continue
        rank += 1
        yield Entry(row, rank, float(distances[row]), "right" if same[row] else "wrong")
        if rank == top:
            return


def _caption(entry: Entry) -> str:
    return f"{entry.rank}  {entry.verdict}  {entry.distance:.3g}"


def _draw(
    image: Image.Image, box: tuple[int, int, int, int], strip: Image.Image, kind: str, text: str
) -> None:
    """Draw a strip into a frame (left, top, width, height), and a caption below it."""
    left, top, width, height = box
    colour, draw = _COLOURS[kind], ImageDraw.Draw(image)
    right, bottom = left + width - 1, top + height - 1
    draw.rectangle((left, top, right, bottom), outline=colour, width=_EDGE, fill=(235, 235, 235))
    image.paste(strip, (left + _EDGE, top + _EDGE))
    said = spelled(text)
    letters = letters_for([said, "…"], _LETTERS)
    said = shortened(said, letters, max(width, _CAPTION))
    letters.draw(draw, (left, bottom + 2), said, fill=colour)
