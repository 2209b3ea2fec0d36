"""``reid search``: the gallery tracklets nearest to some queries, as a table, JSON or a page.

The answer has the same form for feature files and for galleries that are kept (``reid gallery
search``).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reid.data.tracklet import special_person
from reid.galleries.entries import moment
from reid.galleries.places import Found, Searchable
from reid.retrieval.calibration import NO_PROBABILITIES, Calibration, read_calibration
from reid.retrieval.features import (
    FeatureTable,
    comparable,
    concatenate,
    filled_table,
    same_model,
)
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, writing
from video_snl.utils.json_text import to_json
from video_snl.utils.text import printable, shown_path

if TYPE_CHECKING:
    from reid.cli.features import Search

__all__ = [
    "Limit",
    "answer_of",
    "check_top",
    "decision",
    "is_nobody",
    "limit_of",
    "meaning_of",
    "run_search",
    "text_of",
    "verdict_of",
    "write_page",
]


def run_search(given: Search) -> int:
    """Search a gallery for some tracklets, and print the nearest ones.

    Raises:
        UserError: Nothing to search for or in, a bad file, or features of another network.
    """
    _check_arguments(given)
    limit = limit_of(given.threshold, given.calibrate)
    searched = Searchable.open(given.gallery, given.top, given.metric)
    if limit is not None:
        limit.check(searched)
    asked = _asked(given, searched.table.test_frames)
    same_model(asked, searched.table)
    comparable([asked, searched.table])
    found = searched.search(asked, index=given.index)
    answer = answer_of(asked, found, searched, limit)
    print(to_json(answer, indent=2) if given.json else text_of(answer), flush=True)
    if given.page is not None:
        with writing("--page", given.page):
            write_page(Path(given.page), asked, found, answer)
        if not given.json:
            print(f"page: {given.page}")
    return 0


def _is_feature_file(path: str) -> bool:
    """Tell whether a query is a file of features and not of images."""
    return path.lower().endswith(".parquet") and Path(path).is_file()


def _asked(given: Search, test_frames: int | None) -> FeatureTable:
    """Return the features of the queries, first those in feature files."""
    paths = [query for query in given.queries if not _is_feature_file(query)]
    tables = [filled_table(query) for query in given.queries if _is_feature_file(query)]
    # Features need no network: then no run need be there.
    if paths or given.checkpoint is not None:
        from reid.trained import find_network

        network = find_network(given.checkpoint, given.pretrained, given.weights)
    if paths:
        from reid.retrieval.extract import extract_tracklets

        tables.append(
            extract_tracklets(
                network,
                paths,
                layout=given.layout,
                test_frames=test_frames,
                max_pixels=given.max_pixels,
                say=_say,
            )
        )
    return concatenate(tables)


class Limit(NamedTuple):
    """Largest distance of a tracklet of the query's person, and the calibration it is from."""

    threshold: float
    calibration: Calibration | None
    path: str = ""

    def check(self, gallery: Searchable) -> None:
        """Check that a calibration is of the network, frames and metric of a gallery.

        Raises:
            UserError: It is of others.
        """
        if self.calibration is not None:
            self.calibration.check(gallery.table, gallery.metric, self.path)


def limit_of(threshold: float | None, calibration: str | None) -> Limit | None:
    """Return what ``--threshold`` or ``--calibrate`` say; None where neither is given.

    Raises:
        UserError: Both are, a bad threshold, or a file that is no calibration.
    """
    if calibration is not None:
        if threshold is not None:
            raise UserError("--threshold and --calibrate both name a threshold: give one of them")
        found = read_calibration(calibration)
        return Limit(found.threshold, found, calibration)
    if threshold is None:
        return None
    if not 0 <= threshold < float("inf"):
        raise UserError(f"--threshold {threshold:g}: give a distance, from 0")
    return Limit(threshold, None)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write_page(
    path: Path,
    asked: FeatureTable,
    found: Found,
    answer: dict[str, Any],
    *,
    called: str | None = None,
) -> None:
    """Write the page of an answer; ``called`` is the name of the queries, None for their own."""
    from reid.report.search_page import write_search_page

    write_search_page(
        path,
        asked,
        found.table,
        found.result,
        gallery=answer["gallery"],
        called=called,
        verdicts=[verdict_of(query, answer["threshold"]) for query in answer["queries"]],
        note=answer["scores"],
        size=answer["tracklets"],
    )


def _check_arguments(given: Search) -> None:
    if not given.queries:
        raise UserError("no query: name at least one folder of frames, or video, to search for")
    for query in given.queries:
        if not Path(query).exists():
            raise UserError(
                f"query {query} does not exist; name a folder of frames of one person, or a video"
            )
    check_top(given.top)
    if given.page is not None:
        read = [*given.queries, given.gallery, given.calibrate]
        check_file("--page", given.page, "found.html", read)


def check_top(top: int) -> None:
    """Raise UserError unless some tracklets are wanted."""
    if top < 1:
        raise UserError(f"--top {top}: at least one tracklet per query is needed")


def answer_of(
    asked: FeatureTable, found: Found, gallery: Searchable, limit: Limit | None
) -> dict[str, Any]:
    """Put an answer into the values of its JSON text.

    Args:
        asked: Features of the queries.
        found: What was found.
        gallery: Where it was found.
        limit: Threshold; None for none.
    """
    asked_names = asked.person_names, asked.camera_names
    names = found.table.person_names, found.table.camera_names
    size, queries = gallery.size, []
    for row, name in enumerate(asked.names):
        results = _results(found, names, row)
        queries.append(
            {
                "name": name,
                "frames": int(asked.num_frames[row]),
                "skipped_frames": int(asked.skipped_frames[row]),
                **_who(asked, asked_names, row),
                **decision(limit, results[0] if results else None),
                "results": results,
            }
        )
    return {
        "gallery": gallery.path,
        "tracklets": size,
        "index": found.by,
        "exact": found.by == "exact",
        "metric": gallery.metric,
        "recall": found.result.recall,
        "threshold": None if limit is None else limit.threshold,
        "scores": meaning_of(limit, size),
        "queries": queries,
    }


def meaning_of(limit: Limit | None, entries: int) -> str:
    """Say what the distances mean."""
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


def decision(limit: Limit | None, nearest: dict[str, Any] | None) -> dict[str, Any]:
    """Return whether the person is in the gallery, and how often others come so near.

    Args:
        limit: Threshold; None for none.
        nearest: Result with ``distance`` and ``person_name``; None where nothing was found. Junk
            and distractors are nobody, however near.
    """
    if limit is None:
        return {"in_gallery": None, "false_alarm_rate": None}
    distance = math.inf if nearest is None else nearest["distance"]
    by = limit.calibration
    return {
        "in_gallery": distance <= limit.threshold and not is_nobody(nearest),
        "false_alarm_rate": None if by is None else by.false_alarm_rate(distance),
    }


def is_nobody(found: dict[str, Any] | None) -> bool:
    """Tell whether a result is junk or a distractor, which are no person."""
    name = None if found is None else found["person_name"]
    return name is not None and special_person(name) is not None


def verdict_of(query: dict[str, Any], threshold: float | None) -> str:
    """Say whether a query's person is in the gallery; "" without a threshold."""
    results = query["results"]
    if threshold is None:
        return ""
    place = "in the gallery" if query["in_gallery"] else "not in the gallery"
    if not results:
        return f"{place}: nobody was found"
    side = "within" if results[0]["distance"] <= threshold else "beyond"
    text = f"{place}: the nearest, at {results[0]['distance']:.4f}, is {side} {threshold:.4f}"
    if is_nobody(results[0]):
        text += ", and nobody (junk, or a distractor)"
    if query["false_alarm_rate"] is not None:
        text += (
            f"; of people who are not there {query['false_alarm_rate']:.2%} come as near by chance"
        )
    return text


_Known = tuple[list[str | None], list[str | None]]


def _results(found: Found, names: _Known, row: int) -> list[dict[str, Any]]:
    """Return the results of one query, of which there may be fewer than asked for (-1)."""
    columns, distances = found.result.indices[row].tolist(), found.result.distances[row].tolist()
    results: list[dict[str, Any]] = []
    for column, distance in zip(columns, distances, strict=True):
        if column < 0:
            continue
        result = {
            "rank": len(results) + 1,
            "distance": float(distance),
            "name": found.table.names[column],
            **_who(found.table, names, column),
        }
        if found.times is not None:
            time = float(found.times[column])
            result["time"] = None if math.isnan(time) else time
        results.append(result)
    return results


def _who(table: FeatureTable, names: _Known, row: int) -> dict[str, int | str | None]:
    """Return identity and camera of a row: their names, and their numbers where they are any."""
    person, camera = int(table.person_ids[row]), int(table.camera_ids[row])
    return {
        "person": person if person >= 0 else None,
        "camera": camera if camera >= 0 else None,
        "person_name": names[0][row],
        "camera_name": names[1][row],
    }


def text_of(answer: dict[str, Any]) -> str:
    """Put the values of an answer into a table."""
    lines = [f"{counts(answer['tracklets'], 'tracklet')} in {shown_path(answer['gallery'])}"]
    if not answer["exact"] and answer["recall"] is None:
        lines[0] += f", approximate: by its index ({answer['index']})"
    for query in answer["queries"]:
        skipped = query["skipped_frames"]
        unread = f", {skipped} more unreadable and skipped" if skipped else ""
        names = (("person", query["person_name"]), ("camera", query["camera_name"]))
        known = "".join(f", {what} {printable(name)}" for what, name in names if name is not None)
        frames = counts(query["frames"], "frame")
        lines += ["", f"query {shown_path(query['name'])} ({frames}{unread}{known})"]
        verdict = verdict_of(query, answer["threshold"])
        lines += [verdict] if verdict else []
        who = [(_dash(r["person_name"]), _dash(r["camera_name"])) for r in query["results"]]
        wide = [max(6, *(len(names[place]) for names in who)) if who else 6 for place in (0, 1)]
        lines.append(f"rank  distance  {'person':>{wide[0]}}  {'camera':>{wide[1]}}  tracklet")
        accepted = True
        for result, (person, camera) in zip(query["results"], who, strict=True):
            if accepted and not _is_within(result, answer["threshold"]):
                accepted = False
                lines.append(f"----  beyond the threshold {answer['threshold']:.4f}")
            time = "" if result.get("time") is None else f"  {moment(result['time'])}"
            lines.append(
                f"{result['rank']:4}  {result['distance']:8.4f}  {person:>{wide[0]}}  "
                f"{camera:>{wide[1]}}  {shown_path(result['name'])}{time}"
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
    return "-" if name is None else printable(name)
