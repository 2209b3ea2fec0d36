"""HTML pages that hold everything they show: no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from reid.data.tracklet import DISTRACTOR, JUNK, special_person
from reid.report.evaluation import CameraPair
from video_snl.render.film_strips import chosen_frames, data_uri, film_strip, strip_width
from video_snl.render.page import per_cent, shortened_name, write_page
from video_snl.utils.counts import counts, noun

__all__ = ["Shown", "camera_table", "entry_view", "write_reid_page"]

_SYMBOLS = {"query": "▶", "right": "✓", "wrong": "✗", "junk": "–", "found": "●"}
_FRAME = (64, 128)
_FULL_STRIP = strip_width(4, _FRAME[0])


@dataclass(frozen=True)
class Shown:
    """Tracklet as it is shown.

    Attributes:
        name: Name of the tracklet; the page has its last three parts.
        frames: Images, or paths to them; without any, the strip is one crossed box.
        person: Name of the identity; None where it is not known.
        camera: Name of the camera; None where it is not known.
        count: Number of frames that the features are of.
    """

    name: str
    frames: Sequence[str | Path | Image.Image]
    person: str | None
    camera: str | None
    count: int


def write_reid_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Fill a template of this package, escape everything in ``values``, and write it atomically."""
    write_page(path, "reid.report", template, values)


def entry_view(
    shown: Shown, kind: str, *, rank: int | None = None, distance: float | None = None
) -> dict[str, Any]:
    """Return the values of the template's ``strip``.

    Args:
        shown: Tracklet to show.
        kind: ``query``, ``right``, ``wrong``, ``junk`` or ``found``.
        rank: Rank in the list, from 1; None for a query and junk.
        distance: Distance to the query; None for the query itself.
    """
    strip = film_strip(shown.frames, width=_FRAME[0], height=_FRAME[1])
    heading = {"query": "query", "junk": "ignored"}.get(kind, f"rank {rank}")
    said = {"right": ", right", "wrong": ", wrong"}.get(kind, "")
    who = ", ".join(part for part in (_person(shown.person), _camera(shown.camera)) if part)
    lines = [who] if who else []
    if distance is not None:
        lines.append(f"distance {distance:.4g}")
    here = len(chosen_frames(len(shown.frames)))
    count = max(shown.count, len(shown.frames))  # with those that could not be read
    frames = counts(count, "frame")
    lines.append(f"{here} of {frames}" if here else f"{frames}, none found")
    return {
        "kind": kind,
        "symbol": _SYMBOLS[kind],
        "heading": heading + said,
        "lines": lines,
        "name": shortened_name(shown.name),
        "image": data_uri(strip),
        "width": strip.width,
        "height": strip.height,
        # Share of the box, so that frames are of one size, however many there are.
        "share": round(100 * strip.width / _FULL_STRIP, 2),
        "alt": f"{heading}{said}: " + ", ".join(lines),
    }


def camera_table(
    pairs: Sequence[CameraPair], names: Mapping[int, str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Lay the pairs out as a table.

    Returns:
        Names of the cameras of the columns, and a row of cells (None where nothing counts) per
        camera.
    """
    cells = {(pair.query_camera, pair.gallery_camera): _cell(pair) for pair in pairs}
    columns = sorted({column for _, column in cells})
    rows = sorted({row for row, _ in cells})
    return [names.get(column, str(column)) for column in columns], [
        {
            "camera": names.get(row, str(row)),
            "cells": [cells.get((row, column)) for column in columns],
        }
        for row in rows
    ]


def _cell(pair: CameraPair) -> dict[str, Any] | None:
    if pair.rank1 is None or pair.mean_ap is None:
        return None
    return {
        "rank1": per_cent(pair.rank1),
        "mean_ap": per_cent(pair.mean_ap),
        "queries": pair.queries,
        "noun": noun(pair.queries, "query"),
        # Pale from orange (0) over white to blue (1): dark text can be read on all of them.
        "colour": _blend(pair.rank1),
    }


def _blend(share: float) -> str:
    ends = ((250, 205, 165), (255, 255, 255), (150, 195, 240))
    low, high = (ends[0], ends[1]) if share < 0.5 else (ends[1], ends[2])
    part = 2 * share if share < 0.5 else 2 * share - 1
    mixed = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _person(person: str | None) -> str:
    if person is None:
        return ""
    special = {DISTRACTOR: "distractor", JUNK: f"junk, person {person}"}
    number = special_person(person)
    return f"person {person}" if number is None else special[number]


def _camera(camera: str | None) -> str:
    return "" if camera is None else f"camera {camera}"
