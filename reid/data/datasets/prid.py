"""PRID-2011, its multi-shot part, in its published layout.

::

    root/prid_2011/multi_shot/cam_a/person_0001/0001.png
                              cam_b/person_0001/...
    root/splits_prid2011.json        [{"train": ["person_0003", ...], "test": [...]}, ...]

The people numbered 1 to 200 appear under both cameras; from 201 on, the same number is another
person under each. The literature takes the 178 of the 200 with more than 27 frames under both
cameras and divides them ten times into 89 and 89. Hirzer, Beleznai, Roth and Bischof, Person
Re-Identification by Descriptive and Discriminative Classification (SCIA 2011); the 178 people are
those of Wang et al. (ECCV 2014). The file is torchreid's, the data set has none of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid.data.datasets.faults import Report
from reid.data.datasets.frames import list_frames
from reid.data.datasets.splits import Split, choose, random_splits, say_random
from reid.data.datasets.two_cameras import camera_people, find_folder, people_of, two_cameras
from reid.data.tracklet import ReidData
from video_snl.errors import UserError
from video_snl.utils.json_text import parse_json

__all__ = ["LEAST_FRAMES", "SPLIT_FILE", "load_prid", "parse_splits"]

NAME = "prid2011"
SPLIT_FILE = "splits_prid2011.json"
LEAST_FRAMES = 28
_SHARED_PEOPLE = 200


def load_prid(root: Path, split: int, report: Report) -> ReidData:
    """One of the ten divisions; without the file of the splits, of ten random ones.

    Raises:
        UserError: Not that layout, a malformed file of splits, no such split.
    """
    folder = find_folder(
        root, ("prid_2011/multi_shot", "multi_shot"), "prid_2011/multi_shot", hint=NAME
    )
    cameras = folder / "cam_a", folder / "cam_b"
    file = root / SPLIT_FILE
    if file.is_file():
        splits = parse_splits(file)
    else:
        splits = random_splits(NAME, _usual_people(cameras))
        say_random(NAME, file, splits)
    return two_cameras(NAME, cameras, choose(NAME, splits, split), report)


def parse_splits(path: Path) -> list[Split]:
    """The divisions in a file of torchreid's format.

    Raises:
        UserError: It is missing or malformed, or has a person twice in one division.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable JSON file ({error}): restore it") from error
    if not isinstance(values, list) or not values:
        raise UserError(f"{path} must hold a list of splits: restore it")
    return [_split(path, number, value) for number, value in enumerate(values)]


def _split(path: Path, number: int, value: Any) -> Split:
    parts: list[list[str]] = []
    for name in ("train", "test"):
        part = value.get(name) if isinstance(value, dict) else None
        if not isinstance(part, list) or not part or not all(isinstance(p, str) for p in part):
            raise UserError(
                f'{path}: split {number} must have the form {{"train": [names of people], "test": '
                "[names]}: restore the file"
            )
        parts.append(part)
    train, test = parts
    if len({*train, *test}) < len(train) + len(test):
        raise UserError(f"{path}: split {number} has a person twice: restore the file")
    people_of([*train, *test])
    return Split(tuple(sorted(train)), tuple(sorted(test)))


def _usual_people(cameras: tuple[Path, Path]) -> list[str]:
    """Those of the first 200 who have enough frames under both cameras."""
    both = set(camera_people(cameras[0])) & set(camera_people(cameras[1]))
    numbers = people_of(both)
    found = [
        person
        for person in sorted(both)
        if numbers[person] <= _SHARED_PEOPLE
        and all(len(list_frames(camera / person)) >= LEAST_FRAMES for camera in cameras)
    ]
    if len(found) < 2:
        raise UserError(
            f"{cameras[0].parent} has {len(found)} people with at least {LEAST_FRAMES} frames in "
            "cam_a and in cam_b, two are needed: unpack the data set again"
        )
    return found
