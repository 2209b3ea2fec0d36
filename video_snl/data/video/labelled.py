"""Datasets of users' files from labelled paths: divided where need be, and put in order."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from video_snl.config.video import DataConfig, SplitBy
from video_snl.data.duplicates import Repeats, distinct
from video_snl.data.video.division import (
    PARTS,
    Recorded,
    StoredSplit,
    divide_by_group,
    group_of_name,
)
from video_snl.data.video.records import Division, Video, VideoSet
from video_snl.errors import UserError
from video_snl.utils.text import clean_label, examples, say_merged

__all__ = ["Labelled", "Source", "check_split", "divide", "labelled_set", "sorted_labels"]

EVERY = 5  # of data.split_by=fifth: of a class that is not divided yet, each fifth video tests

Labelled = list[tuple[str, str]]
"""Paths, each with the label of its class."""
_Classes = dict[str, list[str]]
"""Paths by their label."""


@dataclass(frozen=True)
class Source:
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


def labelled_set(
    found: Mapping[str, Labelled],
    source: Source,
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
        labels = sorted_labels(source.stored.labels)
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


def _by_group(
    entries: Labelled, source: Source, division: Division
) -> tuple[_Classes, _Classes, Division]:
    """Divide videos by their recordings, or as a run has it.

    Raises:
        UserError: No class can be divided.
    """
    listed = [
        Recorded(path, label, source.groups.get(path) or group_of_name(path))
        for path, label in entries
    ]
    rule: Literal["stored", "group"] = "group" if source.stored is None else "stored"
    if source.stored is None:
        train, test = divide_by_group(listed)
        if not test:
            train, test = divide_by_group([video._replace(group=None) for video in listed])
        if not test:
            raise UserError(
                f"{source.name}: no class has more than 1 video, so that none can be tested: add "
                "some, or say which videos test by folders train/ and test/, or by a column split"
            )
    else:
        train, test = source.stored.divide(listed, source.folder)
    groups = {video.path: video.group for video in (*train, *test) if video.group is not None}
    if groups:
        given = source.given if source.groups else "names with _gNN_cNN"
    else:
        known = any(video.group for video in listed)
        given = "no class has a second recording" if known else "no recordings are known"
    by_label = [_by_label([(v.path, v.label) for v in part]) for part in (train, test)]
    file = None if source.stored is None else str(source.stored.file)
    division = replace(division, rule=rule, given=given, groups=groups, file=file)
    return by_label[0], by_label[1], division


def _by_label(entries: Labelled) -> _Classes:
    classes: dict[str, list[str]] = defaultdict(list)
    for path, label in entries:
        classes[label].append(path)
    return dict(classes)


def _divided(classes: _Classes) -> tuple[_Classes, _Classes]:
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
    train: _Classes,
    test: _Classes,
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
    names = sorted_labels(train)
    labels = {name: label for label, name in enumerate(names)}
    return VideoSet(_videos(train, labels), _videos(test, labels), names)


def _tested_only(test: _Classes, source: str, known: Sequence[str]) -> VideoSet:
    """Assemble test videos of classes that a network was trained on, which may know more."""
    labels = {clean_label(name): label for label, name in enumerate(known)}
    unknown = sorted(set(test) - set(labels))
    if unknown:
        raise UserError(
            f"{source}: class {unknown[0]!r} is none of the {len(known)} that the network was "
            f"trained on ({examples(known)}): correct the label, or evaluate another checkpoint"
        )
    return VideoSet([], _videos(test, labels), list(known), tested_only=True)


def _videos(classes: _Classes, labels: dict[str, int]) -> list[Video]:
    """Return the videos by class, then path."""
    return [
        Video(path, label)
        for name, label in labels.items()
        for path in sorted(classes.get(name, []))
    ]


def sorted_labels(names: Collection[str]) -> list[str]:
    """Return labels in their order: by value if all are numbers."""
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def check_split(config: DataConfig) -> None:
    """Refuse a split that only published datasets have.

    Raises:
        UserError: There is one.
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
