"""``reid search``: the gallery tracklets nearest to some queries, as a table, JSON or a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reid.data.tracklet_folders import Layout
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, writing
from video_snl.utils.json_text import to_json

if TYPE_CHECKING:
    from reid.retrieval.calibration import Calibration
    from reid.retrieval.features import FeatureTable
    from reid.retrieval.index import IndexName, Metric, SearchResult
    from reid.trained import TrainedReid

__all__ = [
    "Limit",
    "decision",
    "filled_table",
    "is_feature_file",
    "limit_of",
    "meaning_of",
    "run_search",
]


def run_search(
    checkpoint: str | None,
    gallery: str,
    queries: Sequence[str],
    *,
    layout: Layout = "auto",
    index: IndexName = "exact",
    metric: Metric = "cosine",
    top: int = 10,
    page: str | None = None,
    as_json: bool = False,
    max_pixels: int | None = None,
    published: str | None = None,
    weights: str | None = None,
    threshold: float | None = None,
    calibration: str | None = None,
) -> int:
    """Search a feature file for some tracklets, and print the nearest ones.

    Args:
        checkpoint: Network of the queries' features; the gallery's must be of the same one. None
            where all queries are feature files.
        gallery: Feature file of ``reid extract``.
        queries: Folders of frames, videos, folders of those, or feature files. As many frames of
            them are looked at as of the gallery's.
        layout: Meaning of the folders, see
            :func:`reid.data.tracklet_folders.tracklets_in`.
        index: ``exact``, or ``ivf`` or ``hnsw`` (approximate; recall against exact is printed).
        metric: ``cosine`` or ``euclidean``.
        top: Tracklets per query.
        page: Write an HTML page with film strips to this file, too.
        as_json: Print JSON instead of a table.
        max_pixels: Most pixels of an image of the queries; default as in training.
        published: Name of a published network in the place of the checkpoint.
        weights: File of its weights.
        threshold: Distance up to which a tracklet is taken for the query's person; where the
            nearest is further, the person is said not to be in the gallery.
        calibration: File of ``reid calibrate`` with the threshold, in its place.

    Raises:
        UserError: Nothing to search for or in, a bad file, or features of another network.
    """
    from reid.retrieval.features import comparable, same_model
    from reid.retrieval.index import search

    _check_arguments(gallery, queries, top, page)
    limit = limit_of(threshold, calibration)
    table = filled_table(gallery)
    if limit is not None and limit.calibration is not None:
        limit.calibration.check(table, metric, str(calibration))
    network = _Network(checkpoint, published, weights)
    asked = _asked(network, queries, layout, table.test_frames, max_pixels)
    same_model(asked, table)
    comparable([asked, table])
    found = search(asked, table, index=index, top=min(top, len(table.names)), metric=metric)
    answer = _answer(asked, table, found, gallery=gallery, index=index, metric=metric, limit=limit)
    print(to_json(answer, indent=2) if as_json else _text(answer), flush=True)
    if page is not None:
        _write_page(page, asked, table, found, answer, quiet=as_json)
    return 0


def is_feature_file(path: str) -> bool:
    """Tell whether a query is a file of features and not of images."""
    return path.lower().endswith(".parquet") and Path(path).is_file()


class _Network(NamedTuple):
    """Checkpoint, or name of a published network and file of its weights."""

    checkpoint: str | None
    published: str | None
    weights: str | None

    def find(self, query: str) -> Path | TrainedReid:
        """Return the checkpoint, or the published network, for the features of a query.

        Raises:
            UserError: None is named, or a published one cannot be loaded.
        """
        from reid.trained import pretrained

        if self.published is not None:
            return pretrained(self.published, self.weights)
        if self.checkpoint is None:
            raise UserError(f"query {query} needs a network: give --checkpoint or --pretrained")
        return Path(self.checkpoint)


def _asked(
    network: _Network,
    queries: Sequence[str],
    layout: Layout,
    test_frames: int | None,
    max_pixels: int | None,
) -> FeatureTable:
    """Return the features of the queries, first those in feature files."""
    from reid.retrieval.features import concatenate

    tables = [filled_table(query) for query in queries if is_feature_file(query)]
    paths = [query for query in queries if not is_feature_file(query)]
    if paths:
        from reid.retrieval.extract import extract_tracklets

        tables.append(
            extract_tracklets(
                network.find(paths[0]),
                paths,
                layout=layout,
                test_frames=test_frames,
                max_pixels=max_pixels,
                say=_say,
            )
        )
    return concatenate(tables)


class Limit(NamedTuple):
    """Largest distance of a tracklet of the query's person, and the calibration it is from."""

    threshold: float
    calibration: Calibration | None


def limit_of(threshold: float | None, calibration: str | None) -> Limit | None:
    """Return what ``--threshold`` or ``--calibrate`` say; None where neither is given.

    Raises:
        UserError: Both are, a bad threshold, or a file that is no calibration.
    """
    if calibration is not None:
        from reid.retrieval.calibration import read_calibration

        if threshold is not None:
            raise UserError("--threshold and --calibrate both name a threshold: give one of them")
        found = read_calibration(calibration)
        return Limit(found.threshold, found)
    if threshold is None:
        return None
    if not 0 <= threshold < float("inf"):
        raise UserError(f"--threshold {threshold:g}: give a distance, from 0")
    return Limit(threshold, None)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write_page(
    page: str,
    asked: FeatureTable,
    table: FeatureTable,
    found: SearchResult,
    answer: dict[str, Any],
    *,
    quiet: bool,
) -> None:
    from reid.report.search_page import write_search_page

    verdicts = [_verdict(query, answer) for query in answer["queries"]]
    with writing("--page", page):
        write_search_page(
            Path(page),
            asked,
            table,
            found,
            gallery=answer["gallery"],
            verdicts=verdicts,
            note=answer["scores"],
        )
    if not quiet:
        print(f"page: {page}")


def filled_table(gallery: str) -> FeatureTable:
    """Read the table of a feature file.

    Raises:
        UserError: It does not exist, is damaged, or holds no tracklet.
    """
    from reid.retrieval.features import read_features

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
            f"--gallery {gallery} is not a file; make it with reid extract --checkpoint C "
            f"FOLDER... -o {gallery}"
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
    limit: Limit | None,
) -> dict[str, Any]:
    asked_names = asked.person_names, asked.camera_names
    names = table.person_names, table.camera_names
    return {
        "gallery": gallery,
        "tracklets": len(table.names),
        "index": index,
        "metric": metric,
        "recall": found.recall,
        "threshold": None if limit is None else limit.threshold,
        "scores": meaning_of(limit, len(table.names)),
        "queries": [
            {
                "name": name,
                "frames": int(asked.num_frames[row]),
                "skipped_frames": int(asked.skipped_frames[row]),
                **_who(asked, asked_names, row),
                **decision(limit, float(found.distances[row, 0])),
                "results": _results(table, names, found, row),
            }
            for row, name in enumerate(asked.names)
        ],
    }


def meaning_of(limit: Limit | None, entries: int) -> str:
    """Say what the distances mean."""
    from reid.retrieval.calibration import NO_PROBABILITIES

    if limit is None or limit.calibration is None:
        return f"{NO_PROBABILITIES}; reid calibrate finds how near is near enough"
    by = limit.calibration
    text = (
        f"threshold {by.threshold:.4f} of a false-alarm rate of {by.wanted:.2%}, chosen on "
        f"{counts(by.searches, 'search', 'searches')} in {counts(by.entries, 'tracklet')}"
    )
    if entries > by.entries:
        more = f"this gallery has {entries:,}: expect more false alarms than that"
        return f"{text}; {more}, since they grow with the gallery"
    return text


def decision(limit: Limit | None, nearest: float) -> dict[str, Any]:
    """Return whether the person is in the gallery, and how often others come so near."""
    if limit is None:
        return {"in_gallery": None, "false_alarm_rate": None}
    by = limit.calibration
    return {
        "in_gallery": nearest <= limit.threshold,
        "false_alarm_rate": None if by is None else by.false_alarm_rate(nearest),
    }


def _verdict(query: dict[str, Any], answer: dict[str, Any]) -> str:
    """Say whether a query's person is in the gallery; "" without a threshold."""
    results, threshold = query["results"], answer["threshold"]
    if threshold is None:
        return ""
    place = "in the gallery" if query["in_gallery"] else "not in the gallery"
    if not results:
        return f"{place}: nobody was found"
    side = "within" if query["in_gallery"] else "beyond"
    text = f"{place}: the nearest, at {results[0]['distance']:.4f}, is {side} {threshold:.4f}"
    if query["false_alarm_rate"] is not None:
        text += (
            f"; of people who are not there {query['false_alarm_rate']:.2%} come as near by chance"
        )
    return text


_Known = tuple[list[str | None], list[str | None]]


def _results(
    table: FeatureTable, names: _Known, found: SearchResult, row: int
) -> list[dict[str, Any]]:
    """Return the results of one query; an approximate index may find fewer than asked for (-1)."""
    pairs = zip(found.indices[row].tolist(), found.distances[row].tolist(), strict=True)
    return [
        {
            "rank": rank,
            "distance": float(distance),
            "name": table.names[column],
            **_who(table, names, column),
        }
        for rank, (column, distance) in enumerate(
            ((column, distance) for column, distance in pairs if column >= 0), start=1
        )
    ]


def _who(table: FeatureTable, names: _Known, row: int) -> dict[str, int | str | None]:
    """Return identity and camera of a row: their names, and their numbers where they are any."""
    person, camera = int(table.person_ids[row]), int(table.camera_ids[row])
    return {
        "person": person if person >= 0 else None,
        "camera": camera if camera >= 0 else None,
        "person_name": names[0][row],
        "camera_name": names[1][row],
    }


def _text(answer: dict[str, Any]) -> str:
    lines = [f"{counts(answer['tracklets'], 'tracklet')} in {answer['gallery']}"]
    for query in answer["queries"]:
        skipped = query["skipped_frames"]
        unread = f", {skipped} more unreadable and skipped" if skipped else ""
        names = (("person", query["person_name"]), ("camera", query["camera_name"]))
        known = "".join(f", {what} {name}" for what, name in names if name is not None)
        lines += ["", f"query {query['name']} ({counts(query['frames'], 'frame')}{unread}{known})"]
        lines += [verdict] if (verdict := _verdict(query, answer)) else []
        who = [(_dash(r["person_name"]), _dash(r["camera_name"])) for r in query["results"]]
        wide = [max(6, *(len(names[place]) for names in who)) if who else 6 for place in (0, 1)]
        lines.append(f"rank  distance  {'person':>{wide[0]}}  {'camera':>{wide[1]}}  tracklet")
        accepted = True
        for result, (person, camera) in zip(query["results"], who, strict=True):
            if accepted and not _is_within(result, answer["threshold"]):
                accepted = False
                lines.append(f"----  beyond the threshold {answer['threshold']:.4f}")
            lines.append(
                f"{result['rank']:4}  {result['distance']:8.4f}  {person:>{wide[0]}}  "
                f"{camera:>{wide[1]}}  {result['name']}"
            )
    if answer["recall"] is not None:
        lines += [
            "",
            f"recall of the {answer['index']} index against exact search: {answer['recall']:.1%}",
        ]
    lines += ["", answer["scores"]]
    return "\n".join(lines)


def _is_within(result: dict[str, Any], threshold: float | None) -> bool:
    return threshold is None or result["distance"] <= threshold


def _dash(name: str | None) -> str:
    return "-" if name is None else name
