"""Your own videos: one folder per class, or a CSV file."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from video_snl.config.video import DataConfig
from video_snl.data.duplicates import Repeats, distinct, find_repeats
from video_snl.data.video.records import (
    Video,
    VideoSet,
    dataset_root,
    folder_contents,
    missing_files,
)
from video_snl.errors import UserError
from video_snl.utils.media import VIDEO_SUFFIXES, Ignored, MediaFiles, list_folder
from video_snl.utils.text import clean_label, examples, printable, read_text, say_merged, say_once

__all__ = [
    "VIDEO_SUFFIXES",
    "Row",
    "csv_paths",
    "csv_rows",
    "divide",
    "has_class_folders",
    "holds_files",
    "labelled_set",
    "load_csv",
    "load_csv_config",
    "load_folder",
    "load_folder_config",
    "only_split_1",
]

EVERY = 5  # of a class that is not divided yet, each fifth video tests
PARTS = ("train", "test")

Labelled = list[tuple[str, str]]
"""Paths, each with the label of its class."""


def load_folder_config(config: DataConfig, known: Sequence[str] | None = None) -> VideoSet:
    """Load the lists of ``data.dataset=folder``: its entry's loader."""
    only_split_1(config)
    return load_folder(dataset_root(config), frame_folders=config.reader == "frames", known=known)


def load_csv_config(config: DataConfig, known: Sequence[str] | None = None) -> VideoSet:
    """Load the lists of ``data.dataset=csv``: its entry's loader."""
    only_split_1(config)
    root = dataset_root(config)
    if root.is_dir():
        raise UserError(
            f"data.root={config.root} is a folder, and not a CSV file as data.dataset=csv needs: "
            "give the file, or --data.dataset folder for a folder of class folders"
        )
    return load_csv(root, known)


def only_split_1(config: DataConfig) -> None:
    """Refuse a split of UCF-101 for a dataset that has one split.

    Raises:
        UserError: Another split is asked for.
    """
    if config.split != 1:
        raise UserError(
            f"data.split={config.split} is UCF-101's: data.dataset={config.dataset} has split 1 "
            "only; choose the test videos by folders train/ and test/, or by the column split"
        )


def divide(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide one class into train and test: of its sorted paths each fifth (5th, 10th, ...) tests.

    With fewer than five the last one tests, so that both parts have a video.

    Raises:
        ValueError: Fewer than two paths.
    """
    if len(paths) < 2:
        raise ValueError(f"{len(paths)} video cannot be divided into train and test")
    ordered = sorted(paths)
    test = set(ordered[EVERY - 1 :: EVERY] or ordered[-1:])
    return [path for path in ordered if path not in test], sorted(test)


def load_folder(
    root: Path, *, frame_folders: bool = False, known: Sequence[str] | None = None
) -> VideoSet:
    """List ``root/train/<class>/*`` and ``root/test/<class>/*``, or ``root/<class>/*``, divided.

    Labels are the names of the class folders as :func:`clean_label` has them, sorted. What is not a
    video by its suffix (:data:`VIDEO_SUFFIXES`, in any case) is left out and counted in a line on
    stderr; system files are left out. Without ``train`` and ``test``, :func:`divide` chooses the
    test videos. A file that is there twice counts once.

    Args:
        frame_folders: The videos are the folders, of images, that a class folder holds.
        known: The classes of a trained network: ``root/test`` alone is then enough.

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
    if parts == ["test"] and known is not None:
        found = {"test": _class_files(root / "test", frame_folders)}
    elif len(parts) == 1:
        raise UserError(
            f"data.root={root} has {parts[0]}/ only, of train/ and test/: add the other, or put "
            "the class folders directly into it and have them divided"
        )
    else:
        places = {part: root / part for part in parts} or {"all": root}
        found = {part: _class_files(place, frame_folders) for part, place in places.items()}
    return labelled_set(found, str(root), known)


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


class Row(NamedTuple):
    """A line of the CSV file; ``part`` is ``train``, ``test`` or, without the column, ``None``."""

    line: int
    path: str
    label: str
    part: str | None


def load_csv(path: Path, known: Sequence[str] | None = None) -> VideoSet:
    """List the videos of a CSV file with the columns path, label and optionally split.

    Relative paths start at the file's folder. Labels are names, as :func:`clean_label` has them,
    or numbers; they are sorted, by value if all are numbers, and become class indices 0, 1, ...
    ``split`` is ``train`` or ``test``; without the column :func:`divide` chooses the test videos.
    A file that is listed twice, under whatever name, counts once.

    Args:
        known: The classes of a trained network: rows of ``test`` alone are then enough.

    Raises:
        UserError: Names the line that is malformed, names a file that does not exist, or names one
            that is in the other part or has another label.
    """
    rows = csv_rows(path)
    if not rows:
        raise UserError(f"{path} lists no video: add lines of path,label[,split]")
    _check_files(path, rows)
    found: dict[str, Labelled] = defaultdict(list)
    for row in rows:
        found[row.part or "all"].append((row.path, row.label))
    repeats = find_repeats(found)
    _check_labels(path, rows, repeats)
    return labelled_set(found, str(path), known, repeats)


def csv_rows(path: Path) -> list[Row]:
    """Read the rows of a CSV file, also of files that do not exist; labels are cleaned.

    Raises:
        UserError: As for :func:`load_csv`, what is about the files apart.
    """
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(f"data.root is not a CSV file: {error}") from error
    try:
        reader = csv.DictReader(
            io.StringIO(text, newline=""), restkey="further values", skipinitialspace=True
        )
        _check_header(path, list(reader.fieldnames or []))
        rows = [_row(path, reader.line_num, values) for values in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num + 1}: it is not a row of a CSV file ({error}); is a "
            "quote missing?"
        ) from error
    say_merged((row.label for row in rows), str(path))
    return [row._replace(label=clean_label(row.label)) for row in rows]


def csv_paths(path: Path) -> list[str]:
    """List the files that a CSV file names, in its order, also those that do not exist.

    Raises:
        UserError: As for :func:`load_csv`, files that do not exist apart.
    """
    return list(dict.fromkeys(row.path for row in csv_rows(path)))


def _class_files(folder: Path, frame_folders: bool) -> Labelled:
    """List the videos of a folder's class folders, each with the folder's name."""
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
            passed.ignored.extend(Ignored(below, "folder in a class folder") for below in folders)
        if not taken:
            raise _without_videos(entry, frame_folders)
        found += [(str(path), entry.name) for path in taken]
    if not found and unreadable is not None:
        raise unreadable
    said = passed.ignored_text("videos")
    if said:
        say_once(f"{folder}: {said}")
    return found


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


def labelled_set(
    found: Mapping[str, Labelled],
    source: str,
    known: Sequence[str] | None,
    repeats: Repeats | None = None,
) -> VideoSet:
    """Assemble labelled paths by part into a dataset; those of the part ``all`` are divided.

    Args:
        repeats: Repeats of ``found``, where they are known.

    Raises:
        UserError: A class that is only tested or cannot be divided, a file in both parts.
    """
    say_merged((label for entries in found.values() for _, label in entries), source)
    clean = {label: clean_label(label) for entries in found.values() for _, label in entries}
    parts = {
        part: [(path, clean[label]) for path, label in entries] for part, entries in found.items()
    }
    parts = distinct(parts, source, repeats, checked=True)
    if "all" in parts:
        train, test = _divided(_by_label(parts["all"]))
        divided = {
            part: [(path, label) for label, paths in classes.items() for path in paths]
            for part, classes in zip(PARTS, (train, test), strict=True)
        }
        # A file of two classes may have come into both parts.
        distinct(divided, source, checked=True)
    else:
        train, test = (_by_label(parts.get(part, [])) for part in PARTS)
    return _assemble(train, test, source, known)


def _by_label(entries: Labelled) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = defaultdict(list)
    for path, label in entries:
        classes[label].append(path)
    return dict(classes)


def _divided(
    classes: dict[str, list[str]],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    train, test = {}, {}
    for name, paths in classes.items():
        if len(paths) < 2:
            raise UserError(
                f"class {name!r} has 1 video ({paths[0]}): at least 2 are needed to divide it "
                "into train and test; add one, or say yourself which videos test"
            )
        train[name], test[name] = divide(paths)
    return train, test


def _assemble(
    train: dict[str, list[str]],
    test: dict[str, list[str]],
    source: str,
    known: Sequence[str] | None,
) -> VideoSet:
    if not train and known is None:
        raise UserError(
            f"{source}: class {sorted(test)[0]!r} has test videos and no train videos, nor has any "
            "other: training needs videos to train on; video-snl evaluate takes such a list"
        )
    if not train and known is not None:
        return _tested_only(test, source, known)
    untrained = sorted(set(test) - set(train))
    if untrained:
        raise UserError(
            f"{source}: class {untrained[0]!r} has test videos and no train videos: add some, or "
            "leave its test videos out"
        )
    names = _sorted_labels(train)
    labels = {name: label for label, name in enumerate(names)}
    return VideoSet(_videos(train, labels), _videos(test, labels), names)


def _tested_only(test: dict[str, list[str]], source: str, known: Sequence[str]) -> VideoSet:
    """Assemble test videos of classes that a network was trained on, which may know more."""
    labels = {clean_label(name): label for label, name in enumerate(known)}
    unknown = sorted(set(test) - set(labels))
    if unknown:
        raise UserError(
            f"{source}: class {unknown[0]!r} is none of the {len(known)} that the network was "
            f"trained on ({examples(known)}): correct the label, or evaluate another checkpoint"
        )
    return VideoSet([], _videos(test, labels), list(known), tested_only=True)


def _videos(classes: dict[str, list[str]], labels: dict[str, int]) -> list[Video]:
    """Return the videos by class, then path."""
    return [
        Video(path, label)
        for name, label in labels.items()
        for path in sorted(classes.get(name, []))
    ]


def _sorted_labels(names: dict[str, list[str]]) -> list[str]:
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def _check_header(path: Path, names: list[str]) -> None:
    if sorted(names) not in (["label", "path"], ["label", "path", "split"]):
        found = printable(",".join(names)) or "an empty file"
        raise UserError(
            f"{path}, line 1: expected the header path,label or path,label,split, found {found}"
        )


def _row(path: Path, line: int, values: dict[str, str]) -> Row:
    if "further values" in values or not values["path"] or not values["label"]:
        raise UserError(
            f"{path}, line {line}: expected path,label[,split] without gaps, quote a "
            f"path that holds a comma; found {printable(','.join(map(str, values.values())))}"
        )
    if "\0" in values["path"]:
        raise UserError(f"{path}, line {line}: the path holds a zero byte: no file has such a name")
    part = values.get("split")
    if "split" in values and part not in PARTS:
        raise UserError(f"{path}, line {line}: split must be train or test, found {_quoted(part)}")
    try:
        clean_label(values["label"])
    except UserError as error:
        raise UserError(f"{path}, line {line}: {error}") from error
    return Row(line, str(path.parent / values["path"]), values["label"], part)


def _quoted(text: str | None) -> str:
    return repr(None if text is None else printable(text))


def _check_files(path: Path, rows: list[Row]) -> None:
    """Check that every file exists."""
    lines: dict[str, int] = {}
    for row in rows:
        lines.setdefault(row.path, row.line)
    missing = missing_files(lines)
    if missing:
        first = min(missing, key=lambda file: lines[file])
        raise UserError(
            f"{path}, line {lines[first]}: {printable(first)} does not exist ({len(missing)} of "
            f"{len(rows)} files are missing): correct the paths, relative ones start at the CSV "
            "file's folder"
        )


def _check_labels(path: Path, rows: list[Row], repeats: Repeats) -> None:
    """Check that every file has one label."""
    for same in repeats.contradicting:
        last = [row for row in rows if row.path == same.path][-1]
        earlier = next(row for row in rows if row.path == same.first)
        raise UserError(
            f"{path}, line {last.line}: {printable(same.path)} is listed before, in line "
            f"{earlier.line}, with another label ({_quoted(earlier.label)}, here "
            f"{_quoted(last.label)}): give a file one label"
        )
