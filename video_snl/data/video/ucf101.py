"""UCF-101 in its published layout, and the sets that share it.

::

    root/UCF-101/<Class>/v_<Class>_gNN_cNN.avi     (or the class folders directly in root)
    root/ucfTrainTestlist/classInd.txt             lines "1 ApplyEyeMakeup"
                          trainlist01.txt ... 03   lines "Class/v_Class_g08_c01.avi 1"
                          testlist01.txt ... 03    lines "Class/v_Class_g01_c01.avi"

Soomro, Zamir and Shah, UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild
(CRCV-TR-12-01, 2012). The split "paper" is that of arXiv:2108.02451: the official train list 1
divided once more by group, so that its accuracies never compare with those of the official splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from video_snl.config.datasets import VIDEO_DATASETS
from video_snl.config.video import DataConfig
from video_snl.data.duplicates import distinct
from video_snl.data.video.folders import has_class_folders
from video_snl.data.video.records import (
    Video,
    VideoSet,
    dataset_root,
    folder_contents,
    missing_files,
)
from video_snl.errors import UserError
from video_snl.utils.text import clean_label, printable, read_text

__all__ = [
    "Entry",
    "Split",
    "class_names",
    "count_classes",
    "lists_folder",
    "load",
    "load_ucf101",
    "parse_split",
    "videos_folder",
]

Split = Literal[1, 2, 3, "paper"]
Entry = tuple[str, int]
"""A line of a list: path below the folder of the classes, class index from 0."""

PAPER_TRAIN, PAPER_TEST = range(11, 26), range(8, 11)
_LISTS, _VIDEOS = "ucfTrainTestlist", "UCF-101"
_GROUP = re.compile(r"_g(\d+)_c\d+\.\w+$")


def load(config: DataConfig, known: Sequence[str] | None = None) -> VideoSet:
    """Load the lists of ``data.dataset=ucf101``: its entry's loader."""
    root = dataset_root(config)
    if root.is_file():
        raise UserError(
            f"data.root={config.root} is a file, and data.dataset=ucf101 needs "
            f"{VIDEO_DATASETS['ucf101'].root}: a CSV file needs --data.dataset csv"
        )
    near = any((place / _LISTS).is_dir() for place in (root, root.parent))
    if not near and has_class_folders(root):
        raise UserError(
            f"data.root={config.root} has class folders, and no {_LISTS}/ as "
            "data.dataset=ucf101 needs: give --data.dataset folder"
        )
    return load_ucf101(root, config.split, frame_folders=config.reader == "frames")


def count_classes(config: DataConfig) -> int:
    """Count the classes that classInd.txt lists."""
    return len(class_names(lists_folder(dataset_root(config))))


def load_ucf101(root: Path, split: Split, *, frame_folders: bool = False) -> VideoSet:
    """List the videos of a split; all files it names exist.

    Args:
        frame_folders: Every video is a folder of images with its name, less the suffix.

    Raises:
        UserError: ``root`` is not laid out like UCF-101, a list is missing or malformed, or names
            files that do not exist; a file is both in train and in test.
    """
    lists = lists_folder(root)
    train, test, names = parse_split(lists, split)
    videos = videos_folder(root)
    if frame_folders:
        train, test = _without_suffix(train), _without_suffix(test)
    named = {
        part: [(str(videos / path), label) for path, label in entries]
        for part, entries in (("train", train), ("test", test))
    }
    wanted = [path for entries in named.values() for path, _ in entries]
    missing = missing_files(wanted)
    if missing:
        raise UserError(
            f"{len(missing):,} of the {len(wanted):,} videos of split {split} are missing, the "
            f"first is {printable(missing[0])}: unpack all of UCF-101 into {videos} or give "
            "another --data.root"
        )
    parts = distinct(named, f"{lists}, split {split}", checked=True)
    return VideoSet(
        train=[Video(path, label) for path, label in parts["train"]],
        test=[Video(path, label) for path, label in parts["test"]],
        class_names=names,
    )


def _without_suffix(entries: list[Entry]) -> list[Entry]:
    return [(path.rpartition(".")[0] or path, label) for path, label in entries]


def videos_folder(root: Path) -> Path:
    """Return ``root/UCF-101``, or ``root`` itself where the folders of the classes lie in it."""
    return root / _VIDEOS if (root / _VIDEOS).is_dir() else root


def lists_folder(root: Path) -> Path:
    """Return ``root/ucfTrainTestlist``.

    Raises:
        UserError: It is not there; says what is.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"data.root={root} {found}: give {_expected()}")
    lists = root / _LISTS
    if not lists.is_dir():
        above = root.parent / _LISTS
        hint = f"; try --data.root {root.parent}" if above.is_dir() else ""
        raise UserError(
            f"data.root={root} has no folder {_LISTS}, it holds {folder_contents(root)}: give "
            f"{_expected()}{hint}"
        )
    return lists


def _expected() -> str:
    return f"the folder that holds {_VIDEOS}/<Class>/*.avi and {_LISTS}/"


def parse_split(lists_folder: Path, split: Split) -> tuple[list[Entry], list[Entry], list[str]]:
    """Read the train and test entries of a split and the class names; looks at no video.

    Splits 1-3 are the official lists. ``paper`` divides train list 1 by the group in the file
    name: 11-25 train, 8-10 test.

    Raises:
        UserError: A list is missing or malformed, or disagrees with classInd.txt.
    """
    names = class_names(lists_folder)
    number = 1 if split == "paper" else split
    train = _entries(lists_folder / f"trainlist{number:02d}.txt", names)
    if split != "paper":
        return train, _entries(lists_folder / f"testlist{number:02d}.txt", names), names
    groups = [_group(path) for path, _ in train]
    return (
        [entry for entry, group in zip(train, groups, strict=True) if group in PAPER_TRAIN],
        [entry for entry, group in zip(train, groups, strict=True) if group in PAPER_TEST],
        names,
    )


def class_names(lists_folder: Path) -> list[str]:
    """Read the classes of classInd.txt in its order; its indices are 1, 2, 3, ...

    Raises:
        UserError: The file is missing, or not of that form.
    """
    file = lists_folder / "classInd.txt"
    names: list[str] = []
    for number, line in _lines(file):
        index, _, name = line.partition(" ")
        name = _label(file, number, name) if name else ""
        if index != str(len(names) + 1) or not name or name in names or name in (".", ".."):
            raise UserError(
                f"{file}, line {number}: expected '{len(names) + 1} <new class>', found "
                f"'{printable(line)}': restore the published file"
            )
        names.append(name)
    if not names:
        raise UserError(f"{file} lists no class: restore the published file")
    return names


def _entries(file: Path, names: list[str]) -> list[Entry]:
    """Read a train or test list; the index after a path must be that of its folder."""
    labels = {name: label for label, name in enumerate(names)}
    entries = []
    for number, line in _lines(file):
        path, _, index = line.partition(" ")
        folder, slash, name = path.partition("/")
        label = labels.get(_label(file, number, folder)) if slash and name and folder else None
        if label is None or "\0" in path:
            raise UserError(
                f"{file}, line {number}: expected '<class of classInd.txt>/<file>', found "
                f"'{printable(line)}': restore the published file"
            )
        if ".." in name.split("/") or name.startswith("/"):
            raise UserError(
                f"{file}, line {number}: '{printable(path)}' leads out of the folder of its class: "
                "restore the published file, or list videos that lie elsewhere in a CSV file "
                "(--data.dataset csv)"
            )
        if index and index != str(label + 1):
            raise UserError(
                f"{file}, line {number}: {folder} has index {index} here and "
                f"{label + 1} in classInd.txt: restore the published files"
            )
        entries.append((path, label))
    return entries


def _label(file: Path, number: int, name: str) -> str:
    try:
        return clean_label(name)
    except UserError as error:
        raise UserError(f"{file}, line {number}: {error}") from error


def _group(path: str) -> int:
    found = _GROUP.search(path)
    if found is None:
        raise UserError(f"split paper needs names like v_Class_g08_c01.avi, found {path}")
    return int(found[1])


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Read the numbered, stripped lines (LF or CRLF) of a list, without its empty ones."""
    if not file.is_file():
        raise UserError(
            f"{file} does not exist: restore it from the published UCF101TrainTestSplits-"
            "RecognitionTask.zip"
        )
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            yield number, " ".join(line.split())
