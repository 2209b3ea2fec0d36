"""What a re-identification data set consists of: tracklets, and the lists they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

__all__ = ["DISTRACTOR", "JUNK", "ReidData", "Tracklet", "labels_of", "special_person"]

JUNK = -1
"""Person of tracklets that no ranking counts, neither as right nor as wrong (bad detections)."""

DISTRACTOR = 0
"""Person of tracklets that match no query and do count as wrong."""


@dataclass(frozen=True)
class Tracklet:
    """The frames of one person under one camera.

    Attributes:
        frames: Paths of the pictures, in the order of time.
        person_id: Number of the person as the data set has it; :data:`JUNK` and
            :data:`DISTRACTOR` are nobody's.
        camera_id: Number of the camera, from 0.
    """

    frames: tuple[str, ...]
    person_id: int
    camera_id: int

    @property
    def path(self) -> str:
        """The first frame, which names the tracklet in messages."""
        return self.frames[0]

    @property
    def name(self) -> str:
        """The last two parts of the first frame's path, such as ``0002/0002C1T0001F001.jpg``."""
        return str(PurePath(*PurePath(self.path).parts[-2:]))


@dataclass(frozen=True)
class ReidData:
    """A data set's three lists.

    Attributes:
        name: Of the data set.
        train: Tracklets to train on; their people are not among the query's.
        query: Tracklets to search for.
        gallery: Tracklets to search in: without the query's own and without junk, with distractors.
        junk: Tracklets of person -1, which the official protocol of MARS has in its gallery (where
            they change no number).
        num_cameras: How many cameras there are.
    """

    name: str
    train: list[Tracklet]
    query: list[Tracklet]
    gallery: list[Tracklet]
    junk: list[Tracklet] = field(default_factory=list)
    num_cameras: int = 0


def labels_of(tracklets: Iterable[Tracklet]) -> dict[int, int]:
    """Labels 0, 1, ... of the people, in ascending order of their numbers: always the same ones."""
    people = sorted({tracklet.person_id for tracklet in tracklets} - {JUNK, DISTRACTOR})
    return {person: label for label, person in enumerate(people)}


def special_person(name: str) -> int | None:
    """Return JUNK or DISTRACTOR for the names that mean them, else None.

    Junk is ``-1`` after any number of zeros (Market-1501 writes ``-1``, MARS ``00-1``), a
    distractor any number of zeros (``0000``).
    """
    if re.fullmatch("0*-1", name):
        return JUNK
    return DISTRACTOR if re.fullmatch("0+", name) else None
