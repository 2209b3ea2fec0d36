"""Pictures in folders of their classes: ImageNet and one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from video_snl.data.duplicates import distinct
from video_snl.data.image.files import list_class_images, say_ignored
from video_snl.data.video.records import folder_contents
from video_snl.errors import UserError
from video_snl.utils.media import IMAGE_SUFFIXES, Ignored, list_folder
from video_snl.utils.text import clean_label, say_merged

__all__ = ["IMAGENET_COUNTS", "Labelled", "folder_classes", "load_class_folders", "warn_of_counts"]

IMAGENET_COUNTS = 1000, 1_281_167, 50_000
"""Classes, training and validation pictures of ILSVRC 2012."""


class Labelled(NamedTuple):
    """Files and the index of the class each shows."""

    paths: list[str]
    labels: list[int]


def load_class_folders(root: Path, tests: Sequence[str]) -> tuple[Labelled, Labelled, list[str]]:
    """``root/train/<class>/*`` and, under the first name of ``tests`` there is, the test pictures.

    The layout of torchvision's ImageFolder: classes are sorted by name, pictures by path, folders
    within a class are searched, too. What else is there is counted and named on stderr, but for
    hidden files and folders.

    Returns:
        Train part, test part, names of the classes.

    Raises:
        UserError: Not that layout; a class without training pictures; a class that is only tested;
            a file that is in both parts.
    """
    names = folder_classes(root, tests)
    train, test = root / "train", _test_folder(root, tests)
    say_merged([*_class_folders(train), *_class_folders(test)], str(root))
    unknown = sorted(set(_class_folders(test).values()) - set(names))
    if unknown:
        raise UserError(
            f"{test} has the class {unknown[0]!r}"
            + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else "")
            + f", which {train} has not: add training images of it, or give --data.root a folder "
            "whose test classes are all trained"
        )
    found = _distinct([_labelled(folder, names) for folder in (train, test)], root, test.name)
    without = sorted(set(range(len(names))) - set(found[0].labels))
    if without:
        raise UserError(
            f"class folder {train / names[without[0]]} has no images: add some "
            f"({' '.join(sorted(IMAGE_SUFFIXES))})"
        )
    if not found[1].paths:
        raise UserError(f"{test} has no images: add some ({' '.join(sorted(IMAGE_SUFFIXES))})")
    return found[0], found[1], names


def folder_classes(root: Path, tests: Sequence[str]) -> list[str]:
    """The sorted names of the folders in ``root/train``.

    Raises:
        UserError: There is none, or no folder of test pictures.
    """
    _test_folder(root, tests)
    names = sorted(set(_class_folders(root / "train").values()))
    if not names:
        raise UserError(
            f"{root / 'train'} has no class folders, it holds {folder_contents(root / 'train')}: "
            "put the pictures of each class into a folder of its own"
        )
    return names


def warn_of_counts(name: str, what: str, found: int, official: int) -> None:
    """Say on stderr that a data set is not the whole one."""
    if found != official:
        print(
            f"{name}: {found:,} {what}, and not the published {official:,}: results do not compare "
            "with others'",
            file=sys.stderr,
        )


def _test_folder(root: Path, tests: Sequence[str]) -> Path:
    present = [name for name in tests if (root / name).is_dir()]
    if (root / "train").is_dir() and present:
        return root / present[0]
    wanted = f"train/<class>/ and {' or '.join(f'{name}/<class>/' for name in tests)}"
    below = [
        entry for entry in sorted(root.iterdir()) if entry.is_dir() and (entry / "train").is_dir()
    ]
    hint = f"; try --data.root {below[0]}" if below else ""
    raise UserError(f"data.root={root} must hold {wanted}, it holds {folder_contents(root)}{hint}")


def _class_folders(folder: Path) -> dict[str, str]:
    """Name of every class folder, and the label that it stands for."""
    names = sorted(path.name for path in list_folder(folder)[0])
    return {name: clean_label(name) for name in names}


def _labelled(folder: Path, names: Sequence[str]) -> Labelled:
    indices = {name: i for i, name in enumerate(names)}
    found = Labelled([], [])
    beside = list_folder(folder)[1]
    ignored = [Ignored(path, "image beside class folders") for path in beside.images]
    ignored += [Ignored(path, "video beside class folders") for path in beside.videos]
    ignored += beside.ignored
    for name, label in _class_folders(folder).items():
        paths, others = list_class_images(folder / name)
        found.paths.extend(paths)
        found.labels.extend([indices[label]] * len(paths))
        ignored += others
    say_ignored(folder, ignored)
    return found


def _distinct(found: Sequence[Labelled], root: Path, tested: str) -> list[Labelled]:
    """Train and test part with every file once.

    Raises:
        UserError: A file is in both.
    """
    parts = dict(zip(("train", tested), (list(zip(*f, strict=True)) for f in found), strict=True))
    kept = distinct(parts, f"data.root={root}")
    return [
        Labelled([path for path, _ in entries], [label for _, label in entries])
        for entries in kept.values()
    ]
