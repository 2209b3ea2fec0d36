"""Cityscapes in its published layout (Cordts et al., CVPR 2016, arXiv:1604.01685).

::

    root/leftImg8bit/{train,val}/<city>/<city>_000000_000019_leftImg8bit.png
    root/gtFine/{train,val}/<city>/<city>_000000_000019_gtFine_labelIds.png
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from video_snl.data.duplicates import find_repeats, refuse_shared
from video_snl.data.image.files import say_ignored
from video_snl.data.image.folders import warn_of_counts
from video_snl.data.video.records import folder_contents, missing_files
from video_snl.errors import UserError
from video_snl.utils.media import Ignored, list_folder

__all__ = ["CLASSES", "COUNTS", "IGNORED", "Scenes", "load_cityscapes", "train_ids"]

CLASSES: dict[str, int] = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""The 19 classes that are scored, in the order of their train ids, and their label ids."""

IGNORED = 255
"""The train id of all other labels."""

COUNTS = 2_975, 500
"""Finely labelled training and validation scenes as published."""

_LARGEST_ID = 33
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


class Scenes(NamedTuple):
    """Pictures and their label maps."""

    images: list[str]
    labels: list[str]


def load_cityscapes(root: Path) -> tuple[Scenes, Scenes]:
    """The training and the validation scenes, by city and name; opens no file.

    Raises:
        UserError: Not that layout; a part without pictures, a picture without its label map.
    """
    parts = []
    for part, official in zip(("train", "val"), COUNTS, strict=True):
        scenes = _scenes(root, part)
        warn_of_counts("Cityscapes", f"scenes in {part}", len(scenes.images), official)
        parts.append(scenes)
    repeats = find_repeats(
        {
            part: [(image, "") for image in scenes.images]
            for part, scenes in zip(("train", "val"), parts, strict=True)
        }
    )
    refuse_shared(repeats, f"data.root={root}")
    return parts[0], parts[1]


def train_ids(label_ids: np.ndarray, path: str) -> np.ndarray:
    """Label ids, uint8 (H, W), as train ids: 0 to 18, else 255.

    Raises:
        UserError: An id that Cityscapes does not have (it has 0 to 33).
    """
    largest = int(label_ids.max(initial=0))
    if largest > _LARGEST_ID:
        raise UserError(
            f"{path} has the label id {largest}, Cityscapes has 0 to {_LARGEST_ID}: give the "
            "published *_gtFine_labelIds.png"
        )
    return _TABLE[label_ids]


_TABLE = np.full(256, IGNORED, np.uint8)
_TABLE[list(CLASSES.values())] = np.arange(len(CLASSES))


def _scenes(root: Path, part: str) -> Scenes:
    folder = root / "leftImg8bit" / part
    if not folder.is_dir():
        raise UserError(
            f"data.root={root} must hold leftImg8bit/{part}/<city>/ and gtFine/{part}/<city>/, it "
            f"holds {folder_contents(root)}: unpack leftImg8bit_trainvaltest.zip and "
            "gtFine_trainvaltest.zip (cityscapes-dataset.com, after registration) into it"
        )
    cities, beside = list_folder(folder)
    ignored = [Ignored(path, "image beside the cities") for path in beside.images]
    ignored += beside.ignored
    images = []
    for city in cities:
        files = list_folder(city)[1]
        for path in files.images:
            if path.name.endswith(_IMAGE):
                images.append(str(path))
            else:
                ignored.append(Ignored(path, f"image whose name does not end in {_IMAGE}"))
        ignored += files.ignored
    images.sort()
    say_ignored(folder, ignored)
    if not images:
        raise UserError(f"{folder} has no <city>/*{_IMAGE}: unpack leftImg8bit_trainvaltest.zip")
    labels = [_label_path(root, part, Path(image)) for image in images]
    missing = missing_files(labels)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(labels)} label maps are missing, the first is {missing[0]}: "
            f"unpack gtFine_trainvaltest.zip into {root}"
        )
    return Scenes(images, labels)


def _label_path(root: Path, part: str, image: Path) -> str:
    name = image.name.removesuffix(_IMAGE) + _LABEL
    return str(root / "gtFine" / part / image.parent.name / name)
