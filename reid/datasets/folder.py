"""Your own tracklets, as folders of pictures.

::

    root/train/<person>/<camera>/<tracklet>/<frame>.jpg
    root/query/...
    root/gallery/...

Person ``-1`` or ``00-1`` is junk and ``0000`` a distractor; both belong into the gallery. Without
``train`` the set is for evaluation only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reid.datasets.faults import Fault, Report
from reid.datasets.frames import list_folders, list_frames, natural
from reid.datasets.splits import only_split_0
from reid.tracklet import DISTRACTOR, JUNK, ReidData, Tracklet, special_person
from video_snl.data.videos import folder_contents
from video_snl.errors import UserError
from video_snl.utils.counts import counts

__all__ = ["camera_numbers", "load_folder", "person_numbers"]

PARTS = ("train", "query", "gallery")


def load_folder(root: Path, split: int, report: Report) -> ReidData:
    """The tracklets below ``root``, by natural order of person, camera and tracklet.

    Raises:
        UserError: Not that layout, a part without people, junk or distractors outside the gallery,
            two names of one number.
    """
    only_split_0("folder", split)
    _check_layout(root)
    parts = [part for part in PARTS if (root / part).is_dir()]
    people = {part: _people(root / part) for part in parts}
    cameras = {
        (part, person): list_folders(root / part / person)
        for part in parts
        for person in people[part]
    }
    persons = person_numbers({person for part in parts for person in people[part]}, root)
    numbers = camera_numbers({name for names in cameras.values() for name in names})
    found: dict[str, list[Tracklet]] = {part: [] for part in PARTS}
    for (part, person), names in cameras.items():
        folder = root / part / person
        _check_place(folder, part, persons[person])
        if not names:
            report(Fault("empty", str(folder), "has no folders of cameras"))
        for camera in names:
            for frames in _tracklets(folder / camera, report):
                found[part].append(Tracklet(frames, persons[person], numbers[camera]))
    return ReidData(
        name="folder",
        train=found["train"],
        query=found["query"],
        gallery=[t for t in found["gallery"] if t.person_id != JUNK],
        junk=[t for t in found["gallery"] if t.person_id == JUNK],
        num_cameras=len(numbers),
    )


def person_numbers(names: set[str], root: Path) -> dict[str, int]:
    """Numbers of the people.

    Junk and distractors are told by :func:`reid.tracklet.special_person`. If all other names are
    whole numbers, they are the people's; otherwise the names, sorted, are numbered from 1.

    Raises:
        UserError: Two names are the same number, such as ``7`` and ``007``.
    """
    special = {name: number for name in names if (number := special_person(name)) is not None}
    others = sorted(names - special.keys())
    if not all(name.isascii() and name.isdigit() for name in others):
        return special | {name: number for number, name in enumerate(others, start=1)}
    numbers: dict[int, str] = {}
    for name in others:
        if int(name) in numbers:
            raise UserError(
                f"{root}: people {numbers[int(name)]!r} and {name!r} are the same number: rename "
                "one"
            )
        numbers[int(name)] = name
    return special | {name: number for number, name in numbers.items()}


def camera_numbers(names: set[str]) -> dict[str, int]:
    """Numbers of the cameras, from 0, in natural order of their names."""
    return {name: number for number, name in enumerate(sorted(names, key=natural))}


def _check_layout(root: Path) -> None:
    for part in ("query", "gallery"):
        if not (root / part).is_dir():
            raise UserError(
                f"--root {root} has no folder {part}, it holds {folder_contents(root)}: lay the "
                "tracklets out as {train,query,gallery}/<person>/<camera>/<tracklet>/<frame>.jpg "
                "(train is for training only)"
            )


def _people(folder: Path) -> list[str]:
    people = list_folders(folder)
    if not people:
        raise UserError(
            f"{folder} has no folders of people, it holds {folder_contents(folder)}: lay the "
            "tracklets out as <person>/<camera>/<tracklet>/<frame>.jpg in it"
        )
    return people


def _check_place(folder: Path, part: str, person: int) -> None:
    if part != "gallery" and person in (JUNK, DISTRACTOR):
        kind = "junk" if person == JUNK else "distractors"
        raise UserError(f"{folder} holds {kind}, which belong into gallery/: move the folder there")


def _tracklets(camera: Path, report: Report) -> Iterator[tuple[str, ...]]:
    names = list_folders(camera)
    if not names:
        loose = (
            f"; put its {counts(len(files), 'picture')} into one"
            if (files := list_frames(camera))
            else ""
        )
        report(Fault("empty", str(camera), f"has no folders of tracklets{loose}"))
    for name in names:
        frames = list_frames(camera / name)
        if frames:
            yield frames
        else:
            report(Fault("empty", str(camera / name), "has no pictures"))
