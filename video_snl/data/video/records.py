"""The videos of a dataset as plain records, and what messages say of files and folders."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Literal, overload

from video_snl.config.datasets import VIDEO_DATASETS
from video_snl.config.video import DataConfig
from video_snl.errors import UserError
from video_snl.utils.media import by_folder
from video_snl.utils.text import examples

__all__ = [
    "Division",
    "PackedVideos",
    "Video",
    "VideoSet",
    "dataset_root",
    "folder_contents",
    "missing_files",
]


@dataclass(frozen=True, slots=True)  # there may be millions
class Video:
    """A file and the index of the class it shows."""

    path: str
    label: int


class PackedVideos(Sequence[Video]):
    """Videos in three arrays, which a process sends and receives at once, whatever their number.

    A list of as many records takes four times the memory, and twenty times as long to pickle.
    """

    def __init__(self, videos: Sequence[Video]) -> None:
        paths = [video.path.encode("utf-8", "surrogatepass") for video in videos]
        self._paths = b"".join(paths)
        self._ends = array("q", accumulate(map(len, paths), initial=0))
        self._labels = array("q", [video.label for video in videos])

    def __len__(self) -> int:
        return len(self._labels)

    @overload
    def __getitem__(self, index: int) -> Video: ...
    @overload
    def __getitem__(self, index: slice) -> list[Video]: ...
    def __getitem__(self, index: int | slice) -> Video | list[Video]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        path = self._paths[self._ends[number] : self._ends[number + 1]]
        return Video(path.decode("utf-8", "surrogatepass"), self._labels[number])


@dataclass(frozen=True)
class Division:
    """How the train and test videos of a dataset were told apart.

    Attributes:
        source: Name of the dataset in messages.
        folder: Folder that its names of files start at.
        rule: ``given`` by the dataset, made by us by ``group`` or of every ``fifth`` file, or as
            ``stored`` in a run.
        given: What gives the parts or, of ``group``, the recordings, in words.
        groups: Recording of each file of which it is known, by path.
        file: The list of a run that was followed, of ``stored``.
    """

    source: str
    folder: str
    rule: Literal["given", "group", "fifth", "stored"]
    given: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None


@dataclass(frozen=True)
class VideoSet:
    """The two lists of a dataset; ``class_names[label]`` is the name of a class.

    Args:
        tested_only: There is nothing to train on: the classes are those of a trained network.
        division: How the lists were told apart; None for datasets that are published with them.

    Raises:
        UserError: A list is empty, or a class has no video to train on.
    """

    train: list[Video]
    test: list[Video]
    class_names: list[str]
    tested_only: bool = False
    division: Division | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.tested_only and self.test:
            return
        trained = {video.label for video in self.train}
        without = [name for i, name in enumerate(self.class_names) if i not in trained]
        if without:
            raise UserError(
                f"{len(without)} of {len(self.class_names)} classes have no video in the train "
                f"list, the first is {without[0]!r}: add videos of it"
            )
        if not self.train or not self.test:
            empty = "test" if self.train else "train"
            raise UserError(f"the {empty} list holds no video: add videos to it")


def dataset_root(config: DataConfig) -> Path:
    """Return ``data.root``, which exists.

    Raises:
        UserError: It is not given, or does not exist; says what it has to be.
    """
    needed = VIDEO_DATASETS[config.dataset].root
    if config.root is None:
        raise UserError(f"data.dataset={config.dataset} needs --data.root: {needed}")
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(f"data.root={config.root} does not exist: give {needed}")
    return root


def missing_files(paths: Iterable[str]) -> list[str]:
    """Return the paths that name nothing; every folder is listed once, only links are followed.

    Raises:
        UserError: A folder cannot be read.
    """
    missing = []
    for folder, group in by_folder(paths):
        try:
            with os.scandir(folder or ".") as entries:
                links = {entry.name: entry.is_symlink() for entry in entries}
        except PermissionError as error:
            raise UserError(
                f"{folder} cannot be read ({error.strerror}): check its permissions"
            ) from error
        except (OSError, ValueError):  # not there, or a name that no folder can have
            links = {}
        for path, name in group:
            link = links.get(name)
            if link is None or (link and not os.path.exists(path)):
                missing.append(path)
    return missing


def folder_contents(folder: Path, shown: int = 5) -> str:
    """Say what a folder holds, for an error message: ``'a', 'b' and 7 more``."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"what cannot be read ({error.strerror})"
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(f"'{examples([name])}'" for name in names[:shown]) + rest) or "nothing"
