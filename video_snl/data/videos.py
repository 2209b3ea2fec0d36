"""The videos of a data set: which files, which class each shows, which are for training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from video_snl.config import DataConfig
from video_snl.errors import UserError

__all__ = ["Video", "VideoSet", "class_count", "folder_contents", "load_videos", "missing_files"]

UCF101_CLASSES = 101
_UCF101 = (
    "the folder that holds UCF-101/ and ucfTrainTestlist/ (scripts/train_ucf101.sh takes it from "
    "UCF101_ROOT)"
)


@dataclass(frozen=True)
class Video:
    """A file and the index of the class it shows."""

    path: str
    label: int


@dataclass(frozen=True)
class VideoSet:
    """The two lists of a data set; ``class_names[label]`` is the name of a class.

    Raises:
        UserError: A list is empty, or a class has no video to train on.
    """

    train: list[Video]
    test: list[Video]
    class_names: list[str]

    def __post_init__(self) -> None:
        trained = {video.label for video in self.train}
        without = [name for i, name in enumerate(self.class_names) if i not in trained]
        if without:
            raise UserError(
                f"{len(without)} of {len(self.class_names)} classes have no video in the train "
                f"list, the first is {without[0]!r}: add videos or remove the class"
            )
        if not self.train or not self.test:
            empty = "test" if self.train else "train"
            raise UserError(f"the {empty} list holds no video: add videos to it")


def load_videos(config: DataConfig) -> VideoSet:
    """The videos of ``config.dataset``, of ``config.split``.

    Raises:
        UserError: No root given where one is needed, or one that does not hold such a data set;
            lists that are missing, malformed, or name files that do not exist.
    """
    return LOADERS[config.dataset](config)


def class_count(config: DataConfig) -> int:
    """Number of classes, looking at no video where that is possible.

    ``ucf101`` without a root has 101; with one, as many as its classInd.txt lists.

    Raises:
        UserError: As for :func:`load_videos`.
    """
    if config.dataset == "sample":
        from video_snl.data.sample import CLASSES

        return len(CLASSES)
    if config.dataset == "ucf101":
        if config.root is None:
            return UCF101_CLASSES
        from video_snl.data.ucf101 import class_names, lists_folder

        return len(class_names(lists_folder(_root(config, _UCF101))))
    return len(load_videos(config).class_names)


def _sample(config: DataConfig) -> VideoSet:
    from video_snl.data.sample import ensure_sample
    from video_snl.data.ucf101 import load_ucf101

    given = None if config.root is None else Path(config.root).expanduser()
    return load_ucf101(ensure_sample(given), config.split)


def _ucf101(config: DataConfig) -> VideoSet:
    from video_snl.data.ucf101 import load_ucf101

    return load_ucf101(
        _root(config, _UCF101), config.split, frame_folders=config.reader == "frames"
    )


def _folder(config: DataConfig) -> VideoSet:
    from video_snl.data.folders import load_folder

    _only_split_1(config)
    root = _root(config, "the folder that holds one folder of videos per class")
    return load_folder(root, frame_folders=config.reader == "frames")


def _csv(config: DataConfig) -> VideoSet:
    from video_snl.data.folders import load_csv

    _only_split_1(config)
    return load_csv(_root(config, "the file with the columns path,label[,split]"))


LOADERS: dict[str, Callable[[DataConfig], VideoSet]] = {
    "sample": _sample,
    "ucf101": _ucf101,
    "folder": _folder,
    "csv": _csv,
}


def _root(config: DataConfig, what: str) -> Path:
    if config.root is None:
        raise UserError(f"data.dataset={config.dataset} needs --data.root: {what}")
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(f"data.root={config.root} does not exist: give {what}")
    return root


def _only_split_1(config: DataConfig) -> None:
    if config.split != 1:
        raise UserError(
            f"data.split={config.split} is UCF-101's: data.dataset={config.dataset} has split 1 "
            "only; choose the test videos by folders train/ and test/, or by the column split"
        )


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those of the paths that name nothing; every folder is listed once, no file is touched."""
    missing = []
    for folder, group in groupby(sorted(paths, key=os.path.dirname), key=os.path.dirname):
        try:
            with os.scandir(folder or ".") as entries:
                present = {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            present = set()
        missing += [path for path in group if os.path.basename(path) not in present]
    return missing


def folder_contents(folder: Path, shown: int = 5) -> str:
    """What a folder holds, for an error message: ``'a', 'b' and 7 more``."""
    names = sorted(entry.name for entry in folder.iterdir())
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(map(repr, names[:shown])) + rest) or "nothing"
