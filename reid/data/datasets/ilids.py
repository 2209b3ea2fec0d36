"""iLIDS-VID in its published layout.

::

    root/i-LIDS-VID/sequences/cam1/person001/cam1_person001_00317.png
                              cam2/person001/...
    root/train-test people splits/train_test_splits_ilidsvid.mat     ls_set, 10 x 300

300 identities under two cameras, 10 divisions into 150 and 150. A row of ``ls_set`` holds places
(from 1) in the sorted names of the identities: the first half test, the second trains. Wang, Gong,
Zhu and Wang, Person Re-Identification by Video Ranking (ECCV 2014).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from reid.data.datasets.base import Report
from reid.data.datasets.matlab import read_matrix
from reid.data.datasets.two_cameras import Split, camera_identities, find_folder, load_two_cameras
from reid.data.tracklet import ReidData
from video_snl.errors import UserError

__all__ = ["SPLIT_FILE", "load"]

_NAME = "ilids-vid"
SPLIT_FILE = Path("train-test people splits", "train_test_splits_ilidsvid.mat")
_FRAME = re.compile(r"cam(\d+)_(person\d+)_\d+\.\w+$")


def load(root: Path, split: int, report: Report) -> ReidData:
    """Load one of the ten divisions; without the file of the splits, of ten random ones.

    Raises:
        UserError: Not that layout, a malformed file of splits, no such split.
    """
    folder = find_folder(root, ("i-LIDS-VID/sequences", "sequences"), hint=_NAME)
    cameras = folder / "cam1", folder / "cam2"
    identities = sorted({*camera_identities(cameras[0]), *camera_identities(cameras[1])})
    return load_two_cameras(
        _NAME,
        cameras,
        root / SPLIT_FILE,
        split,
        report,
        splits_of=lambda file: _splits(file, identities),
        identities=lambda: identities,
        misplaced=_misplaced,
    )


def _splits(path: Path, identities: list[str]) -> list[Split]:
    """Read the divisions of the identities whose sorted names are given.

    Raises:
        UserError: The file is malformed, or divides another number of identities.
    """
    rows = read_matrix(path, "ls_set", columns=None)
    if rows.shape[1] != len(identities):
        raise UserError(
            f"{path} divides {rows.shape[1]} identities, the folders cam1 and cam2 hold "
            f"{len(identities)}: unpack the dataset again"
        )
    for number, row in enumerate(np.sort(rows, axis=1)):
        if not np.array_equal(row, np.arange(1, len(identities) + 1)):
            raise UserError(
                f"{path}: split {number} must hold each of 1 to {len(identities)} once: "
                "restore the published file"
            )
    half = len(identities) // 2
    names = np.array(identities)
    return [
        Split(*(tuple(sorted(names[part - 1].tolist())) for part in (row[half:], row[:half])))
        for row in rows
    ]


def _misplaced(frame: str, camera: int, person: str) -> str | None:
    """Return whose a frame is by its name, if it is in the folder of somebody else."""
    named = _FRAME.match(frame)
    if named is None or (int(named[1]), named[2]) == (camera + 1, person):
        return None
    return f"{named[2]}, camera {named[1]}"
