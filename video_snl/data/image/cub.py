"""CUB-200-2011 in its published layout (Wah et al., CNS-TR-2011-001, Caltech, 2011).

::

    root/CUB_200_2011/images/001.Black_footed_Albatross/*.jpg     (or root is that folder)
                      classes.txt               lines "1 001.Black_footed_Albatross"
                      images.txt                lines "1 001.Black_footed_Albatross/x_0046_18.jpg"
                      image_class_labels.txt    lines "1 1"
                      train_test_split.txt      lines "1 0": image, and whether it trains
"""

from __future__ import annotations

from pathlib import Path

from video_snl.config.image import ImageDataConfig
from video_snl.data.duplicates import distinct
from video_snl.data.image.base import ImageSet, dataset_root
from video_snl.data.image.classification import Labelled, labelled_set
from video_snl.data.image.folders import warn_of_counts
from video_snl.data.video.records import folder_contents, missing_files
from video_snl.errors import UserError
from video_snl.utils.text import printable, read_text

__all__ = ["COUNTS", "count_classes", "cub_classes", "load", "load_cub"]

COUNTS = 200, 5_994, 5_794
"""Classes, training and test images as published."""
_FOLDER = "CUB_200_2011"
_LISTS = "images.txt", "image_class_labels.txt", "train_test_split.txt"


def load(config: ImageDataConfig, seed: int) -> ImageSet:
    """Load ``data.dataset=cub200``: its entry's loader."""
    return labelled_set(config, seed, *load_cub(dataset_root(config)))


def count_classes(config: ImageDataConfig) -> int:
    """Count the classes of classes.txt."""
    return len(cub_classes(dataset_root(config)))


def load_cub(root: Path) -> tuple[Labelled, Labelled, list[str]]:
    """List train part, test part and names of the classes, as the official lists say.

    Raises:
        UserError: A list is missing or malformed, the lists disagree, a label has no class, a file
            does not exist.
    """
    folder = _folder(root)
    names = cub_classes(root)
    images, labels, training = (_numbered(folder / name) for name in _LISTS)
    for name, table in zip(_LISTS[1:], (labels, training), strict=True):
        if table.keys() != images.keys():
            odd = min(table.keys() ^ images.keys())
            raise UserError(
                f"{folder / name} and images.txt do not number the same images (see {odd}): "
                "restore the published files"
            )
    parts = {"0": Labelled([], []), "1": Labelled([], [])}
    for number, image in images.items():
        part = parts.get(training[number])
        if part is None:
            raise UserError(
                f"{folder / _LISTS[2]}: image {number} has {training[number]!r}, expected 0 or 1"
            )
        if ".." in image.split("/") or image.startswith("/"):
            raise UserError(
                f"{folder / _LISTS[0]}: image {number} leads out of images/ ({printable(image)}): "
                "restore the published file"
            )
        part.paths.append(str(folder / "images" / image))
        part.labels.append(_label(folder / _LISTS[1], number, labels[number], len(names)))
    _check_files(parts["1"].paths + parts["0"].paths, folder)
    kept = distinct(
        {
            name: list(zip(*parts[number], strict=True))
            for name, number in (("train", "1"), ("test", "0"))
        },
        str(folder),
    )
    train, test = (Labelled([p for p, _ in part], [n for _, n in part]) for part in kept.values())
    found = len(names), len(train.paths), len(test.paths)
    what = "classes", "training images", "test images"
    for name, count, official in zip(what, found, COUNTS, strict=True):
        warn_of_counts("CUB-200-2011", name, count, official)
    return train, test, names


def cub_classes(root: Path) -> list[str]:
    """Return the names of classes.txt without their numbers, such as ``Black_footed_Albatross``.

    Raises:
        UserError: The file is missing, or does not number them 1, 2, 3, ...
    """
    file = _folder(root) / "classes.txt"
    names = _numbered(file)
    if list(names) != list(range(1, len(names) + 1)):
        raise UserError(f"{file} must number its classes 1, 2, 3, ...: restore the published file")
    return [name.partition(".")[2] or name for name in names.values()]


def _folder(root: Path) -> Path:
    for folder in (root / _FOLDER, root):
        if (folder / _LISTS[0]).is_file():
            return folder
    raise UserError(
        f"data.root={root} must hold {_FOLDER}/ with images/ and {', '.join(_LISTS)}, it holds "
        f"{folder_contents(root)}: unpack CUB_200_2011.tgz into it"
    )


def _numbered(file: Path) -> dict[int, str]:
    """Read the lines of a list: number -> the rest of its line.

    Raises:
        UserError: The file is missing; a line is malformed; a number comes twice.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist: restore it from CUB_200_2011.tgz")
    found: dict[int, str] = {}
    for row, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        number, _, rest = line.strip().partition(" ")
        if not (number.isdecimal() and rest) or int(number) in found:
            raise UserError(
                f"{file}, line {row}: expected '<new number> <value>', found {line!r}: restore the "
                "published file"
            )
        found[int(number)] = rest.strip()
    if not found:
        raise UserError(f"{file} is empty: restore the published file")
    return found


def _label(file: Path, number: int, label: str, classes: int) -> int:
    if not label.isdecimal() or not 1 <= int(label) <= classes:
        raise UserError(
            f"{file}: image {number} has the class {label}, classes.txt has 1 to {classes}: "
            "restore the published files"
        )
    return int(label) - 1


def _check_files(paths: list[str], folder: Path) -> None:
    missing = missing_files(paths)
    if missing:
        raise UserError(
            f"{len(missing):,} of {len(paths):,} images are missing, the first is {missing[0]}: "
            f"unpack all of CUB_200_2011.tgz beside {folder}"
        )
