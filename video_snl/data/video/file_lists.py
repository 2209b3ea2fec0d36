"""Lists of the files a dataset should have, and has, without looking into any of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from video_snl.config.video import DataConfig
from video_snl.data.duplicates import Repeats, find_repeats
from video_snl.data.video.catalog import load_videos
from video_snl.data.video.csv_lists import csv_rows
from video_snl.data.video.division import PARTS
from video_snl.data.video.labelled import check_split
from video_snl.data.video.records import dataset_root, folder_contents
from video_snl.data.video.ucf101 import Split, lists_folder, parse_split, videos_folder
from video_snl.errors import UserError
from video_snl.utils.media import (
    VIDEO_SUFFIXES,
    MediaFiles,
    check_named,
    find_media,
    list_folder,
    named_media,
)
from video_snl.utils.text import clean_label, printable, say_merged

__all__ = [
    "Layout",
    "FileLists",
    "LabelledVideo",
    "find_videos",
    "layout_of",
    "list_dataset",
    "list_files",
    "list_labelled",
]

Layout = Literal["ucf101", "folder", "csv"]
SPLITS: tuple[Split, ...] = (1, 2, 3)


@dataclass(frozen=True)
class FileLists:
    """The files of a dataset, as paths: there, named and not there, there and not named.

    Attributes:
        ignored: Files passed over in its folders, with counts; None for nothing.
        repeats: Files that are met twice, in train and test or in one part.
    """

    present: list[str]
    missing: list[str]
    unnamed: list[str]
    ignored: str | None = None
    repeats: Repeats = field(default_factory=Repeats)


def layout_of(root: Path) -> Layout:
    """Return ``csv`` for a file, ``ucf101`` for a folder with UCF-101's lists, else ``folder``."""
    if root.is_file():
        return "csv"
    return "ucf101" if (root / "ucfTrainTestlist").is_dir() else "folder"


def list_files(root: Path, layout: Layout) -> FileLists:
    """Compare what a dataset names with what is there.

    ``ucf101``: the lists of all splits that are there name the files. ``csv``: its rows name them,
    other files do not matter. ``folder``: every video file below it belongs to it.

    Raises:
        UserError: No such dataset at ``root``, or a list is malformed.
    """
    if layout == "ucf101":
        return _ucf101(root)
    return _csv(root) if layout == "csv" else _folder(root)


class LabelledVideo(NamedTuple):
    """A video with its class, ``train`` or ``test``, and its recording, where they are known."""

    path: str
    label: str | None = None
    part: str | None = None
    group: str | None = None


def list_labelled(paths: Iterable[str], program: str) -> list[LabelledVideo]:
    """List the videos that paths name, themselves or below a folder, each once.

    The label of a video is the folder in the named one that it is below, and of one with ``train``
    or ``test`` in it, the folder in that. A video that is named itself, or lies beside the class
    folders, has none.

    Args:
        program: The command, which begins the line on what was passed over.

    Raises:
        UserError: A path is not there, a folder holds no video, or its name cannot be a label.
    """
    found: dict[str, LabelledVideo] = {}
    for path in paths:
        check_named(path)
        named = Path(path)
        divided = any((named / part).is_dir() for part in PARTS)
        for video in named_media([named], "videos", program):
            folders = list(video.relative_to(named).parts[:-1])
            part = folders.pop(0) if divided and folders and folders[0] in PARTS else None
            label = folders[0] if folders and (part or not divided) else None
            group = folders[1] if label is not None and len(folders) > 1 else None
            found.setdefault(str(video), LabelledVideo(str(video), label, part, group))
    return _cleaned(found.values(), program)


def list_dataset(config: DataConfig, program: str) -> list[LabelledVideo]:
    """List the videos of a configuration's dataset, also rows of a CSV file that are not there.

    Of ``folder`` all videos below the class folders are listed, and a dataset of one class, or
    without one of its parts, is no error: nothing need be trained on it.

    Raises:
        UserError: There is no such dataset, or a list is malformed.
    """
    if config.dataset not in ("folder", "csv"):
        videos = load_videos(config)
        lists = zip(PARTS, (videos.train, videos.test), strict=True)
        found: dict[str, LabelledVideo] = {}  # a video that is kept under two labels has the first
        for part, entries in lists:
            for video in entries:
                label = videos.class_names[video.label]
                found.setdefault(video.path, LabelledVideo(video.path, label, part))
        return list(found.values())
    check_split(config)
    root = dataset_root(config)
    if config.dataset == "folder":
        return list_labelled([str(root)], program)
    rows: dict[str, LabelledVideo] = {}
    for row in csv_rows(root):
        listed = LabelledVideo(row.path, row.label, row.part, row.group)
        if rows.setdefault(row.path, listed) != listed:
            raise UserError(
                f"{root}, line {row.line}: {printable(row.path)} is listed before, with another "
                "label or split: list it once"
            )
    if not rows:
        raise UserError(f"{root} lists no video: add lines of path,label[,split]")
    return list(rows.values())


def _cleaned(videos: Iterable[LabelledVideo], source: str) -> list[LabelledVideo]:
    """Return videos with the labels that the names of their folders stand for."""
    listed = list(videos)
    say_merged((video.label for video in listed if video.label is not None), source)
    return [
        video if video.label is None else video._replace(label=clean_label(video.label))
        for video in listed
    ]


def find_videos(root: Path) -> MediaFiles:
    """List what is below a folder that holds a video.

    Raises:
        UserError: It is not a folder, or holds no video.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"--root {root} {found}: give a folder of videos")
    media = find_media(root)
    if not media.videos:
        raise UserError(
            f"--root {root} holds no videos ({' '.join(sorted(VIDEO_SUFFIXES))}), it holds "
            f"{folder_contents(root)}: give the folder they are below"
        )
    return media


def _ucf101(root: Path) -> FileLists:
    lists, videos = lists_folder(root), videos_folder(root)
    named: set[str] = set()
    repeats = Repeats()
    there = [split for split in SPLITS if (lists / f"trainlist{split:02d}.txt").exists()]
    for split in there or SPLITS:
        train, test, _ = parse_split(lists, split)
        parts = {
            f"{part} of split {split}": [(str(videos / path), label) for path, label in entries]
            for part, entries in zip(PARTS, (train, test), strict=True)
        }
        named |= {path for entries in parts.values() for path, _ in entries}
        found = find_repeats(parts)
        repeats.shared.extend(found.shared)
        repeats.repeated.extend(found.repeated)
        repeats.contradicting.extend(found.contradicting)
    media = find_videos(videos)
    present = {str(path) for path in media.videos}
    unnamed, absent = present - named, named - present
    # A link to a class folder that was read under its own name is there all the same.
    linked = {path for path in absent if os.path.isfile(path)}
    return FileLists(
        sorted(present | linked),
        sorted(absent - linked),
        sorted(unnamed),
        media.ignored_text("videos"),
        repeats,
    )


def _csv(root: Path) -> FileLists:
    rows = csv_rows(root)
    named = dict.fromkeys(row.path for row in rows)
    there = [path for path in named if os.path.exists(path)]
    missing = sorted(set(named) - set(there))
    parts: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        parts.setdefault(row.part or "the list", []).append((row.path, row.label))
    return FileLists(there, missing, [], None, find_repeats(parts))


def _folder(root: Path) -> FileLists:
    media = find_videos(root)
    present = [str(path) for path in media.videos]
    return FileLists(
        present, [], [], media.ignored_text("videos"), find_repeats(_class_parts(root))
    )


def _class_parts(root: Path) -> dict[str, list[tuple[str, str]]]:
    """List (path, label) of the class folders by part, as training does: links count, too."""
    places = {part: root / part for part in PARTS if (root / part).is_dir()}
    parts: dict[str, list[tuple[str, str]]] = {}
    for part, place in (places or {"the folder": root}).items():
        parts[part] = [
            (str(path), folder.name)
            for folder in _readable(place)[0]
            for path in _readable(folder)[1].videos
        ]
    return parts


def _readable(folder: Path) -> tuple[list[Path], MediaFiles]:
    """List a folder; nothing for one that cannot be read, which is named among the ignored."""
    try:
        return list_folder(folder)
    except UserError:
        return [], MediaFiles()
