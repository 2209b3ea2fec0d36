"""Images in folders of their classes: ImageNet and one's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from video_snl.config.image import ImageDataConfig
from video_snl.data.duplicates import distinct
from video_snl.data.image.base import ImageSet, dataset_root, image_set
from video_snl.data.image.classification import Labelled, labelled_set
from video_snl.data.image.in_memory import MemoryDataset, decode_images
from video_snl.data.video.records import folder_contents
from video_snl.errors import UserError
from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    Ignored,
    MediaFiles,
    entry_kind,
    is_system_name,
    list_folder,
)
from video_snl.utils.text import clean_label, say_merged

__all__ = [
    "IMAGENET_COUNTS",
    "count_classes",
    "folder_classes",
    "load_class_folders",
    "load_folder",
    "load_imagenet",
    "say_ignored",
    "warn_of_counts",
]

IMAGENET_COUNTS = 1000, 1_281_167, 50_000
"""Classes, training and validation images of ILSVRC 2012."""

_TESTS = {"imagenet": ("val",), "folder": ("test", "val")}


def load_imagenet(config: ImageDataConfig, seed: int) -> ImageSet:
    """Load ``data.dataset=imagenet``: its entry's loader."""
    train, test, names = load_class_folders(dataset_root(config), _TESTS["imagenet"])
    found = len(names), len(train.paths), len(test.paths)
    what = "classes", "training images", "validation images"
    for name, count, official in zip(what, found, IMAGENET_COUNTS, strict=True):
        warn_of_counts("ImageNet", name, count, official)
    return labelled_set(config, seed, train, test, names)


def load_folder(config: ImageDataConfig, seed: int) -> ImageSet:
    """Load ``data.dataset=folder``: its entry's loader."""
    root = dataset_root(config)
    train, test, names = load_class_folders(root, _TESTS["folder"])
    if not config.in_memory:
        return labelled_set(config, seed, train, test, names)

    def part(found: Labelled, training: bool) -> MemoryDataset:
        images, failures = decode_images(root, found.paths, config)
        labels = torch.tensor(found.labels)
        return MemoryDataset(
            images, labels, found.paths, config, training=training, seed=seed, failures=failures
        )

    return image_set(config, part(train, True), part(test, False), names)


def count_classes(config: ImageDataConfig) -> int:
    """Count the class folders, opening no image."""
    return len(folder_classes(dataset_root(config), _TESTS[config.dataset]))


def load_class_folders(root: Path, tests: Sequence[str]) -> tuple[Labelled, Labelled, list[str]]:
    """List ``root/train/<class>/*`` and the test images, below the first of ``tests`` that exists.

    The layout is that of torchvision's ImageFolder: classes are sorted by name, images by path,
    folders within a class are searched, too. What else is there is counted and named on stderr,
    except for hidden files and folders.

    Returns:
        Train part, test part, names of the classes.

    Raises:
        UserError: Not that layout; a class without training images; a class that is only tested;
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
    """Return the sorted names of the folders in ``root/train``.

    Raises:
        UserError: There is none, or no folder of test images.
    """
    _test_folder(root, tests)
    names = sorted(set(_class_folders(root / "train").values()))
    if not names:
        raise UserError(
            f"{root / 'train'} has no class folders, it holds {folder_contents(root / 'train')}: "
            "put the images of each class into a folder of its own"
        )
    return names


def warn_of_counts(name: str, what: str, found: int, official: int) -> None:
    """Say on stderr that a dataset is not the whole one."""
    if found != official:
        print(
            f"{name}: {found:,} {what}, and not the published {official:,}: results do not compare "
            "with others'",
            file=sys.stderr,
        )


def say_ignored(folder: str | Path, ignored: Sequence[Ignored]) -> None:
    """Say on stderr what was passed over in a folder, with counts and examples, if anything was."""
    text = MediaFiles(ignored=list(ignored)).ignored_text()
    if text is not None:
        print(f"{folder}: {text}", file=sys.stderr, flush=True)


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
    """Return the name of every class folder, and the label that it stands for."""
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
        paths, others = _class_images(folder / name)
        found.paths.extend(paths)
        found.labels.extend([indices[label]] * len(paths))
        ignored += others
    say_ignored(folder, ignored)
    return found


def _class_images(folder: str | Path) -> tuple[list[str], list[Ignored]]:
    """List the images of a class, those in folders below it too, and what else is there.

    Folders are sorted by path and files by name, as in torchvision's ImageFolder. A link to a
    folder is followed unless that folder contains the class or is read by another name; folders
    under their own names come first. It asks the system for no more than the names and kinds of
    entries, as a dataset has a million of them.
    """
    found: list[tuple[str, list[str]]] = []
    ignored: list[Ignored] = []
    seen = set(map(str, Path(os.path.realpath(folder)).parents))
    folders, links = [str(folder)], list[str]()
    while folders or links:
        place = folders.pop() if folders else links.pop()
        names: list[str] = []
        real = os.path.realpath(place)
        if real in seen:
            ignored.append(Ignored(Path(place), "link to a folder that is read by another name"))
            continue
        seen.add(real)
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if is_system_name(entry.name):
                        continue
                    kind, reason = entry_kind(entry)
                    if kind == "image":
                        names.append(entry.name)
                        continue
                    if kind == "folder":
                        (links if entry.is_symlink() else folders).append(entry.path)
                        continue
                    ignored.append(Ignored(Path(entry.path), reason))
        except OSError as error:
            reason = f"folder that cannot be read ({error.strerror})"
            ignored.append(Ignored(Path(place), reason))
        found.append((place, sorted(names)))
    return [f"{place}/{name}" for place, names in sorted(found) for name in names], ignored


def _distinct(found: Sequence[Labelled], root: Path, tested: str) -> list[Labelled]:
    """Return the train and test part with every file once.

    Raises:
        UserError: A file is in both.
    """
    parts = dict(zip(("train", tested), (list(zip(*f, strict=True)) for f in found), strict=True))
    kept = distinct(parts, f"data.root={root}")
    return [
        Labelled([path for path, _ in entries], [label for _, label in entries])
        for entries in kept.values()
    ]
