"""The same file under two names: in train and test it leaks, in one part it counts once.

A file is its device and its inode, so that ``A/../a.avi``, absolute paths, symbolic and hard links
all lead to the one file. Every layout of both programs asks here.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from video_snl.errors import UserError
from video_snl.utils.media import by_folder
from video_snl.utils.text import examples, printable, say_once

__all__ = ["Repeats", "Same", "distinct", "file_ids", "find_repeats", "refuse_shared"]

FileId = tuple[int, int]
"""Device and inode."""
L = TypeVar("L", bound=Hashable)


@dataclass(frozen=True)
class Same:
    """A file that was met before, under which name then, and in which part of the dataset."""

    path: str
    first: str
    part: str
    first_part: str


@dataclass(frozen=True)
class Repeats:
    """The files of a dataset that are met more than once.

    Attributes:
        shared: Files of a part that are in an earlier part, too.
        repeated: Files that are twice in one part, with one label.
        contradicting: Files that are twice in one part, with two labels.
    """

    shared: list[Same] = field(default_factory=list)
    repeated: list[Same] = field(default_factory=list)
    contradicting: list[Same] = field(default_factory=list)


def file_ids(paths: Iterable[str]) -> dict[str, FileId]:
    """Return the device and inode of every path; those that name nothing are left out.

    Every folder is listed once, and the listing has the inodes: of 1.28 million files in 1,000
    folders only links are looked at one by one.
    """
    found: dict[str, FileId] = {}
    for folder, group in by_folder(paths):
        try:
            device = os.stat(folder or ".").st_dev
            with os.scandir(folder or ".") as entries:
                present = {entry.name: entry for entry in entries}
        except (OSError, ValueError):
            continue
        for path, name in group:
            entry = present.get(name)
            if entry is not None and not entry.is_symlink():
                found[path] = device, entry.inode()
            elif entry is not None or name in ("", ".", ".."):
                identity = _look(path)
                if identity is not None:
                    found[path] = identity
    return found


def find_repeats(parts: Mapping[str, Sequence[tuple[str, Hashable]]]) -> Repeats:
    """Find the files that are met more than once.

    Args:
        parts: Name of a part -> its (path, label), in order. The first part's files must not be in
            the others.
    """
    ids = file_ids(path for entries in parts.values() for path, _ in entries)
    if len(set(ids.values())) == sum(map(len, parts.values())):
        return Repeats()  # the usual case, of which a million files need no more memory
    _confirm(ids)
    met: dict[FileId, tuple[str, str, dict[Hashable, str]]] = {}
    repeats = Repeats()
    for part, entries in parts.items():
        for path, label in entries:
            identity = ids.get(path)
            if identity is None:
                continue
            if identity not in met:
                met[identity] = part, path, {label: path}
                continue
            first_part, first, labels = met[identity]
            if first_part != part:
                repeats.shared.append(Same(path, first, part, first_part))
            elif label in labels:
                repeats.repeated.append(Same(path, labels[label], part, part))
            else:
                repeats.contradicting.append(Same(path, first, part, part))
                labels[label] = path
    return repeats


def refuse_shared(repeats: Repeats, source: str, *, checked: bool = False) -> None:
    """Refuse a dataset of which a file is both in train and in test.

    Args:
        checked: ``video-snl check`` takes such datasets, and lists all of these files.

    Raises:
        UserError: There is one; names the first and counts them.
    """
    if not repeats.shared:
        return
    same = repeats.shared[0]
    others = repeats.shared[1:]
    more = f" (and {len(others):,} more: {examples(o.path for o in others)})" if others else ""
    raise UserError(
        f"{source}: {printable(same.path)} in {same.part} is the same file as "
        f"{printable(same.first)} in {same.first_part}{more}: no file may be in both; list it in "
        f"one part only{' (video-snl check lists all)' if checked else ''}"
    )


def distinct(
    parts: Mapping[str, Sequence[tuple[str, L]]],
    source: str,
    repeats: Repeats | None = None,
    *,
    checked: bool = False,
) -> dict[str, list[tuple[str, L]]]:
    """Return the parts with every file once, and say on stderr what was met twice.

    A file with two labels in one part is kept under both, and said: which one is right cannot be
    known here.

    Args:
        source: Names the dataset in messages.
        repeats: What :func:`find_repeats` found in ``parts``; it is asked where they are left out.
        checked: As for :func:`refuse_shared`.

    Raises:
        UserError: A file is in two parts.
    """
    repeats = find_repeats(parts) if repeats is None else repeats
    refuse_shared(repeats, source, checked=checked)
    if repeats.repeated:
        say_once(
            f"{source}: {_files(repeats.repeated)} listed twice, under another name or the same, "
            f"and counted once ({_shown(repeats.repeated)})"
        )
    if repeats.contradicting:
        say_once(
            f"{source}: {_files(repeats.contradicting)} in one part under two classes, and kept "
            f"in both ({_shown(repeats.contradicting)})"
        )
    if not repeats.repeated:
        return {part: list(entries) for part, entries in parts.items()}
    # The same path may come twice as well: only what follows its first place is left out.
    surplus: dict[tuple[str, str], int] = {}
    for same in repeats.repeated:
        surplus[same.part, same.path] = surplus.get((same.part, same.path), 0) + 1
    kept: dict[str, list[tuple[str, L]]] = {}
    for part, entries in parts.items():
        kept[part] = []
        for path, label in reversed(entries):
            if surplus.get((part, path), 0):
                surplus[part, path] -= 1
            else:
                kept[part].append((path, label))
        kept[part].reverse()
    return kept


def _confirm(ids: dict[str, FileId]) -> None:
    """Look at the files whose inodes are not alone: some file systems list made-up ones."""
    paths: dict[FileId, list[str]] = {}
    for path, identity in ids.items():
        paths.setdefault(identity, []).append(path)
    for same in paths.values():
        if len(same) == 1:
            continue
        for path in same:
            found = _look(path)
            if found is None:
                del ids[path]
            else:
                ids[path] = found


def _look(path: str) -> FileId | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _files(same: Sequence[Same]) -> str:
    return "1 file is" if len(same) == 1 else f"{len(same):,} files are"


def _shown(same: Sequence[Same]) -> str:
    return examples((f"{each.path} is {each.first}" for each in same), 2)
