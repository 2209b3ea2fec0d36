"""What iLIDS-VID and PRID-2011 share: one folder of frames for each person and camera."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from reid.data.datasets.faults import Fault, Report
from reid.data.datasets.frames import list_folders, list_frames
from reid.data.datasets.splits import Split
from reid.data.tracklet import ReidData, Tracklet
from video_snl.data.video.records import folder_contents
from video_snl.errors import UserError

__all__ = ["camera_people", "find_folder", "people_of", "two_cameras"]


def find_folder(root: Path, candidates: Iterable[str], wanted: str, hint: str) -> Path:
    """The first of the candidate folders below ``root`` that exists.

    Raises:
        UserError: None does; ``hint`` is a folder of ``root`` to try instead, if it exists.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    other = f"; try --root {root / hint}" if (root / hint).is_dir() else ""
    raise UserError(
        f"--root {root} has no folder {wanted}, it holds {folder_contents(root)}: give the folder "
        f"that the data set was unpacked into{other}"
    )


def camera_people(folder: Path) -> list[str]:
    """Names of the people whose folders a camera's folder holds, sorted.

    Raises:
        UserError: There is no such folder, or no person in it.
    """
    people = sorted(list_folders(folder)) if folder.is_dir() else []
    if not people:
        found = "holds no folders of people" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {found}: unpack the data set again")
    return people


def two_cameras(
    name: str,
    cameras: tuple[Path, Path],
    split: Split,
    report: Report,
    misplaced: Callable[[str, int, str], str | None] = lambda frame, camera, person: None,
) -> ReidData:
    """Both cameras of the training people; camera 0 of the test people is the query, 1 the gallery.

    Tracklets are in the order of person and camera. The number of a person is that in the name.

    Args:
        misplaced: Of the name of a frame in the folder of a camera (from 0) and person: whose it
            says it is, if that is somebody else.
    """

    def tracklet(camera: int, person: str) -> list[Tracklet]:
        folder = cameras[camera] / person
        try:
            frames = list_frames(folder)
        except (FileNotFoundError, NotADirectoryError):
            report(Fault("missing", str(folder), f"the splits name {person}, who has no folder"))
            return []
        if not frames:
            report(Fault("empty", str(folder), "has no pictures"))
            return []
        for frame in frames:
            if whose := misplaced(Path(frame).name, camera, person):
                report(Fault("mixed", frame, f"is a picture of {whose}"))
                return []
        return [Tracklet(frames, people_of([person])[person], camera)]

    return ReidData(
        name=name,
        train=[made for person in split.train for c in (0, 1) for made in tracklet(c, person)],
        query=[made for person in split.test for made in tracklet(0, person)],
        gallery=[made for person in split.test for made in tracklet(1, person)],
        num_cameras=2,
    )


def people_of(names: Iterable[str]) -> dict[str, int]:
    """The numbers at the end of people's names: ``person_0012`` is 12.

    Raises:
        UserError: A name without a number, or with 0.
    """
    numbers = {}
    for name in names:
        digits = name[len(name.rstrip("0123456789")) :]
        if not digits or not int(digits):
            raise UserError(
                f"the name of a person, {name!r}, must end in a number from 1: unpack the data set "
                "again or restore its splits"
            )
        numbers[name] = int(digits)
    return numbers
