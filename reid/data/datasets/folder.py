"""Your own tracklets, as folders of images.

::

    root/train/<person>/<camera>/<tracklet>/<frame>.jpg
    root/query/...
    root/gallery/...

Identity ``-1`` (or ``00-1``) is junk and ``0000`` a distractor; both belong in the gallery. Without
``train`` the dataset is for evaluation only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from reid.data.datasets.base import Fault, Report
from reid.data.datasets.frames import list_folders, list_frames
from reid.data.tracklet import (
    DISTRACTOR,
    JUNK,
    ReidData,
    Tracklet,
    identity_numbers,
)
from video_snl.data.video.records import folder_contents
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.media import Ignored, MediaFiles, natural_key
from video_snl.utils.text import say_once, spellings

__all__ = ["camera_numbers", "load", "person_numbers"]

_PARTS = ("train", "query", "gallery")


def load(root: Path, split: int, report: Report) -> ReidData:
    """List the tracklets below ``root``, by natural order of identity, camera and tracklet.

    What is among them and is not one of them is counted and named on stderr: files beside folders,
    other files than images, folders that cannot be read, and links to a folder of the same part
    that is read by another name or that the link is in.

    Raises:
        UserError: Not that layout, a part without identities, junk or distractors outside the
            gallery, two names of one number.
    """
    _check_layout(root)
    ignored: list[Ignored] = []
    parts = [part for part in _PARTS if (root / part).is_dir()]
    listings = {part: _Listing(root / part, ignored) for part in parts}
    identities = {part: _identities(root / part, listings[part]) for part in parts}
    cameras = {
        (part, person): listings[part].folders(root / part / person)
        for part in parts
        for person in identities[part]
    }
    persons = person_numbers({person for part in parts for person in identities[part]}, root)
    numbers = camera_numbers({name for names in cameras.values() for name in names or []})
    found: dict[str, list[Tracklet]] = {part: [] for part in _PARTS}
    for (part, person), names in cameras.items():
        folder = root / part / person
        _check_place(folder, part, persons[person])
        if names == []:
            report(Fault("empty", str(folder), "has no folders of cameras"))
        for camera in names or []:
            for frames in _tracklets(folder / camera, listings[part], report):
                found[part].append(
                    Tracklet(frames, persons[person], numbers[camera], person, camera)
                )
    text = MediaFiles(ignored=ignored).ignored_text()
    if text is not None:
        print(f"dataset folder, {root}: {text}", file=sys.stderr, flush=True)
    return ReidData(
        name="folder",
        train=found["train"],
        query=found["query"],
        gallery=[t for t in found["gallery"] if t.person_id != JUNK],
        junk=[t for t in found["gallery"] if t.person_id == JUNK],
        num_cameras=len(numbers),
    )


class _Listing:
    """Folders of one part, each read once, by its own name and not by a link.

    Another part may link to the same ones: its gallery may hold the queries.
    """

    def __init__(self, part: Path, ignored: list[Ignored]) -> None:
        self._ignored = ignored
        parents = Path(os.path.realpath(part), "part").parents
        self._seen = {_identity(os.stat(folder)) for folder in parents}
        self._seen.update(_own_folders(part, levels=3))

    def folders(self, folder: Path) -> list[str] | None:
        """List the folders in a folder, each once in its part; None where it cannot be read."""
        try:
            names = list_folders(folder, self._ignored)
        except PermissionError as error:
            self._unreadable(folder, error)
            return None
        own = []
        for name in names:
            identity = _identity(os.stat(folder / name))
            if (folder / name).is_symlink() and identity in self._seen:
                reason = "link to a folder that is read by another name"
                self._ignored.append(Ignored(folder / name, reason))
                continue
            self._seen.add(identity)
            own.append(name)
        return own

    def frames(self, folder: Path) -> tuple[str, ...] | None:
        """List the images in a folder; None where it cannot be read."""
        try:
            return list_frames(folder, self._ignored)
        except PermissionError as error:
            self._unreadable(folder, error)
            return None

    def _unreadable(self, folder: Path, error: OSError) -> None:
        reason = f"folder that cannot be read ({error.strerror})"
        self._ignored.append(Ignored(folder, reason))


def _own_folders(folder: Path, levels: int) -> Iterator[tuple[int, int]]:
    """Yield device and inode of the folders below that are not links."""
    try:
        with os.scandir(folder) as entries:
            below = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it is named where it is listed
        return
    for entry in below:
        yield _identity(entry.stat(follow_symlinks=False))
        if levels > 1:
            yield from _own_folders(Path(entry.path), levels - 1)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def person_numbers(names: set[str], root: Path) -> dict[str, int]:
    """Number the identities of a dataset.

    ``-1`` and ``00-1`` are junk, names of zeros distractors. A name that is a whole number is the
    identity's number; the other names, sorted, get the numbers after the largest of these, from 1
    where there is none.

    Raises:
        UserError: Two names are the same number, such as ``7`` and ``007``.
    """
    numbers = identity_numbers(names, str(root))
    rest = sorted(names - numbers.keys())
    for same in spellings(names):
        say_once(
            f"{root}: identities {' and '.join(map(repr, same))} differ only in spaces or in how "
            "their letters are encoded, and count as different; give them one name if they are one"
        )
    first = 1 + max((0, *numbers.values()))
    return numbers | {name: number for number, name in enumerate(rest, start=first)}


def camera_numbers(names: set[str]) -> dict[str, int]:
    """Number the cameras from 0, in natural order of their names."""
    return {name: number for number, name in enumerate(sorted(names, key=natural_key))}


def _check_layout(root: Path) -> None:
    for part in ("query", "gallery"):
        if not (root / part).is_dir():
            market = any((root / f"bounding_box_{name}").is_dir() for name in ("train", "test"))
            hint = (
                "; these are the folders of MARS (--dataset mars) or of Market-1501 "
                "(docs/reid/datasets.md, or reid extract --layout market)"
            )
            raise UserError(
                f"--root {root} has no folder {part}, it holds {folder_contents(root)}: lay the "
                "tracklets out as {train,query,gallery}/<person>/<camera>/<tracklet>/<frame>.jpg "
                f"(train is for training only){hint if market else ''}"
            )


def _identities(folder: Path, listing: _Listing) -> list[str]:
    identities = listing.folders(folder)
    if not identities:
        raise UserError(
            f"{folder} has no folders of identities, it holds {folder_contents(folder)}: lay the "
            "tracklets out as <person>/<camera>/<tracklet>/<frame>.jpg in it"
        )
    return identities


def _check_place(folder: Path, part: str, person: int) -> None:
    if part != "gallery" and person in (JUNK, DISTRACTOR):
        kind = "junk" if person == JUNK else "distractors"
        raise UserError(
            f"{folder} holds {kind}, which belong in gallery/: expected identities to "
            f"{'train on' if part == 'train' else 'search for'}"
        )


def _tracklets(camera: Path, listing: _Listing, report: Report) -> Iterator[tuple[str, ...]]:
    names = listing.folders(camera)
    if names == []:
        loose = len(list_frames(camera))
        said = f"; put its {counts(loose, 'image')} into one" if loose else ""
        report(Fault("empty", str(camera), f"has no folders of tracklets{said}"))
    for name in names or []:
        frames = listing.frames(camera / name)
        if frames:
            yield frames
        elif frames is not None:
            report(Fault("empty", str(camera / name), "has no images"))
