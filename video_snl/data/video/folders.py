"""Your own videos in folders: one folder for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from video_snl.config.video import DataConfig, SplitBy
from video_snl.data.video.division import PARTS, StoredSplit
from video_snl.data.video.labelled import Labelled, Source, check_split, labelled_set
from video_snl.data.video.records import VideoSet, dataset_root, folder_contents
from video_snl.errors import UserError
from video_snl.utils.media import VIDEO_SUFFIXES, Ignored, MediaFiles, list_folder
from video_snl.utils.text import examples, say_once

__all__ = [
    "VIDEO_SUFFIXES",
    "has_class_folders",
    "holds_files",
    "load_folder",
    "load_folder_config",
]


def load_folder_config(
    config: DataConfig, known: Sequence[str] | None = None, *, stored: StoredSplit | None = None
) -> VideoSet:
    """Load the lists of ``data.dataset=folder``: its entry's loader.

    Args:
        config: The ``data`` section of a configuration.
        known: As for :func:`load_folder`.
        stored: As for :func:`load_folder`.
    """
    check_split(config)
    return load_folder(
        dataset_root(config),
        frame_folders=config.reader == "frames",
        known=known,
        split_by=config.split_by or "fifth",
        stored=stored,
    )


def load_folder(
    root: Path,
    *,
    frame_folders: bool = False,
    known: Sequence[str] | None = None,
    split_by: SplitBy = "fifth",
    stored: StoredSplit | None = None,
) -> VideoSet:
    """List ``root/train/<class>/*`` and ``root/test/<class>/*``, or ``root/<class>/*``, divided.

    Labels are the names of the class folders as :func:`clean_label` has them, sorted. What is not a
    video by its suffix (:data:`VIDEO_SUFFIXES`, in any case) is left out and counted in a line on
    stderr; system files are left out. A file that is there twice counts once.

    Args:
        frame_folders: The videos are the folders, of images, that a class folder holds.
        known: The classes of a trained network: ``root/test`` alone is then enough.
        split_by: How the test videos are chosen without ``train`` and ``test``: ``fifth``
            (:func:`~video_snl.data.video.labelled.divide`) or ``group``
            (:func:`~video_snl.data.video.division.divide_by_group`), with which folders in a class
            folder are recordings; else they are passed over.
        stored: The division that a run has, in the place of that rule.

    Raises:
        UserError: Not that layout, a class without videos, a class that is only tested, a file in
            both parts.
    """
    if not root.is_dir():
        hint = "; a CSV file needs --data.dataset csv" if root.suffix.lower() == ".csv" else ""
        raise UserError(
            f"data.root={root} is not a folder: give the one that holds a folder per class{hint}"
        )
    parts = [part for part in PARTS if (root / part).is_dir()]
    if not parts and (root / "ucfTrainTestlist").is_dir():
        raise UserError(
            f"data.root={root} has the lists of UCF-101 (ucfTrainTestlist/): give "
            "--data.dataset ucf101, or the folder that holds a folder per class"
        )
    recordings = split_by == "group" and not frame_folders
    groups: dict[str, str] = {}

    def listed(folder: Path) -> Labelled:
        files = _class_files(folder, frame_folders, groups if recordings else None)
        if recordings and not parts:
            _check_one_class(folder, files, groups)
        return files

    if parts == ["test"] and known is not None:
        found = {"test": listed(root / "test")}
    elif len(parts) == 1:
        raise UserError(
            f"data.root={root} has {parts[0]}/ only, of train/ and test/: add the other, or put "
            "the class folders directly into it and have them divided"
        )
    else:
        places = {part: root / part for part in parts} or {"all": root}
        found = {part: listed(place) for part, place in places.items()}
    given = "the folders train/ and test/" if parts else "their folders"
    source = Source(str(root), root, split_by, stored, given, groups)
    return labelled_set(found, source, known)


def has_class_folders(root: Path, kind: Literal["videos", "images"] = "videos") -> bool:
    """Tell whether a folder, or train/ or test/ in it, has class folders with files of a kind."""
    try:
        folders = list_folder(root)[0]
        inside = [folder for folder in folders if folder.name in PARTS] or folders
        if inside is not folders:
            folders = [below for folder in inside for below in list_folder(folder)[0]]
        return any(holds_files(folder, kind) for folder in folders)
    except UserError:
        return False


def _class_files(folder: Path, frame_folders: bool, groups: dict[str, str] | None) -> Labelled:
    """List the videos of a folder's class folders, each with the folder's name.

    Args:
        groups: Gets the name of the folder in the class folder that a video is in; None passes
            such folders over.
    """
    classes, beside = list_folder(folder)
    if not classes:
        raise UserError(
            f"{folder} has no class folders, it holds {folder_contents(folder)}: put the videos "
            "of each class into a folder of its own"
        )
    found: Labelled = []
    unreadable: UserError | None = None
    passed = MediaFiles(ignored=[*beside.ignored, *_as_ignored(beside, "beside class folders")])
    for entry in classes:
        try:
            folders, files = list_folder(entry)
        except UserError as error:
            passed.ignored.append(Ignored(entry, "class folder that cannot be read"))
            unreadable = error
            continue
        taken = folders if frame_folders else files.videos
        if frame_folders:
            passed.ignored.extend([*files.ignored, *_as_ignored(files, "beside folders of frames")])
        else:
            passed.ignored.extend(files.ignored)
            passed.images.extend(files.images)
            for below in folders:
                inside = [] if groups is None else _recording_files(below, passed)
                if groups is None or not inside:
                    passed.ignored.append(Ignored(below, _PASSED[groups is None]))
                else:
                    groups.update({str(path): below.name for path in inside})
                    taken = [*taken, *inside]
        if not taken:
            raise _without_videos(entry, frame_folders)
        found += [(str(path), entry.name) for path in taken]
    if not found and unreadable is not None:
        raise unreadable
    said = passed.ignored_text("videos")
    if said:
        say_once(f"{folder}: {said}")
    return found


_PASSED = {
    True: "folder in a class folder",
    False: "folder in a class folder, without videos of its own",
}


def _recording_files(folder: Path, passed: MediaFiles) -> list[Path]:
    """List the videos of a folder in a class folder; what else it holds is passed over."""
    try:
        folders, files = list_folder(folder)
    except UserError:
        return []
    if files.videos:
        passed.ignored.extend(files.ignored)
        passed.ignored.extend(Ignored(below, "folder in a recording's folder") for below in folders)
        passed.images.extend(files.images)
    return files.videos


def _check_one_class(folder: Path, files: Labelled, groups: Mapping[str, str]) -> None:
    """Refuse the folder above the one that was meant: its one class folder holds class folders.

    Raises:
        UserError: That may be so.
    """
    [label, *others] = dict.fromkeys(label for _, label in files)
    if not others and groups:
        inside = list(dict.fromkeys(groups.values()))
        raise UserError(
            f"{folder} has 1 class folder, {label!r}, whose folders ({examples(inside)}) would be "
            f"recordings: training needs at least 2 classes; if those are the classes, give "
            f"--data.root {folder / label}"
        )


def _as_ignored(files: MediaFiles, where: str) -> list[Ignored]:
    found = [(path, "video") for path in files.videos] + [(path, "image") for path in files.images]
    return [Ignored(path, f"{kind} {where}") for path, kind in found]


def _without_videos(folder: Path, frame_folders: bool) -> UserError:
    if frame_folders:
        return UserError(
            f"class folder {folder} has no folders of frames, it holds {folder_contents(folder)}: "
            "with --data.reader frames every video is a folder; leave that option out for files"
        )
    inside, media = list_folder(folder)
    hint = "add some"
    if media.images or inside:
        hint = "add some or, where every video is a folder of images, give --data.reader frames"
    return UserError(
        f"class folder {folder} has no videos, it holds {folder_contents(folder)}: {hint} "
        f"({' '.join(sorted(VIDEO_SUFFIXES))}); where not every folder is a class, list the videos "
        "in a CSV file (--data.dataset csv)"
    )


def holds_files(folder: Path, kind: Literal["videos", "images"]) -> bool:
    """Tell whether a folder itself has files of a kind; one that cannot be listed has none."""
    try:
        return bool(getattr(list_folder(folder)[1], kind))
    except UserError:
        return False
