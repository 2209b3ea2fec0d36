"""Tracklets, the lists of a re-identification dataset, and the names of identities and cameras.

Names are text, and the numbers in them are for readers. Two names of identities that
are equal as numbers, such as ``7`` and ``007``, are refused wherever names are compared or stored
(:func:`identity_numbers`). Without torch.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from video_snl.errors import UserError
from video_snl.utils.files import digest_of

__all__ = [
    "DISTRACTOR",
    "JUNK",
    "NO_NUMBER",
    "UNKNOWN",
    "ReidData",
    "Tracklet",
    "camera_number",
    "identity_numbers",
    "labels_of",
    "own_entries",
    "people_in",
    "person_number",
    "special_person",
]

JUNK = -1
"""Identity of tracklets that no ranking counts, neither as right nor as wrong (bad detections)."""

DISTRACTOR = 0
"""Identity of tracklets that match no query and do count as wrong."""

UNKNOWN = -1
"""Number of an identity or camera of which nothing is known."""

NO_NUMBER = -(2**63)
"""Number of an identity or camera whose name is known and is not a number: compare its name."""

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


def people_in(names: Iterable[str | None]) -> set[str]:
    """Return the names of identities, without those of junk and distractors and what is unknown."""
    return {name for name in names if name is not None and special_person(name) is None}


def person_number(name: str) -> int | None:
    """Return the number that an identity's name is, such as 7 for ``0007``; None for others."""
    special = special_person(name)
    return camera_number(name) if special is None else special


def camera_number(name: str) -> int | None:
    """Return the number that a camera's name is, such as 3 for ``3``; None for others."""
    if not (name.isascii() and name.isdigit()) or len(name) > 100:
        return None
    number = int(name)
    return number if number < _LARGEST else None


def identity_numbers(names: Iterable[str], where: str = "") -> dict[str, int]:
    """Return the numbers that names of identities are, by name, without names of other kinds.

    Args:
        names: Names that are compared with one another.
        where: Folder that holds them, for the message.

    Raises:
        UserError: Two names that are equal as numbers, other than those of junk and distractors.
    """
    numbers: dict[str, int] = {}
    owners: dict[int, str] = {}
    for name in sorted(set(names)):
        number = person_number(name)
        if number is None:
            continue
        numbers[name] = number
        if special_person(name) is None and owners.setdefault(number, name) != name:
            raise UserError(
                f"{where}{': ' if where else ''}identities {owners[number]!r} and {name!r} are the "
                "same number: rename one"
            )
    return numbers


@dataclass(frozen=True)
class Tracklet:
    """The frames of one person under one camera.

    Attributes:
        frames: Paths of the images, in the order of time.
        person_id: Number of the identity in the dataset; :data:`JUNK` and :data:`DISTRACTOR` are
            nobody's.
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
    """Lists of a dataset.

    Attributes:
        name: Name of the dataset.
        train: Tracklets to train on; their identities are not among the query's.
        query: Tracklets to search for.
        gallery: Tracklets to search in: without the query's own and without junk, with distractors.
        junk: Tracklets of identity -1, which the official protocol of MARS has in its gallery
            (where they change no number).
        num_cameras: Number of cameras.
    """

    name: str
    train: list[Tracklet]
    query: list[Tracklet]
    gallery: list[Tracklet]
    junk: list[Tracklet] = field(default_factory=list)
    num_cameras: int = 0


def labels_of(tracklets: Iterable[Tracklet]) -> dict[int, int]:
    """Label the identities 0, 1, ... in ascending order of their numbers: always alike."""
    identities = sorted({tracklet.person_id for tracklet in tracklets} - {JUNK, DISTRACTOR})
    return {person: label for label, person in enumerate(identities)}


def own_entries(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> list[tuple[int, int]]:
    """Find the gallery entries that are queries themselves: of one identity and the same frames.

    Frames are the same if they are one file (by whatever path or link) or copies, byte for byte.

    Args:
        query: Q queries.
        gallery: G gallery entries.

    Returns:
        Pairs (query, gallery entry), ascending.
    """
    # Only tracklets whose first frames are alike are compared, not all of an identity with all.
    alike: defaultdict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    files: dict[str, os.stat_result] = {}
    for which, tracklets in enumerate((query, gallery)):
        for row, tracklet in enumerate(tracklets):
            file = files.get(tracklet.path) or _status(tracklet.path)
            if file is not None:  # a frame that is missing is reported where it is read
                files[tracklet.path] = file
                key = tracklet.person_id, len(tracklet.frames), file.st_size
                alike[key][which].append(row)
    pairs = []
    for asked, searched in alike.values():
        if not asked or not searched:
            continue
        paths = [query[row].path for row in asked] + [gallery[row].path for row in searched]
        contents = _contents({path: files[path] for path in paths})
        entries = defaultdict(list)
        for entry in searched:
            entries[contents[gallery[entry].path]].append(entry)
        pairs += [
            (row, entry)
            for row in asked
            for entry in entries[contents[query[row].path]]
            if all(map(_same_file, query[row].frames, gallery[entry].frames))
        ]
    return sorted(pairs)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _contents(files: dict[str, os.stat_result]) -> dict[str, Hashable]:
    """Return something that is equal for files of equal content, by path."""
    inodes = {path: (file.st_dev, file.st_ino) for path, file in files.items()}
    if len(set(inodes.values())) == 1:
        return dict.fromkeys(files)
    read: dict[tuple[int, int], Hashable] = {}
    for path, inode in inodes.items():
        if inode not in read:
            try:
                read[inode] = digest_of(Path(path))
            except OSError:
                read[inode] = inode
    return {path: read[inode] for path, inode in inodes.items()}


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False)
    except OSError:  # a frame that is missing is reported where it is read
        return False
