"""What a re-identification data set consists of: tracklets, and the lists they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

__all__ = [
    "DISTRACTOR",
    "JUNK",
    "NO_NUMBER",
    "UNKNOWN",
    "ReidData",
    "Tracklet",
    "camera_number",
    "labels_of",
    "person_number",
    "special_person",
]

JUNK = -1
"""Person of tracklets that no ranking counts, neither as right nor as wrong (bad detections)."""

DISTRACTOR = 0
"""Person of tracklets that match no query and do count as wrong."""

UNKNOWN = -1
"""Number of a person or camera of which nothing is known."""

NO_NUMBER = -(2**63)
"""Number of a person or camera whose name is known and is no number: compare it by its name."""

_JUNK_NAME = re.compile(r"0*-1")
_LARGEST = 2**62  # a name of more digits is a name, not a number: it would not fit into int64


def special_person(name: str) -> int | None:
    """Return JUNK or DISTRACTOR for the names that mean them, else None.

    Junk is called ``-1``, in MARS ``00-1``; distractors have a name of zeros, such as ``0000``.
    """
    if _JUNK_NAME.fullmatch(name):
        return JUNK
    if name and not name.strip("0"):
        return DISTRACTOR
    return None


def person_number(name: str) -> int | None:
    """Return the number that a person's name is, such as 7 for ``0007``; None for other names."""
    special = special_person(name)
    return camera_number(name) if special is None else special


def camera_number(name: str) -> int | None:
    """Return the number that a camera's name is, such as 3 for ``3``; None for other names."""
    if not (name.isascii() and name.isdigit()) or len(name) > 100:
        return None
    number = int(name)
    return number if number < _LARGEST else None


@dataclass(frozen=True)
class Tracklet:
    """The frames of one person under one camera.

    Attributes:
        frames: Paths of the pictures, in the order of time.
        person_id: Number of the person as the data set has it; :data:`JUNK` and
            :data:`DISTRACTOR` are nobody's.
        camera_id: Number of the camera, from 0.
        person: Name of the person's folder, or None where only the number is known.
        camera: Name of the camera's folder, or None where only the number is known.
    """

    frames: tuple[str, ...]
    person_id: int
    camera_id: int
    person: str | None = None
    camera: str | None = None

    @property
    def person_name(self) -> str | None:
        """Name of the person, else the number as text; None where neither is known."""
        if self.person is not None:
            return self.person
        return None if self.person_id == JUNK and self.camera_id < 0 else str(self.person_id)

    @property
    def camera_name(self) -> str | None:
        """Name of the camera, else the number as text; None where neither is known."""
        if self.camera is not None:
            return self.camera
        return None if self.camera_id < 0 else str(self.camera_id)

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
