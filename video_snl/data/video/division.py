"""Train and test videos of a dataset that does not say them: whole recordings test.

Clips that were cut from one recording look alike. A network that was trained on some of them and
tested on others looks better than it is, so a recording (a group) is in one part only. Of each
class, groups with a fifth to a quarter of its videos test. Which ones depends on the names of
groups and files alone: not on the seed, the order of the files, or classes without a common group.

A run keeps its division in ``split.csv``: files that are added to a folder later change nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from video_snl.config.video import SplitBy
from video_snl.data.video.records import Video, VideoSet
from video_snl.errors import UserError
from video_snl.utils.counts import counts, noun
from video_snl.utils.files import replace_file
from video_snl.utils.text import examples, printable, say_once

__all__ = [
    "SPLIT_FILE",
    "Recorded",
    "StoredSplit",
    "divide_by_group",
    "division_facts",
    "group_of_name",
    "read_split",
    "split_table",
    "write_split",
]

SPLIT_FILE = "split.csv"
"""Name of the file in a run's folder that keeps the division of its videos."""
PARTS = ("train", "test")
OWN_LISTS = "the dataset's own lists"
_LEAST, _MOST = 0.2, 0.25  # wanted share of a class's videos that test
_SHOWN = 40  # classes in a table
_HEADER = ("path", "label", "split", "group")
# UCF-101's names, such as v_JumpingJack_g08_c01.avi; what was appended to them may follow.
_RECORDING = re.compile(r"(?:.*_)?g\d+(?=_c\d+)")


class Recorded(NamedTuple):
    """A video that is to be divided; ``group`` is its recording, None where it is not known."""

    path: str
    label: str
    group: str | None


def group_of_name(path: str) -> str | None:
    """Return the recording in a name like ``v_JumpingJack_g08_c01.avi``; None where it has none."""
    found = _RECORDING.match(path.rpartition("/")[2])
    return None if found is None else found[0]


def divide_by_group(videos: Iterable[Recorded]) -> tuple[list[Recorded], list[Recorded]]:
    """Divide videos into train and test: no group is in both, and of every class some test.

    The groups of a class come in a fixed order that looks random. They test as long as no more than
    a quarter of the videos of any of their classes does, until a fifth does. Where the first groups
    are too large for that, the one of the smallest share tests. A class of one group only trains,
    and so may one all of whose groups are needed by other classes. A video without a group is one
    of its own.

    Returns:
        The train and the test videos, each in the given order.
    """
    ordered = list(videos)
    sizes: dict[_Key, Counter[str]] = defaultdict(Counter)  # of the groups, by class
    ranks: dict[_Key, tuple[str, _Key]] = {}
    total: Counter[str] = Counter()
    for video in ordered:
        key = _key(video)
        sizes[key][video.label] += 1
        total[video.label] += 1
        rank = _rank(video), key
        ranks[key] = min(ranks.get(key, rank), rank)
    tested: set[_Key] = set()
    taken: Counter[str] = Counter()

    def share(key: _Key) -> float:
        return max((taken[label] + count) / total[label] for label, count in sizes[key].items())

    for key in sorted(sizes, key=ranks.__getitem__):
        wanted = any(taken[label] < _LEAST * total[label] for label in sizes[key])
        if wanted and share(key) <= _MOST:
            tested.add(key)
            taken.update(sizes[key])
    by_class: dict[str, list[_Key]] = defaultdict(list)
    for key, labels in sizes.items():
        for label in labels:
            by_class[label].append(key)
    for label in sorted(total):
        # A class must keep a video to train on: taking all of it would be a share of one.
        groups = [key for key in by_class[label] if share(key) < 1] if not taken[label] else []
        if groups:
            chosen = min(groups, key=lambda key: (share(key), ranks[key]))
            tested.add(chosen)
            taken.update(sizes[chosen])
    train = [video for video in ordered if _key(video) not in tested]
    return train, [video for video in ordered if _key(video) in tested]


_Key = tuple[str, str]
"""A group by its name, or a video without one by its path."""


def _key(video: Recorded) -> _Key:
    return ("file", video.path) if video.group is None else ("group", video.group)


def _rank(video: Recorded) -> str:
    """Return the place of a video's group among the groups, the same wherever the files lie."""
    name = video.group
    if name is None:
        name = f"{video.label}/{video.path.rpartition('/')[2]}"
    text = unicodedata.normalize("NFC", name)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class StoredSplit:
    """The division that a run keeps.

    Attributes:
        file: The ``split.csv``.
        rows: Label, part and group of each file, by its path as :func:`write_split` writes it.
    """

    file: Path
    rows: Mapping[str, tuple[str, str, str]]

    @property
    def labels(self) -> set[str]:
        """Labels of the videos to train on, those that are gone too."""
        return {label for label, part, _ in self.rows.values() if part == "train"}

    @property
    def without_places(self) -> tuple[bytes, int]:
        """The file without rows of absolute paths, to be given to others, and how many it has."""
        rows = {name: row for name, row in self.rows.items() if not os.path.isabs(name)}
        return _content((name, *row) for name, row in rows.items()), len(rows)

    def divide(
        self, videos: Sequence[Recorded], folder: Path
    ) -> tuple[list[Recorded], list[Recorded]]:
        """Divide videos as in the run, and say on stderr which files are new and which are gone.

        Args:
            videos: All videos of today.
            folder: Folder that the paths of the rows start at.

        Returns:
            The train and the test videos.

        Raises:
            UserError: There is none of the run's videos.
        """
        found: dict[str, list[Recorded]] = {part: [] for part in PARTS}
        new, met = [], set()
        for video in videos:
            name = _below(video.path, folder)
            row = self.rows.get(name)
            if row is None or row[0] != video.label:
                new.append(name)
                continue
            met.add(name)
            found[row[1]].append(video._replace(group=row[2] or None))
        gone = [name for name in self.rows if name not in met]
        if not met:
            raise UserError(
                f"none of the {counts(len(self.rows), 'video')} of {self.file} is in {folder} "
                f"({examples(self.rows)}): give the --data.root that the run was trained on, or "
                "another one to evaluate on"
            )
        train, test = found["train"], found["test"]
        say_once(f"split of the run: {self.file} ({len(train)} train, {len(test)} test)")
        for names, what in ((new, "not in it and left out"), (gone, "in it and gone")):
            if names:
                say_once(f"{counts(len(names), 'video')} {what}: {examples(names)}")
        return train, test


def write_split(videos: VideoSet, file: Path) -> None:
    """Write which videos train and which test: ``path,label,split,group``.

    Paths start at the folder of the dataset, so that the file is a list of it where it is copied
    there; those of files elsewhere are absolute. The group is that of the division, or empty.
    """
    division = videos.division
    assert division is not None
    folder, groups = Path(division.folder), division.groups
    content = _content(
        (
            _below(video.path, folder),
            videos.class_names[video.label],
            part,
            groups.get(video.path) or "",
        )
        for part, entries in zip(PARTS, (videos.train, videos.test), strict=True)
        for video in entries
    )
    replace_file(file, lambda temporary: _write(temporary, content))


def _content(rows: Iterable[tuple[str, str, str, str]]) -> bytes:
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_HEADER)
    lines.writerows(rows)
    # Bytes of names that are not UTF-8 are kept as they are.
    return text.getvalue().encode("utf-8", "surrogateescape")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read_split(file: Path) -> StoredSplit | None:
    """Read what :func:`write_split` wrote; None where there is no such file.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): check its permissions"
        ) from error
    try:
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
        if tuple(header) != _HEADER:
            raise ValueError(f"its first line is {printable(','.join(header), 60)}")
        rows = {}
        for path, label, part, group in lines:
            if part not in PARTS:
                raise ValueError(f"{printable(path, 60)} is in the part {printable(part, 60)!r}")
            rows[path] = label, part, group
        if not rows:
            raise ValueError("it lists no video")
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{file} is not the list of a run's split ({error}): restore it from a copy of the "
            "run; for a copy of a checkpoint alone the split is made again from the names"
        ) from error
    return StoredSplit(file, rows)


def _below(path: str, folder: Path) -> str:
    """Return a path from a folder on; as it is where it is not in that folder."""
    beginning = f"{folder}{os.sep}"
    return path.removeprefix(beginning) if path.startswith(beginning) else path


def division_facts(videos: VideoSet, split_by: SplitBy | None = None) -> dict[str, str | None]:
    """Return how a dataset was divided, as an entry of ``metrics.json``.

    Args:
        videos: The dataset.
        split_by: Rule of the run whose ``split.csv`` was followed, as ``run.json`` has it.

    Returns:
        ``rule``: ``given`` by the dataset, by ``recording``, or by ``file`` where no recording is
        known; ``by``: what gives the parts or the recordings, in words; ``file``: the
        ``split.csv`` that was followed, None where the division was made or given anew.
    """
    division = videos.division
    if division is None:
        return {"rule": "given", "by": OWN_LISTS, "file": None}
    if division.rule == "given":
        return {"rule": "given", "by": division.given, "file": None}
    if division.rule == "fifth" or (division.rule == "stored" and split_by != "group"):
        return {"rule": "file", "by": "every fifth file of a class", "file": division.file}
    rule = "recording" if division.groups else "file"
    return {"rule": rule, "by": division.given, "file": division.file}


def split_table(videos: VideoSet) -> str | None:
    """Return the number of videos of each class and part, and how the parts were made.

    Returns:
        A few lines, with warnings; None for a dataset that keeps no account of it.
    """
    division = videos.division
    if division is None:
        return None
    names = videos.class_names
    by_part = {
        part: Counter(video.label for video in entries)
        for part, entries in (("train", videos.train), ("test", videos.test))
    }
    groups = _group_counts(videos)
    total = len(videos.train) + len(videos.test)
    lines = [
        f"data: {division.source}, {counts(len(names), 'class')}, {counts(total, 'video')}",
        *_columns(names, by_part["train"], by_part["test"], groups),
        f"split: {_how(videos)}",
    ]
    untested = [name for label, name in enumerate(names) if not by_part["test"][label]]
    if untested:
        why = " (a recording is in one part only)" if division.rule == "group" else ""
        lines.append(
            f"warning: {counts(len(untested), 'class')} without test videos{why}, which no "
            f"figure measures: {examples(untested)}"
        )
    return "\n".join(lines)


def _columns(
    names: Sequence[str],
    train: Mapping[int, int],
    test: Mapping[int, int],
    groups: Mapping[int | None, tuple[int, int]],
) -> list[str]:
    """Return the lines of the table, of the smallest classes where there are too many."""
    labels: Collection[int] = range(len(names))
    title = "class"
    if len(names) > _SHOWN:
        labels = sorted(labels, key=lambda label: (train[label] + test[label], label))[:_SHOWN]
        title = f"class (the smallest {_SHOWN})"
    rows = [(names[label], train[label], test[label], groups.get(label)) for label in labels]
    rows.append(("all", sum(train.values()), sum(test.values()), groups.get(None)))
    width = max(len(title), *(len(printable(row[0], 40)) for row in rows))
    lines = [
        f"  {title:{width}}  {'train':>6}  {'test':>6}{'  groups, train + test' if groups else ''}"
    ]
    for name, trained, tested, grouped in rows:
        of_groups = "" if grouped is None else f"  {grouped[0]} + {grouped[1]}"
        lines.append(f"  {printable(name, 40):{width}}  {trained:>6}  {tested:>6}{of_groups}")
    return lines


def _group_counts(videos: VideoSet) -> dict[int | None, tuple[int, int]]:
    """Count the groups of each class that train and that test, under None those of all classes."""
    assert videos.division is not None
    known = videos.division.groups
    if not any(known.get(video.path) for video in (*videos.train, *videos.test)):
        return {}
    found: dict[int | None, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for part, entries in enumerate((videos.train, videos.test)):
        for video in entries:
            # One without a group is a group of its own.
            name = known.get(video.path) or f"file {video.path}"
            found[video.label][part].add(name)
            found[None][part].add(name)
    return {label: (len(train), len(test)) for label, (train, test) in found.items()}


def _how(videos: VideoSet) -> str:
    """Say how train and test videos were told apart."""
    division = videos.division
    assert division is not None
    if division.rule == "given":
        return f"given by {division.given}"
    if division.rule == "stored":
        return "that of the run"
    kept = f"{SPLIT_FILE} in the run's folder lists it"
    if division.rule == "fifth":
        return (
            f"every fifth file of a class tests (data.split_by: fifth); {kept}. Clips cut from "
            "one recording may stand on both sides: --data.split_by group keeps them together"
        )
    entries: list[Video] = [*videos.train, *videos.test]
    single = sum(not division.groups.get(video.path) for video in entries)
    if not single:
        return f"by recording ({division.given}): no group is in both; {kept}"
    advice = (
        "clips cut from one recording may stand on both sides: put them into a folder of their "
        "own in the class folder, or give a column group in a CSV file"
    )
    if single == len(entries):
        return f"by file, {division.given}; {kept}. Beware: {advice}"
    return (
        f"by recording ({division.given}), but of {single} {noun(single, 'file')} no recording is "
        f"known; {kept}. Beware: {advice}"
    )
