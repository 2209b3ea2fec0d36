"""iLIDS-VID in its published layout.

::

    root/i-LIDS-VID/sequences/cam1/person001/cam1_person001_00317.png
                              cam2/person001/...
    root/train-test people splits/train_test_splits_ilidsvid.mat     ls_set, 10 x 300

300 people under two cameras, 10 divisions into 150 and 150. A row of ``ls_set`` holds places (from
1) in the sorted names of the people: the first half test, the second trains. Wang, Gong, Zhu and
Wang, Person Re-Identification by Video Ranking (ECCV 2014).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from reid.data.datasets.faults import Report
from reid.data.datasets.matlab import read_matrix
from reid.data.datasets.splits import Split, choose, random_splits, say_random
from reid.data.datasets.two_cameras import camera_people, find_folder, two_cameras
from reid.data.tracklet import ReidData
from video_snl.errors import UserError

__all__ = ["SPLIT_FILE", "load_ilids", "parse_splits"]

NAME = "ilids-vid"
SPLIT_FILE = Path("train-test people splits", "train_test_splits_ilidsvid.mat")
_FRAME = re.compile(r"cam(\d+)_(person\d+)_\d+\.\w+$")


def load_ilids(root: Path, split: int, report: Report) -> ReidData:
    """One of the ten divisions; without the file of the splits, of ten random ones.

    Raises:
        UserError: Not that layout, a malformed file of splits, no such split.
    """
    folder = find_folder(
        root, ("i-LIDS-VID/sequences", "sequences"), "i-LIDS-VID/sequences", hint=NAME
    )
    cameras = folder / "cam1", folder / "cam2"
    people = sorted({*camera_people(cameras[0]), *camera_people(cameras[1])})
    file = root / SPLIT_FILE
    if file.is_file():
        splits = parse_splits(file, people)
    else:
        splits = random_splits(NAME, people)
        say_random(NAME, file, splits)
    return two_cameras(NAME, cameras, choose(NAME, splits, split), report, _misplaced)


def parse_splits(path: Path, people: list[str]) -> list[Split]:
    """The divisions of the people, whose sorted names are given.

    Raises:
        UserError: The file is missing or malformed, or divides another number of people.
    """
    rows = read_matrix(path, "ls_set", columns=None)
    if rows.shape[1] != len(people):
        raise UserError(
            f"{path} divides {rows.shape[1]} people, the folders cam1 and cam2 hold {len(people)}: "
            "unpack the data set again"
        )
    for number, row in enumerate(np.sort(rows, axis=1)):
        if not np.array_equal(row, np.arange(1, len(people) + 1)):
            raise UserError(
                f"{path}: split {number} must hold each of 1 to {len(people)} once: restore the "
                "published file"
            )
    half = len(people) // 2
    names = np.array(people)
    return [
        Split(_sorted(names[row[half:] - 1].tolist()), _sorted(names[row[:half] - 1].tolist()))
        for row in rows
    ]


def _sorted(names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _misplaced(frame: str, camera: int, person: str) -> str | None:
    named = _FRAME.match(frame)
    if named is None or (int(named[1]), named[2]) == (camera + 1, person):
        return None
    return f"{named[2]}, camera {named[1]}"
