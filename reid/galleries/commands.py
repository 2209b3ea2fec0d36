"""``reid gallery``: what its commands do with their options, and what they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.galleries.entries import (
    About,
    Entries,
    entries_of,
    joined,
    moment,
    parse_time,
    read_times,
    write_times,
)
from reid.galleries.places import Searchable, create_gallery, is_database, open_gallery
from reid.galleries.searching import ANYTHING, Only
from reid.galleries.store import Stats, StoredGallery, verify
from reid.retrieval.features import (
    FeatureTable,
    concatenate,
    filled_table,
    read_features,
    write_features,
)
from reid.retrieval.searching import answer_of, check_top, limit_of, text_of
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.extras import require
from video_snl.utils.files import check_file, replace_file, writing
from video_snl.utils.json_text import to_json
from video_snl.utils.media import is_video_name
from video_snl.utils.text import examples, read_text

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
        lines = read_text(Path(given.names_from)).split("\n")
        names += [name for name in (line.removesuffix("\r") for line in lines) if name]
    if not names:
        raise UserError("no name: give names of tracklets, or --names_from FILE")
    gallery = _opened(given.gallery)
    gone = gallery.remove(names)
    absent = len(gone.absent)
    if absent:
        _say(f"{gallery.where}: not there, so not removed: {examples(gone.absent)}")
    _print(
        {"gallery": gallery.where, "removed": gone.removed, "absent": absent},
        f"{gallery.where}: {counts(gone.removed, 'tracklet')} removed, {absent} not there",
        as_json=given.json,
    )
    return 0


def run_search(given: options.Search) -> int:
    """Search a gallery."""
    check_top(given.top)
    limit, only = limit_of(given.threshold, given.calibrate), _only(given)
    for query in given.queries:
        if Path(query).is_dir() or is_video_name(query):
            raise UserError(
                f"{query} is not a feature file: reid search --checkpoint C --gallery "
                f"{given.gallery} {query} computes the features of folders and videos"
            )
    asked = concatenate([filled_table(query) for query in given.queries])
    searched = Searchable.of(_opened(given.gallery), given.top)
    if limit is not None:
        limit.check(searched)
    found = searched.search(asked, index="exact" if given.exact else None, only=only)
    answer = answer_of(asked, found, searched, limit)
    if not len(found.table):
        _say_nothing(searched.path, answer["tracklets"], given)
    _print(answer, text_of(answer), as_json=given.json)
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
        ("identities", f"{stats.persons:,}{_nobody(stats)}"),
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
        check_file("--times", given.times, "times.csv", [given.output])
    for option, named in (("--output", given.output), ("--times", given.times)):
        folder = named and os.path.dirname(os.path.realpath(named))
        if folder == os.path.realpath(given.gallery):
            raise UserError(
                f"{option} {named} is in the folder of the gallery, whose files it could replace: "
                "give a file elsewhere"
            )
    gallery = _opened(given.gallery)
    only = _only(given)
    entries = joined([Entries.none(gallery.about), *gallery.read(only)])
    if not len(entries) and only != ANYTHING:
        _say_nothing(gallery.where, gallery.count(), given)
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


def _nobody(stats: Stats) -> str:
    """Say how many tracklets are nobody's, where there are some."""
    kinds = (("of junk", stats.junk), ("of distractors", stats.distractors))
    said = [f"{counts(number, 'tracklet')} {kind}" for kind, number in kinds if number]
    return f", and {', '.join(said)}" if said else ""


def _span(first: float | None, last: float | None) -> str:
    return "not known" if first is None or last is None else f"{moment(first)} to {moment(last)}"


def _say_nothing(where: str, size: int, given: options.Search | options.Export) -> None:
    """Say that a filter lets nothing through."""
    values = (
        *(("--person", name) for name in given.person),
        *(("--camera", name) for name in given.camera),
        ("--after", given.after),
        ("--before", given.before),
    )
    asked = ", ".join(f"{name} {value}" for name, value in values if value is not None)
    _say(f"{where}: none of {counts(size, 'tracklet')} passes {asked}: nothing is found")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(values: dict[str, Any], text: str, *, as_json: bool) -> None:
    print(to_json(values, indent=2) if as_json else text, flush=True)
