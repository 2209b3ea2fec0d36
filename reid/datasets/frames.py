"""Folders of images, listed in the same order everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from video_snl.utils.media import (
    IMAGE_SUFFIXES,
    Ignored,
    is_image_name,
    is_system_name,
    natural_key,
)

__all__ = ["FRAME_SUFFIXES", "list_folders", "list_frames", "natural"]

FRAME_SUFFIXES = IMAGE_SUFFIXES
"""The older name of :data:`video_snl.utils.media.IMAGE_SUFFIXES`."""

natural = natural_key
"""The older name of :func:`video_snl.utils.media.natural_key`."""


def list_frames(folder: str | Path, ignored: list[Ignored] | None = None) -> tuple[str, ...]:
    """List the paths of the images in a folder, in the order of the numbers in their names.

    Args:
        folder: Folder, of which nothing below is looked at.
        ignored: Takes what else is in it, but for the files of operating systems.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: There is no such folder, or none
            that can be read.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                continue
            if is_image_name(entry.name) and _kind(entry) == "file":
                names.append(entry.name)
            elif ignored is not None:
                ignored.append(Ignored(Path(folder, entry.name), _reason(entry, "image")))
    return tuple([f"{folder}/{name}" for name in sorted(names, key=natural_key)])


def list_folders(folder: str | Path, ignored: list[Ignored] | None = None) -> list[str]:
    """List the names of the folders in a folder, in natural order.

    A link to the folder itself or to one that it stands in is none of them: what is below it would
    be listed again.

    Args:
        folder: Folder, of which nothing below is looked at.
        ignored: Takes what else is in it, but for the files of operating systems.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: There is no such folder, or none
            that can be read.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                continue
            upwards = entry.is_symlink() and _holds(entry.path, folder)
            if _kind(entry) == "folder" and not upwards:
                names.append(entry.name)
            elif ignored is not None:
                reason = "link to a folder that it is in" if upwards else _reason(entry, "folder")
                ignored.append(Ignored(Path(folder, entry.name), reason))
    return sorted(names, key=natural_key)


def _holds(link: str, folder: str | Path) -> bool:
    """Tell whether a link leads to ``folder`` or to a folder that ``folder`` is in."""
    target, inside = os.path.realpath(link), os.path.realpath(folder)
    return os.path.commonpath([target, inside]) == target


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``file``, ``folder`` or what else it is; only links cost a system call."""
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "no regular file"
    if not os.path.exists(entry.path):
        return "link that leads nowhere"
    if os.path.isdir(entry.path):
        return "folder"
    return "file" if os.path.isfile(entry.path) else "no regular file"


def _reason(entry: os.DirEntry[str], wanted: str) -> str:
    kind = _kind(entry)
    if kind != "file":
        return "folder among images" if kind == "folder" else kind
    if wanted == "folder" and is_image_name(entry.name):
        return "image beside folders"
    suffix = Path(entry.name).suffix.lower()
    return f"{suffix} file" if suffix else "file without suffix"
