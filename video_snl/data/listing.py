"""Which files a data set should have, and which it has: without looking into any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from video_snl.data.folders import VIDEO_SUFFIXES, csv_paths
from video_snl.data.ucf101 import Split, lists_folder, parse_split, videos_folder
from video_snl.data.videos import folder_contents
from video_snl.errors import UserError

__all__ = ["Layout", "Listing", "files_below", "layout_of", "list_files", "video_files"]

Layout = Literal["ucf101", "folder", "csv"]
SPLITS: tuple[Split, ...] = (1, 2, 3)


@dataclass(frozen=True)
class Listing:
    """The files of a data set, as paths: there, named and not there, there and not named."""

    present: list[str]
    missing: list[str]
    unnamed: list[str]


def layout_of(root: Path) -> Layout:
    """``csv`` for a file, ``ucf101`` for a folder with UCF-101's lists, else ``folder``."""
    if root.is_file():
        return "csv"
    return "ucf101" if (root / "ucfTrainTestlist").is_dir() else "folder"


def list_files(root: Path, layout: Layout) -> Listing:
    """Compare what a data set names with what is there.

    ``ucf101``: the lists of all splits that are there name the files. ``csv``: its rows name them,
    other files do not matter. ``folder``: every video file below it belongs to it.

    Raises:
        UserError: No such data set at ``root``, or a list is malformed.
    """
    if layout == "ucf101":
        return _ucf101(root)
    if layout == "csv":
        named = csv_paths(root)
        there = [path for path in named if Path(path).exists()]
        return Listing(there, sorted(set(named) - set(there)), [])
    return Listing([str(path) for path in video_files(root)], [], [])


def video_files(root: Path) -> list[Path]:
    """The files below a folder whose suffix is a video's, sorted; hidden ones are left out.

    Raises:
        UserError: It is no folder, or holds none.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"--root {root} {found}: give a folder of videos")
    files = sorted(
        path
        for path in files_below(root)
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not files:
        raise UserError(
            f"--root {root} holds no videos ({' '.join(sorted(VIDEO_SUFFIXES))}), it holds "
            f"{folder_contents(root)}: give the folder they are below"
        )
    return files


def files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder, through links too, but for those that lead back (``above``).

    Raises:
        UserError: A folder cannot be read.
    """
    here = folder.resolve()
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.is_dir():
            yield from files_below(folder / entry.name, above | {here})
        else:
            yield folder / entry.name


def _ucf101(root: Path) -> Listing:
    lists, videos = lists_folder(root), videos_folder(root)
    named: set[str] = set()
    there = [split for split in SPLITS if (lists / f"trainlist{split:02d}.txt").exists()]
    for split in there or SPLITS:
        train, test, _ = parse_split(lists, split)
        named |= {str(videos / path) for path, _ in train + test}
    present = {str(path) for path in video_files(videos)}
    return Listing(sorted(present), sorted(named - present), sorted(present - named))
