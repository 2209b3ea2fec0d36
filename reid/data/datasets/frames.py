"""Folders of images, listed in the same order everywhere."""

from __future__ import annotations

import os
from pathlib import Path

from video_snl.utils.media import Ignored, entry_kind, is_system_name, natural_key

__all__ = ["list_folders", "list_frames"]


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
            kind, reason = entry_kind(entry)
            if kind == "image":
                names.append(entry.name)
            elif ignored is not None:
                reason = "folder among images" if kind == "folder" else reason
                ignored.append(Ignored(Path(folder, entry.name), reason))
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
            kind, reason = entry_kind(entry)
            if kind == "folder" and not upwards:
                names.append(entry.name)
            elif ignored is not None:
                reason = "image beside folders" if kind == "image" else reason
                reason = "link to a folder that it is in" if upwards else reason
                ignored.append(Ignored(Path(folder, entry.name), reason))
    return sorted(names, key=natural_key)


def _holds(link: str, folder: str | Path) -> bool:
    """Tell whether a link leads to ``folder`` or to a folder that ``folder`` is in."""
    target, inside = os.path.realpath(link), os.path.realpath(folder)
    return os.path.commonpath([target, inside]) == target
