"""Your own videos: one folder per class, or a CSV file."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from video_snl.data.videos import Video, VideoSet, folder_contents, missing_files
from video_snl.errors import UserError

__all__ = ["VIDEO_SUFFIXES", "csv_paths", "divide", "load_csv", "load_folder"]

VIDEO_SUFFIXES = frozenset(
    {".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv"}
)
EVERY = 5  # of a class that is not divided yet, each fifth video tests


def divide(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Train and test part of one class: of its sorted paths each fifth (5th, 10th, ...) tests.

    With fewer than five the last one tests, so that both parts have a video.

    Raises:
        ValueError: Fewer than two paths.
    """
    if len(paths) < 2:
        raise ValueError(f"{len(paths)} video cannot be divided into train and test")
    ordered = sorted(paths)
    test = set(ordered[EVERY - 1 :: EVERY] or ordered[-1:])
    return [path for path in ordered if path not in test], sorted(test)


def load_folder(root: Path, *, frame_folders: bool = False) -> VideoSet:
    """``root/train/<class>/*`` and ``root/test/<class>/*``, or ``root/<class>/*``, divided.

    Classes are sorted by name. Files without the suffix of a video (:data:`VIDEO_SUFFIXES`, in any
    case) are left out, hidden folders too. Without ``train`` and ``test``, :func:`divide` chooses
    the test videos.

    Args:
        frame_folders: The videos are the folders, of pictures, that a class folder holds.

    Raises:
        UserError: Not that layout, a class without videos, a class that is only tested.
    """
    if not root.is_dir():
        raise UserError(
            f"data.root={root} is no folder: give the one that holds a folder per class"
        )
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if len(parts) == 1:
        raise UserError(
            f"data.root={root} has {parts[0]}/ only, of train/ and test/: add the other, or put "
            "the class folders directly into it and have them divided"
        )
    if parts:
        train, test = (_class_files(root / part, frame_folders) for part in ("train", "test"))
        return _assemble(train, test, str(root))
    return _assemble(*_divided(_class_files(root, frame_folders)), str(root))


class Row(NamedTuple):
    """A line of the CSV file; ``part`` is ``train``, ``test`` or, without the column, ``None``."""

    line: int
    path: str
    label: str
    part: str | None


def load_csv(path: Path) -> VideoSet:
    """A CSV file with the header ``path,label`` or ``path,label,split``, in any order.

    Relative paths start at the file's folder. Labels are names or numbers; they are sorted, by
    value if all are numbers, and become class indices 0, 1, ... ``split`` is ``train`` or
    ``test``; without the column :func:`divide` chooses the test videos.

    Raises:
        UserError: Names the line that is malformed or names a file that does not exist.
    """
    rows = _rows(path)
    if not rows:
        raise UserError(f"{path} lists no video: add lines of path,label[,split]")
    _check_files(path, rows)
    parts: dict[str | None, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        parts[row.part][row.label].append(row.path)
    train, test = _divided(parts[None]) if None in parts else (parts["train"], parts["test"])
    return _assemble(train, test, str(path))


def csv_paths(path: Path) -> list[str]:
    """The files that a CSV file names, in its order, whether they exist or not.

    Raises:
        UserError: As for :func:`load_csv`, files that do not exist apart.
    """
    return list(dict.fromkeys(row.path for row in _rows(path)))


def _class_files(folder: Path, frame_folders: bool) -> dict[str, list[str]]:
    """Class name -> its videos."""
    classes = sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not classes:
        raise UserError(
            f"{folder} has no class folders, it holds {folder_contents(folder)}: put the videos "
            "of each class into a folder of its own"
        )
    found = {}
    for entry in classes:
        files = [str(file) for file in entry.iterdir() if _is_video(file, frame_folders)]
        if not files and frame_folders:
            raise UserError(
                f"class folder {entry} has no folders of frames, it holds "
                f"{folder_contents(entry)}: give every video a folder of its own, or remove "
                "--data.reader frames"
            )
        if not files:
            raise UserError(
                f"class folder {entry} has no videos, it holds {folder_contents(entry)}: add some "
                f"({' '.join(sorted(VIDEO_SUFFIXES))}) or remove the folder"
            )
        found[entry.name] = files
    return found


def _is_video(path: Path, frame_folders: bool) -> bool:
    if frame_folders:
        return path.is_dir() and not path.name.startswith(".")
    return path.suffix.lower() in VIDEO_SUFFIXES


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


def _assemble(train: dict[str, list[str]], test: dict[str, list[str]], source: str) -> VideoSet:
    untrained = sorted(set(test) - set(train))
    if untrained:
        raise UserError(
            f"{source}: class {untrained[0]!r} has test videos and no train videos: add some or "
            "remove the class"
        )
    names = _sorted_labels(train)
    labels = {name: label for label, name in enumerate(names)}
    return VideoSet(_videos(train, labels), _videos(test, labels), names)


def _videos(classes: dict[str, list[str]], labels: dict[str, int]) -> list[Video]:
    """The videos by class, then path."""
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


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="further values", skipinitialspace=True)
            _check_header(path, list(reader.fieldnames or []))
            return [_row(path, reader.line_num, values) for values in reader]
    except (IsADirectoryError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.root={path} is no CSV file ({error}): give one in UTF-8") from error


def _check_header(path: Path, names: list[str]) -> None:
    if set(names) not in ({"path", "label"}, {"path", "label", "split"}):
        found = ",".join(names) or "an empty file"
        raise UserError(
            f"{path}, line 1: expected the header path,label or path,label,split, found {found}"
        )


def _row(path: Path, line: int, values: dict[str, str]) -> Row:
    if "further values" in values or not values["path"] or not values["label"]:
        raise UserError(
            f"{path}, line {line}: expected path,label[,split] without gaps, quote a "
            f"path that holds a comma; found {','.join(map(str, values.values()))}"
        )
    part = values.get("split")
    if "split" in values and part not in ("train", "test"):
        raise UserError(f"{path}, line {line}: split must be train or test, found {part!r}")
    return Row(line, str(path.parent / values["path"]), values["label"], part)


def _check_files(path: Path, rows: list[Row]) -> None:
    """Every file exists and is listed once (a video must not both train and test)."""
    lines = {row.path: row.line for row in rows}
    twice = [file for file, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise UserError(f"{path}, line {lines[twice[0]]}: {twice[0]} is listed before: remove one")
    missing = missing_files(lines)
    if missing:
        first = min(missing, key=lambda file: lines[file])
        raise UserError(
            f"{path}, line {lines[first]}: {first} does not exist ({len(missing)} of {len(rows)} "
            "files are missing): correct the paths, relative ones start at the CSV file's folder"
        )
