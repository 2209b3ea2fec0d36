"""Your own videos: one folder per class, or a CSV file."""

from __future__ import annotations

import csv
import difflib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from video_snl.config.video import DataConfig, SplitBy
from video_snl.data.duplicates import Repeats, distinct, find_repeats
from video_snl.data.loading.quarantine import tolerated
from video_snl.data.video.division import (
    PARTS,
    Listed,
    StoredSplit,
    divide_by_group,
    group_of_name,
)
from video_snl.data.video.records import (
    Division,
    Video,
    VideoSet,
    dataset_root,
    folder_contents,
    missing_files,
)
from video_snl.errors import UserError
from video_snl.utils.counts import counts, noun
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
    "load_csv",
    "load_csv_config",
    "load_folder",
    "load_folder_config",
]

EVERY = 5  # of data.split_by=fifth: of a class that is not divided yet, each fifth video tests
_NAMED = 10  # missing files that a line names

Labelled = list[tuple[str, str]]
"""Paths, each with the label of its class."""


@dataclass(frozen=True)
class _Source:
    """A dataset whose videos are listed, and how they are divided where it does not say that.

    Attributes:
        name: Name in messages.
        folder: Folder that its names of files start at.
        split_by: Rule of the division.
        stored: Division of a run, in the place of the rule.
        given: What gives the parts, or the recordings, in words.
        groups: Recording of each file, where the dataset says it.
    """

    name: str
    folder: Path
    split_by: SplitBy
    stored: StoredSplit | None = None
    given: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)


def load_folder_config(
    config: DataConfig, known: Sequence[str] | None = None, *, stored: StoredSplit | None = None
) -> VideoSet:
    """Load the lists of ``data.dataset=folder``: its entry's loader.

    Args:
        config: The ``data`` section of a configuration.
        known: As for :func:`load_folder`.
        stored: As for :func:`load_folder`.
    """
    _only_split_1(config)
    return load_folder(
        dataset_root(config),
        frame_folders=config.reader == "frames",
        known=known,
        split_by=config.split_by or "fifth",
        stored=stored,
    )


def load_csv_config(
    config: DataConfig, known: Sequence[str] | None = None, *, stored: StoredSplit | None = None
) -> VideoSet:
    """Load the lists of ``data.dataset=csv``: its entry's loader; arguments as of the folder's."""
    _only_split_1(config)
    root = dataset_root(config)
    if root.is_dir():
        raise UserError(
            f"data.root={config.root} is a folder, and not a CSV file as data.dataset=csv needs: "
            "give the file, or --data.dataset folder for a folder of class folders"
        )
    return load_csv(
        root,
        known,
        split_by=config.split_by or "fifth",
        stored=stored,
        max_failures=config.max_failures,
    )


def _only_split_1(config: DataConfig) -> None:
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
        split_by: How the test videos are chosen without ``train`` and ``test``: by :func:`divide`
            (``fifth``), or by :func:`~video_snl.data.video.division.divide_by_group`. With
            ``group``, folders in a class folder are recordings; else they are passed over.
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
    source = _Source(str(root), root, split_by, stored, given, groups)
    return _labelled_set(found, source, known)


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
    """A line of the CSV file.

    ``part`` is ``train`` or ``test``, ``group`` a recording; None where there is no such column.
    """

    line: int
    path: str
    label: str
    part: str | None
    group: str | None = None


def load_csv(
    path: Path,
    known: Sequence[str] | None = None,
    *,
    split_by: SplitBy = "fifth",
    stored: StoredSplit | None = None,
    max_failures: float = 0.0,
) -> VideoSet:
    """List the videos of a CSV file with the columns path, label and optionally split and group.

    Relative paths start at the file's folder. Labels are names, as :func:`clean_label` has them,
    or numbers; they are sorted, by value if all are numbers, and become class indices 0, 1, ...
    ``split`` is ``train`` or ``test``. A file that is listed twice, under whatever name, counts
    once.

    Args:
        known: The classes of a trained network: rows of ``test`` alone are then enough.
        split_by: How the test videos are chosen without the column, as for :func:`load_folder`;
            the recordings are those of the column ``group``.
        stored: The division that a run has, in the place of that rule.
        max_failures: Share of the files of a part that may be missing, as
            :func:`~video_snl.data.loading.quarantine.tolerated` has it. They stay in the lists.

    Raises:
        UserError: Names the line that is malformed, names files that do not exist, or names one
            that is in the other part or has another label.
    """
    rows = csv_rows(path)
    if not rows:
        raise UserError(f"{path} lists no video: add lines of path,label[,split][,group]")
    lines: dict[str, int] = {}
    for row in rows:
        lines.setdefault(row.path, row.line)
    missing = sorted(missing_files(lines), key=lines.__getitem__)
    if missing and max_failures <= 0:
        raise _missing_error(path, missing, lines, len(rows), "data.max_failures=0 lets none pass")
    found: dict[str, Labelled] = defaultdict(list)
    for row in rows:
        found[row.part or "all"].append((row.path, row.label))
    repeats = find_repeats(found)
    _check_labels(path, rows, repeats)
    groups = {row.path: row.group for row in rows if row.group is not None}
    _say_shared_groups(path, rows)
    given = "the column split" if rows[0].part else "the column group"
    source = _Source(str(path), path.parent, split_by, stored, given, groups)
    videos = _labelled_set(found, source, known, repeats)
    if missing:
        _check_missing(path, missing, lines, videos, max_failures)
    return videos


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


def _labelled_set(
    found: Mapping[str, Labelled],
    source: _Source,
    known: Sequence[str] | None,
    repeats: Repeats | None = None,
) -> VideoSet:
    """Assemble labelled paths by part into a dataset; those of the part ``all`` are divided.

    Args:
        repeats: Repeats of ``found``, where they are known.
    """
    say_merged((label for entries in found.values() for _, label in entries), source.name)
    clean = {label: clean_label(label) for entries in found.values() for _, label in entries}
    parts = {
        part: [(path, clean[label]) for path, label in entries] for part, entries in found.items()
    }
    parts = distinct(parts, source.name, repeats, checked=True)
    division = Division(source.name, str(source.folder), "given", source.given, source.groups)
    if "all" not in parts:
        train, test = (_by_label(parts.get(part, [])) for part in PARTS)
        return replace(_assemble(train, test, source.name, known), division=division)
    if source.stored is None and source.split_by == "fifth":
        train, test = _divided(_by_label(parts["all"]))
        division = replace(division, rule="fifth")
    else:
        train, test, division = _by_group(parts["all"], source, division)
    divided = {
        part: [(path, label) for label, paths in classes.items() for path in paths]
        for part, classes in zip(PARTS, (train, test), strict=True)
    }
    # A file of two classes may have come into both parts.
    distinct(divided, source.name, checked=True)
    if source.stored is not None:
        # Also of classes of which no file is left to train on.
        labels = _sorted_labels(dict.fromkeys(source.stored.labels, []))
        numbers = {name: number for number, name in enumerate(labels)}
        videos = VideoSet(
            _videos(train, numbers),
            _videos(test, numbers),
            labels,
            tested_only=known is not None,
        )
    else:
        videos = _assemble(train, test, source.name, known)
    return replace(videos, division=division)


_Classes = dict[str, list[str]]
"""Paths by their label."""


def _by_group(
    entries: Labelled, source: _Source, division: Division
) -> tuple[_Classes, _Classes, Division]:
    """Divide videos by their recordings, or as a run has it.

    Raises:
        UserError: No class can be divided.
    """
    named = not source.groups
    listed = [
        Listed(path, label, source.groups.get(path) or group_of_name(path))
        for path, label in entries
    ]
    if source.stored is not None:
        train, test, _ = source.stored.divide(listed, source.folder)
        rule: Literal["stored", "group"] = "stored"
    else:
        train, test = divide_by_group(listed)
        rule = "group"
    groups = {video.path: video.group for video in (*train, *test) if video.group is not None}
    if not test:
        few = "1 recording" if groups else "1 video"
        raise UserError(
            f"{source.name}: no class has more than {few}, so that none can be tested: add some, "
            "or say which videos test by folders train/ and test/, or by a column split"
            + ("; --data.split_by fifth divides by file" if groups else "")
        )
    given = "names with _gNN_cNN" if named else source.given
    by_label = [_by_label([(v.path, v.label) for v in part]) for part in (train, test)]
    return by_label[0], by_label[1], replace(division, rule=rule, given=given, groups=groups)


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
        near = difflib.get_close_matches(untrained[0], sorted(set(train) - set(test)), 1)
        raise UserError(
            f"{source}: class {untrained[0]!r} has test videos and no train videos: add some, or "
            "leave its test videos out"
            + (f"; class {near[0]!r} has train videos alone: is it the same?" if near else "")
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
    optional = sorted(set(names) - {"group", "split"})
    if optional != ["label", "path"] or len(set(names)) != len(names):
        found = printable(",".join(names)) or "an empty file"
        raise UserError(
            f"{path}, line 1: expected the header path,label, with split and group or without, "
            f"found {found}"
        )


def _row(path: Path, line: int, values: dict[str, str]) -> Row:
    if "further values" in values or not values["path"] or not values["label"]:
        raise UserError(
            f"{path}, line {line}: expected path,label[,split][,group] without gaps, quote a "
            f"path that holds a comma; found {printable(','.join(map(str, values.values())))}"
        )
    if "\0" in values["path"]:
        raise UserError(f"{path}, line {line}: the path holds a zero byte: no file has such a name")
    part = values.get("split")
    if "split" in values and part not in PARTS:
        raise UserError(f"{path}, line {line}: split must be train or test, found {_quoted(part)}")
    group = values.get("group")
    if "group" in values and not (group or "").strip():
        raise UserError(
            f"{path}, line {line}: the group is empty: name the recording of every file, or leave "
            "the column out"
        )
    try:
        clean_label(values["label"])
    except UserError as error:
        raise UserError(f"{path}, line {line}: {error}") from error
    file = str(path.parent / values["path"])
    return Row(line, file, values["label"], part, None if group is None else group.strip())


def _quoted(text: str | None) -> str:
    return repr(None if text is None else printable(text))


def _check_missing(
    path: Path,
    missing: Sequence[str],
    lines: Mapping[str, int],
    videos: VideoSet,
    max_failures: float,
) -> None:
    """Check that few enough files of each part are missing, and name them on stderr.

    Raises:
        UserError: They are too many, or a class has no other file to train on.
    """
    absent = set(missing)
    for part, entries in zip(PARTS, (videos.train, videos.test), strict=True):
        without = sum(video.path in absent for video in entries)
        allowed = tolerated(len(entries), max_failures)
        if without > allowed:
            why = (
                f"{without} of {len(entries)} {part} videos, and data.max_failures="
                f"{max_failures:g} lets {allowed} pass"
            )
            raise _missing_error(path, missing, lines, len(lines), why)
    present = {video.label for video in videos.train if video.path not in absent}
    for label in sorted({video.label for video in videos.train} - present):
        why = f"all train videos of class {videos.class_names[label]!r}"
        raise _missing_error(path, missing, lines, len(lines), why)
    shown = "; ".join(f"line {lines[file]}: {printable(file)}" for file in missing[:_NAMED])
    more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    say_once(
        f"{path}: {counts(len(missing), 'file')} of {len(lines)} "
        f"{noun(len(missing), 'does', 'do')} not exist, and {noun(len(missing), 'counts', 'count')}"
        f" as unreadable (data.max_failures={max_failures:g}): {shown}{more}"
    )


def _missing_error(
    path: Path, missing: Sequence[str], lines: Mapping[str, int], total: int, why: str
) -> UserError:
    further = f", nor {noun(len(missing) - 1, 'does', 'do')} {examples(missing[1:])}"
    return UserError(
        f"{path}, line {lines[missing[0]]}: {printable(missing[0])} does not exist"
        f"{further if missing[1:] else ''} (column path: {len(missing)} of {total} files are "
        f"missing; {why}): correct the paths, relative ones start at the CSV file's folder"
    )


def _say_shared_groups(path: Path, rows: Sequence[Row]) -> None:
    """Say which groups the column ``split`` puts into both parts."""
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.group is not None and row.part is not None:
            parts[row.group].add(row.part)
    shared = [group for group, found in parts.items() if len(found) > 1]
    if shared:
        say_once(
            f"{path}: {counts(len(shared), 'group')} with both train and test videos, by the "
            f"column split ({examples(shared)}): the test videos are not of recordings of their own"
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
