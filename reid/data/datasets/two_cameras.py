"""Datasets of two cameras, iLIDS-VID and PRID-2011: a folder for each person and camera, splits.

Camera 0 of the test identities is the query, camera 1 the gallery. The identities are divided ten
times into halves: by a published file, or at random where it is missing.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reid.data.datasets.base import Fault, Report
from reid.data.datasets.frames import list_folders, list_frames
from reid.data.tracklet import ReidData, Tracklet
from video_snl.data.video.records import folder_contents
from video_snl.errors import UserError
from video_snl.utils.json_text import to_json

__all__ = [
    "Split",
    "camera_identities",
    "digest",
    "find_folder",
    "load_two_cameras",
    "numbers_in_names",
    "random_splits",
]

_RANDOM_SPLITS = 10


@dataclass(frozen=True)
class Split:
    """Names of the training and of the test identities, each sorted."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def load_two_cameras(
    name: str,
    cameras: tuple[Path, Path],
    file: Path,
    split: int,
    report: Report,
    *,
    splits_of: Callable[[Path], list[Split]],
    identities: Callable[[], list[str]],
    misplaced: Callable[[str, int, str], str | None] = lambda frame, camera, person: None,
) -> ReidData:
    """Load one split: both cameras of the training identities; query and gallery of the others.

    Tracklets are in the order of identity and camera. The number of an identity is that in its
    name.

    Args:
        name: Name of the dataset.
        cameras: Folders of the two cameras.
        file: File of the splits, which may be missing.
        split: Number of the split.
        report: Takes faults.
        splits_of: Reads the file.
        identities: Lists the identities to divide where the file is missing.
        misplaced: Tells for the name of a frame, its camera (from 0) and its person whose the frame
            is by its name, if that is somebody else.

    Raises:
        UserError: There is no split of this number.
    """
    if file.is_file():
        splits = splits_of(file)
    else:
        splits = random_splits(name, identities())
        print(
            f"{name}: there is no {file}; uses {len(splits)} random divisions of the identities "
            f"instead (sha256 {digest(splits)[:16]}), so compare with published numbers with care",
            file=sys.stderr,
        )
    if not 0 <= split < len(splits):
        raise UserError(
            f"split {split} of {name} does not exist: give one from 0 to {len(splits) - 1}"
        )
    chosen = splits[split]

    def tracklet(camera: int, person: str) -> list[Tracklet]:
        folder = cameras[camera] / person
        try:
            frames = list_frames(folder)
        except (FileNotFoundError, NotADirectoryError):
            report(Fault("missing", str(folder), f"the splits name {person}, who has no folder"))
            return []
        if not frames:
            report(Fault("empty", str(folder), "has no images"))
            return []
        for frame in frames:
            if whose := misplaced(Path(frame).name, camera, person):
                report(Fault("mixed", frame, f"is an image of {whose}"))
                return []
        return [Tracklet(frames, numbers_in_names([person])[person], camera)]

    return ReidData(
        name=name,
        train=[made for person in chosen.train for c in (0, 1) for made in tracklet(c, person)],
        query=[made for person in chosen.test for made in tracklet(0, person)],
        gallery=[made for person in chosen.test for made in tracklet(1, person)],
        num_cameras=2,
    )


def find_folder(root: Path, candidates: Sequence[str], hint: str) -> Path:
    """Return the first of the candidate folders below ``root`` that exists.

    Args:
        root: Root of the dataset.
        candidates: Folders below it; the first one is named in the message.
        hint: Folder of ``root`` to try instead, if it exists.

    Raises:
        UserError: None of them exists.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    other = f"; try --root {root / hint}" if (root / hint).is_dir() else ""
    raise UserError(
        f"--root {root} has no folder {candidates[0]}, it holds {folder_contents(root)}: give the "
        f"folder that the dataset was unpacked into{other}"
    )


def camera_identities(folder: Path) -> list[str]:
    """Return the names of the identities whose folders a camera's folder holds, sorted.

    Raises:
        UserError: The folder does not exist, or holds none.
    """
    identities = sorted(list_folders(folder)) if folder.is_dir() else []
    if not identities:
        found = "holds no folders of identities" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {found}: unpack the dataset again")
    return identities


def numbers_in_names(names: Iterable[str]) -> dict[str, int]:
    """Return the numbers at the end of names of identities: ``person_0012`` is 12.

    Raises:
        UserError: A name without a number, or with 0.
    """
    numbers = {}
    for name in names:
        digits = name[len(name.rstrip("0123456789")) :]
        if not digits or not int(digits):
            raise UserError(
                f"the name of a person, {name!r}, must end in a number from 1: unpack the dataset "
                "again or restore its splits"
            )
        numbers[name] = int(digits)
    return numbers


def random_splits(dataset: str, identities: Sequence[str]) -> list[Split]:
    """Divide identities ten times into halves, as the literature does where no file is published.

    In split s they are put in the order of the SHA-256 of ``<dataset>/<s>/<name>``; the first half,
    rounded down, are the test identities. That depends on no version of any library.
    """

    def rank(number: int, person: str) -> str:
        return hashlib.sha256(f"{dataset}/{number}/{person}".encode()).hexdigest()

    splits = []
    for number in range(_RANDOM_SPLITS):
        order = sorted(identities, key=lambda person, number=number: rank(number, person))  # type: ignore[misc]
        half = len(order) // 2
        splits.append(Split(tuple(sorted(order[half:])), tuple(sorted(order[:half]))))
    return splits


def digest(splits: Sequence[Split]) -> str:
    """Return the SHA-256 of splits as JSON: ``[{"train": [names], "test": [names]}, ...]``."""
    values = [{"train": split.train, "test": split.test} for split in splits]
    return hashlib.sha256(to_json(values).encode()).hexdigest()
