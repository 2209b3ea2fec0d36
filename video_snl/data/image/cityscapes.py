"""Cityscapes in its published layout (Cordts et al., CVPR 2016, arXiv:1604.01685).

::

    root/leftImg8bit/{train,val}/<city>/<city>_000000_000019_leftImg8bit.png
    root/gtFine/{train,val}/<city>/<city>_000000_000019_gtFine_labelIds.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torchvision.datasets import Cityscapes

from video_snl.config.image import ImageDataConfig
from video_snl.data.duplicates import find_repeats, refuse_shared
from video_snl.data.image.base import ImageSet, dataset_root
from video_snl.data.image.folders import say_ignored, warn_of_counts
from video_snl.data.image.reading import UnreadableImage, read_label_map
from video_snl.data.image.segmentation import IGNORED, SegmentationFiles, segmentation_set
from video_snl.data.video.records import folder_contents, missing_files
from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS, Ignored, list_folder

__all__ = ["CLASSES", "COUNTS", "load", "load_cityscapes", "read_labels", "train_ids"]

CLASSES: dict[str, int] = {
    entry.name: entry.id for entry in Cityscapes.classes if not entry.ignore_in_eval
}
"""The 19 classes that are scored, in the order of their train ids, and their label ids."""

COUNTS = 2_975, 500
"""Finely labelled training and validation images as published."""

_LARGEST_ID = 33
_TRAIN_IDS = np.full(256, IGNORED, np.uint8)
_TRAIN_IDS[list(CLASSES.values())] = np.arange(len(CLASSES))
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


def load(config: ImageDataConfig, seed: int) -> ImageSet:
    """Load ``data.dataset=cityscapes``: its entry's loader."""
    train, test = load_cityscapes(dataset_root(config))
    return segmentation_set(config, seed, train, test, list(CLASSES), read_labels)


def load_cityscapes(root: Path) -> tuple[SegmentationFiles, SegmentationFiles]:
    """List the training and the validation images, by city and name; opens no file.

    Raises:
        UserError: Not that layout; a part without images, an image without its label map.
    """
    parts = []
    for part, official in zip(("train", "val"), COUNTS, strict=True):
        files = _files(root, part)
        warn_of_counts("Cityscapes", f"images in {part}", len(files.images), official)
        parts.append(files)
    repeats = find_repeats(
        {
            part: [(image, "") for image in files.images]
            for part, files in zip(("train", "val"), parts, strict=True)
        }
    )
    refuse_shared(repeats, f"data.root={root}")
    return parts[0], parts[1]


def read_labels(path: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map as train ids, uint8 (H, W).

    Raises:
        UnreadableImage: It is damaged, not there, or has ids that Cityscapes does not have.
    """
    try:
        return train_ids(read_label_map(path, max_pixels=max_pixels), path)
    except UnreadableImage:
        raise
    except UserError as error:
        raise UnreadableImage(str(error)) from error


def train_ids(label_ids: np.ndarray, path: str) -> np.ndarray:
    """Turn label ids, uint8 (H, W), into train ids: 0 to 18, else 255.

    Raises:
        UserError: An id that Cityscapes does not have (it has 0 to 33).
    """
    largest = int(label_ids.max(initial=0))
    if largest > _LARGEST_ID:
        raise UserError(
            f"{path} has the label id {largest}, Cityscapes has 0 to {_LARGEST_ID}: give the "
            "published *_gtFine_labelIds.png"
        )
    return _TRAIN_IDS[label_ids]


def _files(root: Path, part: str) -> SegmentationFiles:
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
    return SegmentationFiles(images, labels)


def _label_path(root: Path, part: str, image: Path) -> str:
    name = image.name.removesuffix(_IMAGE) + _LABEL
    return str(root / "gtFine" / part / image.parent.name / name)
