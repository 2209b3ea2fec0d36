"""Your own videos in a table: a CSV file with their paths and labels."""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from video_snl.config.video import DataConfig, SplitBy
from video_snl.data.duplicates import Repeats, find_repeats
from video_snl.data.loading.quarantine import tolerated
from video_snl.data.video.division import PARTS, StoredSplit
from video_snl.data.video.labelled import Labelled, Source, check_split, labelled_set
from video_snl.data.video.records import VideoSet, dataset_root, missing_files
from video_snl.errors import UserError
from video_snl.utils.counts import counts, noun
from video_snl.utils.text import clean_label, examples, printable, read_text, say_merged, say_once

__all__ = ["Row", "csv_rows", "load_csv", "load_csv_config"]

_NAMED = 10  # missing files that a line names


def load_csv_config(
    config: DataConfig, known: Sequence[str] | None = None, *, stored: StoredSplit | None = None
) -> VideoSet:
    """Load the lists of ``data.dataset=csv``: its entry's loader; arguments as of the folder's."""
    check_split(config)
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


class Row(NamedTuple):
    """A line of the CSV file.

    ``part`` is ``train`` or ``test``, None without the column; ``group`` is the recording, None
    where it is not known.
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
        split_by: How the test videos are chosen without the column, as for folders; recordings
            are those of the column ``group``.
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
    if len(missing) == len(lines):
        raise _missing_error(path, missing, lines, len(lines), "all of them")
    found: dict[str, Labelled] = defaultdict(list)
    for row in rows:
        found[row.part or "all"].append((row.path, row.label))
    repeats = find_repeats(found)
    _check_labels(path, rows, repeats)
    groups = {row.path: row.group for row in rows if row.group is not None}
    _say_shared_groups(path, rows)
    given = "the column split" if rows[0].part else "the column group"
    source = Source(str(path), path.parent, split_by, stored, given, groups)
    videos = labelled_set(found, source, known, repeats)
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
        labels = _CleanLabels()
        rows = [_row(path, reader.line_num, values, labels) for values in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num + 1}: it is not a row of a CSV file ({error}); is a "
            "quote missing?"
        ) from error
    say_merged(labels, str(path))
    return rows


class _CleanLabels(dict[str, str]):
    """The label that each spelling stands for, one object for all of its rows."""

    def __missing__(self, name: str) -> str:
        self[name] = label = clean_label(name)
        return label


def _check_header(path: Path, names: list[str]) -> None:
    optional = sorted(set(names) - {"group", "split"})
    if optional != ["label", "path"] or len(set(names)) != len(names):
        found = printable(",".join(names)) or "an empty file"
        raise UserError(
            f"{path}, line 1: expected the header path,label and perhaps split and group, "
            f"found {found}"
        )


def _row(path: Path, line: int, values: dict[str, str], labels: _CleanLabels) -> Row:
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
    if values.get("group", "") is None:
        raise UserError(
            f"{path}, line {line}: the group is missing: name the file's recording, or leave it "
            "empty after a comma where it is not known"
        )
    try:
        label = labels[values["label"]]
    except UserError as error:
        raise UserError(f"{path}, line {line}: {error}") from error
    file = str(path.parent / values["path"])
    group = sys.intern(values.get("group", "").strip()) or None  # which several rows share
    return Row(line, file, label, part and sys.intern(part), group)


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
