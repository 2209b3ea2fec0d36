"""What the published data sets hold, to compare a copy with."""

from __future__ import annotations

from dataclasses import dataclass

from reid.data.tracklet import DISTRACTOR, JUNK, ReidData, Tracklet

__all__ = ["OFFICIAL", "Counts", "Official", "count", "parts_of", "unmatched_queries"]


@dataclass(frozen=True)
class Counts:
    """People (without junk and distractors), cameras, tracklets and frames of one list.

    ``frames`` is None in what is published of splits, where it depends on the split.
    """

    people: int
    cameras: int
    tracklets: int
    frames: int | None


@dataclass(frozen=True)
class Official:
    """Counts of each list; queries without a match under the common protocol."""

    parts: dict[str, Counts]
    unmatched: int


OFFICIAL: dict[str, Official] = {
    "mars": Official(
        {
            "train": Counts(625, 6, 8298, 509_914),
            "query": Counts(626, 6, 1980, 114_493),
            "gallery": Counts(620, 6, 9330, 543_216),
            "junk": Counts(0, 6, 870, 23_380),
        },
        unmatched=140,
    ),
    "ilids-vid": Official(
        {
            "train": Counts(150, 2, 300, None),
            "query": Counts(150, 1, 150, None),
            "gallery": Counts(150, 1, 150, None),
        },
        unmatched=0,
    ),
    "prid2011": Official(
        {
            "train": Counts(89, 2, 178, None),
            "query": Counts(89, 1, 89, None),
            "gallery": Counts(89, 1, 89, None),
        },
        unmatched=0,
    ),
}


def parts_of(data: ReidData) -> dict[str, list[Tracklet]]:
    """The lists by name; ``junk`` only where there is some."""
    parts = {"train": data.train, "query": data.query, "gallery": data.gallery}
    return parts | {"junk": data.junk} if data.junk else parts


def count(tracklets: list[Tracklet]) -> Counts:
    return Counts(
        people=len({tracklet.person_id for tracklet in tracklets} - {JUNK, DISTRACTOR}),
        cameras=len({tracklet.camera_id for tracklet in tracklets}),
        tracklets=len(tracklets),
        frames=sum(len(tracklet.frames) for tracklet in tracklets),
    )


def unmatched_queries(data: ReidData) -> list[Tracklet]:
    """Queries whose person is under no other camera in the gallery.

    The common protocol leaves them out of every mean. Under the official one of MARS, queries of
    other cameras are in the gallery, too, and may match them.
    """
    seen: dict[int, set[int]] = {}
    for tracklet in data.gallery:
        seen.setdefault(tracklet.person_id, set()).add(tracklet.camera_id)
    return [q for q in data.query if not seen.get(q.person_id, set()) - {q.camera_id}]
