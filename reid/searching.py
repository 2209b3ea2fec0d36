"""``reid search``: the gallery tracklets nearest to some people, as a table, JSON or a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.outputs import check_file, writing
from reid.tracklet import JUNK
from video_snl.errors import UserError

if TYPE_CHECKING:
    from reid.features import FeatureTable
    from reid.index import IndexName, Metric, SearchResult

__all__ = ["filled_table", "run_search"]


def run_search(
    checkpoint: str,
    gallery: str,
    queries: Sequence[str],
    *,
    index: IndexName = "exact",
    metric: Metric = "cosine",
    top: int = 10,
    page: str | None = None,
    as_json: bool = False,
    max_pixels: int | None = None,
) -> int:
    """Search a feature file for the people of some tracklets, and print what is nearest.

    Args:
        checkpoint: Network of the queries' features; the gallery's must be of the same one.
        gallery: Feature file of ``reid extract``.
        queries: Folders of frames, or videos; each is one tracklet. As many frames of them are
            looked at as of the gallery's.
        index: ``exact``, or ``ivf`` or ``hnsw`` (approximate; recall against exact is printed).
        metric: ``cosine`` or ``euclidean``.
        top: Tracklets per query.
        page: Write an HTML page with film strips to this file, too.
        as_json: Print JSON instead of a table.
        max_pixels: Most pixels of an image of the queries; default as in training.

    Raises:
        UserError: Nothing to search for or in, a bad file, or features of another network.
    """
    from reid.extract import extract_tracklets
    from reid.features import same_model
    from reid.index import search

    _check_arguments(gallery, queries, top, page)
    table = filled_table(gallery)
    asked = extract_tracklets(
        Path(checkpoint), list(queries), test_frames=table.test_frames, max_pixels=max_pixels
    )
    same_model(asked, table)
    found = search(asked, table, index=index, top=min(top, len(table.names)), metric=metric)
    answer = _answer(asked, table, found, gallery=gallery, index=index, metric=metric)
    print(json.dumps(answer, indent=2) if as_json else _text(answer), flush=True)
    if page is not None:
        _write_page(page, asked, table, found, gallery, quiet=as_json)
    return 0


def _write_page(
    page: str,
    asked: FeatureTable,
    table: FeatureTable,
    found: SearchResult,
    gallery: str,
    *,
    quiet: bool,
) -> None:
    from reid.search_page import write_search_page

    with writing("--page", page):
        write_search_page(Path(page), asked, table, found, gallery=gallery)
    if not quiet:
        print(f"page: {page}")


def filled_table(gallery: str) -> FeatureTable:
    """The table of a feature file.

    Raises:
        UserError: It is not there, is damaged, or holds no tracklet.
    """
    from reid.features import read_features

    table = read_features(Path(gallery))
    if not table.names:
        raise UserError(
            f"{gallery} holds no tracklets: there is nothing to search in; make it anew with "
            "reid extract"
        )
    return table


def _check_arguments(gallery: str, queries: Sequence[str], top: int, page: str | None) -> None:
    if not queries:
        raise UserError("no query: name at least one folder of frames, or video, to search for")
    for query in queries:
        if not Path(query).exists():
            raise UserError(
                f"query {query} does not exist; name a folder of frames of one person, or a video"
            )
    if not Path(gallery).is_file():
        raise UserError(
            f"--gallery {gallery} is no file; make it with reid extract --checkpoint C FOLDER... "
            f"-o {gallery}"
        )
    if top < 1:
        raise UserError(f"--top {top}: at least one tracklet per query is needed")
    if page is not None:
        check_file("--page", page, "found.html")


def _answer(
    asked: FeatureTable,
    table: FeatureTable,
    found: SearchResult,
    *,
    gallery: str,
    index: str,
    metric: str,
) -> dict[str, Any]:
    return {
        "gallery": gallery,
        "tracklets": len(table.names),
        "index": index,
        "metric": metric,
        "recall": found.recall,
        "queries": [
            {
                "name": name,
                "frames": int(asked.num_frames[row]),
                "skipped_frames": int(asked.skipped_frames[row]),
                "results": _results(table, found, row),
            }
            for row, name in enumerate(asked.names)
        ],
    }


def _results(table: FeatureTable, found: SearchResult, row: int) -> list[dict[str, Any]]:
    """The results of one query; an approximate index may find fewer than were asked for (-1)."""
    pairs = zip(found.indices[row].tolist(), found.distances[row].tolist(), strict=True)
    return [
        {
            "rank": rank,
            "distance": float(distance),
            "name": table.names[column],
            "person": _known(table.person_ids[column]),
            "camera": _known(table.camera_ids[column]),
        }
        for rank, (column, distance) in enumerate(
            ((column, distance) for column, distance in pairs if column >= 0), start=1
        )
    ]


def _known(number: Any) -> int | None:
    return None if int(number) == JUNK else int(number)


def _text(answer: dict[str, Any]) -> str:
    lines = [f"{answer['tracklets']} tracklets in {answer['gallery']}"]
    for query in answer["queries"]:
        skipped = query["skipped_frames"]
        unread = f", {skipped} more unreadable and skipped" if skipped else ""
        lines += ["", f"query {query['name']} ({query['frames']} frames{unread})"]
        lines.append("rank  distance  person  camera  tracklet")
        for result in query["results"]:
            person, camera = _dash(result["person"]), _dash(result["camera"])
            lines.append(
                f"{result['rank']:4}  {result['distance']:8.4f}  {person:>6}  {camera:>6}  "
                f"{result['name']}"
            )
    if answer["recall"] is not None:
        lines += [
            "",
            f"recall of the {answer['index']} index against exact search: {answer['recall']:.1%}",
        ]
    return "\n".join(lines)


def _dash(number: int | None) -> str:
    return "-" if number is None else str(number)
