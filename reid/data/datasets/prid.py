"""PRID-2011, its multi-shot part, in its published layout.

::

    root/prid_2011/multi_shot/cam_a/person_0001/0001.png
                              cam_b/person_0001/...
    root/splits_prid2011.json        [{"train": ["person_0003", ...], "test": [...]}, ...]

The persons numbered 1 to 200 appear under both cameras; from 201 on, the same number is another
person under each. The literature takes the 178 of the 200 with more than 27 frames under both
cameras and divides them ten times into 89 and 89. Hirzer, Beleznai, Roth and Bischof, Person
Re-Identification by Descriptive and Discriminative Classification (SCIA 2011); the 178 persons are
those of Wang et al. (ECCV 2014). The file is torchreid's, the dataset has none of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reid.data.datasets.base import Report
from reid.data.datasets.frames import list_frames
from reid.data.datasets.two_cameras import (
    Split,
    camera_identities,
    find_folder,
    load_two_cameras,
    numbers_in_names,
)
from reid.data.tracklet import ReidData
from video_snl.errors import UserError
from video_snl.utils.counts import counts
from video_snl.utils.json_text import parse_json

__all__ = ["load"]

_NAME = "prid2011"
_SPLIT_FILE = "splits_prid2011.json"
_LEAST_FRAMES = 28
_SHARED_IDENTITIES = 200


def load(root: Path, split: int, report: Report) -> ReidData:
    """Load one of the ten divisions; without the file of the splits, of ten random ones.

    Raises:
        UserError: Not that layout, a malformed file of splits, no such split.
    """
    folder = find_folder(root, ("prid_2011/multi_shot", "multi_shot"), hint=_NAME)
    cameras = folder / "cam_a", folder / "cam_b"
    return load_two_cameras(
        _NAME,
        cameras,
        root / _SPLIT_FILE,
        split,
        report,
        splits_of=_splits,
        identities=lambda: _usual_identities(cameras),
    )


def _splits(path: Path) -> list[Split]:
    """Read the divisions in a file of torchreid's format.

    Raises:
        UserError: It is malformed, or has a person twice in one division.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable JSON file ({error}): restore it") from error
    if not isinstance(values, list) or not values:
        raise UserError(f"{path} must hold a list of splits: restore it")
    return [_split(path, number, value) for number, value in enumerate(values)]


def _split(path: Path, number: int, value: Any) -> Split:
    parts: list[list[str]] = []
    for name in ("train", "test"):
        part = value.get(name) if isinstance(value, dict) else None
        if not isinstance(part, list) or not part or not all(isinstance(p, str) for p in part):
            raise UserError(
                f'{path}: split {number} must have the form {{"train": [names], "test": '
                "[names]}: restore the file"
            )
        parts.append(part)
    train, test = parts
    if len({*train, *test}) < len(train) + len(test):
        raise UserError(f"{path}: split {number} has a person twice: restore the file")
    numbers_in_names([*train, *test])
    return Split(tuple(sorted(train)), tuple(sorted(test)))


def _usual_identities(cameras: tuple[Path, Path]) -> list[str]:
    """Return those of the first 200 who have enough frames under both cameras."""
    both = set(camera_identities(cameras[0])) & set(camera_identities(cameras[1]))
    numbers = numbers_in_names(both)
    found = [
        person
        for person in sorted(both)
        if numbers[person] <= _SHARED_IDENTITIES
        and all(len(list_frames(camera / person)) >= _LEAST_FRAMES for camera in cameras)
    ]
    if len(found) < 2:
        raise UserError(
            f"{cameras[0].parent} has {counts(len(found), 'identity')} with at least "
            f"{_LEAST_FRAMES} frames in cam_a and in cam_b, two are needed: unpack the dataset "
            "again"
        )
    return found
