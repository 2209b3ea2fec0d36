"""What ``reid check`` found, as a table or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from reid.data.datasets.official import OFFICIAL, count, parts_of, unmatched_queries
from reid.data.tracklet import DISTRACTOR, ReidData, Tracklet
from reid.report.pictures import Finding, Verdict
from video_snl.utils.counts import counts
from video_snl.utils.json_text import to_json as json_text

__all__ = ["EXPLAINED", "print_table", "to_json"]

EXPLAINED: dict[Verdict, str] = {
    "counts": "not as published",
    "empty": "without pictures",
    "leaked": "the same image in train and in query or gallery",
    "missing": "named, and not there",
    "mixed": "of several people or cameras, or of others than named",
    "shared": "people to train on and to search for at once",
    "unreadable": "no picture, damaged, or not read in time",
}
SHOWN = 20  # findings of each kind in the table


def to_json(root: Path, split: int, data: ReidData, findings: list[Finding]) -> str:
    """All that was found; numbers of people are those of the data set."""
    official, unmatched = OFFICIAL.get(data.name), unmatched_queries(data)
    report = {
        "root": str(root),
        "dataset": data.name,
        "split": split,
        "parts": {name: asdict(count(part)) for name, part in parts_of(data).items()},
        "distractors": _distractors(data),
        "published": official and {name: asdict(part) for name, part in official.parts.items()},
        "unmatched_queries": {
            "count": len(unmatched),
            "published": official and official.unmatched,
            "people": sorted({query.person_id for query in unmatched}),
            "tracklets": [query.name for query in unmatched],
        },
        "counts": dict(Counter(finding.kind for finding in findings)),
        "problems": [asdict(finding) for finding in findings],
    }
    return json_text(report, indent=2)


def print_table(root: Path, data: ReidData, findings: list[Finding]) -> None:
    """The lists' sizes, queries without a match, and the first findings of each kind."""
    print(f"{'list':8} {'people':>7} {'cameras':>8} {'tracklets':>10} {'frames':>10}")
    for name, part in parts_of(data).items():
        held = count(part)
        print(f"{name:8} {held.people:7,} {held.cameras:8,} {held.tracklets:10,} {held.frames:10,}")
    print(f"\ndistractors in the gallery: {counts(_distractors(data), 'tracklet')}")
    print(_unmatched(data))
    for kind, meaning in EXPLAINED.items():
        _print_findings(root, kind, meaning, [f for f in findings if f.kind == kind])
    total = sum(len(part) for part in parts_of(data).values())
    state = counts(len(findings), "problem") if findings else "all sound"
    print(f"\n{root}: {counts(total, 'tracklet')}, {state}")


def _distractors(data: ReidData) -> int:
    return sum(tracklet.person_id == DISTRACTOR for tracklet in data.gallery)


def _unmatched(data: ReidData) -> str:
    unmatched = unmatched_queries(data)
    text = (
        f"{len(unmatched):,} of {counts(len(data.query), 'query')} without a match in the gallery "
        "(same person, another camera)"
    )
    people = _people(unmatched)
    if not people:
        return text
    more = f" and {len(people) - SHOWN} more: --json lists all" if len(people) > SHOWN else ""
    return f"{text}: people {', '.join(people[:SHOWN])}{more}"


def _people(tracklets: Sequence[Tracklet]) -> list[str]:
    """Names of the people, in the order of their numbers."""
    names = {tracklet.person_id: str(tracklet.person_name) for tracklet in tracklets}
    return [names[number] for number in sorted(names)]


def _print_findings(root: Path, kind: str, meaning: str, found: list[Finding]) -> None:
    if not found:
        return
    print(f"\n{kind}: {len(found):,} ({meaning})")
    for finding in found[:SHOWN]:
        name = finding.path.removeprefix(f"{root}/")
        print(f"  {name}: {finding.detail}" if finding.detail else f"  {name}")
    if len(found) > SHOWN:
        print(f"  and {len(found) - SHOWN:,} more: --json lists all")
