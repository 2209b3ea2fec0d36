"""``reid gallery``: what its commands do with their options, and what they print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.galleries.entries import (
    About,
    Entries,
    entries_of,
    joined,
    parse_time,
    read_times,
    write_times,
)
from reid.galleries.places import create_gallery, is_database, open_gallery
from reid.galleries.searching import Answer, Only
from reid.galleries.store import StoredGallery, verify
from reid.retrieval.features import FeatureTable, concatenate, read_features, write_features
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.extras import require
from video_snl.utils.files import check_file, replace_file, writing
from video_snl.utils.json_text import to_json
from video_snl.utils.text import read_text

if TYPE_CHECKING:
    from reid.cli import gallery as options

__all__ = [
    "run_add",
    "run_create",
    "run_export",
    "run_remove",
    "run_search",
    "run_stats",
    "run_verify",
]


def run_create(given: options.Create) -> int:
    """Create a gallery."""
    _check_extra(given.gallery)
    table = _features(given.features)
    about = About.of(table, given.metric, given.index)
    entries = entries_of(table, _times(given.times))
    if given.empty:
        entries = Entries.none(about)
    gallery = create_gallery(given.gallery, about, entries)
    _print(
        {"gallery": gallery.where, "added": len(entries)},
        f"{gallery.where}: created with {counts(len(entries), 'tracklet')} of {about.checkpoint}",
        as_json=given.json,
    )
    return 0


def run_add(given: options.Add) -> int:
    """Add to a gallery."""
    entries = entries_of(_features(given.features), _times(given.times))
    gallery = _opened(given.gallery)
    added = gallery.add(entries)
    _print(
        {"gallery": gallery.where, **asdict(added)},
        f"{gallery.where}: {counts(added.added, 'tracklet')} added, {added.present} there already",
        as_json=given.json,
    )
    return 0


def run_remove(given: options.Remove) -> int:
    """Remove from a gallery."""
    names = list(given.names)
    if given.names_from is not None:
        names += [line for line in _lines(given.names_from) if line]
    if not names:
        raise UserError("no name: give names of tracklets, or --names_from FILE")
    gallery = _opened(given.gallery)
    removed, asked = gallery.remove(names), len(set(names))
    _print(
        {"gallery": gallery.where, "removed": removed, "absent": asked - removed},
        f"{gallery.where}: {counts(removed, 'tracklet')} removed, {asked - removed} not there",
        as_json=given.json,
    )
    return 0


def run_search(given: options.Search) -> int:
    """Search a gallery."""
    asked, only = _features(given.queries), _only(given)
    gallery = _opened(given.gallery)
    gallery.about.check(asked)
    if given.top < 1:
        raise UserError(f"--top {given.top}: at least one tracklet per query is needed")
    answer = gallery.search(asked.features, top=given.top, only=only, exact=given.exact)
    results = _results(asked, answer)
    values = {
        "gallery": gallery.where,
        "metric": gallery.about.metric,
        "exact": answer.exact,
        "queries": results,
    }
    _print(values, _search_text(gallery, answer, results), as_json=given.json)
    return 0


def run_stats(given: options.Stats) -> int:
    """Show what a gallery holds."""
    gallery = _opened(given.gallery)
    stats, about = gallery.stats(), gallery.about
    frames = "all" if about.test_frames is None else str(about.test_frames)
    lines = (
        ("gallery", gallery.where),
        ("network", f"{about.checkpoint} (hash {about.model[:12]})"),
        ("vectors", f"{about.dimension} float32, of {frames} frames, {about.metric}"),
        ("tracklets", f"{stats.entries:,}"),
        ("identities", f"{stats.persons:,}"),
        ("cameras", f"{stats.cameras:,}"),
        ("times", _span(stats.first, stats.last)),
        ("index", f"{stats.index} ({about.index} was asked for)"),
        ("size", f"{stats.bytes / 2**20:,.1f} MiB"),
        ("contents", stats.contents),
    )
    values = {"gallery": gallery.where, **asdict(about), **asdict(stats), "asked": about.index}
    _print(values, "\n".join(f"{name:11}{text}" for name, text in lines), as_json=given.json)
    return 0


def run_verify(given: options.Verify) -> int:
    """Verify a gallery; returns 1 where something is wrong."""
    if given.searches < 1:
        raise UserError(f"--searches {given.searches} must be at least 1")
    gallery = _opened(given.gallery)
    against = None if given.against is None else _opened(given.against)
    wrong, figures = verify(gallery, against, searches=given.searches)
    recall = "" if figures["recall"] is None else f", recall@10 {figures['recall']:.1%}"
    done = (
        f"{counts(figures['entries'], 'tracklet')}, contents {figures['contents'][:16]}, "
        f"{counts(figures['searches'], 'search', 'searches')}{recall}"
    )
    with_other = "" if against is None else f", as {against.where}"
    text = "\n".join(
        [done, *(f"wrong: {line}" for line in wrong)]
        if wrong
        else [f"{gallery.where}: all is right{with_other} ({done})"]
    )
    _print({"gallery": gallery.where, "wrong": wrong, **figures}, text, as_json=given.json)
    return 1 if wrong else 0


def run_export(given: options.Export) -> int:
    """Write a gallery, or some of it, as a feature file."""
    check_file("--output", given.output, "feats.parquet")
    if given.times is not None:
        check_file("--times", given.times, "times.csv")
    gallery = _opened(given.gallery)
    entries = joined([Entries.none(gallery.about), *gallery.read(_only(given))])
    with writing("--output", given.output):
        write_features(given.output, entries.table)
    if given.times is not None:
        with writing("--times", given.times):
            replace_file(Path(given.times), lambda file: write_times(file, [entries]))
    print(f"{counts(len(entries), 'tracklet')} of {gallery.where} written to {given.output}")
    return 0


def _check_extra(location: str) -> None:
    if is_database(location):
        require("postgres")


def _opened(location: str) -> StoredGallery:
    _check_extra(location)
    return open_gallery(location)


def _features(files: Sequence[str]) -> FeatureTable:
    return concatenate([read_features(file) for file in files])


def _times(path: str | None) -> dict[str, float] | None:
    return None if path is None else read_times(path)


def _only(given: options.Search | options.Export) -> Only:
    return Only(
        persons=tuple(given.person),
        cameras=tuple(given.camera),
        after=None if given.after is None else parse_time(given.after),
        before=None if given.before is None else parse_time(given.before),
    )


def _lines(path: str) -> list[str]:
    try:
        return read_text(Path(path)).splitlines()
    except OSError as error:
        raise UserError(f"--names_from {path} cannot be read ({error.strerror})") from error


def _results(asked: FeatureTable, answer: Answer) -> list[dict[str, Any]]:
    found = answer.entries.table
    persons, cameras, times = found.person_names, found.camera_names, answer.entries.times
    return [
        {
            "name": name,
            "results": [
                {
                    "rank": rank,
                    "distance": float(distance),
                    "name": found.names[row],
                    "person_name": persons[row],
                    "camera_name": cameras[row],
                    "time": None if math.isnan(times[row]) else float(times[row]),
                }
                for rank, (row, distance) in enumerate(
                    zip(answer.rows[query].tolist(), answer.distances[query], strict=True), start=1
                )
                if row >= 0
            ],
        }
        for query, name in enumerate(asked.names)
    ]


def _search_text(gallery: StoredGallery, answer: Answer, results: Sequence[dict[str, Any]]) -> str:
    kind = "exact" if answer.exact else "approximate"
    lines = [f"{gallery.where}: {gallery.about.metric} distances (no probabilities), {kind}"]
    for query in results:
        lines += ["", f"query {query['name']}", "rank  distance  person      camera      tracklet"]
        lines += [
            f"{found['rank']:4}  {found['distance']:8.4f}  {found['person_name'] or '-':10}  "
            f"{found['camera_name'] or '-':10}  {found['name']}"
            + ("" if found["time"] is None else f"  {_moment(found['time'])}")
            for found in query["results"]
        ]
    return "\n".join(lines)


def _span(first: float | None, last: float | None) -> str:
    return "not known" if first is None or last is None else f"{_moment(first)} to {_moment(last)}"


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # beyond the years of a calendar
        return f"{seconds:g} s"


def _print(values: dict[str, Any], text: str, *, as_json: bool) -> None:
    print(to_json(values, indent=2) if as_json else text, flush=True)
